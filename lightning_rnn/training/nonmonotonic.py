"""Averaged weights from the moment on that training no longer helps by itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging

from lightning_rnn.errors import ConfigError, require

log = logging.getLogger(__name__)


def stalled(history: Sequence[float], patience: int) -> bool:
    r"""Whether the last value is above the least of those that came more than ``patience`` values before it.

    :math:`t > n` and :math:`v_t > \min_{l < t - n} v_l` (Merity et al. 2018, arXiv 1708.02182, algorithm 1, with
    ``n`` the non-monotone interval).

    Args:
        history: a value for each validation, lower is better.
        patience: ``n``, at least 0.

    Example:
        >>> stalled([5.0, 4.0, 3.0, 3.5], patience=1), stalled([5.0, 4.0, 3.0, 3.5], patience=0)
        (False, True)
    """
    *before, last = history
    return len(before) > patience and last > min(before[: len(before) - patience])


class NonMonotonicAveraging(WeightAveraging):
    """NT-ASGD: averages the weights of all steps after the validation at which the loss has stalled (Merity 2018).

    With plain SGD as the optimizer this is averaged SGD, triggered. From then on validation, checkpoints and the model
    that remains have the mean of the weights, training goes on with its own; before, all have the same. Both, and the
    history, travel in ``last.ckpt``.

    Args:
        monitor: what tells, lower is better.
        patience: validations that need not be better than what came before, see :func:`stalled`.

    Raises:
        ConfigError: ``patience`` is negative, or nothing is logged by the name of ``monitor``.

    Example:
        .. code-block:: yaml

            optimizer: {class_path: torch.optim.SGD, init_args: {lr: 30.0, weight_decay: 1.2e-6}}
            trainer:
              callbacks: [{class_path: lightning_rnn.training.nonmonotonic.NonMonotonicAveraging}]
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 5) -> None:
        require(patience >= 0, f"NonMonotonicAveraging: patience must not be negative, got {patience}")
        super().__init__(use_buffers=False)  # those are copied
        self.monitor, self.patience = monitor, patience
        self.history: list[float] = []
        self.triggered = False

    def on_train_batch_end(  # Lightning's signature
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if not self.triggered:
            assert self._average_model is not None
            self._average_model.n_averaged.zero_()  # the average is a copy, until it has a first member

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look whether it is time."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or self.triggered:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(map(str, trainer.callback_metrics)))
            raise ConfigError(f"NonMonotonicAveraging: no {self.monitor} is logged: set monitor to one of {known}")
        self.history.append(float(trainer.callback_metrics[self.monitor]))
        self.triggered = stalled(self.history, self.patience)
        if self.triggered:
            log.info(
                "weights are averaged from step %d on: %s %.4f is above the least up to %d validations before",
                trainer.global_step,
                self.monitor,
                self.history[-1],
                self.patience,
            )

    def state_dict(self) -> dict[str, Any]:
        """The validations up to now, and whether averaging has begun."""
        return {**super().state_dict(), "history": list(self.history), "triggered": self.triggered}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state_dict)
        self.history, self.triggered = list(state_dict["history"]), state_dict["triggered"]

"""Says when a stress problem is solved, as its paper says, and may end training there."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from lightning_rnn.errors import ConfigError
from lightning_rnn.types import SequenceBatch

from .module import GrammarModel
from .objectives import Solve
from .problems.criteria import MostRecent
from .problems.problem import Problem

log = logging.getLogger(__name__)


class WhenSolved(pl.Callback):
    """Says when the most recent training rows were all right and their mean error is small.

    Each row is judged as it was presented, before the network learned from it: see :class:`MostRecent`. The number of
    rows presented until then is said, and logged as ``solved_at``.

    Args:
        count: how many rows.
        stop: whether training ends there.

    Raises:
        ConfigError: the model does not solve a problem that has such a rule, or several processes train it.

    Example:
        .. code-block:: yaml

            trainer: {callbacks: [{class_path: tasks.grammar_acceptance.solved.WhenSolved}]}
    """

    recent: MostRecent | None = None

    def __init__(self, count: int = 2000, stop: bool = False) -> None:
        self.count, self.stop = count, stop
        self._said = False
        self._loaded: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        problem = _problem(pl_module)
        if problem.error is None:
            raise ConfigError(f"{type(problem).__name__} has no rule for the most recent rows: leave WhenSolved out")
        if trainer.world_size > 1:
            raise ConfigError("WhenSolved counts rows in the order of presentation: use trainer.devices=1")
        self.recent = MostRecent(problem.error, self.count)
        if self._loaded is not None:
            self.recent.load_state_dict(self._loaded)
            self._said = self.recent.solved_at is not None

    def on_train_batch_end(  # Lightning's signature
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: SequenceBatch, batch_idx: int
    ) -> None:
        assert self.recent is not None and isinstance(pl_module, GrammarModel) and pl_module.latest is not None
        problem, (answers, targets) = _problem(pl_module), pl_module.latest
        assert isinstance(targets, Tensor)
        self.recent.update(problem.right(answers, targets), problem.errors(answers, targets))
        if self.recent.solved_at is not None and not self._said:
            self._said = True
            trainer.should_stop = trainer.should_stop or self.stop
            log.info("solved after %s sequences", f"{self.recent.solved_at:,}")
            for logger in trainer.loggers:
                logger.log_metrics({"solved_at": float(self.recent.solved_at)}, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """What was seen most recently."""
        return {} if self.recent is None else self.recent.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._loaded = state_dict or None


def _problem(module: pl.LightningModule) -> Problem:
    if not isinstance(module, GrammarModel) or not isinstance(module.objective, Solve):
        raise ConfigError("WhenSolved is for the stress problems: leave it out with strings of a grammar")
    return module.objective.problem

"""Lightning's strategy of one process that puts the layers of the network's stacks on several devices."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import SingleDeviceStrategy

from lightning_rnn.distributed.placement import KEY, Placement, check, device_of, place
from lightning_rnn.errors import require

log = logging.getLogger(__name__)


class LayerPlacement(SingleDeviceStrategy):
    r"""One process, the layers of every stack on a list of devices, their time cut so that devices work side by side.

    See :func:`lightning_rnn.distributed.place` for what is placed how. Everything else is on the first device.
    Checkpoints are those of a run without it.

    Args:
        devices: from the first layers' to the last's, such as ``[cuda:0, cuda:1]``; one may come more than once.
        chunks: pieces of time, at most one a step.

    Raises:
        ConfigError: a device is not there, there are more than the longest stack has layers, the first is not of the
            trainer's accelerator, or the network has no stack.

    Example:
        .. code-block:: bash

            lightning-rnn fit --config CONFIG --trainer.strategy lightning_rnn.distributed.LayerPlacement \
                --trainer.strategy.devices '[cuda:0, cuda:1]' --trainer.strategy.chunks 8
    """

    strategy_name = "layer_placement"

    def __init__(self, devices: list[str], chunks: int = 8) -> None:
        super().__init__()
        self.devices, self.chunks = list(devices), chunks
        self.placement: Placement | None = None

    def setup_environment(self) -> None:
        """Look for the devices: before data is read, and where a mistake is one sentence."""
        check(self.devices, self.chunks)
        self._root_device = device_of(self.devices[0])
        name = type(self.accelerator).__name__.removesuffix("Accelerator").lower()
        kind = self.root_device.type
        require(
            kind == name or kind == "meta",
            f"{KEY} begins with {self.root_device}, but the accelerator is {name}: give --trainer.accelerator {kind}",
        )
        super().setup_environment()

    def model_to_device(self) -> None:
        """The network to the first device, then layers to theirs."""
        self._undo()
        super().model_to_device()
        assert self.model is not None
        self.placement = place(self.model, self.devices, self.chunks)
        for layer in self.placement.layers:
            log.info("placed %s", layer)

    def setup(self, trainer: pl.Trainer) -> None:
        super().setup(trainer)
        for optimizer in self.optimizers:  # Lightning moved what they hold to the first device
            optimizer.load_state_dict(optimizer.state_dict())

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """As torch does, which puts what an optimizer holds beside each parameter."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(state)

    def teardown(self) -> None:
        self._undo()
        super().teardown()

    def _undo(self) -> None:
        if self.placement is not None:
            self.placement.undo()

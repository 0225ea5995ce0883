"""Nodes that share no disk: what the first process decides and reads holds for all of them."""

from __future__ import annotations

import os
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.rank_zero import _get_rank
from pytorch_lightning.trainer.connectors.checkpoint_connector import _CheckpointConnector

from lightning_rnn.errors import CheckpointError
from lightning_rnn.runtime.processes import gathered


def is_first_process() -> bool:
    """Whether this is the run's first process, as far as the environment says: the one whose run folder counts.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, NODE_RANK="1"):
        ...     is_first_process()
        False
    """
    node = os.environ.get("NODE_RANK") or os.environ.get("GROUP_RANK") or "0"
    return not _get_rank() and int(node) == 0


class FirstCheckpoint(_CheckpointConnector):
    """Goes on, on all processes, from the checkpoint that the first one found, or begins on all of them.

    Lightning asks each process' own disk; where only the first node holds the checkpoint, the others would begin anew.
    """

    def resume_start(self, checkpoint_path: Any = None, weights_only: bool | None = None) -> None:
        """Agree, then load.

        Raises:
            CheckpointError: the first process has no checkpoint, another one has.
        """
        paths = gathered(None if checkpoint_path is None else str(checkpoint_path))
        if paths[0] is None and any(paths):
            where = next(rank for rank, path in enumerate(paths) if path)
            raise CheckpointError(
                f"process {where} has the checkpoint {paths[where]}, the first process has none: start the nodes in "
                "the order of before, or give all of them one run folder with --trainer.default_root_dir"
            )
        super().resume_start(paths[0], weights_only)


def use_first_checkpoint(trainer: pl.Trainer) -> None:
    """Let a trainer restore by :class:`FirstCheckpoint`."""
    trainer._checkpoint_connector = FirstCheckpoint(trainer)

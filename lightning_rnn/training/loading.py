"""A trained model for use, out of its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from lightning_rnn.errors import CheckpointError
from lightning_rnn.training.checkpoints import read_checkpoint
from lightning_rnn.training.module import SequenceModule

Trained = TypeVar("Trained", bound=SequenceModule)


def load_trained(kind: type[Trained], path: Path) -> Trained:
    """The model of a checkpoint, on the CPU.

    Args:
        kind: the task's module.
        path: of the checkpoint.

    Raises:
        CheckpointError: the file is missing or broken, of another task, or its weights are not numbers.

    Example:
        .. code-block:: python

            model = load_trained(SequenceClassifier, Path("runs/.../checkpoints/best.ckpt"))
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}: train first (fit), or give another with --ckpt_path")
    checkpoint = read_checkpoint(path)
    try:
        kind.read_spec(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model = kind.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise CheckpointError(f"{path} has weights that are not numbers: take an earlier checkpoint, or train anew")
    return model

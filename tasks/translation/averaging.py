"""``lightning-rnn average``: checkpoints of one run as one, their weights averaged."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_rnn.errors import CheckpointError
from lightning_rnn.training.checkpoints import read_checkpoint, to_bytes
from lightning_rnn.training.hooks import write_atomically
from lightning_rnn.training.module import CHECKPOINT_KEY

ABOUT = """\
Writes one checkpoint whose weights are the mean of those of others: checkpoints of one run, or of runs that began as
one, which is one network and costs no more to use than one of them. (To average probabilities instead, give several
checkpoints to `lightning-rnn translate`.)

example:
  lightning-rnn average --ckpt_path runs/translation/a/checkpoints/epoch=1*.ckpt --output average.ckpt
"""


def averaged(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of floating tensors, in float64 between; of others the first.

    Example:
        >>> averaged([{"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}])
        {'w': tensor([1.5000])}
    """
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }


def average_checkpoints(paths: Sequence[Path]) -> dict[str, Any]:
    """A checkpoint to test and to predict with: the first one's, with averaged weights and nothing to resume from.

    Raises:
        CheckpointError: a file is broken, or of another task, other data or another network than the first.
    """
    checkpoints = [_read(path) for path in paths]
    first = checkpoints[0]
    for path, other in zip(paths, checkpoints, strict=True):
        for what, mine, theirs in (
            ("task or data", first[CHECKPOINT_KEY]["spec"], other[CHECKPOINT_KEY]["spec"]),
            ("network", _shapes(first), _shapes(other)),
        ):
            if mine != theirs or first[CHECKPOINT_KEY]["task"] != other[CHECKPOINT_KEY]["task"]:
                raise CheckpointError(f"{path} is of another {what} than {paths[0]}: average checkpoints of one run")
    kept = ("epoch", "global_step", "pytorch-lightning_version", "hyper_parameters", CHECKPOINT_KEY)
    result = {name: first[name] for name in kept if name in first}
    return result | {"state_dict": averaged([one["state_dict"] for one in checkpoints])}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}: give others with --ckpt_path")
    checkpoint = read_checkpoint(path)
    if CHECKPOINT_KEY not in checkpoint:
        raise CheckpointError(f"{path} is not a checkpoint of lightning-rnn: it names no task")
    return checkpoint


def _shapes(checkpoint: dict[str, Any]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in checkpoint["state_dict"].items()}


def main(argv: list[str]) -> int:
    """``lightning-rnn average``. Returns the exit code.

    Raises:
        CheckpointError: see :func:`average_checkpoints`.
        DataError: the output cannot be written.
    """
    parser = argparse.ArgumentParser(
        "lightning-rnn average",
        description=ABOUT,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ckpt_path", type=Path, nargs="+", required=True, metavar="FILE", help="checkpoints")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the checkpoint to write")
    options = parser.parse_args(argv)
    content = to_bytes(average_checkpoints(options.ckpt_path))
    write_atomically(options.output, lambda file: file.write(content), option="--output")
    print(f"average of {len(options.ckpt_path)} checkpoints: {options.output}")
    return 0

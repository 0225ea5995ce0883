"""Where a text that is being written stands, as a file: written here, gone on with elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.errors import CheckpointError, DataError
from lightning_rnn.training.carry import from_plain, to_plain
from lightning_rnn.training.checkpoints import read_checkpoint, to_bytes
from lightning_rnn.training.hooks import write_atomically

from .generation import Run
from .pieces import Written

KEY, FORMAT = "lightning_rnn_text", 1


def fingerprint(network: nn.Module) -> str:
    """A hash of the names, shapes and values of all weights: another model has another.

    Example:
        >>> fingerprint(nn.Linear(2, 3)) == fingerprint(nn.Linear(2, 3))
        False
    """
    found = hashlib.blake2b(digest_size=16)
    for name, value in sorted(network.state_dict().items()):
        found.update(f"{name} {list(value.shape)} {value.dtype}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def save_run(run: Run, network: nn.Module, path: Path) -> None:
    """Write where a run stands: tensors and plain values, with the model they belong to; whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    contents = {
        KEY: FORMAT,
        "model": fingerprint(network),
        "state": to_plain(run.state),
        **{name: getattr(run, name).cpu() for name in ("tokens", "seeds", "drawn")},
        "written": [vars(one) for one in run.written],
    }
    data = to_bytes(contents)
    write_atomically(path, lambda file: file.write(data), option="--state_out")


def load_run(path: Path, network: nn.Module) -> Run:
    """Where a run stands, on the device of the network.

    Raises:
        DataError: there is none, it is broken, holds more than tensors and plain values, or is of another model.
    """
    if not path.is_file():
        raise DataError(f"no state file {path}: write one with --state_out, or begin anew without --state_in")
    try:
        contents = read_checkpoint(path)
    except CheckpointError as error:
        raise DataError(f"{path} is no whole state of a text: give a file that --state_out wrote") from error
    if contents.get(KEY) != FORMAT:
        raise DataError(f"{path} is no state of a text in the form {FORMAT}: give a file that --state_out wrote")
    if contents["model"] != fingerprint(network):
        raise DataError(
            f"{path} is the state of another model: give the checkpoint it was written with, or begin anew without "
            "--state_in"
        )
    device = next(network.parameters()).device
    return Run(
        state=pytree.tree_map_only(Tensor, lambda leaf: leaf.to(device), from_plain(contents["state"])),
        written=[Written(**one) for one in contents["written"]],
        **_placed(contents, device),
    )


def _placed(contents: dict[str, Any], device: torch.device) -> dict[str, Tensor]:
    return {name: contents[name].to(device) for name in ("tokens", "seeds", "drawn")}

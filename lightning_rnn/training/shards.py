"""A checkpoint in parts: a folder into which each process wrote its share of the weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from lightning_rnn.errors import CheckpointError

META = "meta.pt"  # what is not of the network or the optimizers: Lightning's name


def read_shards(folder: Path) -> dict[str, Any]:
    """What is in such a folder, put together in this process: weights, progress and the data's spec.

    What optimizers know is left in the folder. Its index is a pickle, which could run code: read folders of your own.

    Raises:
        CheckpointError: a file is missing or broken.
    """
    found: dict[str, Any] = {}
    try:
        checkpoint: dict[str, Any] = torch.load(folder / META, map_location="cpu", weights_only=True)
        planner = _EmptyStateDictLoadPlanner(keys={"state_dict"})  # type: ignore[no-untyped-call]
        _load_state_dict(found, FileSystemReader(folder), planner=planner, no_dist=True)
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{folder} is not a whole checkpoint in parts ({error}): take another") from error
    return checkpoint | {"state_dict": found["state_dict"]}

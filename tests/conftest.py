"""Shared fixtures: one thread per test process, no leaks of state, where real data is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning calls what is deprecated
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("LIGHTNING_RNN_TUNE", "0")  # a run in this process would flush denormals for all tests after it

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    """Every test starts from one seed and leaves the environment as it was."""
    before = dict(os.environ)
    torch.manual_seed(0)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data."""
    root = os.environ.get("LIGHTNING_RNN_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("LIGHTNING_RNN_DATA names no folder of real data")
    return Path(root)

"""Inputs of a case, the same numbers in every process. NumPy alone: the peers' Python reads this too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speed.cases import Case

MASKED = ("lengths", "left padding", "mask with holes")
Floats = NDArray[np.float32]


def inputs(case: Case) -> tuple[Floats, Floats]:
    """``x [B, T, D]`` and the gradient of the outputs ``[B, T, H, 2H or P]``, zero at masked steps."""
    rng, size = np.random.default_rng(0), case.shape
    x = rng.standard_normal((size.batch, size.steps, size.inputs), dtype=np.float32)
    v = rng.standard_normal((size.batch, size.steps, width(case)), dtype=np.float32)
    if case.option in MASKED:
        v *= valid(case)[:, :, None]
    return x, v


def width(case: Case) -> int:
    """Features of the outputs."""
    hidden = case.shape.hidden
    return {"bidirectional": 2 * hidden, "projection": hidden // 2}.get(case.option, hidden)


def lengths(case: Case) -> NDArray[np.int64]:
    """Uniform in T/4..T, one row full."""
    steps = case.shape.steps
    drawn = np.random.default_rng(1).integers(max(steps // 4, 1), steps + 1, case.shape.batch)
    drawn[0] = steps
    return drawn


def valid(case: Case) -> NDArray[np.bool_]:
    """The mask ``[B, T]`` of a masked case."""
    size = case.shape
    if case.option == "mask with holes":
        return np.random.default_rng(2).random((size.batch, size.steps)) < 0.7
    right = np.arange(size.steps) < lengths(case)[:, None]
    return right[:, ::-1].copy() if case.option == "left padding" else right


def resets(case: Case) -> NDArray[np.bool_]:
    """Where episodes start, ``[B, T]``: one step in twenty."""
    return np.random.default_rng(3).random((case.shape.batch, case.shape.steps)) < 0.05

"""Texts and series that are given in Python, in place of a source."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_rnn.data import Ragged
from lightning_rnn.errors import DataError

from .data import ClassificationSpec


def encode(inputs: Sequence[str] | Sequence[Tensor], spec: ClassificationSpec) -> Ragged:
    """The rows that a network of this spec reads.

    Args:
        inputs: texts, or series ``[T, D]`` of numbers, NaN where one is missing.
        spec: of the training data.

    Raises:
        DataError: one is of another kind or width, or holds an infinite number; names its place, counted from 0.

    Example:
        >>> encode([torch.zeros(3, 1), torch.zeros(2, 1)], ClassificationSpec("series", 1)).lengths
        tensor([3, 2])
        >>> encode(["good"], ClassificationSpec("series", 1))
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: input 0 (counted from 0) is no series of numbers: give the series as [T, 1]
    """
    if isinstance(inputs, str):
        raise DataError("one text was given where a list of them is read: put it in brackets")
    if spec.kind == "text":
        return spec.load_tokenizer().encode(inputs)  # type: ignore[arg-type]  # it refuses what is no text
    rows = [_series(one, spec.features, f"input {place} (counted from 0)") for place, one in enumerate(inputs)]
    return Ragged.from_list([torch.zeros(0, spec.features), *rows]).select(torch.arange(1, len(rows) + 1))


def _series(values: object, width: int, where: str) -> Tensor:
    """One series, float32 ``[T, width]``."""
    try:
        series = torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where} is no series of numbers: give the series as [T, {width}]") from error
    if series.ndim != 2 or series.shape[1] != width:
        raise DataError(f"{where} is {list(series.shape)}, the model reads [T, {width}]: reshape it, or take another")
    if series.isinf().any():
        raise DataError(f"{where} holds an infinite number: mend it, or write NaN where a value is missing")
    return series.cpu()

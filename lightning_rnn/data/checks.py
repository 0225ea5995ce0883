"""Batches that a network must not see, named while on the CPU: on a GPU an id out of range ends the process."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.tokenizer_base import UNK
from lightning_rnn.errors import DataError
from lightning_rnn.types import SequenceBatch

log = logging.getLogger(__name__)
MOST_UNKNOWN = 0.2  # of a part's tokens, without a warning


def check_token_ids(batch: SequenceBatch, size: int) -> None:
    """Whether ``batch.inputs`` are int64 ids ``[B, T]`` from 0 to below ``size``.

    Raises:
        DataError: they are not; names the row, the step and the id.

    Example:
        >>> check_token_ids(SequenceBatch(torch.tensor([[5, 8]])), size=8)
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: row 0 of the part, step 2: the token id 8, of a vocabulary of 8: use the ...
    """
    ids = batch.inputs
    if ids.dtype != torch.int64 or ids.ndim != 2:
        raise DataError(f"token ids must be int64 [B, T], got {_kind(ids)}: encode the texts with the tokenizer")
    wrong = _outside(ids, size)
    if wrong is not None:
        row, step = wrong
        raise DataError(
            f"{_row(batch, row)}, step {step + 1}: the token id {ids[row, step]}, of a vocabulary of {size}: use the "
            "tokenizer that the model was made for"
        )


def check_classes(batch: SequenceBatch, names: Sequence[str], per_step: bool = False) -> None:
    """Whether ``batch.targets`` are int64 class numbers ``[B]``, or ``[B, T]`` per step, one of ``names`` each.

    Raises:
        DataError: they are not; names the row, the number and the classes.

    Example:
        >>> check_classes(SequenceBatch(torch.zeros(2, 3, 1), torch.tensor([0, -1])), ["no", "yes"])
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: row 1 of the part: the class number -1, of 2 classes (no, yes): number ...
    """
    targets, rows = batch.targets, list(batch.inputs.shape[: 2 if per_step else 1])
    if not isinstance(targets, Tensor) or targets.dtype != torch.int64 or list(targets.shape) != rows:
        found = _kind(targets) if isinstance(targets, Tensor) else type(targets).__name__
        what = "step" if per_step else "row"
        raise DataError(f"classes must be int64 {rows}, got {found}: give each {what} the number of its class, from 0")
    wrong = _outside(targets, len(names))
    if wrong is not None:
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise DataError(
            f"{_row(batch, wrong[0])}: the class number {targets[tuple(wrong)]}, of {len(names)} classes ({shown}): "
            "number them from 0"
        )


def warn_of_unknowns(origin: str, tokens: Ragged) -> None:
    """Texts of which much is unknown are often in another script, case or language than those that were trained on."""
    share = float((tokens.values == UNK).float().mean())
    if share > MOST_UNKNOWN:
        log.warning(
            "%s: %.0f %% of the tokens are unknown to the tokenizer: is it the training texts' language and case?",
            origin,
            100 * share,
        )


def _outside(values: Tensor, size: int) -> list[int] | None:
    """Where the first value is that is not from 0 to below ``size``."""
    if not values.numel():
        return None
    low, high = values.aminmax()
    if low >= 0 and high < size:
        return None
    place: list[int] = ((values < 0) | (values >= size)).nonzero()[0].tolist()
    return place


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _row(batch: SequenceBatch, row: int) -> str:
    return f"row {row if batch.ids is None else int(batch.ids[row])} of the part"

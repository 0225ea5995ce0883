"""Labels to class numbers: one of each row, or one of each of its steps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from typing import Literal

import torch
from torch import Tensor

from lightning_rnn.data import Examples, Ragged
from lightning_rnn.errors import DataError

Labels = Literal["row", "step"]
CUT: dict[Labels, Callable[[str], list[str]]] = {"row": lambda label: [label], "step": str.split}  # a row's labels


def count_classes(train: Examples, per: Labels) -> tuple[list[str], list[int]]:
    """The classes of the training part in natural order, and how many rows or steps each has.

    Raises:
        DataError: there are no labelled rows, or fewer than two classes.

    Example:
        >>> count_classes(Examples(["a b", "c"], ["noun verb", "noun"], "memory"), "step")
        (['noun', 'verb'], [2, 1])
    """
    if not len(train) or train.labels is None:
        raise DataError(f"{train.origin}: no labelled training rows")
    counts = Counter(chain.from_iterable(map(CUT[per], train.labels)))
    names = sorted(counts, key=_natural)
    if len(names) < 2:
        found = f"all training {per}s have the label {names[0]!r}" if names else "no training step has a label"
        raise DataError(f"{train.origin}: {found}; two classes are needed")
    return names, [counts[name] for name in names]


def class_numbers(part: Examples, names: Sequence[str], per: Labels, steps: Tensor) -> Tensor | Ragged | None:
    """The class of each row, int64 ``[N]``, or of each step; None where the part has no labels.

    Args:
        part: the rows.
        names: the classes, in order.
        per: what has a label.
        steps: int64 ``[N]``, the steps of each row.

    Raises:
        DataError: a label is no class, or a row has another number of labels than steps.

    Example:
        >>> part = Examples(["a b", "c"], ["no yes", "yes"], "memory")
        >>> class_numbers(part, ["no", "yes"], "step", torch.tensor([2, 1])).values.tolist()
        [0, 1, 1]
    """
    if part.labels is None:
        return None
    number = {name: i for i, name in enumerate(names)}
    numbers = list[list[int]]()
    for row, labels in enumerate(map(CUT[per], part.labels)):
        for label in labels:
            if label not in number:
                known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
                raise DataError(
                    f"{part.where(row)}: the label {label!r} is not among the training labels ({known}): mend it, or "
                    "train with rows that have it"
                )
        if per == "step" and len(labels) != steps[row]:
            raise DataError(f"{part.where(row)}: {len(labels)} labels for {steps[row]} steps: give one for each step")
        numbers.append([number[label] for label in labels])
    flat = torch.tensor(list(chain.from_iterable(numbers)), dtype=torch.int64)
    return flat if per == "row" else Ragged(flat, torch.tensor([0, *accumulate(map(len, numbers))]))


def last_label(label: str, per: Labels) -> str:
    """What a row is told from others by when parts are drawn: its label, or that of its last step.

    Example:
        >>> last_label("very good", "row"), last_label("noun verb", "step"), last_label("", "step")
        ('very good', 'verb', '')
    """
    return (CUT[per](label) or [""])[-1]


def _natural(label: str) -> tuple[int, float, str]:
    """Numbers in their order, before words in theirs."""
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    return (1, 0.0, label) if math.isnan(value) else (0, value, label)

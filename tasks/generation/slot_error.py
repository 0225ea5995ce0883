"""The slot error of RNNLG: slots that a text names too often or too seldom, by the benchmark's own rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

OCCURRENCES = ("_1", "_2", "_3")  # of a value that is delexicalised: the first, second and third of a slot
SPECIAL_VALUES = ("yes", "no", "dontcare", "none")
EXEMPT = ("?select", "suggest")  # acts of which nothing is counted

Detection = Mapping[str, Mapping[str, str | Sequence[str]]]  # resource/detect.pair as it is


class SlotCount(NamedTuple):
    """Slots of a dialogue act, and how far a text is off.

    Attributes:
        slots: that the act has, of those that can be detected.
        errors: too many and too few mentions, of all slots.
        categorical: the same of those with a value alone.
    """

    slots: int
    errors: int
    categorical: int


def slot_count(names: Sequence[str], text: str, detection: Detection) -> SlotCount:
    """Slots and errors of one text.

    A slot with a value (``general``) is mentioned once by each token ``SLOT_...`` of its own; its entries in the act
    are ``sv.slot._1`` to ``_3``. A slot of yes and no (``binary``) is mentioned by each of its words, and has the
    entries ``sv.slot.yes``, ``no``, ``dontcare`` and ``none``. Errors are the differences. Of the acts ``?select`` and
    ``suggest`` nothing counts. No other value is looked at: a "don't care" of a slot with values cannot be detected.

    Args:
        names: the act's entries: ``a.inform``, ``sv.name._1`` ...
        text: delexicalised, tokens between spaces.
        detection: the words of each slot.

    Example:
        >>> detection = {"general": {"name": "SLOT_NAME"}, "binary": {"dogsallowed": ["dog", "dogs"]}}
        >>> slot_count(["a.inform", "sv.name._1", "sv.dogsallowed.no"], "SLOT_NAME or SLOT_NAME", detection)
        SlotCount(slots=2, errors=2, categorical=1)
    """
    if any(f"a.{act}" in names for act in EXEMPT):
        return SlotCount(0, 0, 0)
    words = text.split()
    slots = categorical = binary = 0
    for slot, token in detection["general"].items():
        wanted = sum(names.count(f"sv.{slot}.{value}") for value in OCCURRENCES)
        slots, categorical = slots + wanted, categorical + abs(wanted - words.count(str(token)))
    for slot, tokens in detection["binary"].items():
        wanted = sum(names.count(f"sv.{slot}.{value}") for value in SPECIAL_VALUES)
        found = sum(words.count(token) for token in tokens)
        slots, binary = slots + wanted, binary + abs(wanted - found)
    return SlotCount(slots, categorical + binary, categorical)


class SlotError(Metric):
    """Slot errors for each slot (ERR of RNNLG) over all texts, whatever the batches; 0 where there are no slots.

    Example:
        >>> metric = SlotError()
        >>> metric.update([SlotCount(3, 1, 1), SlotCount(1, 0, 0)])
        >>> float(metric.compute())
        0.25
    """

    full_state_update = False
    slots: Tensor
    errors: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("slots", "errors"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, counts: Sequence[SlotCount]) -> None:
        """Take in texts."""
        self.slots += sum(count.slots for count in counts)
        self.errors += sum(count.errors for count in counts)

    def compute(self) -> Tensor:
        """Errors over slots, float64."""
        return self.errors / self.slots.clamp(min=1)

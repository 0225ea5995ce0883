"""Dialogue acts: ``inform(name='the eagle';pricerange=cheap)`` as text, as slots and values, as a vector."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnn.errors import DataError

ASKED = "?"  # the value of a slot that is asked for
_ACT = re.compile(r"\s*(\?*[a-z_]+)\((.*)\)\s*", re.DOTALL)


class Act(NamedTuple):
    """A dialogue act.

    Attributes:
        kind: ``inform``, ``request`` ...
        slots: its slots and their values, in its order; special values by their one name, ``?`` of a slot that is
            asked for.
    """

    kind: str
    slots: tuple[tuple[str, str], ...]


SPECIAL: Mapping[str, Sequence[str]] = {
    "none": ["none"],
    "yes": ["true", "yes"],
    "no": ["false", "no"],
    "dontcare": ["dontcare", "dont_care"],
}


def parse_act(text: str, row: int = 0, special: Mapping[str, Sequence[str]] = SPECIAL) -> Act:
    """A dialogue act from its text.

    Slots stand between semicolons, a value after ``=``, with or without quotation marks; underscores and spaces in a
    slot's name do not count. A slot without a value is asked for.

    Args:
        text: the act.
        row: of it, for messages.
        special: names of values that are no text, and how they are written.

    Raises:
        DataError: it cannot be read; names the row.

    Example:
        >>> parse_act("inform(name='the eagle';kids_allowed=true;food)")
        Act(kind='inform', slots=(('name', 'the eagle'), ('kidsallowed', 'yes'), ('food', '?')))
        >>> parse_act("inform name=x", row=3)
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: row 3: 'inform name=x' is no dialogue act: write it like inform(name='the ...
    """
    found = _ACT.fullmatch(text) if isinstance(text, str) else None
    slots = [] if found is None else [_slot(part, special) for part in found[2].split(";") if part.strip()]
    if found is None or any(slot is None for slot in slots):
        raise DataError(
            f"row {row}: {str(text)[:80]!r} is no dialogue act: write it like inform(name='the eagle';food=thai)"
        )
    return Act(found[1], tuple(slot for slot in slots if slot is not None))


def _slot(part: str, special: Mapping[str, Sequence[str]]) -> tuple[str, str] | None:
    """A slot and its value; None where there is no such thing."""
    pieces = [piece.strip("'\"") for piece in part.split("=")]
    if len(pieces) > 2 or "(" in part:
        return None
    name = pieces[0].replace("_", "").replace(" ", "")
    if not name:
        return None
    value = pieces[1] if len(pieces) == 2 else ASKED
    return name, next((key for key, written in special.items() if value in written), value)


def entries(act: Act, special: Mapping[str, Sequence[str]] = SPECIAL) -> list[str]:
    """The names of an act's entries in a vector: its kind, and each slot with what is delexicalised of its value.

    Values that are text are numbered within their slot; special ones and ``?`` keep their name. An act without slots
    has the entry ``sv.NONE.NONE``.

    Example:
        >>> entries(parse_act("inform(name=a;name=b;dogsallowed=no)"))
        ['a.inform', 'sv.dogsallowed.no', 'sv.name._1', 'sv.name._2']
        >>> entries(parse_act("goodbye()"))
        ['a.goodbye', 'sv.NONE.NONE']
    """
    seen: dict[str, int] = {}
    found = []
    for slot, value in act.slots:
        if value != ASKED and value not in special:
            seen[slot] = seen.get(slot, 0) + 1
            value = f"_{seen[slot]}"
        found.append(f"sv.{slot}.{value}")
    return [f"a.{act.kind}", *(sorted(found) or ["sv.NONE.NONE"])]


def act_vector(names: Sequence[str], text: str, row: int = 0) -> Tensor:
    """The vector of an act, float32 ``[C]``: 1 at each of its entries.

    Entries that are not among the names though their slot is, such as a fourth name, are left out, as RNNLG does.

    Args:
        names: of the entries.
        text: the act.
        row: of it, for messages.

    Raises:
        DataError: the act cannot be read, or its kind or a slot is unknown; says which there are.

    Example:
        >>> act_vector(["a.inform", "sv.name._1"], "inform(name=x)").tolist()
        [1.0, 1.0]
        >>> act_vector(["a.inform", "sv.name._1"], "inform(pool=yes)", row=2)
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: row 2: the slot 'pool' of "inform(pool=yes)" is unknown: use name
    """
    act = parse_act(text, row)
    kinds = sorted(name[2:] for name in names if name.startswith("a."))
    slots = sorted({name.split(".")[1] for name in names if name.startswith("sv.")} - {"NONE"})
    if act.kind not in kinds:
        raise DataError(f'row {row}: the act {act.kind!r} of "{text[:80]}" is unknown: use {", ".join(kinds)}')
    for slot, _ in act.slots:
        if slot not in slots:
            raise DataError(f'row {row}: the slot {slot!r} of "{text[:80]}" is unknown: use {", ".join(slots)}')
    present = set(entries(act))
    return torch.tensor([float(name in present) for name in names])

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


def parse_act(text: str, where: str = "the act", special: Mapping[str, Sequence[str]] = SPECIAL) -> Act:
    """A dialogue act from its text.

    Slots stand between semicolons, a value after ``=``, with or without quotation marks; underscores and spaces in a
    slot's name do not count, nor do spaces around a value. A slot without ``=`` is asked for.

    Args:
        text: the act.
        where: it stands, for messages.
        special: names of values that are no text, and how they are written.

    Raises:
        DataError: it cannot be read; says where it stands.

    Example:
        >>> parse_act("inform(name='the eagle';kids_allowed=true;food)")
        Act(kind='inform', slots=(('name', 'the eagle'), ('kidsallowed', 'yes'), ('food', '?')))
        >>> parse_act("inform name=x", "acts.txt, row 3")
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: acts.txt, row 3: 'inform name=x' is no dialogue act: write it like inform(...
    """
    found = _ACT.fullmatch(text) if isinstance(text, str) else None
    slots = [] if found is None else [_slot(part, special) for part in found[2].split(";") if part.strip()]
    if found is None or any(slot is None for slot in slots):
        raise DataError(
            f"{where}: {str(text)[:80]!r} is no dialogue act: write it like inform(name='the eagle';food=thai)"
        )
    return Act(found[1], tuple(slot for slot in slots if slot is not None))


def _slot(part: str, special: Mapping[str, Sequence[str]]) -> tuple[str, str] | None:
    """A slot and its value; None where there is no such thing."""
    pieces = [piece.strip().strip("'\"") for piece in part.split("=")]
    if len(pieces) > 2 or "(" in part:
        return None
    name = pieces[0].replace("_", "").replace(" ", "")
    value = pieces[1] if len(pieces) == 2 else ASKED
    if not (name and value):
        return None
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


def act_vector(names: Sequence[str], text: str, where: str = "the act") -> Tensor:
    """The vector of an act, float32 ``[C]``: 1 at each of its entries.

    RNNLG leaves out what has no entry, such as a fourth name; here nothing is asked for that cannot be said.

    Args:
        names: of the entries.
        text: the act.
        where: it stands, for messages.

    Raises:
        DataError: the act cannot be read, or its kind, a slot or what is given of a slot is unknown; says which there
            are.

    Example:
        >>> act_vector(["a.inform", "sv.name._1"], "inform(name=x)").tolist()
        [1.0, 1.0]
        >>> act_vector(["a.inform", "sv.name._1"], "inform(pool=yes)", "acts.txt, row 2")
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: acts.txt, row 2: the slot 'pool' of "inform(pool=yes)" is unknown: use name
    """
    act = parse_act(text, where)
    kinds = sorted(name[2:] for name in names if name.startswith("a."))
    slots = sorted({name.split(".")[1] for name in names if name.startswith("sv.")} - {"NONE"})
    if act.kind not in kinds:
        raise DataError(f'{where}: the act {act.kind!r} of "{text[:80]}" is unknown: use {", ".join(kinds)}')
    for slot, _ in act.slots:
        if slot not in slots:
            raise DataError(f'{where}: the slot {slot!r} of "{text[:80]}" is unknown: use {", ".join(slots)}')
    present = entries(act)
    for name in present[1:]:
        if name not in names:
            known = [said(other) for other in names if other.startswith(f"sv.{name.split('.')[1]}.")]
            raise DataError(f'{where}: the model has no {said(name)} as in "{text[:80]}": use {", ".join(known)}')
    return torch.tensor([float(name in present) for name in names])


def said(name: str) -> str:
    """A slot's entry as it is written in an act.

    Example:
        >>> [said(f"sv.name.{value}") for value in ("?", "none", "_1", "_2")]
        ['name', 'name=none', 'name=...', 'name=... 2 times']
    """
    _, slot, value = name.split(".")
    if value == ASKED:
        return slot
    if value[0] != "_":
        return f"{slot}={value}"
    return f"{slot}=..." if value == "_1" else f"{slot}=... {value[1:]} times"

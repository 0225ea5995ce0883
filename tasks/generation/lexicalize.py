"""Values out of texts and into them: ``the eagle serves thai`` ↔ ``SLOT_NAME serves SLOT_FOOD``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from .dialogue_acts import ASKED, SPECIAL, Act, parse_act
from .spec import GenerationSpec

TYPE = "SLOT_TYPE"


@dataclass(frozen=True)
class Lexicon:
    """What delexicalising needs to know.

    Attributes:
        type_word: what stands for :data:`TYPE` that no slot fills: the domain's name.
        special: values that are no text, see :func:`.dialogue_acts.parse_act`.
    """

    type_word: str = "restaurant"
    special: Mapping[str, Sequence[str]] = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        if self.special is None:
            object.__setattr__(self, "special", SPECIAL)

    @classmethod
    def of(cls, spec: GenerationSpec) -> Lexicon:
        """The spec's."""
        return cls(spec.extra["domain"])

    def values(self, act: Act) -> list[tuple[str, str]]:
        """The slots whose values are text."""
        return [(slot, value) for slot, value in act.slots if value != ASKED and value not in self.special]


def token_of(slot: str) -> str:
    """What stands for a slot's value.

    Example:
        >>> token_of("pricerange")
        'SLOT_PRICERANGE'
    """
    return f"SLOT_{slot.upper()}"


def delexicalized(text: str, act: str | Act, lexicon: Lexicon) -> str:
    """A text whose values of the act have become tokens, as RNNLG does it: longer values first, each once.

    A value of several parts joined by ``and`` or ``or`` is found in any order of them.

    Args:
        text: tokens between spaces.
        act: the dialogue act.
        lexicon: of its domain.

    Example:
        >>> delexicalized("it is cheap and near the pier", "inform(near='the pier';pricerange=cheap)", Lexicon())
        'it is SLOT_PRICERANGE and near SLOT_NEAR'
    """
    parsed = parse_act(act) if isinstance(act, str) else act
    for slot, value in sorted(lexicon.values(parsed), key=lambda pair: len(pair[1]), reverse=True):
        for form in _forms(value):
            if form in text:  # within a word too, where nothing is then replaced: the benchmark stops there
                text = f" {text} ".replace(f" {form} ", f" {token_of(slot)} ", 1)[1:-1]
                break
    return text


def _forms(value: str) -> Iterator[str]:
    parts = value.replace(" or ", " and ").split(" and ")
    for joiner in (" and ", " or "):
        yield from (joiner.join(order) for order in permutations(parts))


def lexicalized(text: str, act: str | Act, lexicon: Lexicon) -> str:
    """A text whose tokens have become the act's values, as RNNLG does it: slots with longer names first.

    A token without a value stays; :data:`TYPE` becomes the domain's word.

    Example:
        >>> lexicalized("SLOT_NAME is SLOT_PRICERANGE", "inform(name=x;pricerange=cheap)", Lexicon())
        'x is cheap'
    """
    parsed = parse_act(act) if isinstance(act, str) else act
    for slot, value in sorted(lexicon.values(parsed), key=lambda pair: len(pair[0]), reverse=True):
        text = f" {text} ".replace(f" {token_of(slot)} ", f" {value} ", 1)[1:-1]
    return f" {text} ".replace(f" {TYPE} ", f" {lexicon.type_word} ")[1:-1]

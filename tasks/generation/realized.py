"""Texts as people read them: of dialogue acts with their values; and their slots, counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .conditions import encode_conditions
from .lexicalize import Lexicon, delexicalized, lexicalized
from .rerank import entries_of
from .slot_error import SlotCount, slot_count
from .spec import GenerationSpec


def realized(spec: GenerationSpec, given: Any, texts: Sequence[str]) -> list[str]:
    """The texts of a condition, the values of a dialogue act in the places of its slots."""
    if spec.form != "act":
        return list(texts)
    lexicon = Lexicon.of(spec)
    return [lexicalized(text, given, lexicon) for text in texts]


def counted(spec: GenerationSpec, given: Any, texts: Sequence[str]) -> list[SlotCount]:
    """The slots of each text, as RNNLG counts them: of the text with its values, delexicalised once more."""
    if spec.form != "act":
        return []
    lexicon = Lexicon.of(spec)
    names = entries_of(spec, encode_conditions(spec, [given])[0])
    return [slot_count(names, delexicalized(text, given, lexicon), spec.extra["detection"]) for text in texts]

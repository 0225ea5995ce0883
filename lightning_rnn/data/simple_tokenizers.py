"""Tokenizers without a model: the characters or words of the training texts, and bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from lightning_rnn.data.tokenizer_base import (
    SPECIAL,
    UNK,
    UNKNOWN,
    Ids,
    Kind,
    Tokenizer,
    checked,
    flat,
)
from lightning_rnn.errors import DataError, require

UNITS: dict[Kind, tuple[Callable[[str], Sequence[str]], str]] = {  # how a text is cut, and what joins it again
    "characters": (str, ""),
    "words": (str.split, " "),
}


class UnitTokenizer(Tokenizer):
    """The characters, or the words between white space, of the training texts; the others are unknown.

    Args:
        units: the units from id 4 on.
        kind: ``characters`` or ``words``.
        lower: whether texts are lower-cased.

    Example:
        >>> tokenizer = UnitTokenizer.train(["a rose is a rose", "a tulip"], 100, "words", min_count=2)
        >>> tokenizer.pieces[4:], tokenizer.decode(tokenizer.encode(["a rose is"])[0].tolist())
        (['a', 'rose'], 'a rose \u2047')
    """

    def __init__(self, units: Sequence[str], kind: Kind, lower: bool = False) -> None:
        self.units, self.kind, self.lower = list(units), kind, lower
        self._ids = {unit: index for index, unit in enumerate(self.units, len(SPECIAL))}
        self._cut, self._glue = UNITS[kind]

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, kind: Kind = "words", lower: bool = False, min_count: int = 1
    ) -> Self:
        """See :meth:`Tokenizer.train`. The most frequent units are kept; of equally frequent ones, those seen first."""
        require(kind in UNITS, f"the tokenizer {kind!r} is not one of {', '.join(UNITS)}")
        require(vocab_size > len(SPECIAL), f"vocab_size must be above {len(SPECIAL)}, got {vocab_size}")
        require(min_count >= 1, f"min_count must be at least 1, got {min_count}")
        counts: Counter[str] = Counter()
        for text in checked(texts):
            counts.update(UNITS[kind][0](text.lower() if lower else text))
        if not counts:
            raise DataError("there is no text to train a tokenizer on: every text is empty")
        ordered = [unit for unit, count in counts.most_common() if count >= min_count and unit not in SPECIAL]
        require(
            bool(ordered),
            f"min_count {min_count} leaves no {kind}: the most frequent is there {max(counts.values())} times",
        )
        return cls(ordered[: vocab_size - len(SPECIAL)], kind, lower)

    @classmethod
    def _from_dict(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["units"], state["kind"], state["lower"])

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "units": self.units, "lower": self.lower}

    @property
    def vocab_size(self) -> int:
        return len(SPECIAL) + len(self.units)

    @property
    def pieces(self) -> list[str]:
        return [*SPECIAL, *self.units]

    def _encode(self, texts: list[str]) -> tuple[Ids, Ids]:
        find, cut = self._ids.get, self._cut
        lowered = (text.lower() for text in texts) if self.lower else texts
        return flat([[find(unit, UNK) for unit in cut(text)] for text in lowered])

    def _decode(self, ids: list[int]) -> str:
        pieces = ["", UNKNOWN, "", "", *self.units]
        return self._glue.join(pieces[index] for index in ids if pieces[index])


class ByteTokenizer(Tokenizer):
    """The bytes of the text as UTF-8, each plus 4: nothing is unknown, nothing is trained.

    Args:
        lower: whether texts are lower-cased.

    Example:
        >>> ByteTokenizer().encode(["é"])[0].tolist()
        [199, 173]
    """

    kind: Kind = "bytes"

    def __init__(self, lower: bool = False) -> None:
        self.lower = lower

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, kind: Kind = "bytes", lower: bool = False, min_count: int = 1
    ) -> Self:
        """See :meth:`Tokenizer.train`; only the options are looked at."""
        require(kind == "bytes", f"the tokenizer of bytes is no tokenizer {kind!r}")
        require(vocab_size >= len(SPECIAL) + 256, f"vocab_size must be at least 260 with bytes, got {vocab_size}")
        require(min_count == 1, "min_count goes with the tokenizers words and characters, not with bytes")
        return cls(lower)

    @classmethod
    def _from_dict(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["lower"])

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "lower": self.lower}

    @property
    def vocab_size(self) -> int:
        return len(SPECIAL) + 256

    @property
    def pieces(self) -> list[str]:
        return [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]

    def _encode(self, texts: list[str]) -> tuple[Ids, Ids]:
        raw = [(text.lower() if self.lower else text).encode() for text in texts]
        lengths = np.fromiter(map(len, raw), np.int64, len(raw))
        return np.frombuffer(b"".join(raw), np.uint8).astype(np.int64) + len(SPECIAL), lengths

    def _decode(self, ids: list[int]) -> str:
        unknown = UNKNOWN.encode()
        parts = (unknown if i == UNK else bytes([i - len(SPECIAL)]) for i in ids if i == UNK or i >= len(SPECIAL))
        return b"".join(parts).decode(errors="replace")

"""Tokens as text while they come: what has been shown stays as it is, whatever comes after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lightning_rnn.data.tokenizer import Tokenizer

from .spec import LINE_END, LanguageSpec
from .text import TOKEN, encode_lines

INCOMPLETE = "\ufffd"  # what an unfinished character reads as
WINDOW = 32  # ids that are decoded again at every step, at most; half of them stay when it is full


@dataclass(frozen=True)
class TextCodec:
    r"""Text to the ids a language model reads, and back.

    Args:
        spec: of the model.

    Example:
        >>> from lightning_rnn.data.tokenizer import train_tokenizer
        >>> codec = TextCodec(LanguageSpec.of(train_tokenizer(["to be or not to be"], "words")))
        >>> codec.encode("to be\nor")
        [4, 5, 3, 6]
        >>> codec.decode([4, 5, 3, 6])
        'to be\nor'
    """

    spec: LanguageSpec

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Cuts lines into tokens."""
        return self.spec.load_tokenizer()

    def encode(self, text: str) -> list[int]:
        """Ids of a text; of a line's end where there is one.

        Raises:
            DataError: it is not valid Unicode.
        """
        ids: list[int] = encode_lines(text.split(LINE_END), self.spec).values[:-1, TOKEN].tolist()
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        if self.spec.unit == "character":
            return self.tokenizer.decode(ids)  # a line's end is a character like others
        lines: list[list[int]] = [[]]
        for index in ids:
            if index == self.spec.end:
                lines.append([])
            else:
                lines[-1].append(index)
        return LINE_END.join(self.tokenizer.decode(line) for line in lines)


@dataclass
class Written:
    """The end of a text that is being written, as plain values.

    Attributes:
        ids: the last ones.
        shown: characters of their text that were handed out.
        held: text that may be the beginning of a stop.
        ended: whether a stop came.

    Example:
        >>> from lightning_rnn.data.tokenizer import ByteTokenizer
        >>> codec, written = TextCodec(LanguageSpec.of(ByteTokenizer())), Written()
        >>> [written.push(index, codec) for index in codec.encode("né!")]
        ['n', '', 'é', '!']
    """

    ids: list[int] = field(default_factory=list)
    shown: int = 0
    held: str = ""
    ended: bool = False

    @classmethod
    def after(cls, ids: Sequence[int], codec: TextCodec) -> Written:
        """Nothing yet, after a text that was read."""
        kept = _tail(ids, codec)
        return cls(kept, len(codec.decode(kept)))

    def push(self, token: int, codec: TextCodec, stops: Sequence[str] = ()) -> str:
        """The text that a token adds, but what may change yet, and without the stop that it may end with."""
        self.ids.append(token)
        text = codec.decode(self.ids)
        sure = text.removesuffix(INCOMPLETE)
        new, self.shown = self.held + sure[self.shown :], max(self.shown, len(sure))
        if len(self.ids) > WINDOW and sure == text:
            self.ids = _tail(self.ids, codec)
            self.shown = len(codec.decode(self.ids))
        return self._before_stop(new, stops)

    def _before_stop(self, new: str, stops: Sequence[str]) -> str:
        found = [place for stop in stops if (place := new.find(stop)) >= 0]
        if found:
            self.held, self.ended = "", True
            return new[: min(found)]
        sizes = (size for stop in stops for size in range(1, len(stop)) if new.endswith(stop[:size]))
        kept = max(sizes, default=0)
        new, self.held = new[: len(new) - kept], new[len(new) - kept :]
        return new

    def rest(self, codec: TextCodec) -> str:
        """What was held back, where nothing more comes."""
        if self.ended:
            return ""
        text = codec.decode(self.ids)
        rest, self.held, self.shown = self.held + text[self.shown :], "", max(self.shown, len(text))
        return rest


def _tail(ids: Sequence[int], codec: TextCodec) -> list[int]:
    """The last ids, enough that their text is some: how a token reads can depend on whether it is the first."""
    size = WINDOW // 2
    while size < len(ids) and not codec.decode(ids[-size:]).strip():
        size *= 2
    return list(ids[-size:])

"""What a generator is built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_rnn.data import DataSpec
from lightning_rnn.data.checks import check_token_ids
from lightning_rnn.data.tokenizer_base import BOS, EOS, PAD, SPECIAL, UNK
from lightning_rnn.errors import DataError
from lightning_rnn.types import SequenceBatch

Kind = Literal["tokens", "strokes"]
Form = Literal["numbers", "class", "columns", "image", "act"]
STROKE = 5  # dx, dy, pen down, pen up, end
UNMOVED = (0.0, 0.0, 1.0, 0.0, 0.0)  # before the first stroke: a pen on the paper


@dataclass(frozen=True)
class GenerationSpec(DataSpec):
    """What a generator is built from, and what conditions and outputs need to become numbers and back.

    Attributes:
        kind: what is written: ``tokens`` (text) or ``strokes`` (pen movements).
        form: what a condition is for a user: ``numbers`` (a vector), ``class`` (a name), ``columns`` (values by
            column), ``image`` (pixels) or ``act`` (a dialogue act); see :mod:`.conditions`.
        condition_size: entries of a condition, ``C``.
        condition_names: what each entry stands for; empty where entries have no names.
        image: rows and columns of an image that a condition is, else None.
        vocabulary: the tokens by id, :data:`~lightning_rnn.data.tokenizer_base.SPECIAL` first; empty for strokes.
        joiner: what stands between tokens in a text: a space for words, nothing for characters.
        longest: steps of the longest training row, its end among them.
        scale: what strokes were divided by.
        extra: what the source's form needs besides: plain values. Of an image ``pixels``, the lowest and the highest
            that there may be.
    """

    kind: Kind = "tokens"
    form: Form = "numbers"
    condition_size: int = 1
    condition_names: list[str] = field(default_factory=list)
    image: list[int] | None = None
    vocabulary: list[str] = field(default_factory=list)
    joiner: str = " "
    longest: int = 1
    scale: float = 1.0
    extra: dict[str, Any] = field(default_factory=dict)

    def check(self, batch: SequenceBatch) -> None:
        """Whether conditions have this size, and targets are of the vocabulary.

        Raises:
            DataError: they have not, or are not.

        Example:
            >>> GenerationSpec(condition_size=3).check(SequenceBatch(torch.zeros(2, 1, 4)))
            Traceback (most recent call last):
            lightning_rnn.errors.DataError: conditions of 4 entries, the model was trained on 3: use its own data
        """
        size = batch.inputs.shape[-1]
        if size != self.condition_size:
            raise DataError(f"conditions of {size} entries, the model was trained on {self.condition_size}: "
                            "use its own data")  # fmt: skip
        if self.kind == "tokens" and isinstance(batch.targets, Tensor):
            check_token_ids(SequenceBatch(batch.targets, ids=batch.ids), len(self.vocabulary))

    def like(self, other: GenerationSpec) -> bool:
        """Whether networks of both have the same conditions and the same words.

        Example:
            >>> GenerationSpec(vocabulary=["a"]).like(GenerationSpec(vocabulary=["b"]))
            False
        """
        return (self.kind, self.condition_size, self.condition_names, self.vocabulary) == (
            other.kind, other.condition_size, other.condition_names, other.vocabulary)  # fmt: skip

    @property
    def first(self) -> float | Sequence[float]:
        """What stands before the first step: ``<s>``, or :data:`UNMOVED`."""
        return BOS if self.kind == "tokens" else UNMOVED

    # Text and ids.

    def split(self, text: str) -> list[str]:
        """The tokens of a text.

        Example:
            >>> GenerationSpec(joiner="").split("two"), GenerationSpec().split("a b")
            (['t', 'w', 'o'], ['a', 'b'])
        """
        return text.split() if self.joiner else list(text)

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Ids of texts, each ending in :data:`~lightning_rnn.data.tokenizer_base.EOS`; unknown tokens are ``UNK``.

        Example:
            >>> GenerationSpec(vocabulary=[*SPECIAL, "a", "b"]).encode(["b a c"])
            [tensor([5, 4, 1, 3])]
        """
        ids = {token: index for index, token in enumerate(self.vocabulary)}
        return [torch.tensor([*(ids.get(token, UNK) for token in self.split(text)), EOS]) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; padding, beginning and end are left out.

        Example:
            >>> GenerationSpec(vocabulary=[*SPECIAL, "a", "b"]).decode([5, 4, 3, 0])
            'b a'
        """
        return self.joiner.join(self.vocabulary[index] for index in ids if index not in (PAD, BOS, EOS))


def vocabulary_of(texts: Sequence[str], joiner: str, min_count: int = 1) -> list[str]:
    """The special tokens, and those that occur at least ``min_count`` times, most frequent first.

    Example:
        >>> vocabulary_of(["a b", "b"], " ")[4:]
        ['b', 'a']
    """
    counts: dict[str, int] = {}
    for text in texts:
        for token in text.split() if joiner else text:
            counts[token] = counts.get(token, 0) + 1
    kept = [token for token, count in counts.items() if count >= min_count]
    return [*SPECIAL, *sorted(kept, key=lambda token: (-counts[token], token))]

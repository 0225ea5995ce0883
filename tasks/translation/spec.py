"""What a translator is built from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lightning_rnn.data import DataSpec
from lightning_rnn.data.checks import check_token_ids
from lightning_rnn.types import SequenceBatch


@dataclass(frozen=True)
class TranslationSpec(DataSpec):
    """What a translator is built from, and what sentences need to become ids and back: see :class:`.text.Codec`.

    Attributes:
        languages: of the source side and of the target side.
        tokenizer: of the source side, and of the target side too where there is no other; see
            :meth:`lightning_rnn.data.Tokenizer.to_dict`.
        target_tokenizer: of the target side; None where it is joint.
        source_size: tokens in the source side's vocabulary.
        target_size: the same for the target side.
        lower: whether sentences are lower-cased before they are cut into tokens.
        reverse_source: whether the encoder reads sentences from their end to their beginning (Sutskever et al. 2014,
            §3.3), the end token last all the same.
        source_eos: whether the encoder reads an end token.
        longest_source: tokens of the longest training row of the source side, its end among them.
        longest_target: the same for the target side.
    """

    languages: list[str] = field(default_factory=lambda: ["en", "fr"])
    tokenizer: dict[str, Any] = field(default_factory=dict)
    target_tokenizer: dict[str, Any] | None = None
    source_size: int = 4
    target_size: int = 4
    lower: bool = False
    reverse_source: bool = False
    source_eos: bool = True
    longest_source: int = 1
    longest_target: int = 1

    @property
    def joint(self) -> bool:
        """Whether both sides have one vocabulary."""
        return self.target_tokenizer is None

    def check(self, batch: SequenceBatch) -> None:
        """Whether all ids of a batch are of the vocabularies.

        Raises:
            DataError: one is not; names the row, the step and the id.

        Example:
            >>> import torch
            >>> TranslationSpec(source_size=8).check(SequenceBatch(torch.tensor([[5, 8]])))
            Traceback (most recent call last):
            lightning_rnn.errors.DataError: row 0 of the part, step 2: the token id 8, of a vocabulary of 8: use the ...
        """
        check_token_ids(batch, self.source_size)
        if isinstance(batch.targets, Tensor):
            check_token_ids(SequenceBatch(batch.targets, ids=batch.ids), self.target_size)

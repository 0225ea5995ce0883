"""Sentences to ids and back, as a spec says: what training, decoding and the command line share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.sampled import SampledText
from lightning_rnn.data.store import framed
from lightning_rnn.data.tokenizer import EOS, Tokenizer
from lightning_rnn.errors import require

from .pairs import printable

if TYPE_CHECKING:
    from .spec import TranslationSpec


def turned(rows: Ragged) -> Ragged:
    """Every row from its end to its beginning.

    Example:
        >>> turned(Ragged.from_list([torch.tensor([5, 6, 7]), torch.tensor([8])])).values.tolist()
        [7, 6, 5, 8]
    """
    starts, lengths = rows.offsets[:-1], rows.lengths
    mirrored = (2 * starts + lengths - 1).repeat_interleave(lengths) - torch.arange(int(rows.offsets[-1]))
    return Ragged(rows.values[mirrored], rows.offsets)


def until_end(ids: Sequence[int]) -> list[int]:
    """The ids before the first end token.

    Example:
        >>> until_end([9, 8, 3, 9])
        [9, 8]
    """
    found = list(ids)
    return found[: found.index(EOS)] if EOS in found else found


class Codec:
    """The tokenizers of a spec, loaded once, and the form that rows have.

    A source row is cut to ``max_length`` tokens, turned around where the spec says so, and ended by ``</s>`` where it
    says so; a target row is cut and ended. Neither begins with ``<s>``: the decoder's input is the target one step
    later, which the model makes.

    Args:
        spec: what the model is built from.
        max_length: tokens of a row before its end, at most; None keeps all.

    Attributes:
        source: tokenizer of the source side.
        target: tokenizer of the target side; the same one where it is joint.

    Raises:
        ConfigError: ``max_length`` leaves no token.

    Example:
        >>> from tasks.translation.data import TranslationData
        >>> data = TranslationData()
        >>> data.setup("fit")
        >>> codec = Codec(data.spec)
        >>> ids = codec.encode_target(["vingt et un"])[0].tolist()
        >>> ids[-1], codec.decode(ids)
        (3, 'vingt et un')
    """

    def __init__(self, spec: TranslationSpec, max_length: int | None = None) -> None:
        require(max_length is None or max_length >= 1, f"max_length is {max_length}: give 1 or more")
        self.spec, self.max_length = spec, max_length
        self.source = Tokenizer.from_dict(spec.tokenizer)
        self.target = self.source if spec.target_tokenizer is None else Tokenizer.from_dict(spec.target_tokenizer)
        self.source_pieces, self.target_pieces = self.source.pieces, self.target.pieces

    def folded(self, texts: Sequence[str]) -> list[str]:
        """The texts as the tokenizers take them: without control characters, lower-cased where the spec says so."""
        return fold([printable(text) for text in texts], self.spec.lower)

    def encode_source(self, texts: Sequence[str]) -> Ragged:
        """Ids that the encoder reads, int64; a text that gives none is one unknown.

        Raises:
            DataError: a text is not valid Unicode.
        """
        return self.finish_source(self.source.encode(self.folded(texts)))

    def encode_target(self, texts: Sequence[str]) -> Ragged:
        """Ids that the decoder must put out, int64, the end among them; raises as :meth:`encode_source`."""
        return self.finish_target(self.target.encode(self.folded(texts)))

    def finish_source(self, tokens: Ragged) -> Ragged:
        """Tokens of the source in the form that the encoder reads."""
        tokens = framed(tokens, max_length=self.max_length)
        return framed(turned(tokens) if self.spec.reverse_source else tokens, eos=self.spec.source_eos)

    def finish_target(self, tokens: Ragged) -> Ragged:
        """Tokens of the target in the form that the decoder puts out."""
        return framed(tokens, eos=True, max_length=self.max_length)

    def decode(self, ids: Sequence[int]) -> str:
        """The sentence that ids of the target side stand for, up to the first end.

        Raises:
            DataError: an id is beyond the vocabulary.
        """
        return self.target.decode(until_end(ids))


def fold(texts: Sequence[str], lower: bool) -> list[str]:
    """The texts, lower-cased where asked for: ``str.lower``, which keeps ß, where SentencePiece's folding does not."""
    return [text.lower() for text in texts] if lower else list(texts)


class DrawnPairs:
    """Both sides of the training pairs, cut into tokens anew in each epoch.

    Args:
        source: texts of the source side, see :class:`SampledText`.
        target: those of the target side, with another seed.
        codec: the form of the rows.
    """

    def __init__(self, source: SampledText, target: SampledText, codec: Codec) -> None:
        self.source, self.target, self.codec = source, target, codec

    def set_epoch(self, epoch: int) -> None:
        """Turn to another epoch's segmentations."""
        self.source.set_epoch(epoch)
        self.target.set_epoch(epoch)

    def draw(self, rows: Tensor) -> tuple[Ragged, Ragged]:
        """The rows (int64 ``[B]``) of both sides in this epoch, in the order given."""
        return self.codec.finish_source(self.source.draw(rows)), self.codec.finish_target(self.target.draw(rows))

"""From tokens to words: for alignments that people read, and for words that the model does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lightning_rnn.data.lines import read_rows
from lightning_rnn.data.tokenizer import EOS, UNK, Kind
from lightning_rnn.data.tokenizer_base import SPECIAL
from lightning_rnn.errors import ConfigError, DataError

from .decoding import Translation

SPACE = "\u2581"  # how SentencePiece writes a space
UNITS = ("characters", "bytes")  # kinds in which a space is a token


def word_groups(pieces: Sequence[str], kind: Kind) -> list[list[int]]:
    """Which tokens make up each word; an end is one of its own, a token that is a space belongs to none.

    Example:
        >>> word_groups(["\u2581A", "\u2581rain", "coat", "</s>"], "unigram"), word_groups(["a", "rose"], "words")
        ([[0], [1, 2], [3]], [[0], [1]])
    """
    groups: list[list[int]] = []
    open_word = False
    for place, piece in enumerate(pieces):
        if kind in UNITS and piece.isspace():
            open_word = False
            continue
        alone = piece == SPECIAL[EOS] or kind == "words"
        if alone or not open_word or piece.startswith(SPACE):
            groups.append([])
        groups[-1].append(place)
        open_word = not alone
    return groups


def merged(translation: Translation, kinds: tuple[Kind, Kind]) -> tuple[list[str], list[str], Tensor | None]:
    """Source words, target words, and the weights between them ``[words, source words]``.

    A word's weight is the sum over the tokens of a source word, and the mean over those of a target word: rows still
    sum to one.

    Example:
        >>> weights = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]])
        >>> one = Translation("chat", 0.0, ["\u2581ch", "at"], ["\u2581the", "\u2581ca", "t"], weights, 1.0)
        >>> merged(one, ("unigram", "unigram"))
        (['the', 'cat'], ['chat'], tensor([[0.2500, 0.7500]]))
    """
    source, target = word_groups(translation.source_pieces, kinds[0]), word_groups(translation.pieces, kinds[1])
    weights = translation.alignment
    if weights is not None:
        weights = _stacked([weights[:, group].sum(1) for group in source], 1, weights.shape[0])
        weights = _stacked([weights[group].mean(0) for group in target], 0, weights.shape[1])
    return named(translation.source_pieces, source), named(translation.pieces, target), weights


def _stacked(parts: list[Tensor], axis: int, other: int) -> Tensor:
    if parts:
        return torch.stack(parts, axis)
    return torch.zeros(other, 0) if axis else torch.zeros(0, other)


def named(pieces: Sequence[str], groups: Sequence[Sequence[int]]) -> list[str]:
    """The words as they are written."""
    return ["".join(pieces[place] for place in group).replace(SPACE, "") for group in groups]


def replace_unknown(
    translation: Translation, text: str, kinds: tuple[Kind, Kind], dictionary: Mapping[str, str]
) -> Translation:
    """The translation with each word that holds an unknown replaced by the source word that attention was on.

    That word's translation in the dictionary, as it is or lower-cased; else the word itself (Jean et al. 2015, "On
    Using Very Large Target Vocabulary for NMT", section 3.3).

    Args:
        translation: of a sentence.
        text: the sentence.
        kinds: of the tokenizers of both sides.
        dictionary: source words to target words.

    Raises:
        ConfigError: there is an unknown, and the model has no attention.
    """
    if SPECIAL[UNK] not in translation.pieces:
        return translation
    sources, targets, weights = merged(translation, kinds)
    if weights is None:
        raise ConfigError("--replace_unknown asks where attention was: this model has none")
    sources = [word for word in sources if word != SPECIAL[EOS]]
    written = text.split()
    sources = written if len(written) == len(sources) else sources  # with its unknown characters
    words = []
    for word, row in zip(targets, weights, strict=True):
        if SPECIAL[UNK] in word and sources:
            word = sources[int(row[: len(sources)].argmax())]
            word = dictionary.get(word, dictionary.get(word.lower(), word))
        words.append(word)
    return translation._replace(text=" ".join(words))


def read_dictionary(path: Path) -> dict[str, str]:
    """Words and their translations, one pair a line with a tab between them; of equals the first counts.

    Raises:
        DataError: the file cannot be read, or a line has not two words.
    """
    found: dict[str, str] = {}
    for number, line in read_rows(path):
        word, tab, other = line.partition("\t")
        if not (tab and word.strip() and other.strip()) or "\t" in other:
            raise DataError(f"{path}, line {number}: expected a word, a tab and its translation, got {line[:60]!r}")
        found.setdefault(word.strip(), other.strip())
    return found

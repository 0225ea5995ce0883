"""Texts as running word numbers: cut, counted, split, joined to phrases."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_rnn.errors import DataError

Cut = Literal["words", "spaces"]
Ids = npt.NDArray[np.int32]
END = -1  # of a text
CUTS: dict[str, Callable[[str], list[str]]] = {
    "words": re.compile(r"\w+(?:['’]\w+)*").findall,  # letters, digits, underscores, inner apostrophes
    "spaces": str.split,
}


class Tokens(NamedTuple):
    """A text part as numbers.

    Attributes:
        words: each once.
        ids: int32 ``[S]``, numbers of words in running text, :data:`END` where a text ends.
    """

    words: list[str]
    ids: Ids

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each word is there, ``[W]``."""
        return np.bincount(self.ids[self.ids >= 0], minlength=len(self.words))


def read_tokens(texts: Iterable[str], cut: str = "words", lower: bool = False, joined: bool = False) -> Tokens:
    """Texts as numbers; ``joined``: as one text, so that windows go over their ends.

    Example:
        >>> read_tokens(["To be, or", "not to be"], lower=True)
        Tokens(words=['to', 'be', 'or', 'not'], ids=array([ 0,  1,  2, -1,  3,  0,  1, -1], dtype=int32))
    """
    numbers: dict[str, int] = {}
    ids, find = array("i"), CUTS[cut]
    for text in texts:
        ids.extend([numbers.setdefault(word, len(numbers)) for word in find(text.lower() if lower else text)])
        if not joined:
            ids.append(END)
    return Tokens(list(numbers), np.frombuffer(ids, np.int32) if len(ids) else np.zeros(0, np.int32))


def held_out(tokens: Tokens, fraction: float, longest: int, seed: int) -> tuple[Tokens, Tokens]:
    """Two parts: texts, or pieces of ``longest`` words of them, at random; the second has about ``fraction`` of them.

    Raises:
        DataError: there are fewer than two texts or pieces.

    Example:
        >>> rest, part = held_out(read_tokens(["a b", "c d", "e f"]), 0.3, 100, seed=0)
        >>> rest.ids.tolist(), part.ids.tolist()
        ([0, 1, -1, 2, 3, -1], [4, 5, -1])
    """
    ids, place = tokens.ids, np.arange(len(tokens.ids))
    ends = np.flatnonzero(ids == END)
    begins = np.concatenate([[0], ends + 1])[np.searchsorted(ends, place)]
    unit = np.cumsum(((place - begins) % longest == 0) & (ids != END)) - 1
    count = int(unit[-1]) + 1 if len(unit) else 0
    if count < 2:
        raise DataError(
            f"the training text is one text of fewer than {longest:,} words, of which nothing can be held out: give "
            "more text, a validation part, or set data.val_fraction 0"
        )
    drawn = np.random.RandomState(seed).permutation(count)[: min(max(round(fraction * count), 1), count - 1)]
    chosen = np.isin(unit, drawn)
    return Tokens(tokens.words, _joined_units(ids, unit, ~chosen)), Tokens(
        tokens.words, _joined_units(ids, unit, chosen)
    )


def _joined_units(ids: Ids, unit: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> Ids:
    """The chosen units, with an end where what followed one is not there."""
    mine, numbers = ids[chosen], unit[chosen]
    gaps = np.flatnonzero((np.diff(numbers) > 1) & (mine[:-1] != END)) + 1
    return np.insert(mine, gaps, END)


def learn_phrases(tokens: Tokens, min_count: int = 5, threshold: float = 10.0) -> list[list[str]]:
    r"""The pairs of neighbours that stand together more often than by chance.

    :math:`(n_{ab} - \text{min\_count}) \, |V| / (n_a n_b) > \text{threshold}`, with ``V`` all distinct words and pairs
    (Mikolov et al. 2013, "Distributed representations", equation 6, in gensim's scale).

    Example:
        >>> tokens = read_tokens(["new york is old", "in new york", "a new york"])
        >>> learn_phrases(tokens, min_count=1, threshold=1.0)
        [['new', 'york']]
    """
    keys = _pairs(tokens)
    pairs, counts = np.unique(keys[keys >= 0], return_counts=True)
    single = tokens.counts.astype(np.float64)
    first, second = np.divmod(pairs, max(len(tokens.words), 1))
    there = int((single > 0).sum())
    scores = (counts - min_count) / (single[first] * single[second]) * (there + len(pairs))
    return [[tokens.words[first[i]], tokens.words[second[i]]] for i in np.flatnonzero(scores > threshold)]


def _pairs(tokens: Tokens) -> npt.NDArray[np.int64]:
    """A number for each two neighbours; -1 over the end of a text."""
    left, right = tokens.ids[:-1].astype(np.int64), tokens.ids[1:].astype(np.int64)
    return np.where((left >= 0) & (right >= 0), left * len(tokens.words) + right, -1)


def join_phrases(tokens: Tokens, phrases: Sequence[Sequence[str]]) -> Tokens:
    """Running text with the pairs joined by ``_``, from left to right.

    Example:
        >>> joined = join_phrases(read_tokens(["a b a b b"]), [["a", "b"], ["b", "b"]])
        >>> [joined.words[i] for i in joined.ids if i >= 0]
        ['a_b', 'a_b', 'b']
    """
    number = {word: i for i, word in enumerate(tokens.words)}
    known = [(number[a], number[b]) for a, b in phrases if a in number and b in number]
    if not known or len(tokens.ids) < 2:
        return tokens
    keys = _pairs(tokens)
    wanted = np.array([a * len(tokens.words) + b for a, b in known], np.int64)
    fits, place = np.isin(keys, wanted), np.arange(len(keys))
    before = np.maximum.accumulate(np.where(fits, -1, place))  # the last place without a pair
    first = np.flatnonzero(fits & ((place - before) % 2 == 1))  # of overlapping pairs, every other one
    words = list(tokens.words)
    fresh = np.array([_number_of(f"{tokens.words[a]}_{tokens.words[b]}", number, words) for a, b in known], np.int32)
    order = np.argsort(wanted)
    ids = tokens.ids.copy()
    ids[first] = fresh[order[np.searchsorted(wanted, keys[first], sorter=order)]]
    return Tokens(words, np.delete(ids, first + 1))


def _number_of(word: str, number: dict[str, int], words: list[str]) -> int:
    if word not in number:
        number[word] = len(words)
        words.append(word)
    return number[word]


def sentences(tokens: Tokens) -> Iterator[list[str]]:
    """The texts as lists of words.

    Example:
        >>> list(sentences(read_tokens(["to be", "or"])))
        [['to', 'be'], ['or']]
    """
    for part in np.split(tokens.ids, np.flatnonzero(tokens.ids == END) + 1):
        if len(part):
            yield [tokens.words[i] for i in part if i >= 0]

"""Counted language models: interpolated n-grams with modified Kneser-Ney smoothing, over any token ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lightning_rnn.errors import DataError, require

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
UNSEEN = -1  # the number of an n-gram that the training text does not hold
USUAL = (0.5, 1.0, 1.5)  # discounts where counts of counts give none


@dataclass(frozen=True, eq=False)
class Level:
    """The n-grams of one order, numbered in the order of ``keys``.

    Attributes:
        keys: ``context * base + token`` of each, rising, ``[U]``; a context is the number of the n-gram one shorter.
        mass: discounted count over the total of its context, ``[U]``.
        left: what a context leaves to the order below, ``[C]``; 1 where nothing followed it.
        discounts: of counts 1, 2, and 3 or more.
    """

    keys: Ints
    mass: Floats
    left: Floats
    discounts: tuple[float, float, float]

    def find(self, keys: Ints) -> Ints:
        """The numbers of n-grams, :data:`UNSEEN` where there is none."""
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, place, UNSEEN)


class NGrams:
    r"""An interpolated n-gram model with modified Kneser-Ney smoothing (Chen and Goodman 1998, section 3.2).

    .. math::
        p(w \mid h) = \frac{\max(c(hw) - D(c(hw)), 0)}{\sum_v c(hv)} + \gamma(h)\, p(w \mid h'),\quad
        \gamma(h) = \frac{D_1 N_1(h) + D_2 N_2(h) + D_3 N_{3+}(h)}{\sum_v c(hv)}

    ``h'`` is ``h`` without its first token, ``N_i(h)`` how many tokens follow ``h`` ``i`` times. ``c`` counts how often
    an n-gram of the highest order is there, and in the lower orders how many different tokens stand before it. Below
    the unigrams all tokens are alike. With ``n_i`` n-grams of count ``i`` and ``Y = n_1 / (n_1 + 2 n_2)``, the
    discounts of an order are ``D_i = i - (i + 1) Y n_{i+1} / n_i``; where these cannot be had (small alphabets have no
    unigram that is there once) they are 0.5, 1 and 1.5.

    Each text begins anew: a begin stands before it, which is never predicted, and no n-gram goes over it. Nothing can
    stand before an n-gram with a begin, so of these ``c`` is how often they are there, in every order.

    Args:
        tokens: the training texts end to end, int64 ``[N]``.
        vocab_size: tokens there are, ``V``.
        order: tokens of an n-gram.
        lengths: tokens of each text, int64 ``[M]``; None: all are one text.

    Raises:
        ConfigError: the order is not positive.
        DataError: there is no token, one is outside the vocabulary, or the lengths are not those of the texts.

    Example:
        >>> text = np.array([0, 1, 2] * 5)
        >>> model = NGrams(text, vocab_size=4, order=3)
        >>> p = model.probabilities(np.array([0, 1]))
        >>> int(p.argmax()), round(float(p.sum()), 12), bool(p.min() > 0)
        (2, 1.0, True)
        >>> model.log_probs(text).shape
        (15,)
    """

    def __init__(self, tokens: Ints, vocab_size: int, order: int = 5, lengths: Ints | None = None) -> None:
        require(order >= 1, f"order is {order}: give 1 (unigrams) or more")
        self.vocab_size, self.base = vocab_size, vocab_size + 1
        text, place = self._begun(tokens, lengths)
        self.order = min(order, int(place.max()) + 1)  # no text has longer ones
        self.levels = self._count(text, place)

    def _begun(self, tokens: Ints, lengths: Ints | None) -> tuple[Ints, Ints]:
        """The texts with their begins, which have the id ``V``, and how far from its begin each token is."""
        tokens = np.asarray(tokens, np.int64)
        lengths = np.array([len(tokens)]) if lengths is None else np.asarray(lengths, np.int64)
        if not len(tokens):
            raise DataError("n-grams: the text is empty: give one with tokens")
        if tokens.min() < 0 or tokens.max() >= self.vocab_size:
            wrong = int(np.flatnonzero((tokens < 0) | (tokens >= self.vocab_size))[0])
            raise DataError(f"n-grams: token {wrong} is {tokens[wrong]}, of a vocabulary of {self.vocab_size}")
        if lengths.min(initial=0) < 0 or lengths.sum() != len(tokens):
            raise DataError(
                f"n-grams: {len(tokens)} tokens but lengths of {lengths.sum()}: give the length of each text"
            )
        text = np.insert(tokens, np.cumsum(lengths) - lengths, self.vocab_size)
        begins = np.flatnonzero(text == self.vocab_size)
        return text, np.arange(len(text)) - np.repeat(begins, lengths + 1)

    def _count(self, text: Ints, place: Ints) -> list[Level]:
        """The levels from unigrams on; what is counted in one needs the n-grams of the next."""
        before = np.zeros(len(text), np.int64)  # the number of the context of each place; that of unigrams is empty
        found: list[tuple[Ints, Ints, Ints]] = []  # keys, a place of each, the number at each place
        for length in range(1, self.order + 1):
            keys = before * self.base + text
            keys[place < length - 1] = UNSEEN  # these windows would begin before their text
            unique, first, number = np.unique(keys, return_index=True, return_inverse=True)
            skip = int(unique[0] == UNSEEN)
            found.append((unique[skip:], first[skip:], number - skip))
            before = np.concatenate([[0], found[-1][2][:-1]])
        levels: list[Level] = []
        for length in range(self.order, 0, -1):
            keys, _, number = found[length - 1]
            here = place >= length - 1 if length == self.order else place == length - 1  # those with a begin
            counts = np.bincount(number[here & (place > 0)], minlength=len(keys))
            if length < self.order:
                counts = counts + np.bincount(number[found[length][1]], minlength=len(keys))
            levels.append(self._level(found, length, counts))
        return levels[::-1]

    def _level(self, found: list[tuple[Ints, Ints, Ints]], length: int, counts: Ints) -> Level:
        keys = found[length - 1][0]
        contexts = keys // self.base
        size = len(found[length - 2][0]) if length > 1 else 1
        discounts = discounts_of(counts)
        taken = np.array([0.0, *discounts])[np.minimum(counts, 3)]
        total = np.bincount(contexts, weights=counts, minlength=size)
        given = np.bincount(contexts, weights=taken, minlength=size)
        mass = (counts - taken) / np.maximum(total[contexts], 1)
        return Level(keys, mass, np.where(total > 0, given / np.maximum(total, 1), 1.0), discounts)

    def log_probs(self, tokens: Ints, lengths: Ints | None = None) -> Floats:
        """The natural logarithm of each token's probability after those before it in its text, ``[N]``.

        Raises:
            DataError: there is no token, one is outside the vocabulary, or the lengths are not those of the texts.
        """
        text, place = self._begun(tokens, lengths)
        before, p = np.zeros(len(text), np.int64), np.full(len(text), 1 / self.vocab_size)
        for level in self.levels:
            p, number = self._extend(level, p, before, text)
            before = np.concatenate([[UNSEEN], number[:-1]])
        log_probs: Floats = np.log(p[place > 0])
        return log_probs

    def probabilities(self, history: Ints) -> Floats:
        """The probability of every token after a text, ``[V]``; of that text the last ``order - 1`` count."""
        words = np.arange(self.vocab_size)
        text = np.concatenate([np.full(self.order - 1, self.vocab_size), np.asarray(history, np.int64)])
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        for length, level in enumerate(self.levels):
            number = 0
            for low, token in zip(self.levels[:length], text[len(text) - length :], strict=False):
                number = int(low.find(np.array([number * self.base + token]))[0]) if number != UNSEEN else UNSEEN
            p, _ = self._extend(level, p, np.full(self.vocab_size, number), words)
        return p

    def _extend(self, level: Level, p: Floats, before: Ints, words: Ints) -> tuple[Floats, Ints]:
        """Probabilities one order up, and the numbers of the n-grams (``before`` is those of their contexts)."""
        known = before != UNSEEN
        number = np.where(known, level.find(before * self.base + words), UNSEEN)
        left = np.where(known, level.left[before], 1.0)
        return np.where(number != UNSEEN, level.mass[number], 0.0) + left * p, number


def discounts_of(counts: Ints) -> tuple[float, float, float]:
    """``D_1``, ``D_2`` and ``D_3+`` of an order (Chen and Goodman 1998, equation 17); see :class:`NGrams`.

    Example:
        >>> discounts_of(np.array([1] * 8 + [2] * 4 + [3] * 2 + [4]))
        (0.5, 1.25, 2.0)
        >>> discounts_of(np.array([7, 9]))
        (0.5, 1.0, 1.5)
    """
    n = [int((counts == i).sum()) for i in range(1, 5)]
    if not all(n):
        return USUAL
    y = n[0] / (n[0] + 2 * n[1])
    first, second, third = (i - (i + 1) * y * n[i] / n[i - 1] for i in (1, 2, 3))
    return (first, second, third) if 0 <= first <= 1 and 0 <= second <= 2 and 0 <= third <= 3 else USUAL

"""n-grams equal a slow implementation from the equations; their probabilities sum to one."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnn.data.ngrams import NGrams, discounts_of
from lightning_rnn.errors import ConfigError, DataError

DATA = Path(os.environ.get("LIGHTNING_RNN_DATA", "data"))
BEGIN = -1


class Slow:
    """Modified Kneser-Ney in dictionaries, from Chen and Goodman 1998, section 3.2; texts begin as SRILM's do."""

    def __init__(self, texts: list[list[int]], vocab: int, order: int) -> None:
        self.vocab, self.order = vocab, order
        windows = [self._windows(text, i) for text in texts for i in range(len(text))]
        self.counts = [Counter[tuple[int, ...]]() for _ in range(order)]
        for whole in windows:  # of the highest order, or with a begin
            self.counts[len(whole) - 1][whole] += 1
        for length in range(1, order):
            seen = {whole[-length - 1 :] for whole in windows if len(whole) > length}
            self.counts[length - 1].update(gram[1:] for gram in seen)
        self.discounts = [self._discounts(counts) for counts in self.counts]
        self.following: list[dict[tuple[int, ...], list[int]]] = []
        for counts in self.counts:
            following = defaultdict(list)
            for gram, count in counts.items():
                following[gram[:-1]].append(count)
            self.following.append(following)

    def _windows(self, text: list[int], place: int) -> tuple[int, ...]:
        return tuple([BEGIN, *text][max(place + 2 - self.order, 0) : place + 2])

    @staticmethod
    def _discounts(counts: Counter[tuple[int, ...]]) -> list[float]:
        n = Counter(counts.values())
        if not all(n[i] for i in (1, 2, 3, 4)):
            return [0.5, 1.0, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        found = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
        return found if all(0 <= d <= i for i, d in enumerate(found, 1)) else [0.5, 1.0, 1.5]

    def p(self, word: int, history: tuple[int, ...]) -> float:
        """After exactly these tokens, the order being one more than they are."""
        length = len(history) + 1
        lower = self.p(word, history[1:]) if length > 1 else 1 / self.vocab
        following = self.following[length - 1].get(history)
        if not following:
            return lower
        discounts, total = self.discounts[length - 1], sum(following)
        count = self.counts[length - 1][(*history, word)]
        taken = discounts[min(count, 3) - 1] if count else 0.0
        left = sum(discounts[min(c, 3) - 1] for c in following)
        return (count - taken) / total + left / total * lower

    def log_probs(self, texts: list[list[int]]) -> np.ndarray:
        windows = [self._windows(text, i) for text in texts for i in range(len(text))]
        return np.log([self.p(window[-1], window[:-1]) for window in windows])


text = st.lists(st.integers(0, 4), min_size=1, max_size=80)
texts = st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=12).filter(any)


def joined(texts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([token for text in texts for token in text]), np.array([len(text) for text in texts])


@settings(max_examples=80, deadline=None)
@given(train=texts, test=texts, order=st.integers(1, 5))
def test_log_probabilities_equal_the_equations_one_by_one(
    train: list[list[int]], test: list[list[int]], order: int
) -> None:
    tokens, lengths = joined(train)
    fast, slow = NGrams(tokens, 7, order, lengths), Slow(train, 7, order)
    for level, discounts in zip(fast.levels, slow.discounts, strict=False):  # there are none where texts are short
        assert level.discounts == pytest.approx(discounts)
    np.testing.assert_allclose(fast.log_probs(*joined(test)), slow.log_probs(test), rtol=1e-10)


def test_a_longer_text_with_discounts_of_its_own_equals_the_equations() -> None:
    rng = np.random.default_rng(0)
    text = np.minimum(rng.geometric(0.08, 3000), 49)
    text[1::2] = (text[::2] * 3 + rng.integers(2, size=1500)) % 50
    fast, slow = NGrams(text, 50, 3), Slow([text.tolist()], 50, 3)
    assert sum(level.discounts != (0.5, 1.0, 1.5) for level in fast.levels) >= 2
    test = rng.integers(50, size=400)
    np.testing.assert_allclose(fast.log_probs(test), slow.log_probs([test.tolist()]), rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(train=texts, first=text, second=text, order=st.integers(1, 5))
def test_a_text_is_read_as_if_it_were_alone(
    train: list[list[int]], first: list[int], second: list[int], order: int
) -> None:
    tokens, lengths = joined(train)
    model = NGrams(tokens, 7, order, lengths)
    both = model.log_probs(*joined([first, [], second]))
    alone = [model.log_probs(np.array(text)) for text in (first, second)]
    np.testing.assert_array_equal(both, np.concatenate(alone))


@settings(max_examples=50, deadline=None)
@given(train=text, history=st.lists(st.integers(0, 6), max_size=8), order=st.integers(1, 5))
def test_probabilities_sum_to_one_and_are_those_of_the_text(train: list[int], history: list[int], order: int) -> None:
    model = NGrams(np.array(train), 7, order)
    p = model.probabilities(np.array(history, np.int64))
    assert p.sum() == pytest.approx(1, abs=1e-12) and p.min() > 0
    for word in range(7):
        assert model.log_probs(np.array([*history, word]))[-1] == pytest.approx(np.log(p[word]))


def test_discounts_take_no_more_than_there_is() -> None:
    assert discounts_of(np.array([1] * 4 + [2] * 1 + [3] * 9 + [4])) == (0.5, 1.0, 1.5)  # the second would be negative


@pytest.mark.skipif(not (DATA / "ptb").is_dir(), reason="no ptb in LIGHTNING_RNN_DATA")
def test_five_grams_of_the_penn_treebank_have_the_perplexity_that_is_published() -> None:
    ids: dict[str, int] = {}
    parts = [
        np.array([ids.setdefault(word, len(ids)) for line in lines for word in [*line.split(), "<eos>"]])
        for lines in ((DATA / f"ptb/ptb.{part}.txt").read_text().splitlines() for part in ("train", "test"))
    ]
    assert len(ids) == 10_000
    log_probs = NGrams(parts[0], len(ids)).log_probs(parts[1])
    assert np.exp(-log_probs.mean()) == pytest.approx(141.2, abs=0.5)  # KN5 of Mikolov and Zweig 2012, table 1


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([], "the text is empty"), ([0, 1, 7], "token 2 is 7, of a vocabulary of 7"), ([0, -1], "token 1 is -1")],
)
def test_texts_that_cannot_be_counted_are_refused(tokens: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        NGrams(np.array(tokens), 7)


@pytest.mark.parametrize("lengths", [[2], [2, 2], [4, -1]])
def test_lengths_that_are_not_those_of_the_texts_are_refused(lengths: list[int]) -> None:
    with pytest.raises(DataError, match="3 tokens but lengths"):
        NGrams(np.array([0, 1, 2]), 7, 2, np.array(lengths))


def test_an_order_is_positive() -> None:
    with pytest.raises(ConfigError, match="order is 0: give 1"):
        NGrams(np.array([1]), 7, 0)

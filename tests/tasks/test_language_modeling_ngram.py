"""n-grams equal a slow implementation from the equations; their probabilities sum to one."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnn.data.tokenizer import train_tokenizer
from lightning_rnn.errors import ConfigError, DataError
from tasks.language_modeling.baselines import measure
from tasks.language_modeling.ngram import NGrams, discounts_of
from tasks.language_modeling.spec import LanguageSpec

DATA = Path(os.environ.get("LIGHTNING_RNN_DATA", "data"))
BEGIN = -1


class Slow:
    """Modified Kneser-Ney in dictionaries, from Chen and Goodman 1998, section 3.2."""

    def __init__(self, text: list[int], vocab: int, order: int) -> None:
        self.vocab, self.order = vocab, order
        padded = [BEGIN] * (order - 1) + text
        grams = [tuple(padded[i : i + order]) for i in range(len(text))]
        self.counts: list[Counter[tuple[int, ...]]] = [Counter(grams)]
        for length in range(order - 1, 0, -1):
            seen = {gram[-length - 1 :] for gram in grams}  # each once, with the token that stands before
            self.counts.insert(0, Counter(gram[1:] for gram in seen))
        self.discounts = [self._discounts(counts) for counts in self.counts]
        self.following: list[dict[tuple[int, ...], list[int]]] = []
        for counts in self.counts:
            following = defaultdict(list)
            for gram, count in counts.items():
                following[gram[:-1]].append(count)
            self.following.append(following)

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

    def log_probs(self, text: list[int]) -> np.ndarray:
        padded = [BEGIN] * (self.order - 1) + text
        return np.log(
            [self.p(padded[i + self.order - 1], tuple(padded[i : i + self.order - 1])) for i in range(len(text))]
        )


texts = st.lists(st.integers(0, 4), min_size=1, max_size=80)


@settings(max_examples=80, deadline=None)
@given(train=texts, test=st.lists(st.integers(0, 6), min_size=1, max_size=25), order=st.integers(1, 5))
def test_log_probabilities_equal_the_equations_one_by_one(train: list[int], test: list[int], order: int) -> None:
    fast, slow = NGrams(np.array(train), 7, order), Slow(train, 7, order)
    for level, discounts in zip(fast.levels, slow.discounts, strict=True):
        assert level.discounts == pytest.approx(discounts)
    np.testing.assert_allclose(fast.log_probs(np.array(test)), slow.log_probs(test), rtol=1e-10)


def test_a_longer_text_with_discounts_of_its_own_equals_the_equations() -> None:
    rng = np.random.default_rng(0)
    text = np.minimum(rng.geometric(0.08, 3000), 49)
    text[1::2] = (text[::2] * 3 + rng.integers(2, size=1500)) % 50
    fast, slow = NGrams(text, 50, 3), Slow(text.tolist(), 50, 3)
    assert sum(level.discounts != (0.5, 1.0, 1.5) for level in fast.levels) >= 2
    test = rng.integers(50, size=400)
    np.testing.assert_allclose(fast.log_probs(test), slow.log_probs(test.tolist()), rtol=1e-10)


@settings(max_examples=50, deadline=None)
@given(train=texts, history=st.lists(st.integers(0, 6), max_size=8), order=st.integers(1, 5))
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


def test_baselines_are_those_of_all_but_the_first_token() -> None:
    spec = LanguageSpec.of(train_tokenizer(["to be or not\n"], "characters"))
    train, test = ["to be", "or not", "to be"], ["not to be", "be"]
    ids = [spec.load_tokenizer().encode(["\n".join(lines) + "\n"]).values.numpy() for lines in (train, test)]
    found = measure(train, test, spec, order=3, first=1)
    for name, order in (("unigrams", 1), ("3-grams", 3)):
        loss = -Slow(ids[0].tolist(), spec.vocab_size, order).log_probs(ids[1].tolist())[1:].sum()
        assert found[name].bits_per_character == pytest.approx(loss / 12 / np.log(2))
        assert found[name].perplexity == pytest.approx(np.exp(loss / 6))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([], "the text is empty"), ([0, 1, 7], "token 2 is 7, of a vocabulary of 7"), ([0, -1], "token 1 is -1")],
)
def test_texts_that_cannot_be_counted_are_refused(tokens: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        NGrams(np.array(tokens), 7)


def test_an_order_is_positive() -> None:
    with pytest.raises(ConfigError, match="order is 0: give 1"):
        NGrams(np.array([1]), 7, 0)

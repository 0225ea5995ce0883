"""Counted n-grams read what the network reads: a part as one text, or every line for itself."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_rnn.data import NGrams
from lightning_rnn.data.tokenizer import train_tokenizer
from tasks.language_modeling.baselines import measure
from tasks.language_modeling.spec import LanguageSpec

SPEC = LanguageSpec.of(train_tokenizer(["to be or not\n"], "characters"))
TRAIN, TEST = ["to be", "or not", "to be"], ["not to be", "be"]


def ids(text: str) -> np.ndarray:
    return SPEC.load_tokenizer().encode([text]).values.numpy()


@pytest.mark.parametrize(("name", "order"), [("unigrams", 1), ("3-grams", 3)])
def test_of_a_stream_all_but_the_first_token_is_predicted(name: str, order: int) -> None:
    found = measure(TRAIN, TEST, SPEC, order=3)[name]
    model = NGrams(ids("\n".join(TRAIN) + "\n"), SPEC.vocab_size, order)
    loss = -model.log_probs(ids("\n".join(TEST) + "\n"))[1:].sum()
    assert found.bits_per_character == pytest.approx(loss / 12 / np.log(2))
    assert found.perplexity == pytest.approx(np.exp(loss / 6))


@pytest.mark.parametrize(("name", "order"), [("unigrams", 1), ("3-grams", 3)])
def test_of_rows_every_line_is_read_for_itself_and_predicted_whole(name: str, order: int) -> None:
    found = measure(TRAIN, TEST, SPEC, order=3, layout="rows")[name]
    lines = [ids(line + "\n") for line in TRAIN]
    model = NGrams(np.concatenate(lines), SPEC.vocab_size, order, np.array([len(line) for line in lines]))
    loss = -sum(model.log_probs(ids(line + "\n")).sum() for line in TEST)
    assert found.bits_per_character == pytest.approx(loss / 13 / np.log(2))
    assert found.perplexity == pytest.approx(np.exp(loss / 6))

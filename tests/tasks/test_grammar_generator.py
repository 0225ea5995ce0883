"""Strings that a predictor writes follow its own law exactly, and a trained one's are in the language."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import pytorch_lightning as pl
import torch
from scipy.special import expit, log_softmax
from scipy.stats import chisquare

from lightning_rnn.errors import ConfigError
from lightning_rnn.layers.table import CellName
from tasks.grammar_acceptance import GrammarData, GrammarModel, generator
from tasks.grammar_acceptance.generator import Generated, Generator
from tasks.grammar_acceptance.grammars.definitions import grammar
from tasks.grammar_acceptance.grammars.sampler import Sample
from tasks.grammar_acceptance.objectives import Supervision
from tasks.grammar_acceptance.problems.stress import Adding
from tasks.grammar_acceptance.sources import AcceptedStrings
from tasks.grammar_acceptance.spec import GrammarSpec
from tasks.grammar_acceptance.strings import StringRows

REBER = grammar("reber")
LETTERS = GrammarSpec("letters", "ab", symbols=3, outputs=3)


def built(model: GrammarModel, spec: GrammarSpec = LETTERS) -> GrammarModel:
    """A network that has learned nothing, in float64, with scores that are far from each other."""
    model.spec = spec
    model.configure_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.double()


def whole(model: GrammarModel, string: str) -> npt.NDArray[np.float64]:
    """The scores ``[T, V + 1]`` of all steps in one call."""
    assert model.spec is not None
    ids = [0, *(model.spec.alphabet.index(symbol) + 1 for symbol in string)]
    with torch.no_grad():
        scores, _ = model.network(torch.tensor([ids]))
    found: npt.NDArray[np.float64] = scores[0].double().numpy()
    return found


def by_hand(model: GrammarModel, found: Generated, temperature: float, legal: bool) -> float:
    """The log-probability of a string as the module's text defines it, from the scores of the whole."""
    assert model.spec is not None
    total, scores = 0.0, whole(model, found.string)
    ends = [len(model.spec.alphabet)] if found.finished else []
    for row, choice in zip(scores, [*(model.spec.alphabet.index(s) for s in found.string), *ends], strict=False):
        if legal:
            shares = np.where((row > 0) | (row == row.max()), expit(row) ** (1 / temperature), 0)
            total += float(np.log(shares[choice] / shares.sum()))
        else:
            total += float(log_softmax(row / temperature)[choice])
    return total


@pytest.fixture(scope="session", params=["observed", "legal"])
def predictor(request: pytest.FixtureRequest) -> GrammarModel:
    """A network that predicts the symbols of Reber strings."""
    pl.seed_everything(0, verbose=False)
    model = GrammarModel("predict", request.param, hidden_size=24, initializer="keras")
    model.use_optimizer({"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-2}})
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(max_epochs=8, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(model, GrammarData(AcceptedStrings(grammar="reber", rows=1000, eval_rows=50)))
    return model


def share_accepted(found: list[Generated]) -> float:
    return sum(REBER.accepts(one.string) for one in found) / len(found)


def test_a_trained_predictor_writes_strings_of_the_language(predictor: GrammarModel) -> None:
    found = Generator(predictor).sample(2000, temperature=0.5)
    assert all(one.finished for one in found)
    assert share_accepted(found) > 0.98
    assert len({one.string for one in found}) > 30
    second = Counter(one.string[1] for one in found)
    assert abs(second["T"] - second["P"]) < 600, "the grammar has T and P equally often"


def test_the_hotter_the_more_mistakes() -> None:
    model = built(GrammarModel("predict", hidden_size=8))
    entropy = []
    for temperature in (0.2, 1.0, 5.0):
        found = Counter(one[:2] for one in Generator(model).sample(4000, temperature, longest=2))
        shares = np.array(list(found.values())) / 4000
        entropy.append(float(-(shares * np.log(shares)).sum()))
    assert entropy == sorted(entropy) and entropy[2] > entropy[0] + 0.5
    (greedy,) = {one.string for one in Generator(model).sample(50, temperature=1e-6, longest=20)}
    scores = whole(model, greedy)
    chosen = ["ab".index(symbol) for symbol in greedy] + [2] * (len(greedy) < 20)
    assert chosen == scores.argmax(1)[: len(chosen)].tolist()


@pytest.mark.parametrize("supervision", get_args(Supervision))
@pytest.mark.parametrize("cell", get_args(CellName))
def test_step_by_step_equals_the_whole(cell: CellName, supervision: Supervision) -> None:
    model = built(GrammarModel("predict", supervision, cell=cell, hidden_size=4, num_layers=2))
    model.network.head[-1].weight.data.mul_(0.1)  # nothing is certain
    model.network.head[-1].bias.data.fill_(0.3)
    found = Generator(model).sample(40, temperature=0.7, longest=8)
    assert len({len(one.string) for one in found}) > 2, "rows leave at different steps"
    for one in found:
        expected = by_hand(model, one, 0.7, supervision == "legal")
        assert one.log_probability == pytest.approx(expected, abs=1e-9)


def test_probabilities_are_those_of_the_predictions_file() -> None:
    model = built(GrammarModel("predict", hidden_size=4))
    found = [one for one in Generator(model).sample(50, longest=30) if one.finished]
    rows = StringRows(None, [Sample(one.string, True, "accepted") for one in found], "ab", "letters")
    batch = rows.__getitems__(list(range(len(found))))
    said = model.to_rows(batch, model.step(batch))
    assert said["string"] == [one.string for one in found]
    expected = torch.tensor([one.log_probability for one in found])
    assert torch.allclose(torch.as_tensor(said["log_probability"]), expected, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_strings_are_as_frequent_as_their_probability(temperature: float) -> None:
    model = built(GrammarModel("predict", hidden_size=6))
    found = Generator(model).sample(20_000, temperature, longest=3, seed=3)
    every = ["".join(symbols) for n in range(4) for symbols in product("ab", repeat=n)]
    outcomes = [(s, True) for s in every] + [(s, False) for s in every if len(s) == 3]
    shares = np.array([np.exp(by_hand(model, Generated(*one, 0.0), temperature, legal=False)) for one in outcomes])
    # a string that is cut has the probability of its symbols, less that of being ended there
    shares[len(every) :] -= shares[[every.index(s) for s, _ in outcomes[len(every) :]]]
    assert shares.sum() == pytest.approx(1)
    counts = Counter(one[:2] for one in found)
    often = shares * 20_000 > 5
    seen = [counts[one] for one, some in zip(outcomes, often, strict=True) if some]
    rest = [20_000 - sum(seen)] if shares[~often].sum() * 20_000 > 5 else []
    expected = [*(shares[often] * 20_000), *([shares[~often].sum() * 20_000] if rest else [])]
    scale = sum([*seen, *rest]) / sum(expected)
    assert chisquare([*seen, *rest], np.array(expected) * scale).pvalue > 1e-3


def test_one_seed_gives_one_list_whatever_else_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(GrammarModel("predict", hidden_size=6))
    first = Generator(model).sample(30, longest=10, seed=5)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert Generator(model).sample(30, longest=10, seed=5) == first
    assert torch.equal(torch.get_rng_state(), before), "the generator of everything else is left alone"
    assert Generator(model).sample(30, longest=10, seed=6) != first
    monkeypatch.setattr(generator, "AT_ONCE", 7)
    parts = Generator(model).sample(30, longest=10, seed=5)
    assert len(parts) == 30 and parts[:7] != parts[7:14]
    for one in parts:
        assert one.log_probability == pytest.approx(by_hand(model, one, 1.0, legal=False), abs=1e-9)


def test_strings_are_cut_at_the_longest_and_say_so() -> None:
    model = built(GrammarModel("predict", hidden_size=6))
    model.network.head[-1].bias.data[2] = -50  # it never ends
    assert [(len(one.string), one.finished) for one in Generator(model).sample(5, longest=7)] == [(7, False)] * 5
    assert [one[:2] for one in Generator(model).sample(2, longest=0)] == [("", False)] * 2
    model.network.head[-1].bias.data[2] = 1000  # it ends at once
    assert Generator(model).sample(2, longest=7) == [Generated("", True, 0.0)] * 2
    assert Generator(model).sample(0) == []


def test_what_writes_no_strings_is_refused() -> None:
    for model in (
        GrammarModel("predict"),
        built(GrammarModel("accept", hidden_size=4)),
        built(GrammarModel(hidden_size=4), Adding(rows=4, eval_rows=4).spec()),
    ):
        with pytest.raises(ConfigError, match=r"only a trained network with .*=predict writes strings"):
            Generator(model)
    writer = Generator(built(GrammarModel("predict", hidden_size=4)))
    for temperature in (0.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="temperature must be above 0"):
            writer.sample(1, temperature)
    with pytest.raises(ConfigError, match="longest must be at least 0, got -1"):
        writer.sample(1, longest=-1)
    with pytest.raises(ConfigError, match="count must be at least 0, got -2"):
        writer.sample(-2)

"""Figures say what was judged, and the automaton of a network is the one that the network is."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from matplotlib.patches import ConnectionStyle
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_rnn.errors import ConfigError
from lightning_rnn.types import SequenceBatch
from tasks.grammar_acceptance import GrammarData, GrammarModel
from tasks.grammar_acceptance.figures.callbacks import choose, figures, read_again
from tasks.grammar_acceptance.figures.drawing import BINS, LEAST, Judged, bin_lengths, count_kinds
from tasks.grammar_acceptance.figures.graphs import bezier, layout
from tasks.grammar_acceptance.figures.machines import Machine
from tasks.grammar_acceptance.figures.reading import SHOWN, Reading, draw_reading, window
from tasks.grammar_acceptance.figures.states import extract
from tasks.grammar_acceptance.grammars.automaton import Arc, Automaton
from tasks.grammar_acceptance.grammars.definitions import grammar, reber
from tasks.grammar_acceptance.grammars.languages import Grammar
from tasks.grammar_acceptance.grammars.negatives import KINDS
from tasks.grammar_acceptance.grammars.sampler import BalancedSampler, Sample
from tasks.grammar_acceptance.problems.stress import Adding
from tasks.grammar_acceptance.sources import AcceptedStrings, Strings
from tasks.grammar_acceptance.strings import StringRows


class ByHand(nn.Module):
    """A network that is a finite automaton: its state is a noisy one-hot code, its scores are the legal symbols."""

    def __init__(self, language: Automaton, noise: float) -> None:
        super().__init__()
        self.language, self.noise, self.states = language, noise, list(language.table)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        alphabet = self.language.alphabet
        scores, codes = torch.full((*x.shape, len(alphabet) + 1), -5.0), torch.zeros(len(x), len(self.states) + 1)
        for row, (ids, length) in enumerate(zip(x.tolist(), lengths.tolist(), strict=True)):
            string = "".join(alphabet[i - 1] for i in ids[1:length])
            along = self.language.states_along(string)
            scores[row, :length] += 10 * torch.from_numpy(self.language.legal_mask(string))
            codes[row, self.states.index(along[-1]) if len(along) == length else -1] = 1
        return scores, codes + self.noise * torch.randn_like(codes)


def model_of(network: Automaton, taught: Grammar[str], noise: float = 0.05) -> GrammarModel:
    """An acceptor for the strings of one grammar that has become the automaton of another."""
    model = GrammarModel()
    model.spec = Strings(grammar="embedded_reber").spec()
    model.objective = model.objective_for(model.spec)
    model.network = ByHand(network, noise)  # type: ignore[assignment]  # stands in for one
    assert network.alphabet == taught.alphabet
    return model


def strings_of(language: Grammar[str], longest: int, rows: int = 120) -> list[str]:
    """Accepted and rejected ones."""
    sampler = BalancedSampler(language, lengths=(2, longest))
    return [sample.string for sample in sampler.draw(np.random.default_rng(0), rows)]


@pytest.mark.parametrize("name", ["reber", "embedded_reber", "continual_embedded_reber"])
def test_the_automaton_of_a_perfect_network_accepts_what_the_grammar_accepts(name: str) -> None:
    language = grammar(name)
    assert isinstance(language, Automaton)
    found = extract(model_of(language, language), language, strings_of(language, 20))
    assert found.agreement is not None and found.truth is not None
    assert (found.fidelity, found.agreement.purity, found.agreement.same) == (1, 1, 1)
    assert len(found.machine.table) == len(found.truth.table) == len(set(found.agreement.names.values()))
    longest = 18 if name.startswith("continual") else 14
    assert set(found.automaton().strings(longest)) == set(language.strings(longest))


def forgetful() -> Automaton:
    """Embedded Reber but for the outer symbol: it may be either at the end."""
    inner = reber()
    arcs = [Arc("open", "B", "choice"), Arc("close", "E", "over")]
    arcs += [Arc("choice", symbol, inner.start) for symbol in "TP"] + [Arc("end", symbol, "close") for symbol in "TP"]
    return Automaton("forgetful", "open", ["over"], [*inner.arcs, *arcs])


def test_what_a_network_does_not_tell_apart_is_one_state_with_both_names() -> None:
    language, blind = grammar("embedded_reber"), forgetful()
    found = extract(model_of(blind, language), language, strings_of(language, 20))
    assert found.agreement is not None
    assert set(found.automaton().strings(14)) == set(blind.strings(14))
    assert found.automaton().accepts("BTBTXSEPE") and not language.accepts("BTBTXSEPE")
    assert found.agreement.purity < 0.8 and found.agreement.same < 0.8
    holds = [set(names) for names in found.agreement.holds.values()]
    assert {"T2", "P2"} in holds and {"T5", "P5"} in holds
    assert any("(lost)" in names for names in holds)


def test_a_grammar_that_is_not_finite_has_nothing_to_be_compared_with() -> None:
    model = GrammarModel(hidden_size=4)
    model.spec = Strings(grammar="dyck1").spec()
    model.configure_model()
    found = extract(model, grammar("dyck1"), ["()", "(())", ")("])
    assert found.truth is None and found.agreement is None


def test_a_network_that_lets_nothing_follow_is_one_state_and_no_grammar() -> None:
    model = GrammarModel(hidden_size=4)
    model.spec = Strings(grammar="reber").spec()
    model.configure_model()
    model.network.head[-1].weight.data.zero_()
    model.network.head[-1].bias.data.fill_(-1)
    found = extract(model, grammar("reber"), ["BTXSE"])
    assert list(found.machine.table) == ["1"] and not found.machine.accepting
    with pytest.raises(ConfigError, match="no arcs"):
        found.automaton()


def residual(machine: Machine, state: str, longest: int) -> frozenset[str]:
    """All strings up to a length that lead from a state to an accepting one."""
    words = ("".join(word) for n in range(longest + 1) for word in product("ab", repeat=n))
    from_here = machine._replace(start=state)
    return frozenset(word for word in words if from_here.after(word) in machine.accepting)


@pytest.mark.parametrize("seed", range(8))
def test_a_minimal_automaton_has_a_state_for_each_set_of_endings(seed: int) -> None:
    draw = random.Random(seed)
    names = [str(i) for i in range(7)]
    table = {name: {symbol: draw.choice(names) for symbol in "ab"} for name in names}
    machine = Machine("0", frozenset(draw.sample(names, 2)), table)
    minimal, kept = machine.minimal()
    endings = {name: residual(machine, name, 8) for name in names}
    assert len(minimal.table) == len(set(endings.values()))
    assert all((kept[one] == kept[other]) == (endings[one] == endings[other]) for one in names for other in names)
    assert residual(minimal, minimal.start, 8) == endings["0"]


def test_states_are_laid_out_apart_and_by_their_distance() -> None:
    machine = Machine.of(grammar("nested_reber_2"))  # type: ignore[arg-type]  # it is one
    places = layout(machine)
    assert set(places) == set(machine.table)
    assert len({tuple(place) for place in places.values()}) == len(places)
    for source, _, target in machine.steps():
        assert places[target][0] <= places[source][0] + 1.5


@pytest.mark.parametrize("bend", [0.0, 0.3, -0.6])
def test_arcs_are_planned_as_matplotlib_draws_them(bend: float) -> None:
    start, end = np.array([1.0, 2.0]), np.array([4.0, -1.0])
    path = ConnectionStyle.Arc3(rad=bend).connect(tuple(start), tuple(end))
    drawn = np.asarray(path.to_polygons(closed_only=False)[0])  # the curve in short straight pieces
    planned = bezier(start, end, bend, np.linspace(0, 1, 2001))
    assert len(drawn) > 2 or not bend
    assert max(np.linalg.norm(planned - point, axis=1).min() for point in drawn) < 5e-3


def judged_rows(seed: int, rows: int = 400) -> list[Judged]:
    draw = random.Random(seed)
    kinds = ["accepted"] * 5 + list(KINDS)
    found = [(draw.choice(kinds), int(draw.expovariate(0.1))) for _ in range(rows)]
    return [Judged("B" * length, kind == "accepted", kind, draw.random()) for kind, length in found]


@pytest.mark.parametrize("seed", range(3))
def test_counts_add_up_to_the_rows(seed: int) -> None:
    rows = judged_rows(seed)
    kinds, counts = count_kinds(rows)
    assert counts.sum() == len(rows) and kinds[0] == "accepted"
    assert counts.sum(1).tolist() == [sum(row.kind == kind for row in rows) for kind in kinds]
    right = counts[0, 0] + counts[1:, 1].sum()
    assert right == sum((row.probability > 0.5) == row.accepted for row in rows)


@pytest.mark.parametrize("seed", range(5))
def test_every_length_is_in_one_bin_and_every_bin_has_rows(seed: int) -> None:
    lengths = [len(row.string) for row in judged_rows(seed)]
    bins = bin_lengths(lengths)
    inside = [[first <= length <= last for first, last in bins].count(True) for length in lengths]
    assert set(inside) == {1} and len(bins) <= BINS
    assert min(sum(first <= length <= last for length in lengths) for first, last in bins) >= LEAST
    assert bin_lengths(lengths[:3])[0][0] == min(lengths[:3])


@pytest.mark.parametrize("seed", range(5))
def test_the_first_illegal_place_is_in_the_part_of_a_string_that_is_shown(seed: int) -> None:
    draw = random.Random(seed)
    for length in (1, 8, SHOWN - 1, SHOWN, 90, 300):
        place, lost = draw.randint(0, length), draw.randint(0, length)
        judged = Judged("B" * length, False, "random", 0.1)
        first, last = window(Reading(judged, [0.9] * lost + [0.1] * (length + 1 - lost), place))
        assert 0 <= first < last <= length + 1 and last - first == min(SHOWN, length + 1)
        assert first <= min(place, lost) < last


def test_a_string_that_the_network_loses_long_before_the_grammar_is_drawn() -> None:
    reading = Reading(Judged("a" * 90, False, "mismatch", 0.1), [0.9, *[0.1] * 90], 80)
    assert window(reading)[1] < 80
    axes = draw_reading([reading], "lost").axes[0]
    assert axes.get_xlim()[1] < 80 and not any(label.get_fontweight() == "bold" for label in axes.get_xticklabels())


def test_examples_are_of_every_kind_and_the_worst_mistakes_are_among_the_rest() -> None:
    judged = dict(enumerate(judged_rows(0)))
    chosen = choose(judged)
    assert len(set(chosen)) == len(chosen) and {judged[row].kind for row in chosen} == {"accepted", *KINDS}
    wrong = [row for row in judged if not judged[row].right]
    assert max(wrong, key=lambda row: abs(judged[row].probability - 0.5)) in chosen


def test_what_is_drawn_is_what_was_judged() -> None:
    language = grammar("embedded_reber")
    samples = BalancedSampler(language).draw(np.random.default_rng(0), 20)
    rows, model = StringRows(language, samples), GrammarModel(hidden_size=8)
    model.spec = Strings().spec()
    model.configure_model()
    verdicts = model.accept([sample.string for sample in samples])["probability"]
    judged = {i: Judged(*sample, float(verdicts[i])) for i, sample in enumerate(samples)}
    for i, reading in zip((3, 0, 11), read_again(model, rows, judged, [3, 0, 11]), strict=True):
        assert reading.illegal_at == language.illegal_at(samples[i].string)
        assert len(reading.running) == len(samples[i].string) + 1
        assert reading.running[-1] == pytest.approx(judged[i].probability)


def trainer_in(folder: Path) -> pl.Trainer:
    """A quiet one with the figures."""
    return pl.Trainer(
        default_root_dir=folder,
        callbacks=figures(),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )


CASES = {
    "accept": (
        GrammarModel(hidden_size=8),
        Strings(rows=40, eval_rows=60),
        {"reading", "kinds", "lengths", "automaton"},
    ),
    "predict": (
        GrammarModel(objective="predict", hidden_size=8),
        AcceptedStrings(rows=20, eval_rows=20),
        {"automaton"},
    ),
    "problem": (GrammarModel(hidden_size=8), Adding(steps=30, eval_rows=20), set()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_writes_the_figures_that_apply(case: str, tmp_path: Path) -> None:
    model, source, expected = CASES[case]
    trainer = trainer_in(tmp_path)
    trainer.test(model, GrammarData(source, batch_size=16), verbose=False)
    assert {path.name for path in (tmp_path / "figures").glob("*")} == {f"{name}_test.png" for name in expected}


def test_figures_without_strings_say_what_is_missing(tmp_path: Path) -> None:
    model, rows = GrammarModel(hidden_size=8), StringRows(grammar("embedded_reber"), [Sample("BE", False, "delete")])
    model.spec = Strings().spec()
    model.configure_model()
    loader: DataLoader[SequenceBatch] = DataLoader([rows.__getitems__([0])], batch_size=None)  # type: ignore[arg-type]  # a list
    with pytest.raises(ConfigError, match="strings of a GrammarData"):
        trainer_in(tmp_path).test(model, loader, verbose=False)

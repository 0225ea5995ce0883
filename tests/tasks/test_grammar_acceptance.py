"""What is learned and how it is read: targets are the grammar's, an oracle is right everywhere, bad options speak."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.layers.table import CellName, recurrent
from lightning_rnn.training.predictions import PredictionWriter
from lightning_rnn.types import SequenceBatch
from tasks.grammar_acceptance import GrammarData, GrammarModel
from tasks.grammar_acceptance.baselines import by_kind
from tasks.grammar_acceptance.grammars.automaton import Automaton
from tasks.grammar_acceptance.grammars.definitions import grammar, lingering
from tasks.grammar_acceptance.grammars.negatives import KINDS, one_edit_negatives
from tasks.grammar_acceptance.grammars.sampler import Sample
from tasks.grammar_acceptance.grammars.tables import blind, ngrams
from tasks.grammar_acceptance.objectives import Accept, Predict, illegal_at, place, steps_right, strings_right
from tasks.grammar_acceptance.problems.stress import Adding, CopyMemory, TemporalOrder
from tasks.grammar_acceptance.rigor import rigorous
from tasks.grammar_acceptance.solved import WhenSolved
from tasks.grammar_acceptance.sources import AcceptedStrings, ContinualStreams, Strings
from tasks.grammar_acceptance.strings import StringRows, StringStreams

EMBEDDED = grammar("embedded_reber")
SMALL: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
QUIET: dict[str, Any] = SMALL | {"enable_progress_bar": False, "enable_model_summary": False}


def rows_of(strings: list[str]) -> StringRows:
    return StringRows(EMBEDDED, [Sample(s, EMBEDDED.accepts(s), "any") for s in strings])


def batch_of(strings: list[str]) -> SequenceBatch:
    return rows_of(strings).__getitems__(list(range(len(strings))))


def oracle(batch: SequenceBatch) -> Tensor:
    """Scores of a network that knows the grammar as long as the prefix is alive, and then says that all is legal."""
    legal = batch.targets["legal"]  # type: ignore[index]
    return torch.where(legal | ~legal.any(2, keepdim=True), 5.0, -5.0)


SOME = ["", "B", "BTBTXSETE", "BTBTXSEPE", "BTBTXSET", "BTBTXSETEE", "TTT", "BPBPVVEPE", "BTBTXSE"]


def test_targets_are_what_the_grammar_says() -> None:
    batch = batch_of(SOME)
    assert batch.lengths is not None and batch.lengths.tolist() == [len(s) + 1 for s in SOME]
    for string, legal, accepted in zip(SOME, batch.targets["legal"], batch.targets["accepted"], strict=True):
        expected = torch.from_numpy(EMBEDDED.legal_mask(string))
        assert torch.equal(legal[: len(string) + 1], expected) and not legal[len(string) + 1 :].any()
        assert bool(accepted) == EMBEDDED.accepts(string)


@pytest.mark.parametrize(
    "source", [Strings(rows=300, eval_rows=100), Strings("dyck2", rows=60, eval_rows=30, lengths=(2, 16))]
)
def test_a_string_belongs_to_one_part(source: Strings) -> None:
    parts = [
        {s.string for s in rows.samples}
        for n in ("train", "val", "test")
        if isinstance(rows := source.split(n), StringRows)
    ]  # type: ignore[arg-type]
    assert len(parts) == 3 and all(parts)
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    for part in ("train", "test"):
        rows = source.split(part)  # type: ignore[arg-type]
        assert isinstance(rows, StringRows)
        assert all(source.language.accepts(s.string) == s.accepted for s in rows.samples)
        assert abs(sum(s.accepted for s in rows.samples) - len(rows) / 2) <= 1
        assert {s.kind for s in rows.samples} <= {"accepted", *KINDS}


def test_neither_length_nor_counts_give_the_label_away() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    def features(split: Any) -> Any:
        return [[len(s.string), *(s.string.count(c) for c in EMBEDDED.alphabet)] for s in split.samples]

    source = Strings(rows=4000, eval_rows=2000)
    train, test = source.split("train"), source.split("test")
    assert isinstance(train, StringRows) and isinstance(test, StringRows)
    scaler = StandardScaler().fit(features(train))
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(features(train)), train.accepted.numpy())
    assert abs(model.score(scaler.transform(features(test)), test.accepted.numpy()) - 0.5) < 0.07


def test_an_oracle_is_right_on_every_string_and_place() -> None:
    strings = [*EMBEDDED.strings(11), *one_edit_negatives(EMBEDDED, 11)]
    batch = batch_of(strings)
    result = Accept(EMBEDDED.alphabet).result(oracle(batch), batch)
    assert illegal_at(result.predictions) == [EMBEDDED.illegal_at(s) for s in strings]
    assert result.targets is not None and place(result.predictions, result.targets).all()


def test_the_probability_is_that_of_the_least_certain_step() -> None:
    batch = batch_of(SOME)
    scores = torch.randn(len(SOME), batch.inputs.shape[1], 8)
    running = Accept(EMBEDDED.alphabet).result(scores, batch).predictions
    for string, row, own in zip(SOME, scores, running, strict=True):
        followed = [EMBEDDED.alphabet.index(c) for c in string] + [7]
        chances = [float(row[t, s].sigmoid()) for t, s in enumerate(followed)]
        for t in range(len(chances)):
            assert float(own[t]) == pytest.approx(min(chances[: t + 1]))
        assert float(own[-1]) == pytest.approx(min(chances))


def test_losses_are_those_of_their_equations() -> None:
    batch, alphabet = batch_of(SOME), EMBEDDED.alphabet
    scores = torch.randn(len(SOME), batch.inputs.shape[1], 8, dtype=torch.float64)
    legal, observed, running = list[float](), list[float](), list[float]()
    for string, row in zip(SOME, scores, strict=True):
        mask = EMBEDDED.legal_mask(string)
        alive = [t for t in range(len(string) + 1) if mask[t].any()]
        chances = row.sigmoid().numpy()
        legal += [float(-np.where(mask[t], np.log(chances[t]), np.log(1 - chances[t])).sum()) for t in alive]
        followed = [*(alphabet.index(c) for c in string), 7]
        if EMBEDDED.accepts(string):
            observed += [float(-row[t].log_softmax(0)[s]) for t, s in enumerate(followed)]
        weakest = min(float(chances[t, s]) for t, s in enumerate(followed))
        running.append(-np.log(weakest if EMBEDDED.accepts(string) else 1 - weakest))
    accept = Accept(alphabet).result(scores, batch)
    assert (float(accept.loss), accept.weight) == (pytest.approx(np.mean(legal)), len(legal))
    predict = Predict(alphabet).result(scores, batch)
    assert (float(predict.loss), predict.weight) == (pytest.approx(np.mean(observed)), len(observed))
    labels = Accept(alphabet, "observed").result(scores, batch)
    assert (float(labels.loss), labels.weight) == (pytest.approx(np.mean(running)), len(SOME))


def test_a_predictor_is_right_where_all_that_is_legal_is_most_active() -> None:
    batch = batch_of(SOME)
    scores = oracle(batch)
    assert strings_right(scores, batch.targets).all() and steps_right(scores, batch.targets).all()  # type: ignore[arg-type]
    wrong = scores.clone()
    wrong[2, 3] = 0.0  # nothing is above anything
    assert strings_right(wrong, batch.targets).tolist() == [True, True, False, *[True] * 6]  # type: ignore[arg-type]


def test_checks_find_what_is_wrong() -> None:
    local, seen = blind(EMBEDDED), ngrams(EMBEDDED, 3)
    found = {c.what: (c.right, c.of) for c in rigorous(lambda s: [*map(local, s)], EMBEDDED, 11, 10, [(50, 75)])}
    assert found["accepted to length 11"] == (18, 18) and found["mismatch"] == (0, 18)
    assert found["wraps"] == (54, 54) and found["twins of length 50 to 75"] == (0, 10)
    found = {c.what: (c.right, c.of) for c in rigorous(lambda s: [*map(seen, s)], EMBEDDED, 11, 10, [(50, 75)])}
    assert found["wraps"] == (0, 54) and found["mismatch"] == (0, 18)


@pytest.mark.parametrize("cell", get_args(CellName))
@pytest.mark.parametrize("layers", [1, 2])
def test_every_cell_reads_strings(cell: CellName, layers: int) -> None:
    torch.manual_seed(0)
    model = GrammarModel(cell=cell, hidden_size=8, num_layers=layers)
    model.spec = Strings().spec()
    model.configure_model()
    whole, alone = batch_of(SOME), batch_of(SOME[2:3])
    result = model.step(whole)
    result.loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.network.rnn.parameters())
    torch.testing.assert_close(model.step(alone).predictions[0, -1], result.predictions[2, -1])


def test_unknown_cells_and_options_are_named() -> None:
    with pytest.raises(ConfigError, match="no cell is called 'lstn': use simple_rnn, lstm"):
        recurrent("lstn", 3, 5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the cell mgu has no initializer to choose"):
        recurrent("mgu", 3, 5, initializer="keras")
    with pytest.raises(ConfigError, match=r"model\.hidden_size must be at least 1, got 0"):
        GrammarModel(hidden_size=0)
    with pytest.raises(ConfigError, match=r"model\.activation must be one of tanh, relu, .* got 'reluu'"):
        GrammarModel(activation="reluu")


@pytest.mark.parametrize("source", [Strings, AcceptedStrings, ContinualStreams, Adding, TemporalOrder, CopyMemory])
@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_nothing_follows_from_is_named(source: Any, seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"source\.seed must be from 0 to .* got {seed}"):
        source(seed=seed)


@pytest.mark.parametrize(
    "problem", [Adding(steps=24), TemporalOrder(), CopyMemory(steps=5)], ids=lambda p: type(p).__name__
)
@pytest.mark.parametrize("cell", ["lstm", "min_gru"])
def test_problems_train_and_are_measured_by_their_own_criteria(problem: Any, cell: CellName, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = type(problem)(**(vars(problem) | {"rows": 64, "eval_rows": 16}))
    model, data = GrammarModel(cell=cell, hidden_size=8), GrammarData(source, batch_size=16)
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=1, **QUIET)
    trainer.fit(model, data)
    (found,) = trainer.test(model, data, verbose=False)
    batch = data.split("test").__getitems__(list(range(16)))
    answers = problem.answer(model.network.eval()(batch.inputs, batch.lengths)[0]).detach()
    assert found["test_right"] == pytest.approx(float(problem.right(answers, batch.targets).float().mean()))
    assert found["test_error"] == pytest.approx(float(problem.errors(answers, batch.targets).mean()), rel=1e-4)


def test_training_ends_when_a_problem_is_solved_and_counts_over_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Adding, "right", lambda self, answers, targets: torch.ones(len(answers), dtype=torch.bool))
    monkeypatch.setattr(Adding, "errors", lambda self, answers, targets: torch.zeros(len(answers)))

    def trained(callback: WhenSolved, epochs: int) -> pl.Trainer:
        trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=epochs, callbacks=[callback], **QUIET)
        trainer.fit(GrammarModel(hidden_size=4), GrammarData(Adding(steps=24, rows=32, eval_rows=4), batch_size=16))
        return trainer

    whole = WhenSolved(count=100, stop=True)
    assert trained(whole, 10).global_step == 7
    assert whole.recent is not None and whole.recent.solved_at == 100
    first, second = WhenSolved(count=100, stop=True), WhenSolved(count=100, stop=True)
    trained(first, 2)
    second.load_state_dict(first.state_dict())
    assert trained(second, 10).global_step == 3  # 64 before, 48 more


def test_what_does_not_go_together_is_said(tmp_path: Path) -> None:
    model = GrammarModel(objective="predict")
    model.spec = Adding().spec()
    with pytest.raises(ConfigError, match=r"Adding has an answer of its own: leave model\.objective"):
        model.configure_model()
    reber = GrammarModel()
    reber.spec = Strings().spec()
    data = GrammarData(Strings("dyck1", rows=8, eval_rows=4, lengths=(2, 12)))
    data.spec = reber.spec
    with pytest.raises(
        DataError, match=r"dyck1 has the symbols \(\), the model was trained on those of embedded_reber"
    ):
        data.setup("test")
    reber.configure_model()
    with pytest.raises(
        DataError, match=r"symbol 'x' at place 2 \(the first is 0\) of 'BTx' is not in the alphabet of e"
    ):
        reber.accept(["BT", "BTx"])
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=1, callbacks=[WhenSolved()], **QUIET)
    with pytest.raises(ConfigError, match="WhenSolved is for the stress problems"):
        trainer.fit(GrammarModel(hidden_size=4), GrammarData(Strings(rows=8, eval_rows=4)))


def test_a_kind_that_a_grammar_has_not_at_a_length_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    task, kinds = "tasks.grammar_acceptance", {"grammar": "anbn", "lengths": "[2, 12]", "shares": '{"wraps": 1}'}
    options = [o for name, value in kinds.items() for o in (f"--data.source.{name}", value)]
    named = ["--model", f"{task}.GrammarModel", "--data", f"{task}.GrammarData"]
    source = ["--data.source", f"{task}.sources.Strings", *options, "--trainer.max_epochs", "1"]
    assert main(["fit", *named, *source, "--trainer.default_root_dir", str(tmp_path / "run")]) == 2
    assert "a^nb^n has no negatives of the kind 'wraps' at length" in capsys.readouterr().err


def test_tables_stand_beside_the_network() -> None:
    samples = [Sample("BTBTXSETE", True, "accepted"), Sample("BTBTXSEPE", False, "mismatch")]
    found = by_kind(samples, [True, False], {"trigrams": ngrams(EMBEDDED, 3)})
    assert found == {
        "network": {"all": 0.5, "accepted": 1.0, "mismatch": 0.0},
        "trigrams": {"all": 0.5, "accepted": 1.0, "mismatch": 0.0},
    }


def test_streams_in_chunks_with_carried_state_are_one_run() -> None:
    torch.manual_seed(0)
    source = ContinualStreams(streams=3, steps=60, linger=0.0, chunk=7, eval_streams=2, eval_steps=40)
    streams = source.split("train")
    assert isinstance(streams, StringStreams)
    model = GrammarModel(objective="predict", supervision="legal", hidden_size=6)
    model.spec = source.spec()
    model.configure_model()
    model.eval()
    data = GrammarData(source, batch_size=3)
    chunks: dict[int, list[Tensor]] = {0: [], 1: [], 2: []}
    legal: dict[int, list[Tensor]] = {0: [], 1: [], 2: []}
    for keys in data.order("train", streams):
        batch = streams.__getitems__(keys)
        assert batch.ids is not None and batch.lengths is not None
        found = model.step(batch).predictions.detach()
        for i, (row, length) in enumerate(zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)):
            if row >= 0:
                chunks[row].append(found[i, :length])
                legal[row].append(batch.targets["legal"][i, :length])  # type: ignore[index]
    for row in range(3):
        ids = streams.inputs[row]
        whole = model.network(ids.unsqueeze(0))[0][0].detach()
        torch.testing.assert_close(torch.cat(chunks[row]), whole)
        string = "".join(source.language.alphabet[i - 1] for i in ids[1:].tolist())
        assert torch.equal(torch.cat(legal[row]), torch.from_numpy(source.language.legal_mask(string)))


def test_streams_train_and_have_no_figure_of_strings(tmp_path: Path) -> None:
    source = ContinualStreams(streams=6, steps=50, eval_streams=2, eval_steps=60)
    model = GrammarModel(objective="predict", supervision="legal", hidden_size=6)
    shown = [one for one in model.run_callbacks() if not isinstance(one, PredictionWriter)]
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=1, callbacks=shown, **QUIET)
    trainer.fit(model, GrammarData(source, batch_size=2))
    assert torch.isfinite(trainer.callback_metrics["val_loss"])
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["learning_curves.png"]
    with pytest.raises(ConfigError, match="streams need an automaton"):
        ContinualStreams(grammar="dyck1").split("train")


def test_lingering_changes_the_law_and_not_the_language() -> None:
    slow = lingering(EMBEDDED, 0.7)
    assert isinstance(EMBEDDED, Automaton)
    assert [slow.count(n) for n in range(30)] == [EMBEDDED.count(n) for n in range(30)]
    assert all(sum(shares) == pytest.approx(1) for _, shares in slow.probabilities.values())
    rng = np.random.default_rng(0)
    usual, longer = ([len(g.sample(rng)) for _ in range(2000)] for g in (EMBEDDED, slow))
    assert np.mean(usual) == pytest.approx(12, abs=0.5) and np.mean(longer) > 15


def test_hochreiter_and_schmidhubers_parts() -> None:
    source = AcceptedStrings(seed=3)
    parts = {n: source.split(n) for n in ("train", "val", "test")}  # type: ignore[arg-type]
    strings = {n: [s.string for s in rows.samples] for n, rows in parts.items() if isinstance(rows, StringRows)}
    assert strings["val"] == strings["train"] + strings["test"] and len(strings["val"]) == 512
    assert not set(strings["train"]) & set(strings["test"])
    assert len(set(strings["train"])) < 256  # drawn with repetition


def test_copy_without_memory_costs_what_the_baseline_says() -> None:
    problem = CopyMemory(steps=50)
    batch = problem.batch(2, torch.arange(2000))
    scores = torch.full((*batch.inputs.shape, 9), -30.0)
    scores[:, :-10, 0] = 0.0
    scores[:, -10:, 1:] = 0.0
    loss = float(problem.loss(scores, batch.targets))  # type: ignore[arg-type]
    assert loss == pytest.approx(problem.baselines()["memoryless_cross_entropy"], rel=1e-3)
    assert loss == pytest.approx(float(F.cross_entropy(scores.transpose(1, 2), batch.targets)))  # type: ignore[arg-type]

"""The long-dependency problems follow their papers, and their baselines are what the data give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lightning_rnn.errors import ConfigError
from lightning_rnn.types import SequenceBatch
from tasks.grammar_acceptance.grammars.definitions import grammar
from tasks.grammar_acceptance.problems.criteria import MostRecent, all_within, legal_are_most_active
from tasks.grammar_acceptance.problems.problem import Problem, StressRows
from tasks.grammar_acceptance.problems.stress import Adding, CopyMemory, TemporalOrder

PROBLEMS: list[Problem] = [Adding(steps=50), TemporalOrder(marks=2), TemporalOrder(marks=3), CopyMemory(steps=30)]
IDS = ["adding", "6a", "6b", "copy"]


def equal(one: SequenceBatch, other: SequenceBatch) -> bool:
    """Equal up to padding."""
    assert one.lengths is not None and other.lengths is not None and one.targets is not None
    width = int(one.lengths.max())
    return (
        torch.equal(one.lengths, other.lengths)
        and torch.equal(one.inputs, other.inputs[:, :width])
        and torch.equal(one.targets, other.targets)
    )


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_row_is_the_same_in_every_batch(problem: Problem) -> None:
    whole = problem.batch(1, torch.arange(20))
    assert whole.lengths is not None and whole.targets is not None
    for row in (0, 7, 19):
        alone = problem.batch(1, torch.tensor([row]))
        index = torch.tensor([row])
        assert equal(alone, SequenceBatch(whole.inputs[index], whole.targets[index], lengths=whole.lengths[index]))


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_other_seeds_parts_and_rows_are_other_data(problem: Problem) -> None:
    again, other = type(problem)(**vars(problem)), type(problem)(**(vars(problem) | {"seed": 1}))
    rows = torch.arange(20)
    assert equal(problem.batch(0, rows), again.batch(0, rows))
    for changed in (other.batch(0, rows), problem.batch(1, rows), problem.batch(0, rows + 20)):
        width = min(changed.inputs.shape[1], problem.batch(0, rows).inputs.shape[1], 40)
        assert not torch.equal(changed.inputs[:, :width], problem.batch(0, rows).inputs[:, :width])


@pytest.mark.parametrize("steps", [24, 50, 101])
def test_adding_is_as_the_paper_says(steps: int) -> None:
    batch = Adding(steps=steps).batch(0, torch.arange(4000))
    assert batch.lengths is not None and batch.targets is not None
    assert (int(batch.lengths.min()), int(batch.lengths.max())) == (steps, steps + steps // 10)
    places: set[int] = set()
    for pairs, length, target in zip(batch.inputs, batch.lengths.tolist(), batch.targets.tolist(), strict=True):
        values, markers = pairs[:length].T
        assert markers[0] == markers[-1] == -1 and not pairs[length:].any()
        marked = (markers == 1).nonzero().flatten().tolist()
        assert len(marked) in (1, 2) and ((markers == 0) | (markers.abs() == 1)).all()
        assert min(marked) < 10 or len(marked) == 1
        assert target == pytest.approx(0.5 + float(values[marked].sum()) / 4, abs=1e-6)
        places |= set(marked)
    assert places == set(range(1, steps // 2 - 1)) and batch.inputs[:, :, 0].abs().max() <= 1


def test_addings_baseline_is_the_best_constants_error() -> None:
    problem = Adding(steps=100)
    targets = problem.batch(0, torch.arange(100_000)).targets
    assert targets is not None
    constant = problem.baselines()["constant_mse"]
    assert float(targets.double().var()) == pytest.approx(constant, rel=0.01)
    assert 0.9 / 24 < constant < 1 / 24
    assert not problem.right(torch.full_like(targets, 0.5), targets).all()
    assert problem.right(targets + 0.0399, targets).all() and not problem.right(targets + 0.0401, targets).any()


@pytest.mark.parametrize("marks", [2, 3])
def test_temporal_order_is_as_the_paper_says(marks: int) -> None:
    problem = TemporalOrder(marks=marks)  # type: ignore[arg-type]  # 2 or 3
    batch = problem.batch(0, torch.arange(2000))
    assert batch.lengths is not None and batch.targets is not None
    starts, seen = {2: (10, 50), 3: (10, 33, 66)}[marks], []
    for ids, length, target in zip(batch.inputs.tolist(), batch.lengths.tolist(), batch.targets.tolist(), strict=True):
        string = "".join(problem.symbols[i] for i in ids[:length])
        assert string[0] == "E" and string[-1] == "B" and not set(string[1:-1]) - set("abcdXY")
        places = [i for i, symbol in enumerate(string) if symbol in "XY"]
        assert all(start <= place <= start + 10 for start, place in zip(starts, places, strict=True))
        assert target == int("".join(string[place] for place in places).translate({88: "0", 89: "1"}), 2)
        seen.append((length, *places))
    for column, (low, high) in zip(zip(*seen, strict=True), [(100, 110), *((s, s + 10) for s in starts)], strict=True):
        assert set(column) == set(range(low, high + 1))


@pytest.mark.parametrize("marks", [2, 3])
def test_temporal_orders_chance_is_that_of_its_classes(marks: int) -> None:
    problem = TemporalOrder(marks=marks)  # type: ignore[arg-type]  # 2 or 3
    targets = problem.batch(0, torch.arange(16_000)).targets
    assert targets is not None
    counts = torch.bincount(targets)
    assert (
        len(counts) == problem.outputs == 2**marks and float((counts / 16_000 * problem.outputs - 1).abs().max()) < 0.15
    )
    baselines = problem.baselines()
    even = torch.zeros(len(targets), problem.outputs)
    assert float(F.cross_entropy(even, targets)) == pytest.approx(baselines["chance_cross_entropy"])
    assert baselines["chance_accuracy"] == 1 / 2**marks
    sure = F.one_hot(targets, problem.outputs).float()
    assert problem.right(sure * 0.71 + 0.01, targets).all() and not problem.right(sure * 0.69, targets).any()
    assert float(problem.errors(sure, targets).max()) == 0


def test_copy_memory_is_as_the_paper_says() -> None:
    batch = CopyMemory(steps=30).batch(0, torch.arange(500))
    assert batch.targets is not None and batch.inputs.shape == batch.targets.shape == (500, 50)
    symbols = batch.inputs[:, :10]
    assert set(symbols.unique().tolist()) == set(range(1, 9))
    assert torch.equal(batch.targets[:, -10:], symbols) and not batch.targets[:, :-10].any()
    assert (batch.inputs[:, 39] == 9).all() and not batch.inputs[:, 10:39].any() and not batch.inputs[:, 40:].any()


@pytest.mark.parametrize(("steps", "published"), [(100, 0.1733), (500, 0.0400), (1000, 0.0204), (2000, 0.0103)])
def test_copy_memorys_baseline_is_the_published_one(steps: int, published: float) -> None:
    problem = CopyMemory(steps=steps)
    baseline = problem.baselines()["memoryless_cross_entropy"]
    assert baseline == pytest.approx(published, abs=5e-5) and baseline > problem.solved
    batch = problem.batch(0, torch.arange(4))
    assert batch.targets is not None
    memoryless = torch.full((4, steps + 20, 9), -math.inf)
    memoryless[:, :-10, 0], memoryless[:, -10:, 1:] = 0, 0
    assert problem.errors(memoryless, batch.targets).tolist() == pytest.approx([baseline] * 4)
    sure = 50.0 * F.one_hot(batch.targets, 9)
    assert (
        problem.right(sure, batch.targets).all() and float(problem.errors(sure, batch.targets).max()) < problem.solved
    )
    sure[0, -1] = sure[0, -1].roll(1)
    assert problem.right(sure, batch.targets).tolist() == [False, True, True, True]


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_split_makes_the_rows_it_is_asked_for(problem: Problem) -> None:
    fixed, fresh = StressRows(problem, 10), StressRows(problem, 10, fresh=True)
    first = fixed.__getitems__([3, 5])
    assert (
        first.ids is not None and first.ids.tolist() == [3, 5] and equal(first, problem.batch(0, torch.tensor([3, 5])))
    )
    for split in (fixed, fresh):
        split.set_epoch(2)
    assert equal(fixed.__getitems__([3, 5]), first)
    assert equal(fresh.__getitems__([3, 5]), problem.batch(0, torch.tensor([23, 25])))
    assert torch.equal(fixed.lengths, fixed.inputs.lengths) and len(fixed) == len(fresh.lengths) == 10
    assert fixed.digest() == StressRows(problem, 10).digest() != StressRows(problem, 10, part=1).digest()


def test_training_is_over_when_the_most_recent_were_right() -> None:
    rng = np.random.default_rng(0)
    right, errors = rng.random(4000) < 0.97, rng.random(4000) * 0.02
    expected = next(
        (i for i in range(50, 4001) if right[i - 50 : i].all() and errors[i - 50 : i].mean() < 0.0098), None
    )
    for size in (1, 7, 32, 500):
        recent = MostRecent(error=0.0098, count=50)
        for start in range(0, 4000, size):
            recent.update(torch.tensor(right[start : start + size]), torch.tensor(errors[start : start + size]))
        assert recent.solved_at == expected and recent.presented == 4000
    assert expected is not None


def test_criteria_read_as_the_papers_say() -> None:
    legal = torch.from_numpy(grammar("embedded_reber").legal_mask("BTBTXSETE"))
    scores = torch.where(legal, 0.6, 0.5)
    assert legal_are_most_active(scores, legal).all()
    scores[4, 0] = 0.61
    assert legal_are_most_active(scores, legal).tolist() == [i != 4 for i in range(10)]
    assert all_within(torch.tensor([0.1, 0.5]), torch.tensor([0.0, 0.0]), 0.49).tolist() == [True, False]


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError, match="adding needs 24 steps or more, got 10"):
        Adding(steps=10)
    with pytest.raises(ConfigError, match="2 or 3 marks, got 4"):
        TemporalOrder(marks=4)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigError, match="1 step or more, got 0"):
        CopyMemory(steps=0)
    with pytest.raises(ConfigError, match="1 row or more, got 0"):
        StressRows(CopyMemory(), 0)

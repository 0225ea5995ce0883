"""Several processes give what one gives, for every task: gradients, metrics, predictions, whatever the rows' number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_tasks import TABLE, Options, judged, trained

from lightning_rnn.training.module import SequenceModule


def assert_close(one: Options, other: Options, names: Sequence[str]) -> None:
    assert one.keys() == other.keys() and one.keys() >= set(names)
    for name, value in one.items():
        assert other[name] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), name


def assert_same_file(one: str, other: str) -> None:
    """The same rows in the same order; numbers, of which some went through float32, to six digits."""
    for line, other_line in zip(one.splitlines(), other.splitlines(), strict=True):
        for cell, other_cell in zip(line.split(","), other_line.split(","), strict=True):
            try:
                number = float(cell)
            except ValueError:
                assert cell == other_cell
            else:
                assert float(other_cell) == pytest.approx(number, rel=1e-6, abs=1e-7, nan_ok=True)


def cases(rowless: Sequence[str]) -> list[Any]:
    """Every task with uneven batches on two processes, and on three of which one has no row to judge; some slowly."""
    even = [pytest.param(name, "source", 2, id=name) for name in TABLE]
    for name in TABLE:
        marks = [] if name in rowless else [pytest.mark.slow]
        even.append(pytest.param(name, "few", 3, id=f"{name}, a process without rows", marks=marks))
    return even


@pytest.mark.parametrize(("name", "source", "processes"), cases(["quantiles"]))
def test_the_same_global_batches_give_the_same_gradients_and_metrics(
    name: str, source: str, processes: int, tmp_path: Path
) -> None:
    row = TABLE[name]
    make = getattr(row, source)
    _, metrics, gradients = trained(row, make(), tmp_path / "one", 1)
    _, found, shared = trained(row, make(), tmp_path / "several", processes)
    assert gradients.shape == shared.shape and float(gradients.abs().max()) > 1e-3
    torch.testing.assert_close(shared, gradients, rtol=0, atol=1e-6)
    assert_close(metrics, found, ["train_loss", "val_loss"])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SequenceModule]:
    """The module of a row, trained a little, once."""

    @cache
    def get(name: str) -> SequenceModule:
        row, folder = TABLE[name], tmp_path_factory.mktemp(name)
        return row.learned(trained(row, row.source(), folder / "run", 1)[0], folder)

    return get


@pytest.mark.parametrize(("name", "source", "processes"), cases(["classification", "owa", "translation"]))
def test_several_judge_and_predict_what_one_does(
    name: str, source: str, processes: int, models: Callable[[str], SequenceModule], tmp_path: Path
) -> None:
    row, model = TABLE[name], models(name)
    make = getattr(row, source)
    one, lines = judged(row, model, make(), tmp_path, 1)
    several, shared = judged(row, model, make(), tmp_path, processes)
    assert_close(one, several, ["test_loss"])
    assert_same_file(lines, shared)
    if row.task == "translation" and source == "source":
        assert one["test_bleu"] > 1 and one["test_chrf"] > 1  # something was translated

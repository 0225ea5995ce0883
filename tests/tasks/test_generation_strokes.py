"""Pen strokes: the five numbers of a step, scale, changes from epoch to epoch, pictures, and what is wrong in files."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from torch import Tensor

from lightning_rnn.cli import main
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.errors import ConfigError, DataError, UserError
from lightning_rnn.paths import data_path
from tasks.generation.augment import Augmentation, DrawnStrokes
from tasks.generation.data import GenerationData
from tasks.generation.drawings import draw_grid
from tasks.generation.stroke_baselines import constant_losses
from tasks.generation.strokes import StrokeFiles, lines_of, scale_of, to_five, to_three

CONFIG = """
model:
  class_path: tasks.generation.Generator
  init_args: {cell: lstm, hidden_size: 8, mixtures: 2, encoder: identity, condition: state, max_length: 12}
data:
  class_path: tasks.generation.GenerationData
  init_args:
    source: {class_path: tasks.generation.strokes.StrokeFiles, init_args: {files: [cat.npz, dog.npz], drop: 0.1}}
    batch_size: 8
trainer: {accelerator: cpu, max_epochs: 1}
"""


def sketch(seed: int, steps: int = 9) -> np.ndarray[Any, np.dtype[np.int16]]:
    random = np.random.default_rng(seed)
    moves = random.integers(-30, 31, (steps, 2))
    pen = random.random((steps, 1)) < 0.3
    pen[-1] = True
    return np.concatenate([moves, pen], 1).astype(np.int16)


def objects(rows: list[Any]) -> Any:
    made = np.empty(len(rows), dtype=object)
    for place, row in enumerate(rows):
        made[place] = row
    return made


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    for first, name in enumerate(("cat", "dog")):
        parts = {"train": 24, "valid": 6, "test": 6}
        rows = {
            part: objects([sketch(100 * first + row, 4 + row % 5) for row in range(count)])
            for part, count in parts.items()
        }
        np.savez(tmp_path / f"{name}.npz", **rows)
    return tmp_path


def message(action: Callable[[], object], kind: type[UserError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    return text


# The form


def test_five_numbers_and_three_are_the_same_drawing() -> None:
    points = torch.from_numpy(sketch(0).astype(np.float32))
    strokes = to_five(points)
    assert len(strokes) == len(points) + 1
    assert torch.equal(to_three(strokes), points)
    assert bool((strokes[:, 2:].sum(1) == 1).all()) and strokes[:, 4].sum() == 1
    assert strokes[-1].tolist() == [0, 0, 0, 0, 1]


def test_lines_are_cut_where_the_pen_is_lifted() -> None:
    points = torch.tensor([[10.0, 10, 0], [5, 0, 1], [0, 7, 1], [1, 1, 0], [1, 1, 0]])
    lines = [line.tolist() for line in lines_of(to_five(points))]
    assert lines == [[[10, 10], [15, 10]], [[15, 17]], [[16, 18], [17, 19]]]


def test_scale_is_the_standard_deviation_of_training_moves(data: Path) -> None:
    train = StrokeFiles(["cat.npz"]).read("train")
    assert train is not None and train.strokes is not None
    moves = np.concatenate([np.load(data / "cat.npz", allow_pickle=True)["train"][row][:, :2] for row in range(24)])
    assert scale_of(train.strokes) == pytest.approx(moves.std())
    batches = GenerationData(StrokeFiles(["cat.npz"]))
    batches.setup("fit")
    targets = batches.split("train").__getitems__(list(range(24))).targets
    assert isinstance(targets, Tensor)
    there = targets[..., 2:4].sum(-1) == 1
    assert targets[there][:, :2].std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_the_condition_is_the_class_that_the_file_is(data: Path) -> None:
    batches = GenerationData(StrokeFiles(["cat.npz", "dog.npz"]))
    batches.setup("fit")
    batch = batches.split("val").__getitems__([0, 6])
    assert batches.spec is not None and batches.spec.condition_names == ["cat", "dog"]
    assert batch.inputs[:, 0].tolist() == [[1, 0], [0, 1]]


def test_long_drawings_are_left_out_and_only_so_many_are_trained_on(data: Path) -> None:
    parts = [StrokeFiles(["cat.npz", "dog.npz"], max_length=6, most=5).read(part) for part in ("train", "val")]
    train, val = parts
    assert train is not None and train.strokes is not None and val is not None and val.strokes is not None
    assert train.given == ["cat"] * 5 + ["dog"] * 5
    assert max(map(len, [*train.strokes, *val.strokes])) == 7  # the end beside


# Changes from epoch to epoch


def test_dropped_points_leave_lines_and_ends_where_they_are() -> None:
    strokes = to_five(torch.from_numpy(sketch(1, 200)))
    changed = Augmentation(drop=0.5).apply(strokes, np.random.default_rng(0))
    assert len(changed) < 0.8 * len(strokes)
    assert torch.equal(changed[-1], strokes[-1])
    before, after = lines_of(strokes), lines_of(changed)
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one[-1], other[-1])
        assert {tuple(point) for point in other.tolist()} <= {tuple(point) for point in one.tolist()}


def test_stretching_scales_each_axis_of_a_drawing() -> None:
    strokes = to_five(torch.from_numpy(sketch(1, 50)))
    changed = Augmentation(stretch=0.15).apply(strokes, np.random.default_rng(0))
    factors = changed[:, :2].abs().sum(0) / strokes[:, :2].abs().sum(0)
    torch.testing.assert_close(changed[:, :2], strokes[:, :2] * factors)
    assert factors[0] != factors[1] and bool(((factors - 1).abs() <= 0.15).all())


def test_changes_are_a_function_of_seed_epoch_and_row() -> None:
    rows = Ragged.from_list([to_five(torch.from_numpy(sketch(row, 30))) for row in range(4)])
    drawn = DrawnStrokes(rows, Augmentation(0.15, 0.1), seed=0)
    drawn.set_epoch(3)
    whole, lengths = drawn.pad(torch.arange(4))
    one, length = drawn.pad(torch.tensor([2]))
    assert torch.equal(one[0], whole[2, : int(length)]) and int(length) == int(lengths[2])
    drawn.set_epoch(4)
    assert not torch.equal(drawn.pad(torch.tensor([2]))[0][:, :5], one[:, :5])


def test_only_training_drawings_are_changed(data: Path) -> None:
    plain, changed = (GenerationData(StrokeFiles(["cat.npz"], stretch=stretch)) for stretch in (0.0, 0.15))
    for batches in (plain, changed):
        batches.setup("fit")
    pairs = [[one.split(part).__getitems__([0, 1]).targets for one in (plain, changed)] for part in ("train", "val")]
    assert not torch.equal(*pairs[0]) and torch.equal(*pairs[1])


# Baselines


def test_one_gaussian_is_worth_its_entropy() -> None:
    random = np.random.default_rng(0)
    drawings = [to_five(torch.from_numpy(np.c_[random.normal(0, 2, (50, 2)), np.zeros(50)])) for _ in range(40)]
    found = constant_losses(drawings, drawings, 2)
    frequencies = np.array([50, 1]) / 51
    expected = (50 * (1 + np.log(2 * np.pi * 4)) / 51) - (frequencies * np.log(frequencies)).sum()
    assert found["one Gaussian"] == pytest.approx(expected, abs=0.03)
    assert found["mixture of Gaussians"] <= found["one Gaussian"] + 0.01


# Pictures, and the command line


def test_every_line_is_in_its_cell() -> None:
    rows = {name: [to_five(torch.from_numpy(sketch(10 * i + k))) for k in range(3)] for i, name in enumerate("ab")}
    axes = draw_grid(rows, "").axes[0]
    segments = axes.collections[0].get_segments()  # type: ignore[attr-defined]
    assert len(segments) == sum(len(lines_of(one)) for row in rows.values() for one in row)
    for points in segments:
        cell = np.round(points.mean(0))
        assert np.abs(points - cell).max() <= 0.45
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]


def test_a_run_draws_pictures_and_predicts_drawings(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = tmp_path / "strokes.yaml", tmp_path / "run"
    config.write_text(CONFIG)
    assert main(["fit", "--config", str(config), "--trainer.default_root_dir", str(run)]) == 0
    assert (run / "figures" / "drawings_val.png").stat().st_size > 1000
    for stage in ("test", "predict"):
        command = [stage, "--config", str(run / "config.yaml"), "--ckpt_path", "last"]
        assert main([*command, "--trainer.default_root_dir", str(run)]) == 0
    assert "nats a step" in capsys.readouterr().out
    table = polars.read_parquet(run / "predictions.parquet")
    assert len(table) == 12
    drawn = [np.asarray(json.loads(strokes)) for strokes in table["strokes"]]
    assert all(one.shape[1] == 5 and 1 <= len(one) <= 12 for one in drawn)
    assert all(np.isin(one[:, 2:], (0, 1)).all() and (one[:, 2:].sum(1) == 1).all() for one in drawn)


def broken(kind: str) -> Any:
    rows = {
        "no moves": objects([sketch(0), np.zeros((0, 3), np.int16)]),
        "four numbers": objects([sketch(0), np.zeros((5, 4))]),
        "infinite": objects([sketch(0), np.array([[np.inf, 0, 0]])]),
        "pen of 7": objects([sketch(0), np.array([[1.0, 0, 7]])]),
    }
    return rows[kind]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no moves", "a drawing of zero points"),
        ("four numbers", "is [5, 4]: a drawing is [steps, 3]"),
        ("infinite", "not a finite number"),
        ("pen of 7", "the pen is 7: it is 0 or 1"),
    ],
)
def test_a_broken_drawing_is_named_with_its_row(data: Path, kind: str, said: str) -> None:
    np.savez(data / "cat.npz", train=broken(kind))
    found = message(lambda: StrokeFiles(["cat.npz"]).read("train"))
    assert "cat.npz, array 'train', row 2" in found and said in found


def test_files_that_are_no_drawings_are_named(data: Path) -> None:
    np.savez(data / "cat.npz", x=np.zeros(3))
    assert "cat.npz has no array 'train', only 'x'" in message(lambda: StrokeFiles(["cat.npz"]).read("train"))
    (data / "cat.npz").write_text("a text")
    assert "is not a whole .npz file" in message(lambda: StrokeFiles(["cat.npz"]).read("train"))
    assert "no file" in message(lambda: StrokeFiles(["cow.npz"]).read("train"))
    assert "give data.source.files" in message(StrokeFiles, ConfigError)
    assert "two files are called cat" in message(lambda: StrokeFiles(["a/cat.npz", "b/cat.npz"]), ConfigError)
    assert "drop must be" in message(lambda: StrokeFiles(["cat.npz"], drop=1), ConfigError)


class Evil:
    """Unpickled by ``pickle``, it ends the program."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exit, (3,)


def test_code_in_a_file_ends_the_command_with_a_sentence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(data / "dog.npz", train=objects([sketch(0), Evil()]))
    with pytest.raises(SystemExit):
        pickle.loads(pickle.dumps(Evil()))
    (tmp_path / "strokes.yaml").write_text(CONFIG)
    assert main(["fit", "--config", str(tmp_path / "strokes.yaml")]) == 1
    shown = capsys.readouterr().err
    assert "dog.npz, array 'train' is refused" in shown and "Traceback" not in shown


# The sets themselves


@pytest.mark.parametrize(("name", "rows", "longest"), [("aaron_sheep", 7400, 250), ("short_kanji", 10_000, 88)])
def test_published_sets_are_read(name: str, rows: int, longest: int) -> None:
    if not data_path(f"sketch/{name}.npz").is_file():
        pytest.skip("no drawings in LIGHTNING_RNN_DATA")
    part = StrokeFiles([f"sketch/{name}.npz"]).read("train")
    assert part is not None and part.strokes is not None
    assert len(part) == rows and max(map(len, part.strokes)) == longest + 1

"""What W&B's file of a run holds: all rows of metrics.csv, config, figures, tables, checkpoints, and no secret."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from wandb_file import RunFile, joined, read_runs
from wandb_runs import SHORT, TWO, launch

SECRET = "0123456789" * 4
KEPT = ("best", "last")


def metrics_csv(root: Path) -> dict[tuple[int, int], dict[str, float]]:
    with (root / "metrics.csv").open() as file:
        rows = [dict(row) for row in csv.DictReader(file) if row["epoch"]]
    return {
        (int(row.pop("epoch")), int(row.pop("step"))): {name: float(value) for name, value in row.items() if value}
        for row in rows
    }


def same_rows(root: Path, runs: list[RunFile]) -> None:
    """metrics.csv has 9 digits, W&B all of them."""
    expected, found = metrics_csv(root), joined(runs)
    assert len(expected) > 1
    for key, row in expected.items():
        assert {name: found[key].get(name) for name in row} == {
            name: pytest.approx(row[name], rel=1e-8) for name in row
        }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained, offline although there is a key, and has predicted."""
    root = tmp_path_factory.mktemp("wandb") / "run"
    offline = ("--trainer.logger.mode", "offline")
    launch("fit", root, *SHORT, *offline, "--trainer.logger.gradients_every", "2", account={"WANDB_API_KEY": SECRET})
    launch("predict", root, "--trainer.logger.prediction_rows", "7")
    return root


@pytest.fixture(scope="module")
def runs(root: Path) -> list[RunFile]:
    return read_runs(root)


def test_every_row_of_metrics_csv_is_there(root: Path, runs: list[RunFile]) -> None:
    same_rows(root, runs[:1])
    assert runs[0].exit_code == 0


def test_what_follows_belongs_to_the_same_run_and_its_rows_go_on(root: Path, runs: list[RunFile]) -> None:
    fitted, predicted = runs
    assert fitted.id == predicted.id == json.loads((root / "wandb/run.json").read_text())["id"]
    numbers = fitted.steps + predicted.steps
    assert numbers == list(range(len(numbers)))


def test_the_config_is_that_of_config_yaml(runs: list[RunFile]) -> None:
    config = runs[0].config
    assert config["model"]["class_path"] == "tasks.sequence_classification.SequenceClassifier"
    assert config["trainer"]["max_epochs"] == 2
    assert config["seed_everything"] == 0


def test_every_figure_is_there_as_an_image(root: Path, runs: list[RunFile]) -> None:
    (folder, _) = sorted((root / "wandb").glob("offline-run-*"))
    for path in (root / "figures").glob("*.png"):
        (name,) = [file for file in runs[0].files if Path(file).name.startswith(f"{path.stem}_")]
        assert (folder / "files" / name).read_bytes() == path.read_bytes()
        assert any(f"{path.stem}._type" in row for row in runs[0].rows)
    assert len([file for file in runs[0].files if file.endswith(".png")]) == 3


def test_gradients_are_histograms(runs: list[RunFile]) -> None:
    counts = [row["gradients/network.head.bias.values"] for row in runs[0].rows if "val_loss" in row]
    assert [sum(count) for count in counts] == [10, 10]  # a bias a class


def test_predictions_are_a_table_of_the_first_rows(root: Path, runs: list[RunFile]) -> None:
    (name,) = [file for file in runs[1].files if file.endswith(".table.json")]
    (folder,) = [path for path in (root / "wandb").glob("offline-run-*") if (path / "files" / name).exists()]
    table = json.loads((folder / "files" / name).read_text())
    with (root / "predictions.csv").open() as file:
        header, *rows = list(csv.reader(file))
    assert table["columns"] == header
    assert [str(row[0]) for row in table["data"]] == [row[0] for row in rows[:7]]
    assert runs[1].summary["prediction_rows"] == 7
    assert runs[1].summary["prediction_rows_in_file"] == len(rows)
    assert "the first 7 of 359 predictions" in (root / "output.txt").read_text()


def test_checkpoints_are_artifacts_with_aliases(runs: list[RunFile]) -> None:
    for alias in KEPT:
        assert runs[0].artifacts[f"model-{runs[0].id}:{alias},latest"] == [f"{alias}.ckpt"]


def test_nothing_is_written_outside_of_the_run(root: Path) -> None:
    home = root.with_name("run_home")
    assert [path for path in home.rglob("*") if "wandb" in path.name] == []
    assert list((home / "work").iterdir()) == []


def test_no_file_holds_the_key(root: Path) -> None:
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_two_processes_write_one_run(tmp_path: Path) -> None:
    root = tmp_path / "run"
    text = launch("fit", root, *SHORT, *TWO, "--trainer.logger.checkpoints", "false")
    (run,) = read_runs(root)
    same_rows(root, [run])
    assert run.exit_code == 0
    assert run.artifacts == {}
    assert text.count(f"to send it later: wandb sync {root}/wandb") == 1

"""A grid of runs: each index is one of them, the same after every restart; mistakes are one sentence."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from lightning_rnn import sweep
from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "configs/cluster/sweep.yaml"
COMMAND = ["lightning-rnn", "fit", "--config", str(ROOT / "configs/sequence_classification/digits.yaml"), "${args}"]


def written(folder: Path, parameters: object, **more: object) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"command": COMMAND, "parameters": parameters, **more}, sort_keys=False))
    return path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that would have been trained."""
    seen: list[list[str]] = []

    def note(argv: list[str]) -> int:
        seen.append(argv)
        return 75

    monkeypatch.setattr(sweep, "run", note)
    return seen


def test_indices_are_every_combination_once_with_the_last_fastest(tmp_path: Path) -> None:
    columns = {"a": [1, 2], "b": ["x", "y", "z"], "c": [None, True]}
    path = written(tmp_path, {name: {"values": values} for name, values in columns.items()})
    _, points = sweep.read_sweep(path)
    assert [tuple(point.values()) for point in points] == list(itertools.product(*columns.values()))


def test_values_arrive_as_they_are_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {
        "model.dropout": 1e-05,
        "model.cell": "gru",
        "trainer.max_steps": 3,
        "trainer.gradient_clip_val": None,
        "trainer.deterministic": True,
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
    }
    path = written(tmp_path, {name: {"value": value} for name, value in values.items()})
    assert main(["sweep", str(path), "--index", "0", "--folder", str(tmp_path), "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["model"]["init_args"]["dropout"], config["model"]["init_args"]["cell"]) == (1e-05, "gru")
    assert [config["trainer"][name] for name in ("max_steps", "gradient_clip_val", "deterministic")] == [3, None, True]
    assert config["optimizer"]["init_args"]["lr"] == 0.5
    assert config["trainer"]["default_root_dir"] == str(tmp_path / "0")


def test_the_runs_options_go_on_to_it_and_its_exit_code_comes_back(tmp_path: Path, runs: list[list[str]]) -> None:
    options = ["--trainer.max_epochs", "1", "--ckpt_path", "last"]
    folder = ["--folder", str(tmp_path)]
    assert sweep.main([str(SHIPPED), *options[:2], "--index", "2", *options[2:], *folder]) == 75
    (argv,) = runs
    shared = ["fit", "--config", "configs/sequence_classification/digits.yaml"]
    own = ["--model.hidden_size=150", "--optimizer.init_args.lr=0.001"]
    assert argv == [*shared, *own, *options, "--trainer.default_root_dir", str(tmp_path / "2")]


def test_the_list_names_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main([str(SHIPPED)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3"]
    assert len(set(lines)) == 4


def test_a_folder_keeps_the_options_it_was_begun_with(tmp_path: Path, runs: list[list[str]]) -> None:
    ask = ["--index", "0", "--folder", str(tmp_path / "runs")]
    sweep.main([str(written(tmp_path, {"a": {"values": [1, 2]}})), *ask])
    sweep.main([str(written(tmp_path, {"a": {"values": [1, 2, 3]}})), *ask])
    with pytest.raises(ConfigError, match=r"runs/0 was begun with .*1.*, and is .*5.*: choose another --folder"):
        sweep.main([str(written(tmp_path, {"a": {"values": [5, 2]}})), *ask])
    assert len(runs) == 2


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_out_of_range_is_one_sentence(index: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(SHIPPED), f"--index={index}"]) == 2
    assert capsys.readouterr().err == f"error: {SHIPPED} has the runs 0 to 3, no --index {index}\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"parameters": {}}, "parameters is empty"),
        ({"parameters": {"a": 3}}, r"parameters\.a is 3: write values"),
        ({"parameters": {"a": {"values": []}}}, r"parameters\.a is .*: write values"),
        ({"parameters": {"a": {"min": 0, "max": 1}}}, r"parameters\.a is .*: write values"),
        ({"parameters": {"a": {"values": [1]}}, "method": "bayes"}, "method is bayes"),
        ({"parameters": {"a": {"values": [1]}}, "command": ["python", "x.py"]}, r"command is .*: write"),
        ({"parameters": {"a": {"values": [1]}}, "command": None}, r"command is null: write"),
    ],
)
def test_what_is_no_grid_is_refused_by_name(content: dict[str, object], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"command": COMMAND} | content))
    with pytest.raises(ConfigError, match=rf"mine\.yaml: {sentence}"):
        sweep.main([str(path)])


def test_a_missing_file_a_double_key_and_one_folder_for_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no sweep .*none\.yaml"):
        sweep.main([str(tmp_path / "none.yaml")])
    path = tmp_path / "mine.yaml"
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml, line 2: the key 'a' is there already"):
        sweep.main([str(path)])
    with pytest.raises(ConfigError, match=r"default_root_dir would be one for all runs: give --folder"):
        sweep.main([str(SHIPPED), "--index=0", "--trainer.default_root_dir=x"])

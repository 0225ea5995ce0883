"""The verbs on text: a run folder with all that belongs to it, and one sentence for bad text."""

from __future__ import annotations

import math
from pathlib import Path

import polars
import pytest

from lightning_rnn.cli import main

LINES = ["to be or not to be", "that is the question", "whether it is nobler in the mind"] * 20
OPTIONS = "--model tasks.language_modeling.LanguageModel --data tasks.language_modeling.LanguageData"
OPTIONS += " --data.source lightning_rnn.data.TextLines --data.batch_size 2 --data.chunk 6"
OPTIONS += " --model.embedding_size 8 --model.hidden_size 8 --trainer.accelerator cpu --trainer.max_epochs 2"


def options(folder: Path, content: bytes, *more: str) -> list[str]:
    (folder / "a.txt").write_bytes(content)
    parts = [f"--data.source.{part}={folder / 'a.txt'}" for part in ("train", "val", "test")]
    return [*OPTIONS.split(), *parts, f"--trainer.default_root_dir={folder / 'run'}", *more]


def test_a_run_has_figures_predictions_and_baselines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = "\n".join(LINES).encode()
    for verb in ("fit", "test", "predict"):
        assert main([verb, *options(tmp_path, content)]) == 0
    shown = capsys.readouterr().out
    assert "5-grams" in shown and "test_perplexity" in shown and "val_perplexity" in shown
    run = tmp_path / "run"
    figures = {path.stem for path in (run / "figures").iterdir()}
    assert {"learning_curves", "loss_by_frequency_val", "loss_by_frequency_test"} <= figures
    assert polars.read_csv(run / "predictions.csv").columns == ["id", "tokens", "log_prob", "perplexity"]


@pytest.mark.parametrize(
    ("content", "more", "code", "said"),
    [
        (b"", (), 1, "has no rows"),
        (b"to be\n" * 3, (), 1, "has 9 tokens, too short for 2 rows of data.chunk 6"),
        (b"buffalo buffalo\n" * 99, (), 1, "holds one kind of word again and again"),
        (b"caf\xe9\n" * 99, (), 1, "line 1: byte 3 (0xe9) is not utf-8"),
        (b"to be\n" * 99, ("--model.head=adaptive",), 2, "set model.tied to false"),
        (b"to be\n" * 99, ("--data.chunk=0",), 2, "data.chunk must be at least 1"),
    ],
)
def test_bad_text_ends_in_one_sentence(
    content: bytes, more: tuple[str, ...], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *options(tmp_path, content, *more)]) == code
    captured = capsys.readouterr().err
    assert said in captured and "Traceback" not in captured


@pytest.mark.slow
@pytest.mark.parametrize("head", ["full", "adaptive"])
def test_the_awd_recipe_runs_for_two_hundred_steps(
    head: str, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped recipe with fewer units: every part of it on real text, and the loss falls far below a guess."""
    if not (data_root / "ptb").is_dir():
        pytest.skip("no ptb in LIGHTNING_RNN_DATA")
    config = Path(__file__).parents[2] / "configs/language_modeling/ptb_awd.yaml"
    args = ["fit", "--config", str(config), "--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path}"]
    args += ["--model.hidden_size=96", "--model.embedding_size=64", "--trainer.max_steps=200", f"--model.head={head}"]
    args += ["--trainer.val_check_interval=100", "--trainer.limit_val_batches=5", "--seed_everything=0"]
    args += ["--model.tied=false"] if head == "adaptive" else []
    assert main(args) == 0
    table = polars.read_csv(tmp_path / "metrics.csv")
    losses = table["val_loss"].drop_nulls()
    assert len(losses) == 2 and losses.max() < math.log(10_000) - 1, losses

"""Dialogue acts through the command line: fit, test, predict; a mistake is one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars
import pytest

from lightning_rnn.cli import main
from tasks.generation import Generator

KINDS = {
    "inform(name='{}';food={})": ["{} serves {} food", "{} has {} food"],
    "inform(name='{}';kids_allowed=no)": ["{} does not allow kids", "no child in {}"],
    "?request(food)": ["what food would you like ?"],
    "goodbye()": ["goodbye", "thank you goodbye"],
}
NAMES, FOODS = ["zen", "the eagle", "pho 5", "la vie"], ["thai", "greek", "sea food", "tapas"]
TEMPLATE = ["a.?request", "a.goodbye", "a.inform", "sv.NONE.NONE", "sv.food.?", "sv.food._1", "sv.kidsallowed.no",
            "sv.name._1"]  # fmt: skip
MODEL = "--model tasks.generation.Generator --model.cell sc_lstm --model.encoder identity --model.condition state"
MODEL += " --model.peek true --model.keep_first true --model.embedding_size 24 --model.hidden_size 24"
MODEL += " --model.beam_size 6 --model.keep 2 --model.slot_weight 2.3 --data tasks.generation.GenerationData"
MODEL += " --data.source tasks.generation.rnnlg.Rnnlg --data.source.path RNNLG --data.batch_size 4"
MODEL += " --optimizer Adam --optimizer.lr 0.03"
MODEL += " --trainer.max_epochs 7 --trainer.accelerator cpu --trainer.gradient_clip_val 1"


def rows() -> list[list[str]]:
    return [
        [act.format(name, food), text.format(name, food), ""]
        for act, texts in KINDS.items()
        for text in texts
        for name, food in zip(NAMES, FOODS, strict=True)
    ]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark in small."""
    root = tmp_path_factory.mktemp("rnnlg")
    (root / "resource").mkdir()
    detection = {"general": {"name": "SLOT_NAME", "food": "SLOT_FOOD"}, "binary": {"kidsallowed": ["kid", "child"]}}
    (root / "resource" / "detect.pair").write_text(json.dumps(detection))
    (root / "resource" / "feat_template.txt").write_text("\n".join(TEMPLATE))
    (root / "data" / "original" / "restaurant").mkdir(parents=True)
    for part in ("train", "valid", "test"):
        (root / "data" / "original" / "restaurant" / f"{part}.json").write_text("# c\n" + json.dumps(rows()))
    return root


def call(verb: str, folder: Path, root: Path, *more: str) -> int:
    args = [verb, *MODEL.replace("RNNLG", str(folder)).split(), "--trainer.default_root_dir", str(root), *more]
    return main(args)


@pytest.fixture(scope="session")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    assert call("fit", folder, root) == 0
    return root


def test_a_test_gives_the_scores_of_the_benchmark(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("test", folder, run) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("test  "))
    pairs = (pair.split() for pair in line.removeprefix("test  ").split("  "))
    scores = {name: float(value) for name, value in pairs}
    assert scores["test_bleu_best"] > 0.9 and scores["test_slot_error_best"] == 0
    assert {"test_bleu", "test_sacrebleu", "test_slot_error", "test_exact"} <= set(scores)
    assert (run / "figures" / "reading_test.png").stat().st_size > 5000


def test_acts_of_a_file_are_predicted_with_their_values(run: Path, folder: Path, tmp_path: Path) -> None:
    acts = tmp_path / "acts.txt"
    acts.write_text("inform(name='chez nous';food=french)\ngoodbye()\n")
    assert call("predict", folder, run, "--data.predict", str(acts)) == 0
    table = polars.read_parquet(run / "predictions.parquet")
    assert table.columns == ["id", "act", "text", "score"]
    assert table["act"].to_list() == ["inform(name='chez nous';food=french)", "goodbye()"]
    assert "chez nous" in table["text"][0] and "french" in table["text"][0] and "goodbye" in table["text"][1]


def test_a_checkpoint_writes_without_data(run: Path) -> None:
    model = Generator.load_from_checkpoint(run / "checkpoints" / "last.ckpt", map_location="cpu")
    texts = model.write(["inform(name='chez nous';kids_allowed=no)"], keep=2)[0]
    assert len(texts) == 2 and all("chez nous" in text for text in texts)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "goodbye()\ninform(name=x;pool=yes)\n",
            ("acts.txt, row 2: the slot 'pool'", "is unknown: use food, kidsallowed, name"),
        ),
        ("goodbye()\ninform name=x\n", ("acts.txt, row 2: 'inform name=x' is no dialogue act: write it like",)),
        ("deny()\n", ("acts.txt, row 1: the act 'deny'", "use ?request, goodbye, inform")),
        ("", ("acts.txt",)),
    ],
)
def test_a_wrong_act_is_one_sentence(
    content: str, words: tuple[str, ...], run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    acts = tmp_path / "acts.txt"
    acts.write_text(content)
    assert call("predict", folder, run, "--data.predict", str(acts)) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda root: (root / "data/original/restaurant/valid.json").write_text("[]"), "valid.json has no rows"),
        (lambda root: (root / "data/original/restaurant/train.json").write_text('[["inform(", "x"]]'),
         "train.json, row 1: 'inform(' is no dialogue act"),
    ],
)  # fmt: skip
def test_a_broken_benchmark_is_one_sentence(
    break_it: object, words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    break_it(copy)  # type: ignore[operator]
    assert call("fit", copy, tmp_path / "run") == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in said and "Traceback" not in said


def test_a_missing_archive_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fit", Path("absent.tar.xz"), tmp_path) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert os.fspath("absent.tar.xz") in said and "cannot read" in said

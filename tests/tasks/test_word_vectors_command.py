"""``lightning-rnn vectors`` and the verbs of a run: answers, files, and one sentence for each mistake."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import polars
import pytest
import pytorch_lightning as pl
import torch
from gensim.models import KeyedVectors

from lightning_rnn.cli import main
from lightning_rnn.data import TextLines
from lightning_rnn.data.vectors import read_vectors
from tasks.word_vectors import WordVectorData, WordVectors

RUN = (
    "--model tasks.word_vectors.WordVectors --model.size 6 --data tasks.word_vectors.WordVectorData "
    "--data.max_vocab 60 --trainer.accelerator cpu --trainer.max_epochs 1 --trainer.limit_train_batches 3"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    torch.manual_seed(0)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_steps=2, accelerator="cpu", enable_checkpointing=False, num_sanity_val_steps=0, **quiet)
    trainer.fit(WordVectors(6), WordVectorData(max_vocab=60))
    trainer.save_checkpoint(folder / "a.ckpt")
    return folder


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert main(["vectors", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["text", "binary", "glove", "gensim"])
def test_exported_vectors_answer_as_the_checkpoint_does(trained: Path, tmp_path: Path, kind: str, capsys: Any) -> None:
    model, file = trained / "a.ckpt", tmp_path / ("a.kv" if kind == "gensim" else "a.vec")
    told = asked(capsys, "export", "--vectors", model, "--output", file, "--format", kind)
    assert told == {"words": 60, "size": 6, "written": str(file)}
    words = read_vectors(file).words
    for action in (["neighbors", words[7]], ["analogy", *words[5:8]], ["odd", *words[:4]], ["similarity", *words[3:5]]):
        assert asked(capsys, *action, "--vectors", file) == asked(capsys, *action, "--vectors", model)
    keyed = KeyedVectors.load(str(file)) if kind == "gensim" else None
    if keyed is not None:
        near = asked(capsys, "neighbors", words[7], "--vectors", file, "--topn", 3)["words"]
        assert [one["word"] for one in near] == [word for word, _ in keyed.most_similar(words[7], topn=3)]


def test_files_where_one_works_are_read(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(trained)
    (trained / "of.txt").write_text("the of a\n" * 9)
    for form in ("text", "binary", "glove", "gensim"):
        asked(capsys, "export", "--vectors", "a.ckpt", "--output", f"near.{form}", "--format", form)
        found = asked(capsys, "similarity", "the", "of", "--vectors", f"near.{form}")
        assert found == asked(capsys, "similarity", "the", "of", "--vectors", "a.ckpt")
    data = WordVectorData(TextLines(str(trained / "of.txt")), known="near.text", val_fraction=0)
    data.setup("fit")
    assert data.spec is not None and len(data.spec.words) == 60


def test_a_correlation_that_there_is_not_is_null(trained: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "p.tsv").write_text("the\ta\t3\nof\tto\t3\n")
    asks = ["evaluate", "--vectors", trained / "a.ckpt", "--similarity", tmp_path / "p.tsv"]
    assert asked(capsys, *asks)["similarity"][0]["pearson"] is None
    assert main(["vectors", *map(str, asks)]) == 0 and "p.tsv\tnan\tnan" in capsys.readouterr().out


def test_evaluation_has_sections_and_files(trained: Path, tmp_path: Path, capsys: Any) -> None:
    model = trained / "a.ckpt"
    (tmp_path / "q.txt").write_text(": first\nthe a of to\nthe a zzz to\n: second\nof to the a\n")
    (tmp_path / "p.tsv").write_text("the\ta\t3\nof\tto\t1\nthe\tof\t2\n")
    found = asked(
        capsys, "evaluate", "--vectors", model, "--analogies", tmp_path / "q.txt", "--similarity", tmp_path / "p.tsv"
    )
    assert [(one["section"], one["questions"]) for one in found["analogies"]] == [
        ("first", 1),
        ("second", 1),
        ("total", 2),
    ]
    assert found["analogies"][0]["oov"] == pytest.approx(1 / 3)
    assert found["similarity"][0]["pairs"] == 3 and found["similarity"][0]["oov"] == 0
    assert main(["vectors", "evaluate", "--vectors", str(model), "--similarity", str(tmp_path / "p.tsv")]) == 0
    assert capsys.readouterr().out.startswith("p.tsv\t")


def test_the_middle_word_is_predicted_and_words_are_taken_off(trained: Path, capsys: Any) -> None:
    model = trained / "a.ckpt"
    found = asked(capsys, "predict", "--vectors", model, "the", "of", "--topn", 4)["words"]
    assert len(found) == 4 and all(0 < one["value"] < 1 for one in found)
    both = [
        asked(capsys, "neighbors", "the", "--negative", "of", "--vectors", model, "--method", method)["words"]
        for method in ("add", "mul")
    ]
    assert all("the" not in [one["word"] for one in words] for words in both)


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        ("neighbors zzz --vectors MODEL", 1, "the word 'zzz' is not among the 60 words"),
        ("neighbors the --vectors FOLDER/none.bin", 1, "no file"),
        ("neighbors the --vectors FOLDER", 1, "is a folder: give a file in it, such as checkpoints/best.ckpt"),
        ("neighbors the --vectors FOLDER/glove.zip", 1, "glove.zip is no file of vectors: unpack it"),
        ("neighbors the --vectors FOLDER/cut.ckpt", 1, "cut.ckpt is not a whole checkpoint"),
        ("evaluate --vectors MODEL --analogies none.txt", 1, "no file none.txt, nor "),
        ("neighbors the --vectors FOLDER/cut.bin", 1, "cut short: it ends at word 2 of the 2"),
        ("neighbors the --vectors FOLDER/bad.ckpt", 1, "header"),
        ("predict the --vectors FOLDER/a.txt", 2, "has no output vectors of words: predict needs a checkpoint"),
        ("evaluate --vectors MODEL", 2, "nothing to evaluate on"),
        ("neighbors the --vectors MODEL --topn 0", 2, "must be a number from 1"),
        ("analogy the a --vectors MODEL", 2, "the following arguments are required: WORD"),
    ],
)
def test_a_mistake_has_its_sentence(
    arguments: str, code: int, problem: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.bin").write_bytes(b"2 2\nthe \x00\x00\x80\x3f\x00\x00\x80\x3fof \x00")
    (tmp_path / "bad.ckpt").write_bytes(b"3 0\n")
    (tmp_path / "cut.ckpt").write_bytes((trained / "a.ckpt").read_bytes()[:-900])
    with zipfile.ZipFile(tmp_path / "glove.zip", "w") as archive:
        archive.writestr("glove.txt", "the 1 2\n")
    (tmp_path / "a.txt").write_text("the 1 2\nof 2 3\n")
    given = arguments.replace("MODEL", str(trained / "a.ckpt")).replace("FOLDER", str(tmp_path))
    try:
        ended = main(["vectors", *given.split()])
    except SystemExit as error:
        ended = int(error.code or 0)
    said = capsys.readouterr().err
    assert ended == code and problem in said and "Traceback" not in said


def test_a_run_is_trained_predicted_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.tsv").write_text("the\ta\t3\nof\tto\t1\nthe\tof\t2\n")
    run = [
        *RUN.split(),
        "--model.similarity",
        str(tmp_path / "p.tsv"),
        "--trainer.default_root_dir",
        str(tmp_path / "run"),
    ]
    assert main(["fit", *run]) == 0
    assert (tmp_path / "run/figures/neighbors.png").stat().st_size > 5000
    columns = (tmp_path / "run/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train_loss", "val_loss", "val_spearman"} <= set(columns)
    assert main(["predict", *run]) == 0
    table = polars.read_csv(tmp_path / "run/predictions.csv")
    assert table.columns == ["id", "count", "neighbors", "similarities"] and len(table) == 60
    near = asked(capsys, "neighbors", table["id"][5], "--vectors", tmp_path / "run/checkpoints/best.ckpt")["words"]
    assert table["neighbors"][5].split() == [one["word"] for one in near]
    assert main(["test", *run]) == 0
    assert "test_loss" in capsys.readouterr().out
    code = main(["fit", *RUN.split(), "--optimizer", "Adam", "--trainer.default_root_dir", str(tmp_path / "other")])
    assert code == 2 and "leave optimizer and lr_scheduler out" in capsys.readouterr().err

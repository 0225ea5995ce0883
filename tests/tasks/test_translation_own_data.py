"""A user's own pairs: from a list in Python or from files, in runs that are stopped, with mistakes."""

from __future__ import annotations

import logging
import re
import shlex
from functools import partial
from pathlib import Path

import jsonargparse
import pytest
import pytorch_lightning as pl

from lightning_rnn.cli import main
from lightning_rnn.errors import DataError
from lightning_rnn.plugins import Task
from lightning_rnn.testing.contract import check_resume
from tasks.translation import TranslationData, Translator
from tasks.translation.metrics import warn_of_short
from tasks.translation.numbers import Numbers
from tasks.translation.sources import TSV, ParallelFiles

PAGE = Path(__file__).parents[2] / "docs/translation.md"
RUN = "fit --model tasks.translation.Translator --data tasks.translation.TranslationData --trainer.accelerator cpu"


@pytest.mark.filterwarnings("ignore:The number of training batches", "ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated", "ignore:The `srun` command")
def test_a_list_of_pairs_trains_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (code,) = [block for block in found if "class Mine" in block]
    names: dict[str, object] = {}
    exec(code.replace("max_epochs=25", "max_epochs=1, logger=False, enable_checkpointing=False"), names)
    assert isinstance(names["model"], Translator) and len(names["pairs"]) > 1  # type: ignore[arg-type]


@pytest.mark.slow
def test_files_train_and_are_tested_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIGHTNING_RNN_DATA", raising=False)
    (tmp_path / "data/mine").mkdir(parents=True)
    for name in (f"{part}.{side}" for part in ("train", "val", "test") for side in ("en", "de")):
        (tmp_path / "data/mine" / name).write_text("one two three four\nfive six\n" * 4)
    (found,) = re.findall(r"```bash\n(lightning-rnn fit [^`]*?mine/.*?)```", PAGE.read_text(), re.DOTALL)
    small = {"4000": "20", "configs/": f"{PAGE.parents[1]}/configs/", " --trainer": " --trainer.max_epochs 1 --trainer"}
    for short, long in small.items():
        found = found.replace(short, long, 1)
    for line in found.replace("\\\n", " ").splitlines():
        assert main(shlex.split(line)[1:]) == 0
    assert (tmp_path / "runs/mine/figures/bleu_by_length_test.png").is_file()


def test_a_source_that_refuses_its_options_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = "--data.source tasks.translation.sources.ParallelFiles --data.source.train a.en"
    assert main(f"{RUN} {source} --trainer.default_root_dir {tmp_path}/run".split()) == 2
    assert capsys.readouterr().err == "error: train is 'a.en': put {} in for the language, or give two paths\n"


def test_what_to_translate_is_asked_for_where_there_is_no_test_part(tmp_path: Path) -> None:
    for side in ("en", "fr"):
        (tmp_path / f"a.{side}").write_text("one two\nthree\n" * 20)
    data = TranslationData(ParallelFiles(train=f"{tmp_path}/a.{{}}"), tokenizer="words", vocab_size=20)
    data.setup("fit")
    with pytest.raises(DataError, match=r"no test part to translate: name a file of sentences with data\.predict"):
        data.setup("predict")


def test_columns_without_names_are_given_by_number(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("one\tun\t1\n")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TSV, "source")
    options = [f"--source.train={tmp_path}/a.tsv", "--source.columns=[2, 1]", "--source.header=false"]
    pairs = parser.instantiate_classes(parser.parse_args(options)).source.read("train")
    assert (pairs.source, pairs.target) == (["1"], ["un"])


def test_references_too_short_for_bleu_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_short(["vingt et un", "quatre-vingt-un mille deux cents"])
        warn_of_short([])
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        warn_of_short(["vingt et un", "sept"])
    assert "no validation reference has more than 3" in caplog.text and "--checkpoint.monitor val_chrf" in caplog.text


def test_a_resumed_run_that_began_from_vectors_ends_with_the_same_weights(tmp_path: Path) -> None:
    for side, words in (("en", "one two twenty"), ("fr", "un deux vingt")):
        lines = [f"{word} {i} 0.5 -0.5 1\n" for i, word in enumerate(words.split())]
        (tmp_path / f"{side}.txt").write_text("".join(lines))
    data = partial(TranslationData, Numbers(train=60, val=10, test=10), tokenizer="words", joint=False, lower=True)
    small = partial(Translator, embedding_size=4, hidden_size=4, val_sentences=2, tying="output")
    model = partial(small, source_vectors=f"{tmp_path}/en.txt", target_vectors=f"{tmp_path}/fr.txt")
    check_resume(Task("translation", model, data), tmp_path)  # type: ignore[arg-type]  # made as the classes are


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_training_does_not_go_on_from_weights_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = partial(pl.Trainer, logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = quiet(max_steps=1, accelerator="cpu", enable_checkpointing=False)
    (tmp_path / "a.txt").write_text("one two\n" * 8)
    data = TranslationData(ParallelFiles(train=(f"{tmp_path}/a.txt",) * 2), tokenizer="words", vocab_size=20)
    trainer.fit(Translator(embedding_size=4, hidden_size=4), data)  # nor is there a validation part
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert main(f"{RUN} --trainer.default_root_dir {tmp_path}/run --ckpt_path {tmp_path}/a.ckpt".split()) == 1
    assert "a.ckpt has weights alone, from which no training goes on" in capsys.readouterr().err

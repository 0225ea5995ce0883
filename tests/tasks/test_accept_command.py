"""``lightning-rnn accept`` answers every line in order, as the grammar does, and names what it cannot answer."""

from __future__ import annotations

import gzip
import io
import json
import logging
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lightning_rnn.cli import main
from lightning_rnn.data import SequenceDataModule
from lightning_rnn.training.module import SequenceModule
from tasks.grammar_acceptance import GrammarData, GrammarModel, command
from tasks.grammar_acceptance.grammars.definitions import grammar
from tasks.grammar_acceptance.grammars.negatives import one_edit_negatives
from tasks.grammar_acceptance.problems.stress import Adding
from tasks.grammar_acceptance.sources import AcceptedStrings, Strings
from tasks.sequence_classification import ClassificationData, SequenceClassifier

REBER = grammar("reber")


def trained(model: SequenceModule, data: SequenceDataModule, file: Path, epochs: int = 1, **limits: Any) -> Path:
    """The checkpoint of a short training."""
    pl.seed_everything(0, verbose=False)
    model.use_optimizer({"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-2}})
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", enable_checkpointing=False, **quiet, **limits)
    trainer.fit(model, data)
    trainer.save_checkpoint(file)
    return file


@pytest.fixture(scope="session")
def acceptor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a network that is right on short Reber strings."""
    data = GrammarData(Strings(grammar="reber", rows=2000, eval_rows=200, long_share=0.0, held_out=0.05))
    model = GrammarModel(hidden_size=24, initializer="keras")
    return trained(model, data, tmp_path_factory.mktemp("reber") / "best.ckpt", epochs=10)


def give(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


def answers(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_answers_equal_the_grammars_on_every_short_string_and_every_neighbour(
    acceptor: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["".join(symbols) for n in range(4) for symbols in product(REBER.alphabet, repeat=n)]
    strings = [*REBER.strings(10), *set(one_edit_negatives(REBER, 10)), *short]
    strings = [strings[i] for i in np.random.default_rng(0).permutation(len(strings))]
    assert len(strings) > 4000
    give(monkeypatch, "\n".join([*strings, ""]).encode())
    assert main(["accept", "--ckpt_path", str(acceptor), "--json"]) == 0
    said = answers(capsys.readouterr().out)
    assert [one["string"] for one in said] == strings
    assert [one["illegal_at"] for one in said] == [REBER.illegal_at(string) for string in strings]
    assert [one["accepted"] for one in said] == [REBER.accepts(string) for string in strings]
    assert all((one["probability"] > 0.5) == one["accepted"] for one in said)
    assert {tuple(one) for one in said} == {("string", "accepted", "probability", "illegal_at")}


def test_a_readable_line_says_it_all(
    acceptor: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, b"BTXSE\n\nBTP\nBTX\n")
    assert main(["accept", "--ckpt_path", str(acceptor)]) == 0
    found = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in found] == [
        ["BTXSE", "accepted"],
        ["(empty)", "rejected"],
        ["BTP", "rejected"],
        ["BTX", "rejected"],
    ]
    assert [line[3:] for line in found] == [[], ["ends too early"], ["illegal symbol 'P' at 2"], ["ends too early"]]
    assert all(0 <= float(line[2]) <= 1 for line in found)


@pytest.mark.parametrize(
    ("raw", "strings"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"\n\nBT\n\n", ["", "", "BT", ""]),
        (b"BTXSE", ["BTXSE"]),
        (b"BTXSE\r\n\r\nBT\r\n", ["BTXSE", "", "BT"]),
        (b"\xef\xbb\xbfBTXSE\n", ["BTXSE"]),
    ],
    ids=["nothing", "empty", "empty lines", "no end", "windows", "byte order mark"],
)
def test_every_line_is_a_string_from_stdin_and_from_a_file(
    raw: bytes,
    strings: list[str],
    acceptor: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    give(monkeypatch, raw)
    said = []
    (tmp_path / "strings.txt").write_bytes(raw)
    (tmp_path / "strings.txt.gz").write_bytes(gzip.compress(raw))
    for option in ([], ["--input", f"{tmp_path}/strings.txt"], ["--input", f"{tmp_path}/strings.txt.gz"]):
        assert main(["accept", "--ckpt_path", str(acceptor), "--json", *option]) == 0
        said.append(answers(capsys.readouterr().out))
    assert [one["string"] for one in said[0]] == strings
    assert [one["illegal_at"] for one in said[0]] == [REBER.illegal_at(string) for string in strings]
    assert said[0] == said[1] == said[2]


def test_ten_thousand_lines_are_answered_as_each_alone(
    acceptor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    strings = [REBER.sample(rng)[: int(rng.integers(4, 40))] for _ in range(9_999)] + ["BT" + "S" * 40_000 + "XSE"]
    strings = [strings[i] for i in rng.permutation(10_000)]
    (tmp_path / "many.txt").write_text("\n".join(strings))
    monkeypatch.setattr(command, "BLOCK", 3000)  # several, the last a part of one
    assert main(f"accept --ckpt_path {acceptor} --json --input {tmp_path}/many.txt".split()) == 0
    said = answers(capsys.readouterr().out)
    assert [one["string"] for one in said] == strings
    model = GrammarModel.load_from_checkpoint(acceptor, map_location="cpu", weights_only=True)
    for row in range(0, 10_000, 200):
        alone = model.accept([strings[row]])
        assert said[row]["probability"] == pytest.approx(float(alone["probability"][0]), abs=1e-5)
        assert said[row]["illegal_at"] == alone["illegal_at"][0]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            b"BTXSE\n\nBTQSE\n",
            "line 3: the symbol 'Q' at place 2 (the first is 0) of 'BTQ",
        ),
        (b" BTXSE\n", "line 1: the symbol ' ' at place 0 "),
        (b"BTXSE\t\n", "line 1: the symbol '\\t' at place 5 "),
        (b"BT\rXSE\n", "line 1: the symbol '\\r' at place 2 "),
        ("BTXSE\nB→\n".encode(), "line 2: the symbol '→' at place 1 "),
        (b"BTXSE\nbtxse\n", "line 2: the symbol 'b' at place 0 "),
    ],
)
def test_a_symbol_outside_the_alphabet_is_named_before_any_answer(
    raw: bytes,
    message: str,
    acceptor: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    give(monkeypatch, raw)
    file = tmp_path / "strings.txt"
    file.write_bytes(raw)
    for where, option in (("stdin", []), (str(file), ["--input", str(file)])):
        assert main(["accept", "--ckpt_path", str(acceptor), *option]) == 1
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1
        assert f"error: {where}, {message}" in said.err


def test_input_that_cannot_be_read_is_one_sentence(
    acceptor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "latin.txt").write_bytes(b"BTXSE\nB\xe9\n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"BTXSE\n" * 9)[:-4])
    for name, message in (("none", "cannot read"), (".", "cannot read"), ("latin.txt", "line 2"), ("cut.gz", "whole")):
        assert main(["accept", "--ckpt_path", str(acceptor), "--input", str(tmp_path / name)]) == 1
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1
        assert message in said.err and str(tmp_path / name) in said.err
    give(monkeypatch, b"BTXSE\nB\xe9\n")
    assert main(["accept", "--ckpt_path", str(acceptor)]) == 1
    assert "stdin, line 2: the byte 0xe9 is not UTF-8: " in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["accept", "--ckpt_path", str(acceptor)]) == 1
    assert "the standard input is closed" in capsys.readouterr().err


def test_stdin_that_is_text_already_is_read_too(
    acceptor: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("BTXSE\n\n"))
    assert main(["accept", "--ckpt_path", str(acceptor), "--json"]) == 0
    assert [one["illegal_at"] for one in answers(capsys.readouterr().out)] == [None, 0]


def test_checkpoints_of_something_else_are_refused_by_name(
    acceptor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"limit_train_batches": 1, "limit_val_batches": 0}
    of_task = trained(SequenceClassifier(hidden_size=4), ClassificationData(), tmp_path / "digits.ckpt", **short)
    predictor = tmp_path / "predictor.ckpt"
    trained(GrammarModel("predict", hidden_size=4), GrammarData(AcceptedStrings()), predictor, **short)
    adding = trained(
        GrammarModel(hidden_size=4), GrammarData(Adding(rows=8, eval_rows=8)), tmp_path / "a.ckpt", **short
    )
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    torch.save([GrammarModel], tmp_path / "code.ckpt")
    (tmp_path / "text.ckpt").write_text("BTXSE")
    (tmp_path / "half.ckpt").write_bytes(acceptor.read_bytes()[:-2000])
    broken = torch.load(acceptor, weights_only=True)
    broken["state_dict"]["network.head.0.bias"][0] = torch.nan
    torch.save(broken, tmp_path / "nan.ckpt")
    for file, code, message in (
        (of_task, 1, "is of the task tasks.sequence_classification, this is tasks.grammar_acceptance"),
        (predictor, 2, "only a network with model.objective=accept judges strings"),
        (adding, 2, "only a network with model.objective=accept judges strings"),
        (tmp_path / "foreign.ckpt", 1, "foreign.ckpt: this is not a checkpoint of lightning-rnn"),
        (tmp_path / "code.ckpt", 1, "code.ckpt holds more than tensors and plain values"),
        (tmp_path / "text.ckpt", 1, "text.ckpt is not a whole checkpoint"),
        (tmp_path / "half.ckpt", 1, "half.ckpt is not a whole checkpoint"),
        (tmp_path / "nan.ckpt", 1, "nan.ckpt has weights that are not numbers"),
        (tmp_path / "none.ckpt", 1, f"no checkpoint {tmp_path}/none.ckpt: train first"),
        (tmp_path, 1, "no checkpoint"),
    ):
        assert main(["accept", "--ckpt_path", str(file)]) == code, file
        said = capsys.readouterr()
        assert said.out == "" and message in said.err and said.err.count("\n") == 1


def test_symbols_beyond_ascii_are_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    automaton = tmp_path / "arrows.yaml"
    automaton.write_text("start: 0\naccepting: [2]\nstates: {0: {→: 1}, 1: {→: 1, é: 1, 漢: 2}, 2: {}}\n", "utf-8")
    data = GrammarData(Strings(grammar=str(automaton), rows=40, eval_rows=4, long_share=0.0))
    file = trained(GrammarModel(hidden_size=4), data, tmp_path / "arrows.ckpt")
    give(monkeypatch, "→é漢\r\n".encode())
    assert main(["accept", "--ckpt_path", str(file), "--json"]) == 0
    assert answers(capsys.readouterr().out)[0]["string"] == "→é漢"
    give(monkeypatch, "→é漢\n".encode())
    narrow = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["accept", "--ckpt_path", str(file)]) == 0
    assert isinstance(narrow.buffer, io.BytesIO) and narrow.buffer.getvalue().startswith(rb"\u2192\xe9\u6f22 ")


def test_log_lines_do_not_mix_with_answers(
    acceptor: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(path: Path) -> GrammarModel:
        logging.getLogger().warning("reading %s", path.name)
        return loads(path)

    loads, handler = command.load, logging.StreamHandler(sys.stdout)  # as the command line sets it up
    monkeypatch.setattr(command, "load", load)
    logging.getLogger().addHandler(handler)
    try:
        give(monkeypatch, b"BTXSE\n")
        assert main(["accept", "--ckpt_path", str(acceptor), "--json"]) == 0
    finally:
        logging.getLogger().removeHandler(handler)
    said = capsys.readouterr()
    assert len(answers(said.out)) == 1 and said.err == "reading best.ckpt\n"
    assert handler.stream is sys.stdout


def test_a_reader_that_has_enough_ends_it_quietly(acceptor: Path, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("BTXSE\n" * 20_000)
    code = "import sys; from lightning_rnn.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["accept", "--ckpt_path", str(acceptor), "--input", f"{tmp_path}/many.txt", "--json"]
    process = subprocess.Popen([sys.executable, "-c", code, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["accepted"]
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


def test_help_explains_and_wrong_options_exit_2(acceptor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accept", "--help"]) == 0
    said = capsys.readouterr().out
    for word in ("--ckpt_path", "--input", "--json", "probability", "illegal_at", "null", "empty line", "exit codes"):
        assert word in said
    for wrong in ([], ["--ckpt_path"], ["--ckpt_path", str(acceptor), "--ckpt", "x"], ["--nothing"]):
        assert main(["accept", *wrong]) == 2
        said = capsys.readouterr().err
        assert said.splitlines()[-1].startswith("lightning-rnn accept: error: ")

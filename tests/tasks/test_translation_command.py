"""``lightning-rnn translate`` and ``average``: every line has its answer, in order; a mistake is one sentence."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_rnn.cli import main
from lightning_rnn.training.checkpoints import read_checkpoint
from tasks.sequence_classification import ClassificationData, SequenceClassifier
from tasks.translation import TranslationData, Translator
from tasks.translation.averaging import averaged
from tasks.translation.command import plain
from tasks.translation.decoding import BLANK
from tasks.translation.loading import load_all
from tasks.translation.numbers import Numbers

LINES = ["twenty-one", "", "three hundred and five", "seven"]


def trained(file: Path, tokenizer: str = "unigram", seed: int = 0, **options: Any) -> Path:
    """The checkpoint of a short training."""
    pl.seed_everything(seed, verbose=False)
    numbers = Numbers(train=400, val=10, test=10, highest=999)
    data = TranslationData(numbers, tokenizer=tokenizer, vocab_size=60, batch_size=16)  # type: ignore[arg-type]
    model = Translator(embedding_size=32, hidden_size=32, val_sentences=0, **options)
    model.use_optimizer({"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-2}})
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(max_epochs=6, accelerator="cpu", enable_checkpointing=False, gradient_clip_val=1.0, **quiet)
    trainer.fit(model, data)
    trainer.save_checkpoint(file)
    return file


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("translate") / "a.ckpt")


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("translate") / "b.ckpt", seed=1)


@pytest.fixture(scope="session")
def in_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of whole words, some of which it does not know, without attention."""
    return trained(tmp_path_factory.mktemp("translate") / "words.ckpt", tokenizer="words", decoder="none")


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts bytes on the standard input; a terminal where asked for."""

    class Stdin(io.TextIOWrapper):
        terminal = False

        def isatty(self) -> bool:
            return self.terminal

    def put(raw: bytes = "\n".join(LINES).encode(), terminal: bool = False) -> None:
        stream = Stdin(io.BytesIO(raw), encoding="utf-8")
        stream.terminal = terminal
        monkeypatch.setattr(sys, "stdin", stream)

    put()
    return put


def translate(*arguments: object) -> int:
    return main(["translate", "--ckpt_path", *map(str, arguments)])


def test_every_line_has_one_in_its_place(model: Path, give: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert translate(model) == 0
    out = capsys.readouterr().out.split("\n")
    assert len(out) == len(LINES) + 1 and out[1] == "" and all(out[place] for place in (0, 2, 3))
    for place in (0, 2, 3):
        give(LINES[place].encode())
        assert translate(model, "--batch_size", 1) == 0
        assert capsys.readouterr().out == f"{out[place]}\n"


def test_json_has_source_hypotheses_and_alignments(model: Path, give: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert translate(model, "--json", "--n_best", 3) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["source"] for answer in answers] == LINES
    for answer in answers:
        assert list(answer) == ["source", "pieces", "hypotheses"]
        scores = [hypothesis["score"] for hypothesis in answer["hypotheses"]]
        assert scores == sorted(scores, reverse=True)
        for hypothesis in answer["hypotheses"]:
            assert list(hypothesis) == ["text", "score", "pieces", "alignment"]
            assert len(hypothesis["alignment"]) == len(hypothesis["pieces"])
            for row in hypothesis["alignment"]:
                assert len(row) == len(answer["pieces"]) and sum(row) == pytest.approx(1, abs=1e-4)
    assert [len(answer["hypotheses"]) for answer in answers] == [3, 1, 3, 3]


def test_n_best_lines_carry_their_line_and_score(model: Path, give: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert translate(model, "--n_best", 2) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "2", "3", "3", "4", "4"]


def test_files_are_read_and_written_whole(model: Path, tmp_path: Path, give: Any, capsys: Any) -> None:
    (tmp_path / "in.txt").write_bytes("\r\n".join(LINES).encode())
    assert translate(model) == 0
    expected = capsys.readouterr().out
    assert translate(model, "--input", tmp_path / "in.txt", "--output", tmp_path / "out" / "o.txt") == 0
    assert (tmp_path / "out" / "o.txt").read_text() == expected and capsys.readouterr().out == ""


def test_a_terminal_is_answered_line_by_line(model: Path, give: Any, capsys: pytest.CaptureFixture[str]) -> None:
    give(b"seven\n\n", terminal=True)
    assert translate(model) == 0
    captured = capsys.readouterr()
    assert captured.err.count("> ") == 3 and len(captured.out.splitlines()) == 2


@pytest.mark.parametrize("options", [["--int8"], ["--precision", "bf16"]])
def test_other_precisions_translate(options: list[str], model: Path, give: Any, capsys: Any) -> None:
    assert translate(model, *options) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(LINES)


def test_score_of_the_best_translation_is_its_own(model: Path, tmp_path: Path, give: Any, capsys: Any) -> None:
    give(b"seven\n")
    assert translate(model, "--json") == 0
    best = json.loads(capsys.readouterr().out)["hypotheses"][0]
    (tmp_path / "target.txt").write_text(best["text"] + "\n")
    give(b"seven\n")
    assert translate(model, "--json", "--score", tmp_path / "target.txt") == 0
    scored = json.loads(capsys.readouterr().out)
    if scored["tokens"] == len(best["pieces"]) + 1:  # else the text has a shorter segmentation than was found
        assert scored["score"] == pytest.approx(best["score"], abs=1e-5)
    assert scored["log_prob"] == pytest.approx(scored["score"] * scored["tokens"], abs=1e-4)


def test_lines_and_translations_to_score_must_be_as_many(model: Path, tmp_path: Path, give: Any, capsys: Any) -> None:
    (tmp_path / "target.txt").write_text("sept\n")
    give(b"seven\neight\n")
    assert translate(model, "--score", tmp_path / "target.txt") == 1
    assert "line 2 has no translation to score" in capsys.readouterr().err


def test_lines_and_translations_to_score_that_are_cut_are_said_or_refused(
    model: Path, tmp_path: Path, give: Any, capsys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "target.txt").write_text("sept\n" + "sept " * 30 + "\n")
    for longer, code in (("truncate", 0), ("refuse", 1)):
        give(b"seven\nseven\n")
        limit = ("--max_length", 20, "--longer", longer)
        assert translate(model, "--score", tmp_path / "target.txt", *limit) == code
    assert "translations 1 to 2: 1 cut to 20 tokens" in caplog.text
    assert "translation 2 has more than 20 tokens: shorten it" in capsys.readouterr().err


def test_a_coverage_penalty_needs_attention(in_words: Path, give: Any, capsys: Any) -> None:
    assert translate(in_words, "--coverage_beta", 0.2) == 2
    assert "coverage_beta is 0.2: a model without attention covers nothing" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["translate", "average"])
def test_a_place_that_cannot_be_written_names_its_option(verb: str, model: Path, give: Any, capsys: Any) -> None:
    assert main([verb, "--ckpt_path", str(model), "--output", "/dev/null/a"]) == 1
    assert "/dev/null/a" in (error := capsys.readouterr().err) and error.endswith("choose another with --output\n")


def test_an_ensemble_averages_probabilities(model: Path, second: Path, give: Any, capsys: Any) -> None:
    assert translate(model, second) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(LINES)


def test_an_ensemble_needs_one_vocabulary(model: Path, in_words: Path, give: Any, capsys: Any) -> None:
    assert translate(model, in_words) == 1
    assert "has another tokenizer than" in capsys.readouterr().err


def test_replacing_unknowns_needs_attention(in_words: Path, give: Any, capsys: Any) -> None:
    give(b"seven\n")
    code, captured = translate(in_words, "--replace_unknown"), capsys.readouterr()
    assert (code == 2 and "this model has none" in captured.err) or "⁇" not in captured.out


def test_a_dictionary_has_two_columns(model: Path, tmp_path: Path, give: Any, capsys: Any) -> None:
    (tmp_path / "d.tsv").write_text("seven\tsept\nseven\n")
    assert translate(model, "--replace_unknown", tmp_path / "d.tsv") == 1
    assert "d.tsv, line 2: expected a word, a tab and its translation" in capsys.readouterr().err


def test_bytes_that_are_not_utf8_are_named_by_line(model: Path, give: Any, capsys: Any) -> None:
    give("seven\ncaf\xe9\n".encode("latin-1"))
    assert translate(model) == 1
    assert "error: stdin, line 2: the byte 0xe9 is not UTF-8: convert" in capsys.readouterr().err


def test_a_closed_stdin_is_named(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert translate(model) == 1
    assert "the standard input is closed" in capsys.readouterr().err


def test_a_long_line_is_cut_and_said_or_refused(
    model: Path, give: Any, capsys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    long = ("seven " * 16667).encode()  # 100,000 characters
    give(b"one\n" + long + b"\n")
    assert translate(model, "--max_length", 20, "--beam_size", 1) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 and "1 cut to 20 tokens" in caplog.text
    give(b"one\n" + long + b"\n")
    assert translate(model, "--max_length", 20, "--longer", "refuse") == 1
    assert "line 2 has more than 20 tokens: shorten it" in capsys.readouterr().err


def test_control_characters_make_no_new_lines(model: Path, give: Any, capsys: Any) -> None:
    give("seven\x0b\x85one\u2028\x00two\ttwo\n".encode())
    assert translate(model) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert plain([BLANK._replace(text="a\x85b\rc\u2028d")], None) == ["a b c d"]
    codec = load_all([model])[0].codec
    ids = codec.encode_source(["seven\x0b\x85one\u2028two", "seven  one two"])
    assert torch.equal(ids[0], ids[1])


@pytest.mark.parametrize("length", [0, 3])
def test_a_missing_or_broken_checkpoint_is_one_sentence(length: int, model: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "c.ckpt"
    if length:
        path.write_bytes(model.read_bytes()[: -length * 1000])
    assert translate(path) == 1
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and ("no checkpoint" in error or "is not a whole checkpoint" in error)


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path, capsys: Any) -> None:
    data, other = ClassificationData(), SequenceClassifier(hidden_size=4)
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(max_steps=1, limit_val_batches=0, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(other, data)
    trainer.save_checkpoint(tmp_path / "digits.ckpt")
    assert translate(tmp_path / "digits.ckpt") == 1
    assert "is of the task tasks.sequence_classification" in capsys.readouterr().err


def test_without_a_checkpoint_nothing_is_translated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate"]) == 2
    assert "the following arguments are required: --ckpt_path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n_best", "9"], "n_best is 9 with a beam of 5"),
        (["--beam_size", "0"], "beam_size is 0"),
        (["--batch_size", "0"], "batch_size must be at least 1"),
        (["--no_repeat_ngram", "-1"], "no_repeat_ngram is -1"),
        (["--length_constant", "0"], "length_constant is 0"),
        (["--length_ratio", "inf"], "length_ratio is inf: give a finite number"),
        (["--max_length", "0"], "max_length is 0: give 1 or more"),
        (["--max_length", "-3"], "max_length is -3: give 1 or more"),
        (["--device", "nowhere"], "--device nowhere: "),
    ],
)
def test_a_wrong_option_is_one_sentence(options: list[str], message: str, model: Path, give: Any, capsys: Any) -> None:
    assert translate(model, *options) == 2
    assert message in capsys.readouterr().err


def test_the_average_of_checkpoints_has_their_mean_weights(model: Path, tmp_path: Path, give: Any, capsys: Any) -> None:
    other = read_checkpoint(model)
    name = "network.head.bias"
    other["state_dict"][name] = other["state_dict"][name] + 2
    torch.save(other, tmp_path / "b.ckpt")
    output = tmp_path / "average.ckpt"
    assert main(["average", "--ckpt_path", str(model), str(tmp_path / "b.ckpt"), "--output", str(output)]) == 0
    mean, first = (model.state_dict() for model in load_all((output, model)))
    torch.testing.assert_close(mean[name], first[name] + 1)
    torch.testing.assert_close(mean["network.head.weight"], first["network.head.weight"])
    assert translate(output) == 0


def test_only_checkpoints_of_one_network_are_averaged(model: Path, in_words: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["average", "--ckpt_path", str(model), str(in_words), "--output", str(tmp_path / "c.ckpt")]) == 1
    assert "is of another task or data than" in capsys.readouterr().err
    assert not (tmp_path / "c.ckpt").exists()


def test_integers_are_not_averaged() -> None:
    states = [{"steps": torch.tensor(value), "w": torch.tensor(float(value))} for value in (1, 4)]
    assert averaged(states) == {"steps": torch.tensor(1), "w": torch.tensor(2.5)}

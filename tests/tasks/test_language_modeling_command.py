"""``lightning-rnn generate`` writes token by token, goes on from a state, stops cleanly; a mistake is one sentence."""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_rnn.cli import main
from lightning_rnn.training.loading import load_trained
from tasks.language_modeling import LanguageData, LanguageModel
from tasks.language_modeling.generation import GenerationOptions, NewText, TextGenerator
from tasks.language_modeling.sources import TextShares
from tasks.sequence_classification import ClassificationData, SequenceClassifier

ANIMALS, SIZES = ("cat", "dog", "owl", "fox"), ("big", "small", "old", "new")
LINES = [f"the {size} {animal} saw a {other}" for size in SIZES for animal in ANIMALS for other in ANIMALS]


def trained(folder: Path, tokenizer: str) -> Path:
    """The checkpoint of a short training."""
    (folder / "text.txt").write_text("\n".join(LINES * 6) + "\n")
    pl.seed_everything(0, verbose=False)
    source = TextShares(str(folder / "text.txt"), 0.1, 0.1)
    data = LanguageData(source, tokenizer=tokenizer, batch_size=8, chunk=20)  # type: ignore[arg-type]
    model = LanguageModel(embedding_size=24, hidden_size=24, num_layers=1)
    model.use_optimizer({"class_path": "torch.optim.Adam", "init_args": {"lr": 2e-2}})
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(max_epochs=8, accelerator="cpu", enable_checkpointing=False, gradient_clip_val=1.0, **quiet)
    trainer.fit(model, data)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("words"), "words")


@pytest.fixture(scope="session")
def characters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("characters"), "characters")


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was printed since the last call."""
    return lambda: capsys.readouterr().out


def generate(*arguments: object) -> int:
    return main(["generate", "--ckpt_path", *map(str, arguments)])


def give(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))


def test_the_text_is_the_prompt_and_what_the_model_writes(words: Path, out: Any) -> None:
    assert generate(words, "--prompt", "the big", "--greedy", "--max_tokens", 4) == 0
    text = out()
    assert text.startswith("the big ") and len(text.split()) == 6 and text.endswith("\n")
    model = load_trained(LanguageModel, words)
    assert text == "the big" + model.generate("the big", GenerationOptions(4, greedy=True))[0] + "\n"
    assert generate(words, "--seed_text", "the big", "--greedy", "--max_tokens", 4) == 0
    assert out() == text


def test_a_trained_model_writes_lines_like_those_it_read(words: Path, out: Any) -> None:
    assert generate(words, "--seed", 1, "--temperature", 0.1, "--max_tokens", 60) == 0
    lines = out().split("\n")[:-2]
    assert len(lines) > 5 and sum(line in LINES for line in lines) > 0.7 * len(lines)


@pytest.mark.parametrize("model", ["words", "characters"])
def test_the_parts_one_after_the_other_are_the_whole(
    model: str, request: pytest.FixtureRequest, tmp_path: Path, out: Any
) -> None:
    path, state = request.getfixturevalue(model), tmp_path / "text.state"
    assert generate(path, "--prompt", "the", "--seed", 4, "--max_tokens", 30) == 0
    whole = out()
    assert generate(path, "--prompt", "the", "--seed", 4, "--max_tokens", 11, "--state_out", state) == 0
    for size in (9, 10):
        assert generate(path, "--state_in", state, "--state_out", state, "--max_tokens", size) == 0
    assert out() + "\n" == whole


def test_samples_stand_one_after_the_other_under_their_seeds(words: Path, out: Any) -> None:
    assert generate(words, "--prompt", "the", "--seed", 7, "--samples", 3, "--max_tokens", 5) == 0
    parts = out().split("=== sample ")
    assert parts[0] == "" and len(parts) == 4
    for number, part in enumerate(parts[1:], 1):
        head, text = part.split("\n", 1)
        assert head == f"{number}, seed {6 + number}"
        assert generate(words, "--prompt", "the", "--seed", 6 + number, "--max_tokens", 5) == 0
        assert out() == text.removesuffix("\n") + "\n"


def test_json_has_an_object_for_each_sample(words: Path, out: Any, capsys: Any) -> None:
    arguments = ["--prompt", "the", "--seed", 7, "--samples", 2, "--max_tokens", 25, "--stop_at_eos", "--json"]
    assert generate(words, *arguments) == 0
    found = [json.loads(line) for line in out().splitlines()]
    assert [one["seed"] for one in found] == [7, 8] and [one["sample"] for one in found] == [1, 2]
    model = load_trained(LanguageModel, words)
    for one in found:
        assert list(one) == ["sample", "seed", "prompt", "text", "tokens", "log_prob", "ended"]
        assert one["ended"] and "\n" not in one["text"] and one["tokens"] == len(one["text"].split()) + 1
        before, whole = (model.score([text])["log_prob"] for text in ("the", "the" + one["text"]))
        assert one["log_prob"] == pytest.approx(float(whole - before) + _end(model, "the"), abs=1e-3)


def _end(model: LanguageModel, text: str) -> float:
    """The log-probability of a line's end after a text, which its score holds."""
    assert model.spec is not None
    ids = torch.tensor([[model.spec.end, *model.spec.load_tokenizer().encode([text])[0].tolist()]])
    with torch.no_grad():
        log_probs = model.network.head.log_probs(model.network(ids).hidden[0, -1])
    return float(log_probs[model.spec.end])


def test_a_seed_that_was_drawn_is_said_and_gives_the_text_again(
    words: Path, out: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert generate(words, "--max_tokens", 20) == 0
    text, (said,) = out(), [record.message for record in caplog.records if record.message.startswith("seed ")]
    assert generate(words, "--max_tokens", 20, "--seed", said.split()[1].rstrip(":")) == 0
    assert out() == text


def test_a_text_ends_before_its_stop(characters: Path, out: Any) -> None:
    assert generate(characters, "--prompt", "the big cat", "--seed", 1, "--stop", "saw", "--max_tokens", 200) == 0
    text = out()
    assert "saw" not in text and len(text) < 200


def test_the_prompt_can_come_from_the_standard_input(
    words: Path, out: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert generate(words, "--prompt", "the big", "--greedy", "--max_tokens", 3) == 0
    expected = out()
    give(monkeypatch, b"the big\r\n")
    assert generate(words, "--prompt", "-", "--greedy", "--max_tokens", 3) == 0
    assert out() == expected
    give(monkeypatch, b"the big\ncaf\xe9\n")
    assert generate(words, "--prompt", "-") == 1
    assert "error: stdin, line 2: the byte 0xe9 is not UTF-8" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", None)
    assert generate(words, "--prompt", "-") == 1
    assert "the standard input is closed" in capsys.readouterr().err


def test_unknown_words_of_a_prompt_are_counted(words: Path, out: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert generate(words, "--prompt", "the purple cat", "--greedy", "--max_tokens", 1) == 0
    assert "1 of the 3 tokens of the prompt are unknown" in caplog.text and out().startswith("the purple cat ")


def test_each_token_is_shown_as_it_comes(words: Path, monkeypatch: pytest.MonkeyPatch, out: Any) -> None:
    stream, seen = TextGenerator.stream, []

    def watched(self: TextGenerator, *arguments: Any) -> Any:
        for new in stream(self, *arguments):
            seen.append(out())
            yield new

    monkeypatch.setattr(TextGenerator, "stream", watched)
    assert generate(words, "--prompt", "the", "--greedy", "--max_tokens", 4) == 0
    assert seen[0] == "the" and all(len(text.split()) == 1 for text in seen[1:])


def test_ctrl_c_ends_the_text_and_keeps_its_state(
    words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Any
) -> None:
    assert generate(words, "--prompt", "the", "--seed", 2, "--max_tokens", 12) == 0
    whole, stream = out(), TextGenerator.stream

    def pressed(self: TextGenerator, *arguments: Any) -> Any:
        for count, new in enumerate(stream(self, *arguments), 1):
            if count == 5:
                os.kill(os.getpid(), signal.SIGINT)
            yield new

    monkeypatch.setattr(TextGenerator, "stream", pressed)
    state, before = tmp_path / "text.state", signal.getsignal(signal.SIGINT)
    assert generate(words, "--prompt", "the", "--seed", 2, "--max_tokens", 50, "--state_out", state) == 130
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    first = out()
    assert generate(words, "--state_in", state, "--max_tokens", 7) == 0
    assert first + out() == whole and len(first.split()) < len(whole.split())


@pytest.mark.slow  # another Python
def test_a_reader_that_has_enough_is_no_error(words: Path) -> None:
    code = "import sys; from lightning_rnn.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["generate", "--ckpt_path", str(words), "--prompt", "the", "--max_tokens", "100000"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(20).startswith(b"the ")
        process.stdout.close()
        assert process.wait(timeout=120) == 0
        assert b"Traceback" not in process.stderr.read()


def test_lines_are_scored_each_for_itself(
    words: Path, tmp_path: Path, out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["the big cat saw a dog", "", "dog a saw cat big the"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    assert generate(words, "--score", tmp_path / "lines.txt", "--json") == 0
    found = [json.loads(line) for line in out().splitlines()]
    assert [one["text"] for one in found] == lines and [one["tokens"] for one in found] == [7, 1, 7]
    for line, one in zip(lines, found, strict=True):
        assert one["perplexity"] == pytest.approx(math.exp(-one["log_prob"] / (len(line.split()) + 1)), rel=1e-5)
        assert one["bits_per_character"] == pytest.approx(-one["log_prob"] / math.log(2) / (len(line) + 1))
    assert found[0]["log_prob"] > found[2]["log_prob"] + 5
    give(monkeypatch, "\r\n".join(lines).encode())
    assert generate(words, "--score", "-") == 0
    rows = [[float(value) for value in line.split("\t")] for line in out().splitlines()]
    assert rows == [pytest.approx([*list(one.values())[1:]], abs=1e-4) for one in found]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max_tokens", "-1"], "max_tokens is -1"),
        (["--temperature", "0"], "temperature is 0.0"),
        (["--top_k", "-1"], "top_k is -1"),
        (["--top_p", "2"], "top_p is 2.0"),
        (["--samples", "0"], "samples is 0: give 1 or more"),
        (["--stop", ""], "stop is an empty text"),
        (["--greedy", "--top_k", "3"], "--greedy draws nothing"),
        (["--state_in", "a", "--prompt", "b"], "--prompt begins a text, --state_in goes on with one"),
        (["--state_in", "a", "--seed", "1"], "--seed begins a text"),
        (["--score", "a", "--prompt", "b"], "--score writes no text: leave --prompt out"),
        (["--score", "a", "--temperature", "0.5"], "--score writes no text: leave --temperature out"),
        (["--score", "a", "--stop_at_eos"], "--score writes no text: leave --stop_at_eos out"),
        (["--state_out", "."], "--state_out . is a folder: name a file in it"),
        (["--state_out", ""], "is a folder: name a file in it"),
        (["--seed", str(2**63)], "seed is 9223372036854775808: give"),
        (["--device", "nowhere"], "--device nowhere: "),
        (["--max_tokens", "many"], "argument --max_tokens: invalid int value"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: list[str], message: str, words: Path, capsys: Any) -> None:
    assert generate(words, *options) == 2
    assert message in capsys.readouterr().err


def test_a_state_that_cannot_be_written_is_one_sentence(words: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").touch()
    assert generate(words, "--max_tokens", 2, "--state_out", tmp_path / "file" / "a.state") == 1
    said = capsys.readouterr().err
    assert "cannot write" in said and said.endswith("or choose another with --state_out\n")


def test_a_text_that_met_its_stop_is_said_to_have_ended(
    words: Path, tmp_path: Path, out: Any, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "a.state"
    assert generate(words, "--greedy", "--stop_at_eos", "--state_out", state) == 0 and not caplog.messages
    out()
    assert generate(words, "--state_in", state) == 0
    assert out() == "\n" and "the text met its --stop and has ended: nothing comes after it" in caplog.text


def test_a_state_of_another_model_is_refused(words: Path, characters: Path, tmp_path: Path, capsys: Any) -> None:
    assert generate(words, "--state_out", tmp_path / "a.state", "--max_tokens", 2) == 0
    assert generate(characters, "--state_in", tmp_path / "a.state") == 1
    assert "a.state is the state of another model: give the checkpoint it was written with" in capsys.readouterr().err
    assert generate(words, "--state_in", tmp_path / "b.state") == 1
    assert "no state file" in capsys.readouterr().err
    assert generate(words, "--state_in", words) == 1
    assert "is no state of a text" in capsys.readouterr().err


def test_a_checkpoint_that_is_none_is_one_sentence(words: Path, tmp_path: Path, capsys: Any) -> None:
    assert generate(tmp_path / "a.ckpt") == 1
    assert "no checkpoint" in capsys.readouterr().err
    (tmp_path / "b.ckpt").write_bytes(words.read_bytes()[:3000])
    assert generate(tmp_path / "b.ckpt") == 1
    assert "is not a whole checkpoint" in capsys.readouterr().err
    data, other = ClassificationData(), SequenceClassifier(hidden_size=4)
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(max_steps=1, limit_val_batches=0, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(other, data)
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    assert generate(tmp_path / "c.ckpt") == 1
    assert "is of the task tasks.sequence_classification" in capsys.readouterr().err
    assert main(["generate"]) == 2
    assert "the following arguments are required: --ckpt_path" in capsys.readouterr().err


def test_new_text_names_its_token(words: Path) -> None:
    model = load_trained(LanguageModel, words)
    assert model.spec is not None
    generator = TextGenerator(model.network, model.spec)
    new = next(generator.stream(generator.begin("the big"), GenerationOptions(greedy=True)))
    assert isinstance(new, NewText) and new.text == f" {model.spec.load_tokenizer().pieces[new.token]}"


def test_the_examples_of_the_page_run(words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.ckpt").write_bytes(words.read_bytes())
    page = (Path(__file__).parents[2] / "docs/writing_text.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    model = load_trained(LanguageModel, words)
    assert out() + names["more"][0] == model.generate("the", GenerationOptions(100), seed=1)[0]


def test_every_option_is_on_the_page_and_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--help"]) == 0
    said, page = capsys.readouterr().out, (Path(__file__).parents[2] / "docs/writing_text.md").read_text()
    options = set(re.findall(r"^  (--\w+)", said, re.MULTILINE))
    assert len(options) > 15 and {one for one in options if f"{one}" not in page} <= {"--device", "--help"}
    assert "exit codes" in said and "130" in said

"""Text as streams and as lines: nothing is lost or counted twice, whatever the tokens are; bad text is refused."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_rnn.data import TextLines
from lightning_rnn.data.tokenizer import UNK, Kind
from lightning_rnn.errors import ConfigError, DataError, UserError
from lightning_rnn.types import SequenceBatch
from tasks.language_modeling import LanguageData
from tasks.language_modeling.rows import TextStream
from tasks.language_modeling.sources import TextShares
from tasks.language_modeling.text import CHARACTERS, TOKEN, WORDS

LINES = ["to be or not to be", "", "that is the question", "whether it is nobler in the mind"] * 30
KINDS: tuple[Kind, ...] = ("words", "characters", "bytes", "unigram", "bpe", "word", "char")


def written(folder: Path, lines: Sequence[str] = LINES, name: str = "a.txt") -> str:
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return str(folder / name)


def data_of(folder: Path, lines: Sequence[str] = LINES, **options: Any) -> LanguageData:
    file = written(folder, lines)
    defaults: dict[str, Any] = {"batch_size": 2, "chunk": 5, "vocab_size": 300}
    data = LanguageData(TextLines(file, file, file), **defaults | options)
    data.setup("fit")
    return data


def test_sizes_are_those_that_are_published(data_root: Path) -> None:
    """The tokens of the Penn Treebank as everyone counts them (Mikolov 2010), ``<eos>`` and ``<unk>`` among them."""
    if not (data_root / "ptb").is_dir():
        pytest.skip("no ptb in LIGHTNING_RNN_DATA")
    data = LanguageData(TextLines("ptb/ptb.train.txt", "ptb/ptb.valid.txt", "ptb/ptb.test.txt"), vocab_size=10002)
    data.setup("fit")
    data.setup("test")
    sizes = [len(data.split(part).inputs.values) for part in ("train", "val", "test")]
    assert sizes == [929_589, 73_760, 82_430]
    counts = torch.tensor(data.spec.counts)
    assert int((counts > 0).sum()) == 10_000 and int(counts.sum()) == 929_589
    assert counts[UNK] == (data_root / "ptb/ptb.train.txt").read_text().split().count("<unk>")
    assert bool((counts[4:].diff() <= 0).all()), "words are not in order of frequency"


@pytest.mark.parametrize("kind", KINDS)
def test_words_and_characters_are_the_same_whatever_the_tokens_are(kind: Kind, tmp_path: Path) -> None:
    data = data_of(tmp_path, tokenizer=kind, vocab_size={"unigram": 28, "bpe": 28, "char": 28}.get(kind, 300))
    values = data.split("train").inputs.values
    text = (tmp_path / "a.txt").read_text()
    assert int(values[:, CHARACTERS].sum()) == len(text)
    assert int(values[:, WORDS].sum()) == len(text.split()) + text.count("\n")
    assert int((values[:, TOKEN] == data.spec.end).sum()) == text.count("\n")


def test_characters_make_the_text_again(tmp_path: Path) -> None:
    data = data_of(tmp_path, [*LINES, " é  \t."], tokenizer="characters")
    ids = data.split("train").inputs.values[:, TOKEN].tolist()
    assert data.spec.load_tokenizer().decode(ids) == (tmp_path / "a.txt").read_text()


def test_blank_lines_have_their_end_alone_and_unknown_words_stay_unknown(tmp_path: Path) -> None:
    data = data_of(tmp_path, [" = a <unk> = ", " ", "", *LINES])
    spec = data.spec
    assert spec is not None
    first = data.split("train").inputs.values[:6, TOKEN].tolist()
    equals, a = (spec.load_tokenizer().pieces.index(word) for word in ("=", "a"))
    assert first == [equals, a, UNK, equals, spec.end, spec.end]


def seen(batches: Sequence[SequenceBatch]) -> tuple[list[int], list[int]]:
    """Inputs and targets of a single lane, in order."""
    inputs, targets = list[int](), list[int]()
    for batch in batches:
        length = batch.inputs.shape[1] if batch.lengths is None else int(batch.lengths[0])
        inputs += batch.inputs[0, :length].tolist()
        targets += batch.targets["tokens"][0, :length].tolist()
    return inputs, targets


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_evaluation_predicts_every_token_but_the_first_once_and_in_order(chunk: int, tmp_path: Path) -> None:
    data = data_of(tmp_path, LINES[:12], eval_chunk=chunk)
    loader = data.val_dataloader()
    assert not isinstance(loader, list)
    batches = list(loader)
    tokens = data.split("val").inputs.values[:, TOKEN].tolist()
    assert seen(batches) == (tokens[:-1], tokens[1:])
    assert [bool(batch.starts.any()) for batch in batches] == [True] + [False] * (len(batches) - 1)


@pytest.mark.parametrize("random", [{}, {"chunk_std": 2.0, "half_probability": 0.3}])
def test_training_sees_every_step_once_in_each_epoch_and_goes_on_in_every_row(
    random: dict[str, Any], tmp_path: Path
) -> None:
    data = data_of(tmp_path, batch_size=3, **random)
    tokens = data.split("train").inputs.values[:, TOKEN]
    loader = data.train_dataloader()
    firsts = []
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        chunks = list(loader.batch_sampler)
        steps = sorted(step for rows in chunks for key in rows for step in range(key.start, key.stop))
        assert steps == list(range(len(tokens) - 1))
        for before, after in pairwise(chunks):
            goes_on = [a.start == b.stop or a.begins or a.stream < 0 for b, a in zip(before, after, strict=True)]
            assert all(goes_on)
        firsts.append(chunks[0])
    assert firsts[0] != firsts[1], "both epochs are cut at the same places"


def test_lengths_are_random_only_where_that_is_asked_for(tmp_path: Path) -> None:
    plain, random = data_of(tmp_path), data_of(tmp_path, chunk=9, chunk_std=2.0)
    assert not plain.varies and random.varies
    widths = {batch.inputs.shape[1] for batch in random.train_dataloader()}
    assert len(widths) > 2


def test_rows_are_lines_between_line_ends(tmp_path: Path) -> None:
    data = data_of(tmp_path, layout="rows")
    batch = data.split("train").__getitems__([0, 1])
    end = data.spec.end
    assert batch.inputs[:, 0].tolist() == [end, end] and batch.lengths.tolist() == [7, 1]
    assert batch.targets["tokens"][0, 6] == end and batch.targets["tokens"][1].tolist() == [end] + [0] * 6
    assert torch.equal(batch.inputs[0, 1:], batch.targets["tokens"][0, :-1])
    assert batch.targets["words"].sum(1).tolist() == [7, 1]
    assert batch.targets["characters"].sum(1).tolist() == [len(LINES[0]) + 1, 1]


def test_predict_takes_every_line_for_itself_in_any_layout(tmp_path: Path) -> None:
    other = written(tmp_path, ["to be", "is it nobler"], "b.txt")
    file = written(tmp_path)
    data = LanguageData(TextLines(file, predict=other))
    data.setup("predict")
    assert [batch.inputs.shape for batch in data.predict_dataloader()] == [(2, 4)]


def test_shares_of_a_text_are_its_beginning_middle_and_end(tmp_path: Path) -> None:
    lines = [f"line {number} " + "x" * (number % 7) for number in range(400)]
    shares = TextShares(written(tmp_path, lines), 0.05, 0.05)
    parts = [list(shares.texts(part)) for part in ("train", "val", "test")]
    assert list(chain(*parts)) == lines
    whole = sum(map(len, lines))
    assert [sum(map(len, part)) / whole for part in parts] == pytest.approx([0.9, 0.05, 0.05], abs=0.005)


def test_shares_by_line_are_drawn_and_share_no_line(tmp_path: Path) -> None:
    lines = [f"name{number}" for number in range(200)]
    file = written(tmp_path, lines)
    one, other = (TextShares(file, 0.1, 0.1, by_line=True, seed=seed) for seed in (0, 1))
    parts = [list(one.texts(part)) for part in ("train", "val", "test")]
    assert sorted(chain(*parts)) == sorted(lines) and list(map(len, parts)) == [160, 20, 20]
    assert parts[2] == list(one.texts("test")) != list(other.texts("test"))
    assert parts[2] != lines[180:]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (b"", {}, "has no rows"),
        (b"\n \n\n", {}, "holds no text to train on"),
        (None, {}, "TextLines has no train part: name its files in data.source"),
        (b"to be\n" * 3, {"batch_size": 4, "chunk": 35}, "has 9 tokens, too short for 4 rows of data.chunk 35, which"),
        (b"buffalo buffalo buffalo\n" * 200, {}, "holds one kind of word again and again"),
        (b"caf\xe9 au lait\n" * 200, {}, r"line 1: byte 3 \(0xe9\) is not utf-8"),
        (b"a b c\n" * 200, {"tokenizer": "unigram", "vocab_size": 5000}, r"data.vocab_size.*a.txt"),
        (b"a b c\n" * 200, {"min_count": 500}, "data.min_count 500 leaves no words"),
    ],
)
def test_bad_text_is_refused_in_a_sentence(
    text: bytes | None, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(text or b"")
    data = LanguageData(TextLines(None if text is None else str(tmp_path / "a.txt")), **options)
    with pytest.raises(UserError, match=said) as caught:
        data.setup("fit")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "shares", "said"),
    [
        ([" ", ""], (0.05, 0.05), "holds no text to train on"),
        (["to be", "or not"], (0.05, 0.05), "the train part has 6 tokens, too short for 4 rows"),
        (
            ["to be " * 99],
            (0.05, 0.05),
            "none of its 1 is left for the val part: give more lines, or other values of val",
        ),
        (["to be"] * 3, (0.2, 0.79), "none of its 3 is left for the train part"),
    ],
)
def test_shares_of_a_text_that_is_too_short_say_first_what_training_lacks(
    lines: list[str], shares: tuple[float, float], said: str, tmp_path: Path
) -> None:
    data = LanguageData(TextShares(written(tmp_path, lines), *shares), batch_size=4, chunk=20)
    with pytest.raises(DataError, match=said) as caught:
        data.setup("fit")
    assert "\n" not in str(caught.value)


def test_a_part_of_one_token_cannot_be_predicted(tmp_path: Path) -> None:
    file, short = written(tmp_path), written(tmp_path, [""], "b.txt")
    data = LanguageData(TextLines(file, short), batch_size=2, chunk=5)
    with pytest.raises(DataError, match=r"b\.txt: the val part has 1 tokens, too short for a step, which needs 2"):
        data.setup("fit")


def test_characters_never_seen_are_unknown_and_many_of_them_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, other = written(tmp_path), written(tmp_path, ["быть или не быть"], "b.txt")
    data = LanguageData(TextLines(file, test=other), tokenizer="characters")
    data.setup("test")
    split = data.split("test")
    assert isinstance(split, TextStream)
    assert split.inputs.values[:, TOKEN].tolist().count(UNK) == len("бытьилинебыть")
    assert "b.txt: 76 % of the tokens are unknown" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layout": "lines"}, "data.layout must be stream or rows"),
        ({"tokenizer": "syllables"}, "data.tokenizer must be one of"),
        ({"chunk": 0}, "data.chunk must be at least 1"),
        ({"eval_lanes": 0}, "data.eval_lanes must be at least 1"),
        ({"chunk_std": -1.0}, "data.chunk_std must not be negative"),
        ({"half_probability": 1.5}, "data.half_probability must be in 0..1"),
        ({"vocab_size": 3}, "data.vocab_size must be at least 6"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LanguageData(**options)

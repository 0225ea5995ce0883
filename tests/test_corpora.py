"""Corpora of texts and of pairs: every line once and in order, whatever the files."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pytest
import zstandard
from readings import as_parquet, message_of, taken

from lightning_rnn.data.corpora import TextColumn, TextLines
from lightning_rnn.data.parallel import ParallelText
from lightning_rnn.data.source import Corpus
from lightning_rnn.errors import ConfigError, DataError, UserError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    return tmp_path


# Corpora


def test_files_are_read_in_the_order_given_and_those_of_a_pattern_by_name(data: Path) -> None:
    for name in ("b.txt", "a.txt", "c.txt"):
        (data / name).write_text(f"{name} 1\n{name} 2\n")
    corpus = TextLines(train=["c.txt", "[ab].txt"], test="*.txt")
    assert corpus.files("train") == [data / "c.txt", data / "a.txt", data / "b.txt"]
    assert list(corpus.texts("train")) == [f"{name}.txt {i}" for name in "cab" for i in (1, 2)]
    assert corpus.files("predict") == corpus.files("test") == [data / f"{name}.txt" for name in "abc"]
    assert corpus.files("val") == []


@pytest.mark.parametrize("column", [False, True])
def test_empty_texts_are_kept_or_dropped_and_counted(
    data: Path, caplog: pytest.LogCaptureFixture, column: bool
) -> None:
    (data / "a.txt").write_text("text\none\n\n \ntwo\n")
    kind = TextColumn if column else TextLines
    given = {"keep": kind(train="a.txt", empty="keep"), "drop": kind(train="a.txt", empty="drop")}
    first = [] if column else ["text"]
    assert list(given["keep"].texts("train")) == [*first, "one", "", " ", "two"]
    with caplog.at_level(logging.INFO):
        assert list(given["drop"].texts("train")) == [*first, "one", "two"]
    assert f"{data / 'a.txt'}: 2 empty texts dropped" in caplog.text


def test_a_column_of_any_table_is_a_corpus(data: Path) -> None:
    (data / "a.jsonl.zst").write_bytes(zstandard.compress(b'{"t": "one"}\n{"t": "two\\n"}\n'))
    (data / "b.parquet").write_bytes(as_parquet(t=["three", ""], n=[1, 2]))
    corpus = TextColumn(train=["a.jsonl.zst", "b.parquet"], column="t")
    assert list(corpus.texts("train")) == ["one", "two\n", "three", ""]


def sides(text: ParallelText) -> list[tuple[str, str]]:
    return list(zip(text.source.texts("train"), text.target.texts("train"), strict=True))


@pytest.mark.parametrize("empty", ["keep", "drop"])
def test_the_sides_are_the_pairs_taken_apart(data: Path, empty: str, caplog: pytest.LogCaptureFixture) -> None:
    pairs = [("a", "A"), ("", "B"), ("c", " "), ("d", "D")]
    (data / "t.de.gz").write_bytes(gzip.compress("".join(f"{one}\n" for one, _ in pairs).encode()))
    (data / "t.en.gz").write_bytes(gzip.compress("".join(f"{other}\r\n" for _, other in pairs).encode()))
    (data / "t.tsv").write_text("en\tid\tde\n" + "".join(f"{other}\t7\t{one}\n" for one, other in pairs))
    text = ParallelText(train=["t.{}.gz", "t.tsv"], sides=("de", "en"), empty=empty)  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO):
        assert list(text.pairs("train")) == 2 * (pairs if empty == "keep" else [pairs[0], pairs[3]])
    assert caplog.text.count("2 pairs with an empty side dropped") == (2 if empty == "drop" else 0)
    assert sides(text) == list(text.pairs("train"))
    assert text.source.files("train") == [data / "t.de.gz", data / "t.en.gz", data / "t.tsv"]
    assert text.source.reading() != text.target.reading()


@pytest.mark.parametrize(("german", "english"), [(3, 5), (5, 3), (0, 1), (4, 0)])
def test_another_number_of_lines_is_named_with_both(data: Path, german: int, english: int) -> None:
    (data / "t.de").write_text("x\n" * german)
    (data / "t.en").write_text("x\n" * english)
    text = ParallelText(train="t.{}", sides=("de", "en"))
    for action in (lambda: taken(text.pairs("train")), lambda: taken(text.source.texts("train"))):
        message = message_of(data / "t.de", action)
        assert f"t.de has {german} lines, {data / 't.en'} has {english}" in message


def test_patterns_of_pairs_are_joined_by_their_order(data: Path) -> None:
    for name in ("1.de", "2.de", "1.en"):
        (data / name).write_text(f"{name}\n")
    text = ParallelText(train="*.{}", sides=("de", "en"))
    assert "2 files of de, 1 of en" in message_of(Path("*.{}"), lambda: text.files("train"))
    (data / "2.en").write_text("2.en\n")
    assert list(text.pairs("train")) == [("1.de", "1.en"), ("2.de", "2.en")]


def test_real_pairs_are_read_whole(data_root: Path) -> None:
    if not (data_root / "multi30k").is_dir() or not (data_root / "tatoeba").is_dir():
        pytest.skip("no multi30k and tatoeba in LIGHTNING_RNN_DATA")
    multi30k = ParallelText(train="multi30k/raw/train.{}.gz", sides=("de", "en"))
    pairs = list(multi30k.pairs("train"))
    assert len(pairs) == 29_000
    assert pairs[0][1] == "Two young, White males are outside near many bushes."
    tatoeba = ParallelText(train="tatoeba/fra-2019-04-08.txt", sides=("0", "1"), header=False)
    assert next(tatoeba.pairs("train")) == ("Go.", "Va !")
    assert taken(tatoeba.pairs("train")) == 167_130


@pytest.mark.parametrize(
    ("corpus", "kind", "problem"),
    [
        (TextLines(train="absent.txt"), DataError, "no file .*absent.txt"),
        (TextLines(train="absent/*.txt"), DataError, r"no file fits .*absent/\*\.txt"),
        (TextLines(train=["a.txt", "*.txt"]), ConfigError, r"a\.txt is named twice"),
        (TextLines(test="a.txt"), ConfigError, "no train part"),
        (TextLines(train="empty.txt"), DataError, r"empty\.txt has no rows"),
        (TextLines(train="blank.txt", empty="drop"), DataError, r"blank\.txt has no rows"),
        (TextColumn(train="a.txt", column="Text"), DataError, "row 2: no column 'Text', only 'a b': name one"),
        (ParallelText(test="a.txt").source, ConfigError, "no train part"),
        (ParallelText(train="{}.txt", sides=("a", "b")).target, DataError, r"no file .*b\.txt"),
    ],
)
def test_a_corpus_that_is_not_there_is_named(data: Path, corpus: Corpus, kind: type[UserError], problem: str) -> None:
    (data / "a.txt").write_text("a b\nc\n")
    (data / "empty.txt").touch()
    (data / "blank.txt").write_text(" \n\n")
    with pytest.raises(kind, match=problem):
        list(corpus.texts("train"))


def test_wrong_options_of_corpora_are_refused() -> None:
    for make in (TextLines, TextColumn, ParallelText):
        with pytest.raises(ConfigError, match="empty must be keep or drop"):
            make(empty="error")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must have two names"):
        ParallelText(sides=("de", "de"))

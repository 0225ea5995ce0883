"""Files of any size and kind: every line once and in order, or one sentence that names file, row and column."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import lzma
import os
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars
import pytest
import torch
import zstandard

from lightning_rnn.data import lines, parquet
from lightning_rnn.data.arrays import NpzSeries
from lightning_rnn.data.corpora import TextColumn, TextLines
from lightning_rnn.data.files import opened
from lightning_rnn.data.folder import FolderPerClass
from lightning_rnn.data.lines import read_lines, read_text
from lightning_rnn.data.parallel import ParallelText
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.source import Corpus, Examples, Source
from lightning_rnn.data.tables import read_records
from lightning_rnn.data.text import LabelledText
from lightning_rnn.data.timeseries import TimeSeries
from lightning_rnn.errors import ConfigError, DataError, UserError

Pack = Callable[[bytes], bytes]
PACK: dict[str, Pack] = {
    ".gz": lambda raw: gzip.compress(raw, mtime=0),
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
TEXT = "".join(f"{i} ä € 😀\r\n"[: 4 + i % 9] for i in range(60)) + "\n\nend"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    return tmp_path


def message_of(path: Path, action: Callable[[], object], kind: type[UserError] = DataError) -> str:
    """The one sentence that names the file."""
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def read(source: Source) -> Examples:
    examples = source.read("train")
    assert examples is not None
    return examples


def as_npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def as_parquet(**columns: list[object]) -> bytes:
    stream = io.BytesIO()
    polars.DataFrame(columns).write_parquet(stream)
    return stream.getvalue()


# Compressed files


@pytest.mark.parametrize("end", PACK)
@pytest.mark.parametrize("parts", [1, 3])
def test_unpacking_gives_what_was_packed_in_any_number_of_parts(tmp_path: Path, end: str, parts: int) -> None:
    raw = os.urandom(50_000) + bytes(300_000)
    path = tmp_path / f"a{end}"
    path.write_bytes(PACK[end](raw) * parts)
    with opened(path) as stream:
        assert b"".join(iter(lambda: stream.read(7_001), b"")) == raw * parts


@pytest.mark.parametrize("end", PACK)
def test_no_part_of_a_packed_file_is_taken_for_the_whole(tmp_path: Path, end: str) -> None:
    packed, path = PACK[end](TEXT.encode()), tmp_path / f"a.txt{end}"
    for size in range(len(packed)):
        path.write_bytes(packed[:size])
        assert "download or copy it again" in message_of(path, lambda: read_text(path))


@pytest.mark.parametrize("end", PACK)
@pytest.mark.parametrize("raw", [b"text,label\nx,y\n", bytes(64)])
def test_a_file_that_is_not_packed_is_named(tmp_path: Path, end: str, raw: bytes) -> None:
    (tmp_path / f"a{end}").write_bytes(raw)
    assert "is not a whole" in message_of(tmp_path, lambda: read_text(tmp_path / f"a{end}"))


def test_a_zstd_frame_without_content_is_passed_over(tmp_path: Path) -> None:
    skipped = (0x184D2A50).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"12345"
    (tmp_path / "a.zst").write_bytes(skipped + zstandard.compress(b"x") + skipped + zstandard.compress(b""))
    assert read_text(tmp_path / "a.zst") == "x"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    assert "cannot read" in message_of(tmp_path / "a.txt", lambda: read_text(tmp_path / "a.txt"))


# Lines


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100, 2**18])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gb18030"])
def test_where_pieces_are_cut_changes_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, encoding: str
) -> None:
    monkeypatch.setattr(lines, "PIECE", piece)
    (tmp_path / "a").write_bytes(TEXT.encode(encoding))
    wanted = "utf-8" if encoding == "utf-8-sig" else encoding
    assert read_text(tmp_path / "a", wanted) == TEXT
    assert list(read_lines(tmp_path / "a", wanted)) == [line.removesuffix("\r") for line in TEXT.split("\n")]


@pytest.mark.parametrize("piece", [1, 2, 5, 2**18])
@pytest.mark.parametrize(("bad", "problem"), [(b"\xe9", "is not utf-8"), (b"\xf0\x9f", "is not utf-8"), (b"\0", "NUL")])
def test_a_bad_byte_is_found_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, bad: bytes, problem: str
) -> None:
    monkeypatch.setattr(lines, "PIECE", piece)
    path = tmp_path / "a"
    for at in (0, 3, 9, 14):
        before = "ä\nbü\n€\n\n😀 c".encode()[:at].decode(errors="ignore").encode()
        path.write_bytes(before + bad + b" d\ne")
        message = message_of(path, lambda: read_text(path))
        assert f"line {before.count(10) + 1}: " in message
        assert problem in message
        assert bad == b"\0" or f"byte {len(before)} (0x{bad[0]:02x})" in message


@pytest.mark.parametrize("encoding", ["utf-99", "base64", ""])
def test_an_unknown_encoding_is_a_wrong_option(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(ConfigError, match="not one that Python knows"):
        read_text(tmp_path / "a", encoding)


def taken(records: Iterator[object]) -> int:
    return sum(1 for _ in records)


def peak_of(action: Callable[[], object]) -> int:
    """The most bytes allocated at once."""
    tracemalloc.start()
    action()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("end", "row"), [("csv.gz", '"{}",1\n'), ("tsv.xz", "{}\t1\n"), ("jsonl.zst", '{{"a": "{}"}}\n')]
)
@pytest.mark.parametrize("table", [False, True])
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, row: str, table: bool
) -> None:
    monkeypatch.setattr(lines, "PIECE", 2**12)
    path, peaks = tmp_path / f"a.{end}", []
    for rows in (5_000, 20_000):
        raw = "".join(row.format(i * 7919 % 1_000_003) for i in range(rows)).encode()
        path.write_bytes(PACK[f".{end.split('.')[1]}"](raw))
        peaks.append(peak_of(lambda: taken(read_records(path, header=False) if table else read_lines(path))))
    assert peaks[1] - peaks[0] < 2**18  # bytes; 15,000 rows held take over 2**20


def test_rows_before_a_broken_one_are_given(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,4\n5\n")
    records = read_records(tmp_path / "a.csv")
    assert [next(records).cells, next(records).cells] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert "row 4" in message_of(tmp_path, lambda: next(records))


def test_a_quote_that_is_not_closed_does_not_take_the_rest_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n"3,4\n' + "5,6\n" * 5_000_000)
    message = list[str]()
    assert peak_of(lambda: message.append(message_of(path, lambda: taken(read_records(path))))) < 8 * 2**20
    assert "row 3: a field of over 131,072 characters: close its quote" in message[0]


# Parquet


def test_parquet_has_the_rows_of_the_csv(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BATCH", 3)
    texts = [f"{i}, ä\n" for i in range(10)]
    polars.DataFrame({"text": texts, "label": [float(i % 3) for i in range(10)]}).write_parquet(
        data / "a.parquet", row_group_size=4
    )
    with (data / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *((text, i % 3) for i, text in enumerate(texts))])
    one, other = read(LabelledText(train="a.parquet")), read(LabelledText(train="a.csv"))
    assert (one.inputs, one.labels) == (other.inputs, other.labels)
    assert [record.number for record in read_records(data / "a.parquet")] == [*range(1, 11)]


def test_a_forked_process_reads_parquet_through_a_script(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = as_parquet(text=["a", "b"], label=["x", "y"])
    (data / "a.parquet").write_bytes(whole)
    (data / "b.parquet").write_bytes(whole[:-9])
    monkeypatch.setattr(parquet, "_imported_by", -1)
    assert [record.cells["text"] for record in read_records(data / "a.parquet")] == ["a", "b"]
    assert "not a whole Parquet" in message_of(data / "b.parquet", lambda: taken(read_records(data / "b.parquet")))


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


# Arrays


def series_of(examples: Examples) -> list[list[list[float | None]]]:
    assert isinstance(examples.inputs, Ragged)
    assert examples.inputs.values.dtype == torch.float32
    rows = [examples.inputs[row].tolist() for row in range(len(examples))]
    return [[[None if value != value else value for value in step] for step in row] for row in rows]


NAN = float("nan")


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x": np.array([[1, 2], [3, 4]])}, [[[1], [2]], [[3], [4]]]),
        ({"x": np.array([[[1, 5], [2, NAN]], [[3, 6], [NAN, NAN]]])}, [[[1, 5], [2, None]], [[3, 6]]]),
        ({"x": np.array([[NAN, 2], [NAN, NAN]], "f4")}, [[[None], [2]], [[None]]]),
        ({"x": np.array([[NAN, NAN], [3, 4]]), "lengths": np.array([2, 1])}, [[[None], [None]], [[3]]]),
        ({"x": np.array([[7, 7], [3, 4]]), "lengths": np.array([0, 2], "u1")}, [[[None]], [[3], [4]]]),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_become_rows_without_their_padding(
    data: Path, arrays: dict[str, object], expected: object, save: Callable[..., None]
) -> None:
    save(data / "a.npz", **arrays)
    assert series_of(read(NpzSeries(train="a.npz"))) == expected


@pytest.mark.parametrize(
    ("y", "labels"), [([1, 0], ["1", "0"]), ([1.0, 2.5], ["1", "2.5"]), (["a", " b"], ["a", "b"]), (None, None)]
)
def test_labels_are_an_array_that_may_be_absent(data: Path, y: object, labels: list[str] | None) -> None:
    arrays = {"x": np.zeros((2, 3))} if y is None else {"x": np.zeros((2, 3)), "y": np.array(y)}
    (data / "a.npz").write_bytes(as_npz(**arrays))
    assert read(NpzSeries(train="a.npz")).labels == labels
    assert NpzSeries(train="a.npz").read("test") is None


def test_arrays_have_other_names_on_request(data: Path) -> None:
    np.savez(data / "a.npz", pose=np.ones((2, 3)), n=np.array([3, 1]), kind=np.array(["u", "v"]), x=np.zeros(9))
    examples = read(NpzSeries(train="a.npz", x="pose", y="kind", lengths="n"))
    assert (series_of(examples), examples.labels) == ([[[1], [1], [1]], [[1]]], ["u", "v"])


# Folders


@pytest.fixture
def folders(data: Path) -> Path:
    for part, label, name in (
        ("train", "pos", "b"),
        ("train", "pos", "a"),
        ("train", "neg", "b"),
        ("test", "neg", "a"),
    ):
        (data / "imdb" / part / label).mkdir(parents=True, exist_ok=True)
        (data / "imdb" / part / label / f"{name}.txt").write_text(f"{part}\n{label} {name}")
    (data / "imdb" / "train" / "urls.txt").write_text("no text of a class")
    return data / "imdb"


def test_files_in_folders_are_texts_in_the_order_of_their_names(folders: Path) -> None:
    examples = read(FolderPerClass())
    assert examples.inputs == ["train\nneg b", "train\npos a", "train\npos b"]
    assert examples.labels == ["neg", "pos", "pos"]
    assert examples.ids == ["train/neg/b.txt", "train/pos/a.txt", "train/pos/b.txt"]
    source = FolderPerClass(labels=["neg"])
    assert read(source).ids == ["train/neg/b.txt"]
    assert (source.read("val"), source.read("predict")) == (None, source.read("test"))


def test_files_that_do_not_fit_are_counted(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folders / "train" / "pos" / "notes.md").touch()
    assert len(read(FolderPerClass())) == 3
    assert "1 files do not fit *.txt" in caplog.text


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (FolderPerClass("absent"), "no folder .*absent/train"),
        (FolderPerClass(train="dev"), "no folder .*imdb/dev"),
        (FolderPerClass(labels=["neg", "unsup"]), "train has no folder unsup, only empty, neg, pos"),
        (FolderPerClass(train="train/pos"), "pos has no folder inside, only none"),
        (FolderPerClass(), r"empty has no file \*\.txt"),
        (FolderPerClass(labels=["neg"], pattern="*.md"), r"neg has no file \*\.md"),
        (FolderPerClass(labels=["pos"]), r"pos/c\.txt: the text is empty"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_named(folders: Path, source: Source, problem: str) -> None:
    (folders / "train" / "empty").mkdir()
    (folders / "train" / "pos" / "c.txt").write_text(" \n")
    with pytest.raises(DataError, match=problem):
        source.read("train")


# Bad input: one sentence that names file, row and column


WHOLE = as_parquet(text=["a", "b"], label=[1, 2])
SERIES = {"x": np.zeros((2, 3, 2)), "y": np.array([0, 1])}


def series_with(value: float) -> np.ndarray:
    x = np.zeros((2, 3, 2))
    x[1, 2, 0] = value
    return x


@pytest.mark.parametrize(
    ("name", "raw", "problem"),
    [
        # 1 to 13 of texts and labels
        ("a.csv", "text,label\na,b\né,b\n".encode("latin-1"), "line 3: byte 15 (0xe9) is not utf-8: give the file's"),
        ("a.csv", "text,label\na,b\n".encode("utf-16"), "line 1: byte 0 (0xff) is not utf-8"),
        ("a.csv", "text,label\na,b\n".encode("utf-16-le"), "line 1: a NUL character"),
        ("a.csv", b"", "has no rows"),
        ("a.csv", b"\n\n", "has no rows"),
        ("a.csv", b"text,label\n\n", "has no rows under its header"),
        ("a.parquet", as_parquet(text=[], label=[]), "has no rows"),
        ("a.csv", b"text,label\na,b,c\n", "row 2: 3 fields where the first row has 2"),
        ("a.tsv", b"text\tlabel\na\tb\nc\n", "row 3: 1 fields where the first row has 2"),
        ("a.csv", b'text,label\na,b\n"c,d\ne,f\n', "row 3: a quote is not closed"),
        ("a.csv", b'text,label\n"a\nb",c\nd,"e\n', "row 4: a quote is not closed"),
        ("a.csv", b"text,label\ra,b\r", "row 1: a carriage return inside"),
        ("a.csv", b"text,label\na\0,b\n", "line 2: a NUL character"),
        ("a.parquet", as_parquet(text=["a", "\0"], label=["b", "c"]), "row 2, column 'text': a NUL character"),
        ("a.csv", b"TEXT,label\na,b\n", "row 2: no column 'text', only 'TEXT', 'label': did you mean 'TEXT'?"),
        (
            "a.parquet",
            as_parquet(texts=["a"], label=["b"]),
            "row 1: no column 'text', only 'texts', 'label': did you mean",
        ),
        (
            "a.jsonl",
            b'{"text": "a", "klass": 1}\n',
            "row 1: no column 'label', only 'text', 'klass': name one of these",
        ),
        ("a.csv", b"text,label,label\na,b,c\n", "row 1: the column 'label' is there 2 times: rename one"),
        ("a.jsonl", b'{"text": "a", "label": 1, "text": "b"}\n', "row 1: the key 'text' is there 2 times"),
        ("a.csv", b"text,label\na,1\nb,1.0\nc,one\n", "row 4, column 'label': the label is the word 'one', in row 2"),
        (
            "a.parquet",
            as_parquet(text=["a", "b"], label=["7", "seven"]),
            "row 2, column 'label': the label is the word",
        ),
        ("a.csv", b"text,label\na,b\n \t,b\n", "row 3, column 'text': the text is empty"),
        ("a.csv", b"text,label\na, \n", "row 2, column 'label': the label is empty"),
        # 34 and 35
        (
            "a.jsonl",
            b'{"text": "a \\ud83d b", "label": 1}\n',
            "row 1, column 'text': half of a surrogate pair (U+D83D)",
        ),
        ("a.jsonl", b'{"text": "a", "label": "\\udc00"}\n', "row 1, column 'label': half of a surrogate pair (U+DC00)"),
        ("a.jsonl", b'{"text": null, "label": 1}\n', "row 1, column 'text': the text is null"),
        ("a.jsonl", b'{"text": NaN, "label": 1}\n', "row 1, column 'text': the text is NaN"),
        ("a.jsonl", b'{"text": "a", "label": NaN}\n', "row 1, column 'label': the label is NaN"),
        ("a.parquet", as_parquet(text=["a", None], label=[1, 2]), "row 2, column 'text': the text is null"),
        ("a.parquet", as_parquet(text=["a"], label=[[1]]), "row 1, column 'label': the label is [1]"),
        ("a.parquet", as_parquet(text=[b"a"], label=[1]), "row 1, column 'text': the text is \"b'a'\""),
        ("a.jsonl", b'{"text": "a", "label": 1}\n' + b"[" * 100_000, "row 2: "),
        ("a.jsonl", b'{"text": "a", "label": ' + b"1" * 5_000 + b"}\n", "row 1: Exceeds the limit"),
        # 51: what is not whole
        ("a.parquet", WHOLE[:-20], "not a whole Parquet file"),
        ("a.parquet", WHOLE[20:], "not a whole Parquet file"),
        ("a.parquet", WHOLE[:4] + bytes(20) + WHOLE[24:], "not a whole Parquet file"),
        ("a.parquet", b"text,label\na,b\n", "not a whole Parquet file"),
        ("a.parquet", b"", "not a whole Parquet file"),
        *[(f"a.csv{end}", pack(b"text,label\na,b\n")[:-3], "not a whole") for end, pack in PACK.items()],
        *[(f"a.jsonl{end}", b"text,label\na,b\n", "not a whole") for end in PACK],
        *[(f"a.ts{end}", pack(b"@data\n1,2\n")[:-3], "not a whole") for end, pack in PACK.items()],
        ("a.npz", as_npz(**SERIES)[:-40], "not a whole .npz file"),
        ("a.npz", b"", "not a whole .npz file"),
        ("a.npz", b"\x93NUMPY", "not a whole .npz file"),
        ("a.npz", as_npz(**SERIES).replace(bytes(96), bytes(95) + b"\1"), "not a whole .npz file"),
        # 12 and 19: numbers
        ("a.ts", b"@classLabel true a\n@data\n1,1;5:a\n", "row 3, dimension 1, column 2: '1;5' is not a finite number"),
        ("a.ts", b"@classLabel true a\n@data\n1,inf:a\n", "row 3, dimension 1, column 2: 'inf' is not a finite number"),
        ("u.tsv", b"1\t2\t3\n1\t0,5\t3\n", "row 2, column 2: '0,5' is not a finite number: write a decimal point"),
        ("u.tsv", b"1\t2\t3\n1\t0\t-inf\n", "row 2, column 3: '-inf' is not a finite number: mend it, or write NaN"),
        ("a.npz", as_npz(x=series_with(np.inf)), "array 'x', row 2, step 3, feature 1: inf is not a finite number"),
        ("a.npz", as_npz(x=series_with(1e39)), "array 'x', row 2, step 3, feature 1: 1e+39 is not a finite number"),
        ("a.npz", as_npz(x=np.zeros((2, 3)), y=np.array([1, NAN])), "array 'y', row 2: the label is NaN"),
        ("a.npz", as_npz(x=np.zeros((2, 3)), y=np.array(["a", ""])), "array 'y', row 2: the label is empty"),
        # 54 and shapes
        ("a.npz", as_npz(x=np.array([[1, None]])), "array 'x': Object arrays cannot be loaded"),
        ("a.npz", as_npz(x=np.zeros((1, 2)), y=np.array([{}])), "array 'y': Object arrays cannot be loaded"),
        ("a.npz", as_npz(X=np.zeros((1, 2))), "no array 'x', only 'X': "),
        ("a.npz", as_npz(values=np.zeros((1, 2))), "no array 'x', only 'values': name one of these, or save it"),
        ("a.npz", as_npz(x=np.zeros(4)), "array 'x' is float64 [4]: save numbers, [rows, steps] or"),
        ("a.npz", as_npz(x=np.zeros((0, 4))), "array 'x' is float64 [0, 4]: save"),
        ("a.npz", as_npz(x=np.array([["a"]])), "array 'x' is <U1 [1, 1]: save numbers"),
        ("a.npz", as_npz(x=np.zeros((2, 3)), y=np.zeros(3)), "array 'y' is float64 [3], one number or string for each"),
        (
            "a.npz",
            as_npz(x=np.zeros((2, 3)), lengths=np.ones(3, int)),
            "array 'lengths' is int64 [3], int64 [2] wanted",
        ),
        ("a.npz", as_npz(x=np.zeros((2, 3)), lengths=np.ones(2)), "array 'lengths' is float64 [2], int64 [2] wanted"),
        ("a.npz", as_npz(x=np.zeros((2, 3)), lengths=np.array([3, 4])), "row 2: a length of 4 where rows have 3 steps"),
        ("a.npz", as_npz(x=np.zeros((2, 3)), lengths=np.array([-1, 3])), "row 1: a length of -1 where rows have 3"),
    ],
)
def test_bad_input_is_named_in_one_sentence(data: Path, name: str, raw: bytes, problem: str) -> None:
    (data / name).write_bytes(raw)
    source: Source = LabelledText(train=name)
    if name.startswith(("a.ts.", "u.")) or name == "a.ts":
        source = TimeSeries(train=name)
    elif name == "a.npz":
        source = NpzSeries(train=name)
    assert problem in message_of(data / name, lambda: source.read("train"))


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.xlsx", "a.csv.bz2", "a.gz"])
def test_a_kind_of_table_that_is_not_known_is_a_wrong_option(data: Path, name: str) -> None:
    (data / name).write_bytes(b"x")
    message = message_of(data / name, lambda: LabelledText(train=name).read("train"), ConfigError)
    assert "must end in .csv, .tsv, .txt, .jsonl (or one of these and .gz, .xz, .zst) or .parquet" in message


def test_a_zip_file_that_cannot_be_unpacked_is_no_npz(data: Path) -> None:
    with zipfile.ZipFile(data / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
    assert "array 'x'" in message_of(data / "a.npz", lambda: NpzSeries(train="a.npz").read("train"))


def test_single_letters_and_digits_are_classes_together(data: Path) -> None:
    (data / "a.csv").write_text("text,label\na,1\nb,A\n")
    assert read(LabelledText(train="a.csv")).labels == ["1", "A"]

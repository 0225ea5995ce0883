"""Files of any size and kind: every line once and in order, or one sentence that names file, row and column."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars
import pytest
import torch
from readings import PACK, as_parquet, message_of, taken

from lightning_rnn.data import parquet
from lightning_rnn.data.arrays import NpzSeries
from lightning_rnn.data.folder import FolderPerClass
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.data.tables import read_records
from lightning_rnn.data.text import LabelledText
from lightning_rnn.data.timeseries import TimeSeries
from lightning_rnn.errors import ConfigError, DataError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    return tmp_path


def read(source: Source) -> Examples:
    examples = source.read("train")
    assert examples is not None
    return examples


def as_npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


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


def test_folders_that_begin_with_a_dot_are_no_classes(folders: Path) -> None:
    (folders / "train" / ".ipynb_checkpoints").mkdir()
    (folders / "train" / ".ipynb_checkpoints" / "a-checkpoint.txt").write_text("a copy")
    assert read(FolderPerClass()).labels == ["neg", "pos", "pos"]


def test_a_link_to_nowhere_is_not_passed_over(folders: Path) -> None:
    (folders / "train" / "pos" / "c.txt").symlink_to(folders / "absent.txt")
    with pytest.raises(DataError, match=r"cannot read .*pos/c\.txt"):
        read(FolderPerClass())


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

"""Labelled texts: every row as it was written, or a message that names the file and the row."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest
import torch

from lightning_rnn.data.module import Split
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.data.splitting import stratified_split
from lightning_rnn.data.text import LabelledText, TextPerClass
from lightning_rnn.data.trees import LabelledTrees, parse_tree
from lightning_rnn.errors import ConfigError, DataError

CSV = 'text,label,key\n"good, very",2,a\n"two\nlines ""q""",-1,b\nNA,1.0,c\n'
TSV = 'text\tlabel\tkey\n"good\tpos\ta\nnull\x85x\tneg\tb\n'
JSONL = '{"text": "good", "label": "1", "key": 1}\n{"label": 0, "text": "NA", "key": 2, "more": null}\n'


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    return tmp_path


def real(source: Source, split: Split, root: Path, needed: str) -> Examples:
    if not (root / needed).exists():
        pytest.skip(f"no {needed} in LIGHTNING_RNN_DATA")
    return read(source, split)


def read(source: Source, split: Split = "train") -> Examples:
    examples = source.read(split)
    assert examples is not None
    return examples


def texts_of(examples: Examples) -> list[str]:
    assert isinstance(examples.inputs, list)
    return examples.inputs


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "texts", "labels", "ids"),
    [
        ("a.csv", CSV, ["good, very", 'two\nlines "q"', "NA"], ["2", "-1", "1"], ["a", "b", "c"]),
        ("a.tsv", TSV, ['"good', "null\x85x"], ["pos", "neg"], ["a", "b"]),
        ("a.jsonl", JSONL, ["good", "NA"], ["1", "0"], ["1", "2"]),
    ],
)
def test_a_table_is_read_as_it_was_written(
    data: Path, name: str, content: str, texts: list[str], labels: list[str], ids: list[str], packed: bool, end: str
) -> None:
    raw = content.replace("\n", end).encode()
    name = name + ".gz" if packed else name
    (data / name).write_bytes(gzip.compress(raw, mtime=0) if packed else raw)
    examples = read(LabelledText(train=name, id_column="key"))
    assert [text.replace("\r\n", "\n") for text in texts_of(examples)] == texts
    assert (examples.labels, examples.ids) == (labels, ids)
    assert examples.where(0) == f"{data / name}, row {ids[0]}"


def test_a_byte_order_mark_is_no_part_of_a_name(data: Path) -> None:
    (data / "a.csv").write_bytes("text,label\né,x\n".encode("utf-8-sig"))
    assert read(LabelledText(train="a.csv")).inputs == ["é"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_another_encoding_can_be_given(data: Path, encoding: str) -> None:
    (data / "a.csv").write_bytes("text,label\né,x\n".encode(encoding))
    assert read(LabelledText(train="a.csv", encoding=encoding)).inputs == ["é"]


def test_without_a_header_columns_are_numbers(data: Path) -> None:
    (data / "a.tsv").write_text("good\tx\nbad\ty\n")
    examples = read(LabelledText(train="a.tsv", text_column="0", label_column="1", header=False))
    assert (examples.inputs, examples.labels) == (["good", "bad"], ["x", "y"])


@pytest.mark.parametrize(
    ("name", "raw", "problem"),
    [
        ("a.csv", b"", "no rows"),
        ("a.csv", b"text,label\n", "no rows under its header"),
        ("a.csv", b"Text,label\nx,y\n", "no column 'text', only 'Text', 'label': did you mean 'Text'"),
        ("a.csv", b"text,lable\nx,y\n", "no column 'label', only 'text', 'lable': did you mean 'lable'"),
        ("a.csv", b"text,label,text\nx,y,z\n", "row 1: the column 'text' is there 2 times"),
        ("a.csv", b'text,label\n"x\ny",a\nx,y,z\n', "row 4: 3 fields where the first row has 2"),
        ("a.csv", b"text,label\nx,y\nx\n", "row 3: 1 fields"),
        ("a.csv", b"text,label\nx,y\n\nx,y\n", "row 3: 0 fields"),
        ("a.csv", b'text,label\nx,y\n"x,y\nx,y\nx,y\n', "row 3: a quote is not closed"),
        ("a.csv", b'text,label\n"x"x,y\n', "row 2: a quote is not closed, or not doubled"),
        ("a.csv", b"text,label\nx,y\n\xe9,y\n", r"line 3: byte 15 \(0xe9\) is not utf-8.*encoding: latin-1"),
        ("a.csv", b"text,label\nx\0,y\n", "line 2: a NUL"),
        ("a.csv", b"text,label\nx,y\n  ,y\n", "row 3, column 'text': the text is empty"),
        ("a.csv", b"text,label\nx,\n", "row 2, column 'label': the label is empty"),
        ("a.tsv", b"text\tlabel\nx\ty\nx y\n", "row 3: 1 fields"),
        ("a.tsv", b"text\tlabel\n\ty\n", "row 2, column 'text': the text is empty"),
        ("a.jsonl", b"\n", "no rows"),
        ("a.jsonl", b'{"text": "x", "label": 1}\n{"text"\n', "row 2: not JSON"),
        ("a.jsonl", b"[1]\n", "row 1: JSON but no object"),
        ("a.jsonl", b'{"text": "x", "label": 1}\n{"text": "x"}\n', "row 2: no column 'label'"),
        ("a.jsonl", b'{"text": 5, "label": 1}\n', "row 1, column 'text': the text is 5"),
        ("a.jsonl", b'{"text": null, "label": 1}\n', "row 1, column 'text': the text is null"),
        ("a.jsonl", b'{"text": "a\\u0000", "label": 1}\n', "row 1, column 'text': a NUL"),
        ("a.jsonl", b'{"text": "x", "label": [1]}\n', "row 1, column 'label': the label is"),
        ("a.csv.gz", b"text,label\nx,y\n", "not a whole gzip file"),
        ("a.csv.gz", gzip.compress(b"text,label\nx,y\n", mtime=0)[:-5], "not a whole gzip file"),
    ],
)
def test_a_bad_table_is_named_with_its_row(data: Path, name: str, raw: bytes, problem: str) -> None:
    (data / name).write_bytes(raw)
    with pytest.raises(DataError, match=problem) as caught:
        LabelledText(train=name).read("train")
    assert str(data / name) in str(caught.value)


def test_wrong_options_are_refused(data: Path) -> None:
    for name in ("a.xlsx", "a.csv"):
        (data / name).write_text("text,label\nx,y\n")
    with pytest.raises(ConfigError, match=r"a\.xlsx must end in"):
        LabelledText(train="a.xlsx").read("train")
    with pytest.raises(ConfigError, match="'utf-99'"):
        LabelledText(train="a.csv", encoding="utf-99").read("train")
    with pytest.raises(DataError, match=r"no file .*absent\.csv"):
        LabelledText(train="absent.csv").read("train")


def test_parts_that_are_not_given_are_not_there(data: Path) -> None:
    (data / "a.csv").write_text("text,label\nx,y\n")
    source = LabelledText(train="a.csv", test="a.csv")
    assert source.read("val") is None
    assert read(source, "predict") == read(source, "test")


def test_only_a_predict_table_may_lack_labels(data: Path) -> None:
    (data / "a.csv").write_text("text\nx\n")
    source = LabelledText(test="a.csv", predict="a.csv")
    assert read(source, "predict").labels is None
    for unlabelled in (source, LabelledText(test="a.csv")):
        with pytest.raises(DataError, match="no column 'label'"):
            unlabelled.read("test")
    with pytest.raises(DataError, match="no column 'label'"):
        LabelledText(test="a.csv").read("predict")


def test_files_per_class_are_cut_into_parts_that_join_to_the_whole(data: Path) -> None:
    (data / "n").write_bytes("".join(f"no {i}\x85\xe9\n" for i in range(20)).encode("latin-1"))
    (data / "p").write_bytes(b"".join(b"yes %d\r\n" % i for i in range(10)))
    source = TextPerClass({"neg": "n", "pos": "p"}, encoding="latin-1", test_fraction=0.2, seed=1)
    train, test = read(source), read(source, "test")
    assert Counter(train.labels or ()) == {"neg": 16, "pos": 8}
    assert Counter(test.labels or ()) == {"neg": 4, "pos": 2}
    rows = dict(zip([*(train.ids or ()), *(test.ids or ())], [*texts_of(train), *texts_of(test)], strict=True))
    assert rows == {f"neg:{i + 1}": f"no {i}\x85\xe9" for i in range(20)} | {
        f"pos:{i + 1}": f"yes {i}" for i in range(10)
    }
    assert source.read("val") is None
    assert read(source, "predict") == test


@pytest.mark.parametrize(("raw", "problem"), [(b"", "no rows"), (b"x\n \ny\n", "row 2: the text is empty")])
def test_a_bad_file_of_a_class_is_named(data: Path, raw: bytes, problem: str) -> None:
    (data / "n").write_bytes(raw)
    with pytest.raises(DataError, match=problem) as caught:
        TextPerClass({"neg": "n"}).read("train")
    assert str(data / "n") in str(caught.value)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.99])
def test_a_stratified_split_is_a_partition_with_every_class_on_both_sides(fraction: float) -> None:
    labels = ["a"] * 50 + ["b"] * 2 + ["c"] + ["d"] * 7
    rest, part = stratified_split(labels, fraction, seed=4)
    assert sorted(torch.cat([rest, part]).tolist()) == list(range(60))
    assert rest.tolist() == sorted(rest.tolist())
    assert part.tolist() == sorted(part.tolist())
    assert {labels[row] for row in rest} == set("abcd")
    assert {labels[row] for row in part} == (set("abd") if fraction else set())
    assert torch.equal(stratified_split(labels, fraction, seed=4)[1], part)


def test_another_seed_gives_another_split() -> None:
    assert not torch.equal(stratified_split(["a"] * 99, 0.5, 0)[1], stratified_split(["a"] * 99, 0.5, 1)[1])


@pytest.mark.parametrize(("fraction", "seed"), [(1.0, 0), (-0.1, 0), (0.5, -1)])
def test_a_split_out_of_range_is_refused(fraction: float, seed: int) -> None:
    with pytest.raises(ConfigError, match="must be from 0"):
        stratified_split(["a"], fraction, seed)


TREES = "(4 (2 A) (4 (3 very) (4 good)))\n(2 (2 A) (2 (2 -LRB-) (2 \\/)))\n(1 (2 a) (1 bad))\n"


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_sentences_without_a_class_are_left_out(data: Path, part: str) -> None:
    (data / f"trees_{part}.txt").write_text(TREES)
    source, split = LabelledTrees(folder=".", phrases=False), {"train": "train", "dev": "val", "test": "test"}[part]
    examples = read(source, split)  # type: ignore[arg-type]
    assert examples.inputs == ["a very good", "a bad"]
    assert (examples.labels, examples.ids) == (["positive", "negative"], ["1", "3"])


def test_phrases_are_for_training_only_and_each_text_once_for_each_class(data: Path) -> None:
    for part in ("train", "test"):
        (data / f"trees_{part}.txt").write_text(TREES * 2)
    source = LabelledTrees(folder=".", classes=5, lower=False)
    examples = read(source)
    rows = list(zip(texts_of(examples), examples.labels or (), examples.ids or (), strict=True))
    assert rows[:3] == [("A", "neutral", "1:0-1"), ("very", "positive", "1:1-2"), ("good", "very positive", "1:2-3")]
    assert [text for text, _, _ in rows[3:]] == [
        "very good",
        "A very good",
        "(",
        "/",
        "( /",
        "A ( /",
        "a",
        "bad",
        "a bad",
    ]
    assert len(read(source, "predict")) == 6


@pytest.mark.parametrize(
    "line",
    [
        "",
        "good",
        "(5 good)",
        "(3 good",
        "(3 good))",
        "(3 (2 a) b)",
        "(3 a b)",
        "(3)",
        "(3 )",
        "(2 a) (2 b)",
        "(3 (2 a)(2))",
    ],
)
def test_a_malformed_tree_is_named_with_its_row(data: Path, line: str) -> None:
    (data / "trees_train.txt").write_text(f"(3 good)\n{line}\n(3 good)\n")
    with pytest.raises(DataError, match=r"trees_train\.txt, row 2: the tree goes wrong at character"):
        LabelledTrees(folder=".").read("train")


def test_a_deep_tree_is_read() -> None:
    assert len(parse_tree("(2 " * 5000 + "(2 a)" + ")" * 5000).phrases) == 5001


@pytest.mark.parametrize(("classes", "rows"), [(5, (8544, 1101, 2210)), (2, (6920, 872, 1821))])
def test_the_treebank_has_its_published_sizes(data_root: Path, classes: int, rows: tuple[int, int, int]) -> None:
    source = LabelledTrees(classes=classes, phrases=False)  # type: ignore[arg-type]
    splits: tuple[Split, ...] = ("train", "val", "test")
    assert tuple(len(real(source, split, data_root, "sst/trees_train.txt")) for split in splits) == rows


def test_sentence_polarity_has_its_published_size(data_root: Path) -> None:
    source, splits = TextPerClass(encoding="latin-1"), tuple[Split, ...](("train", "test"))
    assert sum(len(real(source, split, data_root, "rt_polarity")) for split in splits) == 10_662

"""Time series files: values as written, missing ones as NaN, or a message that names the place."""

from __future__ import annotations

import gzip
import lzma
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import zstandard

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.timeseries import TimeSeries, read_ts, read_tsv
from lightning_rnn.errors import ConfigError, DataError

TS = """# a comment
@problemName Tiny
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength false
@classLabel true a b

@data
# another
1,2,3:4,5,6:a
?,-1e-1:0.5,?:b
"""


def as_lists(series: Ragged) -> list[list[list[float | None]]]:
    rows = [series[row].tolist() for row in range(len(series))]
    return [[[None if math.isnan(value) else value for value in step] for step in row] for row in rows]


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_trailing_nan_shortens_and_inner_nan_stays(tmp_path: Path, name: str) -> None:
    raw = b"1\t0.5\tNaN\t-2\n1.0\t3\tNaN\tnan\r\n-1\tNaN\tNaN\tNaN\n"
    (tmp_path / name).write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)
    series, labels = read_tsv(tmp_path / name)
    assert as_lists(series) == [[[0.5], [None], [-2.0]], [[3.0]], [[None]]]
    assert labels == ["1", "1", "-1"]
    assert series.values.dtype == torch.float32


def test_dimensions_become_features_of_each_step(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text(TS)
    series, labels = read_ts(tmp_path / "a.ts")
    expected = [[[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], [[None, 0.5], [pytest.approx(-0.1), None]]]
    assert as_lists(series) == expected
    assert labels == ["a", "b"]


def test_series_without_labels_and_without_steps(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text("@classLabel false\n@data\n1,2\n\n?\n")
    series, labels = read_ts(tmp_path / "a.ts")
    assert (as_lists(series), labels) == ([[[1.0], [2.0]], [[None]]], None)
    (tmp_path / "b.ts").write_text("@classLabel true x\n@data\n::x\n")
    assert as_lists(read_ts(tmp_path / "b.ts")[0]) == [[[None, None]]]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "no rows"),
        (b"1\t2\t3\n1\t2\n", "row 2: 2 fields between tabs, 3 wanted"),
        (b"1 2 3\n", "row 1: 1 fields between tabs"),
        (b"1\t2\n\n1\t2\n", "row 2: 1 fields"),
        (b"1\t2\t3\n2\t3\tx\n", "row 2, column 3: 'x' is not a finite number"),
        (b"1\tinf\t3\n", "row 1, column 2: 'inf' is not a finite number"),
        (b"1\t1e40\t3\n", "row 1, column 2: '1e40' is not a finite number"),
        (b"1\t1\t1,5\n", "row 1, column 3: '1,5' is not a finite number: write a decimal point"),
        (b"1\t\t3\n", "row 1, column 2: '' is not a finite number"),
        (b"\t2\t3\n", "row 1: the label is empty"),
        (b"1\t2\t\xff\n", r"line 1: byte 4 \(0xff\)"),
    ],
)
def test_a_bad_tsv_is_named_with_its_place(tmp_path: Path, raw: bytes, problem: str) -> None:
    (tmp_path / "a.tsv").write_bytes(raw)
    with pytest.raises(DataError, match=problem) as caught:
        read_tsv(tmp_path / "a.tsv")
    assert str(tmp_path / "a.tsv") in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (TS, "", "no line @data"),
        (TS[TS.index("# another") :], "", "no rows"),
        ("@data", "@dada", "row 12: a row above the line @data"),
        ("@timeStamps false", "@timeStamps true", "row 3: series with time stamps are not supported"),
        ("@dimensions 2", "@dimensions two", "row 6: '@dimensions two' is not a number"),
        ("@dimensions 2", "@dimensions 3", "row 12: 2 dimensions, 3 wanted"),
        (":0.5,?:b", ":b", "row 13: 1 dimensions, 2 wanted"),
        (":0.5,?:b", ":0.5:b", r"row 13: dimensions of different lengths \[2, 1\]"),
        ("?:b", "x:b", "row 13, dimension 2, column 2: 'x' is not a finite number"),
        ("?:b", "-inf:b", "row 13, dimension 2, column 2: '-inf' is not a finite number"),
        ("?:b", "?:c", "row 13: the label 'c' is not in the line @classLabel"),
        ("?:b", "?:", "row 13: the label is empty"),
    ],
)
def test_a_bad_ts_is_named_with_its_place(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert TS.count(old) == 1
    (tmp_path / "a.ts").write_text(TS.replace(old, new))
    with pytest.raises(DataError, match=problem) as caught:
        read_ts(tmp_path / "a.ts")
    assert str(tmp_path / "a.ts") in str(caught.value)


def test_a_set_is_found_by_name_and_paths_replace_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    (tmp_path / "ucr" / "Tiny").mkdir(parents=True)
    (tmp_path / "ucr" / "Tiny" / "Tiny_TRAIN.ts").write_text(TS)
    (tmp_path / "ucr" / "Tiny" / "Tiny_TEST.tsv").write_text("a\t1\n")
    (tmp_path / "own.tsv").write_text("b\t1\n")
    source = TimeSeries("Tiny", "ucr", val="own.tsv")
    parts = [source.read(split) for split in ("train", "val", "test", "predict")]
    assert [part and part.labels for part in parts] == [["a", "b"], ["b"], ["a"], ["a"]]
    assert TimeSeries("Tiny", "ucr").read("val") is None
    assert parts[3] is not None
    assert parts[3].where(0) == f"{tmp_path / 'ucr' / 'Tiny' / 'Tiny_TEST.tsv'}, row 0 (its id, counted from 0)"


@pytest.mark.parametrize("end", [".tsv", ".ts.gz", ".tsv.xz", ".ts.zst"])
def test_a_set_is_found_compressed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    raw = b"b\t1\n" if end.startswith(".tsv") else b"@classLabel true b\n@data\n1:b\n"
    pack: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.compress}
    (tmp_path / "Tiny").mkdir()
    (tmp_path / "Tiny" / f"Tiny_TRAIN{end}").write_bytes(pack.get(end.rpartition(".")[2], bytes)(raw))
    examples = TimeSeries("Tiny", ".").read("train")
    assert examples is not None
    assert examples.labels == ["b"]
    assert isinstance(examples.inputs, Ragged)
    assert as_lists(examples.inputs) == [[[1.0]]]


def test_an_absent_set_and_an_unknown_kind_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    (tmp_path / "a.arff").write_text("")
    with pytest.raises(DataError, match=r"no file .*None_TRAIN\.tsv"):
        TimeSeries("None").read("train")
    with pytest.raises(ConfigError, match=r"a\.arff must end in"):
        TimeSeries(train="a.arff").read("train")


@pytest.mark.parametrize(
    ("name", "folder", "rows", "shortest", "longest", "size"),
    [
        ("GunPoint", "ucr/UCR2018", 50, 150, 150, 1),
        ("BasicMotions", "ucr", 40, 100, 100, 6),
        ("JapaneseVowels", "ucr", 270, 7, 26, 12),
    ],
)
def test_archive_sets_have_their_published_shapes(
    data_root: Path, name: str, folder: str, rows: int, shortest: int, longest: int, size: int
) -> None:
    if not (data_root / folder / name).is_dir():
        pytest.skip(f"no {folder}/{name} in LIGHTNING_RNN_DATA")
    examples = TimeSeries(name, folder).read("train")
    assert examples is not None
    assert isinstance(examples.inputs, Ragged)
    lengths = examples.inputs.lengths
    assert (len(examples), int(lengths.min()), int(lengths.max())) == (rows, shortest, longest)
    assert examples.inputs.values.shape[1] == size

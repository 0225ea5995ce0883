"""Images in idx files, as rows, pixels and permuted pixels; and the embedded digits."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_rnn.data.digits import Digits
from lightning_rnn.data.idx import NAMES, IdxImages, read_idx
from lightning_rnn.data.source import Examples
from lightning_rnn.errors import ConfigError, DataError

IMAGES = torch.arange(7 * 4 * 3, dtype=torch.uint8).view(7, 4, 3) * 3
LABELS = torch.tensor([0, 1, 2, 1, 0, 9, 3], dtype=torch.uint8)


def as_idx(values: Tensor) -> bytes:
    sizes = struct.pack(f">{values.dim()}I", *values.shape)
    return bytes([0, 0, 8, values.dim()]) + sizes + values.numpy().tobytes()


def write_set(folder: Path, plain: bool = False) -> Path:
    folder.mkdir(parents=True)
    for name in NAMES:
        raw = as_idx(IMAGES if "images" in name else LABELS)
        (folder / (name.removesuffix(".gz") if plain else name)).write_bytes(
            raw if plain else gzip.compress(raw, mtime=0)
        )
    return folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LIGHTNING_RNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def series(examples: Examples | None) -> Tensor:
    assert examples is not None
    assert not isinstance(examples.inputs, list)
    return torch.stack([examples.inputs[row] for row in range(len(examples))])


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("values", [IMAGES, LABELS, IMAGES[:0]])
def test_what_was_written_is_read(tmp_path: Path, values: Tensor, suffix: str) -> None:
    path = tmp_path / f"values{suffix}"
    path.write_bytes(gzip.compress(as_idx(values)) if suffix else as_idx(values))
    assert torch.equal(read_idx(path), values)


@pytest.mark.parametrize(
    ("name", "raw", "problem"),
    [
        ("a", b"", "nothing"),
        ("a", b"<html>", "not an idx file"),
        ("a", b"\0\0\x0d\1" + bytes(8), "not an idx file"),
        ("a", as_idx(IMAGES)[:9], "header"),
        ("a", as_idx(IMAGES)[:-1], "83 values, its header says 84"),
        ("a", as_idx(IMAGES) + b"\0", "85 values, its header says 84"),
        ("a.gz", as_idx(IMAGES), "not a whole gzip file"),
        ("a.gz", gzip.compress(as_idx(IMAGES), mtime=0)[:-12], "not a whole gzip file"),
        ("a.gz", gzip.compress(as_idx(IMAGES), mtime=0)[:20] + b"junkjunkjunk", "not a whole gzip file"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, raw: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=problem) as caught:
        read_idx(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("split", ["train", "test", "predict"])
def test_rows_are_the_images_in_0_to_1(data: Path, plain: bool, split: str) -> None:
    write_set(data / "own", plain)
    examples = IdxImages("own").read(split)  # type: ignore[arg-type]
    assert torch.equal(series(examples), IMAGES / 255)
    assert examples is not None
    assert examples.labels == ["0", "1", "2", "1", "0", "9", "3"]


def test_there_is_no_val_part(data: Path) -> None:
    write_set(data / "own")
    assert IdxImages("own").read("val") is None


def test_pixels_are_the_rows_laid_end_to_end(data: Path) -> None:
    write_set(data / "own")
    assert torch.equal(series(IdxImages("own", "pixels").read("test")), (IMAGES / 255).reshape(7, 12, 1))


def test_permuted_pixels_are_numpys_frozen_permutation_in_every_part(data: Path) -> None:
    write_set(data / "own")
    source, order = IdxImages("own", "permuted", permutation_seed=3), np.random.RandomState(3).permutation(12)
    assert source.permutation.tolist() == order.tolist()
    for split in ("train", "test"):
        assert torch.equal(series(source.read(split)), (IMAGES / 255).reshape(7, 12, 1)[:, order])


def test_files_in_the_data_folder_need_no_download(data: Path, tmp_path: Path) -> None:
    write_set(data / "own")
    IdxImages("own").prepare()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("absolute", [False, True])
def test_prepare_downloads_into_the_cache(data: Path, tmp_path: Path, absolute: bool) -> None:
    there = write_set(tmp_path / "there")
    source = IdxImages(str(data / "own") if absolute else "own", mirrors=[there.as_uri()])
    source.prepare()
    assert torch.equal(series(source.read("train")), IMAGES / 255)
    assert sorted(path.name for path in (tmp_path / "cache" / "own").iterdir()) == sorted(NAMES)


def test_a_file_that_is_not_the_known_one_is_not_used_and_left_in_place(data: Path) -> None:
    folder = write_set(data / "mnist")
    with pytest.raises(DataError, match="9fb629c4189551a2d022fa330f9573f3") as caught:
        IdxImages("mnist").read("test")
    assert str(folder / "t10k-images-idx3-ubyte.gz") in str(caught.value)
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)


def test_own_checksums_replace_the_known_ones(data: Path) -> None:
    folder = write_set(data / "mnist")
    own = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in NAMES}
    assert torch.equal(series(IdxImages("mnist", md5=own).read("test")), IMAGES / 255)


def test_absent_files_name_both_folders(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        IdxImages("own").read("train")
    assert str(data / "own") in str(caught.value)
    assert str(tmp_path / "cache" / "own") in str(caught.value)


def test_another_number_of_labels_is_an_error(data: Path) -> None:
    folder = write_set(data / "own")
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(as_idx(LABELS[:5])))
    with pytest.raises(DataError, match=r"7 images, .*train-labels-idx1-ubyte\.gz has 5 labels"):
        IdxImages("own").read("train")


def test_swapped_files_are_an_error(data: Path) -> None:
    folder = write_set(data / "own")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(as_idx(LABELS)))
    with pytest.raises(DataError, match="not of images or labels"):
        IdxImages("own").read("train")


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="layout"):
        IdxImages(layout="columns")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="permutation_seed"):
        IdxImages(permutation_seed=-1)


def test_mnist_is_the_official_set(data_root: Path) -> None:
    if not (data_root / "mnist").is_dir():
        pytest.skip("no folder mnist in LIGHTNING_RNN_DATA")
    examples = IdxImages().read("test")
    assert series(examples).shape == (10_000, 28, 28)
    assert examples is not None
    assert examples.labels is not None
    assert examples.labels[:5] == ["7", "2", "1", "0", "4"]


def test_digits_are_cut_once_into_disjoint_parts_with_every_class() -> None:
    train, test, again = (Digits(seed=1).read(split) for split in ("train", "test", "predict"))
    assert train is not None
    assert test is not None
    assert again is not None
    assert sorted([*(train.ids or ()), *(test.ids or ())]) == list(range(1797))
    assert again.ids == test.ids
    assert set(train.labels or ()) == set(test.labels or ()) == set("0123456789")
    assert Digits().read("val") is None


def test_digits_are_images_in_0_to_1() -> None:
    values = series(Digits().read("test"))
    assert values.shape[1:] == (8, 8)
    assert values.dtype == torch.float32
    assert (values.min().item(), values.max().item()) == (0, 1)

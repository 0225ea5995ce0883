"""Images in the idx format of MNIST, read as sequences."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data.disk import checksum_of
from lightning_rnn.data.download import fetch
from lightning_rnn.data.files import opened
from lightning_rnn.data.module import Split
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import cache_path, data_path

Layout = Literal["rows", "pixels", "permuted"]
PARTS = {"train": "train", "test": "t10k"}
NAMES = tuple(f"{part}-{kind}-ubyte.gz" for part in PARTS.values() for kind in ("images-idx3", "labels-idx1"))
MIRRORS = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
}
_SUMS = {
    "mnist": "f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432 "
    "9fb629c4189551a2d022fa330f9573f3 ec29112dd5afa0611ce80d1b7f02629c",
    "fashion_mnist": "8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe "
    "bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310",
}
CHECKSUMS = {known: dict(zip(NAMES, sums.split(), strict=True)) for known, sums in _SUMS.items()}


def _read_shape(stream: BinaryIO, path: Path) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08":
        raise DataError(f"{path} is not an idx file of bytes (it starts with {magic.hex() or 'nothing'}): replace it")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path} ends inside its header: download or copy it again")
    return struct.unpack(f">{magic[3]}I", sizes)


def read_idx(path: Path) -> Tensor:
    """An idx file of unsigned bytes, compressed or not.

    Args:
        path: of the file, as it is.

    Returns:
        uint8, of the shape in the file's header.

    Raises:
        DataError: the file is not of that kind, broken, or shorter or longer than its header says.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
        ...     read_idx(Path(folder, "labels"))
        tensor([7, 2, 1], dtype=torch.uint8)
    """
    with opened(path) as stream:
        shape = _read_shape(stream, path)
        raw = stream.read()
    if len(raw) != math.prod(shape):
        raise DataError(
            f"{path} holds {len(raw):,} values, its header says {math.prod(shape):,}: download or copy it again"
        )
    return torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(shape).copy())


def pixel_permutation(pixels: int, seed: int) -> Tensor:
    """The fixed order of pixels of permuted images, int64 ``[pixels]``; the same on every version of numpy.

    Example:
        >>> pixel_permutation(6, 0)
        tensor([5, 2, 1, 3, 0, 4])
    """
    return torch.from_numpy(np.random.RandomState(seed).permutation(pixels)).to(torch.int64)


def _as_sequences(images: Tensor, layout: Layout, seed: int) -> Ragged:
    """Images ``[N, H, W]`` of bytes as rows of float32 in 0..1."""
    scaled = images.to(torch.float32) / 255
    if layout == "rows":
        return Ragged.from_dense(scaled)
    pixels = scaled.flatten(1)
    if layout == "permuted":
        pixels = pixels[:, pixel_permutation(pixels.shape[1], seed)]
    return Ragged.from_dense(pixels.unsqueeze(2))


def _find(folder: Path) -> list[Path] | None:
    """The four files, as ``.gz`` or plain; None unless all are there."""
    both = [(folder / name, folder / name.removesuffix(".gz")) for name in NAMES]
    found = [next((path for path in paths if path.is_file()), None) for paths in both]
    present = [path for path in found if path is not None]
    return present if len(present) == len(NAMES) else None


class IdxImages(Source):
    """MNIST and sets in its format: four files, ``train-images-idx3-ubyte.gz`` and so on.

    Read from the data folder where all four are there (also without ``.gz``), else downloaded. Inputs are float32 in
    0..1, labels are the digits' names, the predict part is the test images; there is no val part.

    Args:
        folder: of the four files. The last part of ``mnist`` and ``fashion_mnist`` also names mirrors and checksums.
        layout: ``rows`` gives 28 steps of 28 values, ``pixels`` 784 steps of one, ``permuted`` those in a fixed order.
        permutation_seed: of that order, ``numpy.random.RandomState(seed).permutation(784)``.
        mirrors: addresses of folders to download from; None takes those known for ``folder``.
        md5: checksums by file name (the names with ``.gz``), in place of those known for ``folder``.

    Raises:
        ConfigError: an unknown layout, or a seed that is out of range.
    """

    def __init__(
        self,
        folder: str = "mnist",
        layout: Layout = "rows",
        permutation_seed: int = 0,
        mirrors: list[str] | None = None,
        md5: dict[str, str] | None = None,
    ) -> None:
        require(layout in ("rows", "pixels", "permuted"), f"layout must be rows, pixels or permuted, got {layout!r}")
        require(0 <= permutation_seed < 2**32, f"permutation_seed must be 0 to 2**32 - 1, got {permutation_seed}")
        known = Path(folder).name
        self.folder, self.layout, self.permutation_seed = folder, layout, permutation_seed
        self.mirrors = list(MIRRORS.get(known, ())) if mirrors is None else mirrors
        self.md5 = {**CHECKSUMS.get(known, {}), **(md5 or {})}

    @property
    def permutation(self) -> Tensor:
        """The order of pixels in the ``permuted`` layout, int64 ``[H * W]``; takes the size from the test images."""
        path = self._files()[2]
        with opened(path) as stream:
            return pixel_permutation(math.prod(_read_shape(stream, path)[1:]), self.permutation_seed)

    def prepare(self) -> None:
        """Download the four files into the cache, by the last part of ``folder``, where the data folder lacks them."""
        if _find(data_path(self.folder)) is None:
            for name in NAMES:
                known = self.md5.get(name)
                checksum = None if known is None else f"md5:{known.lower()}"
                fetch(name, cache_path(Path(self.folder).name), self.mirrors, checksum)

    def _files(self) -> list[Path]:
        places = data_path(self.folder), cache_path(Path(self.folder).name)
        found = _find(places[0]) or _find(places[1])
        if found is None:
            raise DataError(
                f"{', '.join(NAMES)}: not all in {places[0]} or {places[1]}: put them there or download them"
            )
        return found

    def _read(self, path: Path) -> Tensor:
        values, wanted = read_idx(path), self.md5.get(path.name)
        if wanted is not None and (found := checksum_of(path, "md5")) != f"md5:{wanted.lower()}":
            raise DataError(f"{path} has {found} instead of {wanted}: replace it, or give its checksum as md5")
        return values

    def read(self, split: Split) -> Examples | None:
        """The images and labels of a part; see :meth:`Source.read`."""
        if split == "val":
            return None
        first = 0 if split == "train" else 2
        path, labels_path = self._files()[first : first + 2]
        images, labels = self._read(path), self._read(labels_path)
        if images.dim() != 3 or labels.dim() != 1:
            raise DataError(
                f"{path} or {labels_path} is not of images or labels: the axes are {images.dim()} and {labels.dim()}"
            )
        if len(images) != len(labels):
            raise DataError(
                f"{path} has {len(images):,} images, {labels_path} has {len(labels):,} labels: replace them"
            )
        inputs = _as_sequences(images, self.layout, self.permutation_seed)
        return Examples(inputs, [str(label) for label in labels.tolist()], str(path))

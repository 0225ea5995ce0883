"""Words and vectors out of a vectors file or a checkpoint of this task."""

from __future__ import annotations

import zipfile
from pathlib import Path

from torch import Tensor

from lightning_rnn.data.files import opened
from lightning_rnn.data.vectors import read_vectors
from lightning_rnn.errors import CheckpointError, DataError
from lightning_rnn.interop.word2vec import WordTable
from lightning_rnn.paths import data_path
from lightning_rnn.training.checkpoints import read_checkpoint

from .spec import WordVectorSpec

ZIP = b"PK\x03\x04"
TASK = "tasks.word_vectors"


def is_checkpoint(path: Path) -> bool:
    """Whether a file is torch's, a zip archive with ``data.pkl`` in it, or the beginning of one that was cut short."""
    with opened(path) as stream:
        if stream.read(len(ZIP)) != ZIP:
            return False
    if not zipfile.is_zipfile(path):
        return True
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("data.pkl") for name in archive.namelist())


def placed(path: Path) -> Path:
    """The path as it is where there is such a file, else in the data folder.

    Raises:
        DataError: there is no such file in either place.
    """
    for found in (path, data_path(path)):
        if found.is_file():
            return found
    if path.is_dir():
        raise DataError(f"{path} is a folder: give a file in it, such as checkpoints/best.ckpt of a run")
    raise DataError(f"no file {path}, nor {data_path(path)}: give another path")


def read_table(path: Path) -> tuple[WordTable, Tensor | None]:
    """Words, vectors and counts, and the output vectors where it is a checkpoint.

    Raises:
        CheckpointError: it is a checkpoint of something else.
        DataError: see :func:`lightning_rnn.data.vectors.read_vectors`.
    """
    path = placed(path)
    if not is_checkpoint(path):
        return read_vectors(path.absolute()), None  # relative paths are for it of the data folder
    checkpoint = read_checkpoint(path)
    saved = checkpoint.get("lightning_rnn")
    if saved is None or saved["task"] != TASK:
        raise CheckpointError(f"{path} is no checkpoint of {TASK}: give one of word vectors, or a vectors file")
    spec, weights = WordVectorSpec(**saved["spec"]), checkpoint["state_dict"]
    return WordTable(spec.words, weights["network.inputs"], spec.counts), weights["network.outputs"]


def known_counts(path: Path) -> dict[str, int]:
    """The words of a vectors file or checkpoint with their counts; 0 where they are not known."""
    table, _ = read_table(path)
    return dict(zip(table.words, table.counts or [0] * len(table.words), strict=True))

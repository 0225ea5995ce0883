"""Hours in files of the cache: prepared once, then mapped, so that memory stays flat however many there are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data.cache import prepared
from lightning_rnn.data.disk import append, usable
from lightning_rnn.data.store import MappedRagged

from .baselines import marshall_palmer
from .schema import FEATURES, Floats, Hours, Ints, offsets_of

log = logging.getLogger(__name__)
VALUES = "values.float32"
CHUNK = 20_000  # hours that are looked at at once


@dataclass(frozen=True)
class MappedHours(MappedRagged):
    """Scans of hours, float32 rows ``[T, 22]``, that lie in a file of the cache."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the file of a folder; its values are read as they are used."""
        offsets = torch.from_numpy(np.load(folder / "offsets.npy"))
        size = int(offsets[-1]) * len(FEATURES)
        values = torch.from_file(str(folder / VALUES), shared=False, size=size, dtype=torch.float32)
        return cls(values.view(-1, len(FEATURES)), offsets, folder)


@dataclass(frozen=True)
class HourStore:
    """All hours of a file.

    Attributes:
        scans: of all hours, mapped.
        ids: int64 ``[N]``.
        expected: float32 ``[N]``, NaN where not known.
        scored: bool ``[N]``, whether any scan has ``Ref``.
    """

    scans: MappedHours
    ids: Ints
    expected: Floats
    scored: npt.NDArray[np.bool_]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map what :func:`prepare_hours` wrote."""
        return cls(
            MappedHours.open(folder), *(np.load(folder / f"{name}.npy") for name in ("ids", "expected", "scored"))
        )

    def __len__(self) -> int:
        return len(self.ids)

    def marshall_palmer(self, rows: Tensor) -> npt.NDArray[np.float64]:
        """The formula's mm, float64 ``[M]``, for hours by number (int64 ``[M]``)."""
        found = [np.empty(0)]
        for part in torch.split(rows, CHUNK):
            hours = self.scans.select(part)
            found.append(marshall_palmer(hours.values.numpy(), hours.offsets.numpy()))
        return np.concatenate(found)

    def moments(self, rows: Tensor) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each feature over the values that are there, in the hours ``rows``."""
        count, total, squares = (torch.zeros(len(FEATURES), dtype=torch.float64) for _ in range(3))
        for part in torch.split(rows, CHUNK):
            values = self.scans.select(part).values
            count += (~values.isnan()).sum(0)
            filled = values.nan_to_num(0.0).double()
            total += filled.sum(0)
            squares += filled.square().sum(0)
        mean = total / count.clamp(min=1)
        variance = squares / count.clamp(min=1) - mean.square()
        return mean.tolist(), torch.where(variance > 0, variance, 1).sqrt().tolist()


def prepare_hours(files: Sequence[Path], options: Mapping[str, Any], hours: Callable[[], Iterator[Hours]]) -> HourStore:
    """The hours, from the cache; made where they are not there yet for these files' contents and options.

    Args:
        files: what ``hours`` reads.
        options: what else they depend on, as JSON has it.
        hours: gives them some at a time; called only where they must be made.

    Raises:
        DataError: the cache cannot be written to, or what ``hours`` raises.
    """
    return HourStore.open(prepared("rainfall", files, options, lambda folder: _write(folder, hours())))


def _write(folder: Path, parts: Iterator[Hours]) -> None:
    small = []
    with usable(folder.parent), (folder / VALUES).open("xb", buffering=0) as stream:
        for part in parts:
            append(stream, part.values.tobytes())
            small.append((part.ids, part.lengths, part.expected, part.scored))
    ids, lengths, expected, scored = (np.concatenate(column) for column in zip(*small, strict=True))
    arrays = {"ids": ids, "offsets": offsets_of(lengths), "expected": expected, "scored": scored}
    with usable(folder.parent):
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
    log.info("rainfall: %d hours, %d scans, %d hours with Ref", len(ids), int(lengths.sum()), int(scored.sum()))

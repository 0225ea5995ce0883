"""Pen strokes: drawings in sketch-rnn's ``.npz`` files, in the form a network reads and writes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data import Ragged
from lightning_rnn.data.arrays import Array
from lightning_rnn.data.module import Split
from lightning_rnn.data.object_arrays import read_object_arrays
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import existing

from .augment import Augmentation, DrawnStrokes
from .sources import GenerationSource, Items
from .spec import STROKE, GenerationSpec

log = logging.getLogger(__name__)
ARRAYS: dict[Split, tuple[str, ...]] = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}


def to_five(points: Tensor) -> Tensor:
    """A drawing of three numbers a step in five (Ha and Eck 2017, section 3.1), one step longer.

    Args:
        points: ``[T, 3]``: ``Δx``, ``Δy``, and 1 where the pen is lifted after the move.

    Returns:
        float32 ``[T + 1, 5]``: ``Δx``, ``Δy``, and a one-hot of the pen: on the paper, lifted after this move, the
        drawing has ended; the last step has no move.

    Example:
        >>> to_five(torch.tensor([[3, 0, 0], [0, 4, 1]])).int().tolist()
        [[3, 0, 1, 0, 0], [0, 4, 0, 1, 0], [0, 0, 0, 0, 1]]
    """
    lifted = points[:, 2:].to(torch.float32)
    steps = torch.cat([points[:, :2].to(torch.float32), 1 - lifted, lifted, torch.zeros_like(lifted)], 1)
    end = torch.zeros(1, STROKE)
    end[0, 4] = 1
    return torch.cat([steps, end])


def to_three(strokes: Tensor) -> Tensor:
    """The other way: steps ``[T, 5]`` up to the end, or all where there is none, as float ``[T', 3]``.

    Example:
        >>> to_three(to_five(torch.tensor([[3, 0, 0], [0, 4, 1]]))).int().tolist()
        [[3, 0, 0], [0, 4, 1]]
    """
    ends = strokes[:, 4].nonzero()
    drawn = strokes[: int(ends[0]) if len(ends) else len(strokes)]
    return torch.cat([drawn[:, :2], drawn[:, 3:4]], 1)


def lines_of(strokes: Tensor) -> list[Tensor]:
    """The lines of a drawing: absolute points ``[P, 2]`` of each.

    The first move, and each after the pen was lifted, goes to where a line begins, and draws nothing. A line of one
    point is a dot.

    Args:
        strokes: ``[T, 5]``.

    Example:
        >>> drawing = to_five(torch.tensor([[3, 0, 0], [2, 0, 1], [5, 5, 0], [1, 0, 1]]))
        >>> [line.int().tolist() for line in lines_of(drawing)]
        [[[3, 0], [5, 0]], [[10, 5], [11, 5]]]
    """
    steps = to_three(strokes)
    ends = (steps[:, 2].nonzero().flatten() + 1).tolist()
    return [line for line in steps[:, :2].cumsum(0).tensor_split(ends) if len(line)]


def scale_of(drawings: Sequence[Tensor]) -> float:
    """The standard deviation of all moves, both axes together, about 0 (Ha and Eck 2017, section 3.1).

    Args:
        drawings: ``[T, 5]`` each.

    Example:
        >>> scale_of([to_five(torch.tensor([[3, 4, 0], [-3, -4, 0]]))])
        3.5355339059327378
    """
    moves = torch.cat([drawing[drawing[:, 4] == 0, :2] for drawing in drawings]).double()
    found = moves.std(correction=0).item()
    return found if found > 0 else 1.0


class StrokeFiles(GenerationSource):
    """Drawings in the ``.npz`` files of sketch-rnn: the arrays ``train``, ``valid`` and ``test`` of each are a part.

    A row is ``[T, 3]`` whole or broken numbers: the move, and 1 where the pen is lifted after it. A drawing's condition
    is the class that its file is: the file's name without ``.npz``. The files are read without running what pickles in
    them may hold, see :mod:`lightning_rnn.data.object_arrays`.

    Args:
        files: one for each class, relative to the data folder.
        max_length: longer drawings, in steps, are left out, which is logged; None keeps all.
        most: training drawings of each class, at most: the first so many; None takes all.
        stretch: in training, each axis of a drawing is stretched by a factor drawn from ``1 ± stretch`` in each epoch;
            sketch-rnn has 0.15.
        drop: in training, so large a share of the points inside lines is left out in each epoch; sketch-rnn has 0.1.

    Raises:
        ConfigError: no file, two of one name, or an option that is out of range.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     rows = np.array([np.ones((2, 3), np.int16), np.ones((4, 3), np.int16)], dtype=object)
        ...     np.savez(f"{folder}/cat.npz", train=rows)
        ...     part = StrokeFiles([f"{folder}/cat.npz"]).read("train")
        >>> part.given, [len(drawing) for drawing in part.strokes]
        (['cat', 'cat'], [3, 5])
    """

    def __init__(
        self,
        files: Sequence[str] = (),
        max_length: int | None = 250,
        most: int | None = None,
        stretch: float = 0.0,
        drop: float = 0.0,
    ) -> None:
        require(bool(files), "files of drawings are wanted: give data.source.files, one .npz for each class")
        names = [Path(file).stem for file in files]
        require(len(set(names)) == len(names), f"two files are called {max(names, key=names.count)}: rename one")
        require(max_length is None or max_length >= 1, f"max_length must be at least 1, got {max_length}")
        require(most is None or most >= 1, f"most must be at least 1, got {most}")
        self.files, self.max_length, self.most = dict(zip(names, files, strict=True)), max_length, most
        self.augmentation = Augmentation(stretch, drop)

    def drawn(self, targets: Ragged, seed: int) -> DrawnStrokes | None:
        """Training drawings that differ from epoch to epoch; see :meth:`GenerationSource.drawn`."""
        return DrawnStrokes(targets, self.augmentation, seed) if self.augmentation else None

    def read(self, part: Split) -> Items | None:
        """The drawings of a part; see :meth:`GenerationSource.read`."""
        if part not in ARRAYS:
            return None
        given: list[str] = []
        drawings: list[Tensor] = []
        for name, file in self.files.items():
            path = existing(file)
            found = self._chosen(_rows(path, part), part, path)
            given += [name] * len(found)
            drawings += found
        origin = ", ".join(self.files.values())
        return Items(given, strokes=drawings, origin=f"{origin} ({part})") if given else None

    def _chosen(self, rows: Sequence[Tensor], part: Split, path: Path) -> list[Tensor]:
        kept = [row for row in rows if self.max_length is None or len(row) - 1 <= self.max_length]
        if len(kept) < len(rows):
            log.info("%s, %s: %d of %d drawings are longer than %s steps and left out", path, part,
                     len(rows) - len(kept), len(rows), self.max_length)  # fmt: skip
        return kept[: self.most] if part == "train" else kept

    def describe(self, train: Items) -> GenerationSpec:
        """Classes, and the scale of the training drawings."""
        assert train.strokes is not None
        names = list(self.files)
        return GenerationSpec(
            kind="strokes",
            form="class",
            condition_size=len(names),
            condition_names=names,
            joiner="",
            longest=max(map(len, train.strokes)),
            scale=scale_of(train.strokes),
        )


def _rows(path: Path, part: Split) -> list[Tensor]:
    """The drawings of one array of a file, ``[T + 1, 5]`` each; none where a part other than ``train`` is absent."""
    arrays = read_object_arrays(path)
    name = next((name for name in ARRAYS[part] if name in arrays), None)
    if name is None:
        if part != "train":
            return []
        there = ", ".join(map(repr, arrays)) or "none"
        raise DataError(f"{path} has no array 'train', only {there}: give a file of sketch-rnn's form")
    return [
        to_five(_checked(row, f"{path}, array {name!r}, row {number}")) for number, row in enumerate(arrays[name], 1)
    ]


def _checked(row: Array, where: str) -> Tensor:
    if row.ndim != 2 or row.shape[1] != 3:
        raise DataError(f"{where} is {list(row.shape)}: a drawing is [steps, 3]: dx, dy, and 1 where the pen is lifted")
    if not len(row):
        raise DataError(f"{where}: a drawing of zero points: take it out")
    values: npt.NDArray[np.float32] = row.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"{where}: a move is not a finite number: mend the drawing, or take it out")
    if not np.isin(values[:, 2], (0, 1)).all():
        raise DataError(f"{where}: the pen is {values[~np.isin(values[:, 2], (0, 1)), 2][0]:g}: it is 0 or 1")
    return torch.from_numpy(values)

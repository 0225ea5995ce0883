"""Clips of one's own: a folder for each class, in it a folder of pictures or a video for each clip."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import polars

from lightning_rnn.data import Ragged, Source
from lightning_rnn.data.module import Split
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import data_path, existing

from .clips import Clips, hold_out
from .reading import PICTURES, VIDEOS, Frames, read_clip

log = logging.getLogger(__name__)


class ClipFolder(Source):
    r"""``folder/class/clip/`` with pictures (png, jpg), or ``folder/class/clip.mp4`` (needs the extra ``video``).

    A clip's id is ``class/clip``. All frames are held in memory, as bytes: bring them to the ``size`` that is needed.

    The test part is held out by whole groups: the person or the recording that a clip is of, so that no model is
    praised for knowing a face or a wall. Give them as a table or a pattern; without, every clip is its own group, and
    the log says so. The predict part is the test part.

    Args:
        folder: of the classes, relative to the data folder.
        size: height and width that frames are brought to; None leaves them, then all clips must have one size.
        gray: whether colors are dropped.
        every: of so many successive frames the first is taken.
        max_frames: of a clip; None takes all.
        groups: csv file with the columns ``clip`` (``class/clip``, a video with its ending) and ``group``.
        group_pattern: regular expression that finds the group in the clip's name, as its first bracket, such as
            ``_g(\d+)_``.
        test_fraction: share of the clips that is held out.
        split_seed: of the choice of groups.

    Raises:
        ConfigError: a number is out of range, the pattern has no bracket, or there are both table and pattern.
    """

    def __init__(
        self,
        folder: str = "clips",
        size: list[int] | None = None,
        gray: bool = False,
        every: int = 1,
        max_frames: int | None = None,
        groups: str | None = None,
        group_pattern: str | None = None,
        test_fraction: float = 0.2,
        split_seed: int = 0,
    ) -> None:
        require(size is None or (len(size) == 2 and min(size) >= 1), f"source.size must be [height, width], got {size}")
        require(every >= 1, f"source.every must be at least 1, got {every}")
        require(max_frames is None or max_frames >= 1, f"source.max_frames must be at least 1, got {max_frames}")
        require(0 < test_fraction < 1, f"source.test_fraction must be between 0 and 1, got {test_fraction}")
        require(groups is None or group_pattern is None, "give source.groups or source.group_pattern, not both")
        self.pattern = None if group_pattern is None else _bracketed(group_pattern)
        self.folder, self.groups = folder, groups
        self.frames = Frames(None if size is None else (size[0], size[1]), gray, every, max_frames)
        self.test_fraction, self.split_seed = test_fraction, split_seed
        self._parts: tuple[Clips, Clips] | None = None

    def read(self, split: Split) -> Clips | None:
        """The clips of a part; see :meth:`Source.read`."""
        if split == "val":
            return None
        if self._parts is None:
            rest, test = hold_out(self._read(), self.test_fraction, self.split_seed)
            assert isinstance(rest, Clips) and isinstance(test, Clips)
            self._parts = rest, test
        return self._parts[split != "train"]

    def _read(self) -> Clips:
        root = data_path(self.folder)
        paths = [path for folder in _classes(root) for path in _clips(folder)]
        names = [path.relative_to(root).as_posix() for path in paths]
        groups = self._groups(root, names)
        clips = [read_clip(path, self.frames) for path in paths]
        for name, clip in zip(names, clips, strict=True):
            if clip.shape[1:] != clips[0].shape[1:]:
                ours, first = (f"{one.shape[3]} x {one.shape[2]}" for one in (clip, clips[0]))
                raise DataError(
                    f"{root / name} is {ours} pixels, {names[0]} is {first}: set source.size to bring both to one"
                )
        return Clips(Ragged.from_list(clips), [path.parent.name for path in paths], str(root), names, groups)

    def _groups(self, root: Path, names: list[str]) -> list[str]:
        if self.groups is not None:
            return _from_table(existing(self.groups), names)
        if self.pattern is None:
            log.info("%s: no groups are given, each clip is a group of its own", root)
            return names
        found = {name: self.pattern.search(name) for name in names}
        without = [name for name, match in found.items() if match is None]
        if without:
            raise DataError(
                f"{root / without[0]}: source.group_pattern finds no group in the name: mend it, or use groups"
            )
        return [match[1] for match in found.values() if match is not None]


def _bracketed(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        require(False, f"source.group_pattern {pattern!r} is not a regular expression: {error}")
        raise
    require(compiled.groups >= 1, f"source.group_pattern {pattern!r} has no bracket: put one around the group")
    return compiled


def _classes(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(
            f"no folder {root}: put it there, give another one, or set LIGHTNING_RNN_DATA to the folder that holds it"
        )
    found = sorted(path for path in root.iterdir() if path.is_dir())
    if len(found) < 2:
        raise DataError(f"{root} has {len(found)} folders of classes, two at least are needed: make one for each class")
    return found


def _clips(folder: Path) -> list[Path]:
    """Folders and videos of a class; pictures beside them are no clip."""
    found = sorted(path for path in folder.iterdir() if path.is_dir() or path.suffix.lower() in VIDEOS)
    loose = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
    if loose:
        raise DataError(
            f"{loose[0]} is a picture beside the clips: put the pictures of each clip in a folder of its own"
        )
    if not found:
        raise DataError(f"{folder} has no clip: put folders of pictures or videos there, or take the class out")
    return found


def _from_table(path: Path, names: list[str]) -> list[str]:
    try:
        table = polars.read_csv(path, infer_schema=False)
    except polars.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read as csv ({str(error).splitlines()[0]}): mend it") from error
    for column in ("clip", "group"):
        if column not in table.columns:
            raise DataError(f"{path} has no column {column!r}, only {', '.join(table.columns)}: name its columns so")
    known = dict(zip(table["clip"].to_list(), table["group"].to_list(), strict=True))
    for name in names:
        if not known.get(name):
            raise DataError(f"{path} has no group for the clip {name}: add a row for it")
    return [known[name] for name in names]

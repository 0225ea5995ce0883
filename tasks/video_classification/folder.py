"""Clips of one's own: a folder for each class, in it a folder of pictures or a video for each clip."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from lightning_rnn.data import Ragged, Source
from lightning_rnn.data.module import Split
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import data_path, existing

from .clips import Clips, hold_out
from .layout import classes_in, clips_in, folder_at, groups_from, warn_of_others
from .reading import Frames, read_clip

log = logging.getLogger(__name__)


class ClipFolder(Source):
    r"""``folder/class/clip/`` with pictures (png, jpg), or ``folder/class/clip.mp4`` (needs the extra ``video``).

    A clip's id is ``class/clip``. All frames are held in memory, as bytes: bring them to the ``size`` that is needed.
    Names that begin with a dot are passed over, other files too, which the log says.

    The test part is held out by whole groups: the person or the recording that a clip is of, so that no model is
    praised for knowing a face or a wall. Give them as a table or a pattern; without, every clip is its own group, and
    the log says so.

    Args:
        folder: of the classes, relative to the data folder.
        size: height and width that frames are brought to; None leaves them, then all clips must have one size.
        gray: whether colors are dropped.
        every: of so many successive frames the first is taken.
        max_frames: of a clip; None takes all.
        groups: csv file, relative to the data folder, with the columns ``clip`` (``class/clip``, a video with its
            ending) and ``group``.
        group_pattern: regular expression that finds the group in the clip's name, as its first bracket, such as
            ``_g(\d+)_``.
        test_fraction: share of the clips that is held out.
        split_seed: of the choice of groups.
        test: folder of classes that is the test part, whole; nothing of ``folder`` is held out for it then.
        predict: folder of clips to predict, without folders of classes; None is the test part.

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
        test: str | None = None,
        predict: str | None = None,
    ) -> None:
        require(size is None or (len(size) == 2 and min(size) >= 1), f"source.size must be [height, width], got {size}")
        require(every >= 1, f"source.every must be at least 1, got {every}")
        require(max_frames is None or max_frames >= 1, f"source.max_frames must be at least 1, got {max_frames}")
        require(0 < test_fraction < 1, f"source.test_fraction must be between 0 and 1, got {test_fraction}")
        require(groups is None or group_pattern is None, "give source.groups or source.group_pattern, not both")
        self.pattern = None if group_pattern is None else _bracketed(group_pattern)
        self.folder, self.test, self.predict, self.groups = folder, test, predict, groups
        self.frames = Frames(None if size is None else (size[0], size[1]), gray, every, max_frames)
        self.test_fraction, self.split_seed = test_fraction, split_seed
        self._parts: tuple[Clips, Clips | None] | None = None

    def read(self, split: Split) -> Clips | None:
        """The clips of a part; see :meth:`Source.read`."""
        if split == "val":
            return None
        if split == "predict" and self.predict is not None:
            return self._unlabelled(data_path(self.predict))
        if split != "train" and self.test is not None:
            return self._labelled(data_path(self.test))
        if self._parts is None:
            self._parts = self._cut()
        return self._parts[split != "train"]

    def _cut(self) -> tuple[Clips, Clips | None]:
        """The training part and the test part of ``folder``."""
        clips = self._labelled(data_path(self.folder), to_train=True)
        if self.test is not None:
            return clips, None
        rest, test = hold_out(clips, self.test_fraction, self.split_seed)
        assert isinstance(rest, Clips) and isinstance(test, Clips)
        return rest, test

    def _labelled(self, root: Path, to_train: bool = False) -> Clips:
        classes = classes_in(root)
        if to_train and len(classes) < 2:
            raise DataError(f"{root} has one class, {classes[0].name}, two at least are needed: make a folder for each")
        paths = [path for folder in classes for path in clips_in(folder)]
        names = [path.relative_to(root).as_posix() for path in paths]
        groups = self._groups(root, names) if to_train else None
        return Clips(self._frames(root, paths), [path.parent.name for path in paths], str(root), names, groups)

    def _unlabelled(self, root: Path) -> Clips:
        paths = clips_in(folder_at(root))
        return Clips(self._frames(root, paths), None, str(root), [path.name for path in paths])

    def _frames(self, root: Path, paths: list[Path]) -> Ragged:
        warn_of_others(root, paths)
        clips = [read_clip(path, self.frames) for path in paths]
        for path, clip in zip(paths, clips, strict=True):
            if clip.shape[1:] != clips[0].shape[1:]:
                ours, first = (f"{one.shape[3]} x {one.shape[2]}" for one in (clip, clips[0]))
                raise DataError(
                    f"{path} is {ours} pixels, {paths[0].relative_to(root)} is {first}: set source.size to bring both "
                    "to one"
                )
        return Ragged.from_list(clips)

    def _groups(self, root: Path, names: list[str]) -> list[str]:
        if self.groups is not None:
            return groups_from(existing(self.groups), names)
        if self.pattern is None:
            log.info("%s: no groups are given, each clip is a group of its own", root)
            return names
        found = {name: match[1] for name in names if (match := self.pattern.search(name))}
        for name in names:
            if not found.get(name):
                raise DataError(
                    f"{root / name}: source.group_pattern finds no group in the name: mend it, or use groups"
                )
        return [found[name] for name in names]


def _bracketed(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        require(False, f"source.group_pattern {pattern!r} is not a regular expression: {error}")
        raise
    require(compiled.groups >= 1, f"source.group_pattern {pattern!r} has no bracket: put one around the group")
    return compiled

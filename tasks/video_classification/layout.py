"""What lies in a folder of clips: folders of classes, in them folders of pictures and videos."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import polars

from lightning_rnn.errors import DataError

from .reading import PICTURES, VIDEOS, is_hidden, is_picture

log = logging.getLogger(__name__)


def folder_at(path: Path) -> Path:
    """The folder, if it is there."""
    if not path.is_dir():
        raise DataError(
            f"no folder {path}: put it there, give another one, or set LIGHTNING_RNN_DATA to the folder that holds it"
        )
    return path


def classes_in(root: Path) -> list[Path]:
    """The folders of classes, sorted.

    Raises:
        DataError: there are none, or clips lie beside them.
    """
    there = _visible(folder_at(root))
    found = [path for path in there if path.is_dir()]
    if not found:
        raise DataError(f"{root} has no folder of a class: make one for each class, and put its clips in")
    for path in there:
        if path not in found and path.suffix.lower() in PICTURES + VIDEOS:
            raise DataError(f"{path} is beside the folders of classes: put it into that of its class, or take it out")
    return found


def clips_in(folder: Path) -> list[Path]:
    """Folders and videos of a class, sorted.

    Raises:
        DataError: there are none, or pictures lie beside them.
    """
    there = _visible(folder)
    found = [path for path in there if path.is_dir() or path.suffix.lower() in VIDEOS]
    if loose := list(filter(is_picture, there)):
        raise DataError(
            f"{loose[0]} is a picture beside the clips: put the pictures of each clip in a folder of its own"
        )
    if not found:
        raise DataError(
            f"{folder} has no clip: put folders of pictures or videos ({', '.join(VIDEOS)}) there, or take it out"
        )
    return found


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_hidden(path))


def warn_of_others(root: Path, clips: Sequence[Path]) -> None:
    """Log what lies beside the clips, or beside the pictures in them, and is passed over."""
    others = {path for folder in {clip.parent for clip in clips} for path in _visible(folder)} - set(clips)
    others |= {path for clip in clips if clip.is_dir() for path in _visible(clip) if not is_picture(path)}
    if others:
        log.warning(
            "%s: %d files are neither pictures (%s) nor videos (%s): passed over, such as %s",
            root, len(others), ", ".join(PICTURES), ", ".join(VIDEOS), min(others),
        )  # fmt: skip


def groups_from(path: Path, names: Sequence[str]) -> list[str]:
    """The groups that a table gives clips.

    Raises:
        DataError: it is no table with the columns ``clip`` and ``group``, has no group for a clip, or two.
    """
    try:
        table = polars.read_csv(path, infer_schema=False)
    except polars.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read as csv ({str(error).splitlines()[0]}): mend it") from error
    for column in ("clip", "group"):
        if column not in table.columns:
            raise DataError(f"{path} has no column {column!r}, only {', '.join(table.columns)}: name its columns so")
    known: dict[str, str] = {}
    for name, group in zip(table["clip"].to_list(), table["group"].to_list(), strict=True):
        if known.setdefault(name, group) != group:
            raise DataError(f"{path} has two groups for the clip {name}, {known[name]} and {group}: leave it one")
    for name in names:
        if not known.get(name):
            raise DataError(f"{path} has no group for the clip {name}: add a row for it")
    return [known[name] for name in names]

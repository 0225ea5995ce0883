"""The frames of one clip, from pictures in a folder or from a video file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = (".png", ".jpg", ".jpeg")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")


@dataclass(frozen=True)
class Frames:
    """Which frames are taken, and how.

    Attributes:
        size: height and width that they are brought to; None leaves them.
        gray: whether colors are dropped.
        every: of so many successive frames the first is taken.
        most: frames of a clip, at most; None takes all.
    """

    size: tuple[int, int] | None = None
    gray: bool = False
    every: int = 1
    most: int | None = None

    @property
    def taken(self) -> slice:
        """Of all frames."""
        return slice(0, None if self.most is None else self.every * self.most, self.every)


def in_order(path: Path) -> tuple[list[int | str], str]:
    """By which file names are sorted: the numbers in them as numbers.

    Example:
        >>> sorted([Path("frame10.png"), Path("frame2.png"), Path("frame.png")], key=in_order)
        [PosixPath('frame.png'), PosixPath('frame2.png'), PosixPath('frame10.png')]
    """
    parts = re.split(r"([0-9]+)", path.stem)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name


def is_hidden(path: Path) -> bool:
    """Whether its name begins with a dot: what systems and editors leave is no one's clip."""
    return path.name.startswith(".")


def is_picture(path: Path) -> bool:
    """By its ending."""
    return path.suffix.lower() in PICTURES and not is_hidden(path)


def read_clip(path: Path, wanted: Frames) -> Tensor:
    """The frames of a folder of pictures, in the order of their names (``frame2`` before ``frame10``), or of a video.

    Args:
        path: of either.
        wanted: which of them; the other pictures are not read.

    Returns:
        uint8 ``[T, C, H, W]``, with ``C`` 3, or 1 where ``wanted.gray`` is set. Of 16 bits the upper 8 are taken, and
        transparency is left out.

    Raises:
        DataError: a picture or a video cannot be read, its frames have several sizes, or there are none.
    """
    frames: list[Tensor] = []
    for name, image in _pictures(path, wanted) if path.is_dir() else _video(path, wanted):
        frame = _to_tensor(image, wanted)
        if frames and frame.shape != frames[0].shape:
            ours, first = (f"{one.shape[2]} x {one.shape[1]}" for one in (frame, frames[0]))
            raise DataError(
                f"{name} is {ours} pixels, the clip's first frame {first}: set source.size, or mend the clip"
            )
        frames.append(frame)
    if not frames:
        kinds = ", ".join(PICTURES) if path.is_dir() else "video"
        raise DataError(f"{path} has no frame ({kinds}): take the clip out, or give it some")
    return torch.stack(frames)


def _pictures(folder: Path, wanted: Frames) -> Iterator[tuple[str, Image]]:
    from PIL import Image, UnidentifiedImageError  # late: only clips of pictures need it; matplotlib brings it

    for path in sorted(filter(is_picture, folder.iterdir()), key=in_order)[wanted.taken]:
        try:
            with Image.open(path) as image:
                image.load()
                yield str(path), image
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{path} is not a whole picture ({_first(error)}): replace it, or take it out") from error


def _video(path: Path, wanted: Frames) -> Iterator[tuple[str, Image]]:
    from PIL import Image

    try:
        import av  # late: an extra
    except ImportError as error:
        raise DataError(
            f"{path} is a video, which needs the extra video: pip install 'lightning-rnn[video]', or give its frames "
            "as pictures in a folder"
        ) from error
    which = wanted.taken
    try:
        with av.open(str(path), metadata_errors="replace") as container:  # titles are not utf-8 everywhere
            if not container.streams.video:
                raise DataError(f"{path} has no pictures, only sound: take it out")
            frames = enumerate(container.decode(video=0))
            for number, frame in islice(frames, which.start, which.stop, which.step):
                yield f"{path}, frame {number}", Image.fromarray(frame.to_ndarray(format="rgb24"))
    except av.FFmpegError as error:
        raise DataError(f"{path} is not a whole video ({_first(error)}): replace it, or take it out") from error


def _first(error: BaseException) -> str:
    """The first line of a reason, in short."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].split(":")[0][:80]


def _to_tensor(image: Image, wanted: Frames) -> Tensor:
    from PIL.Image import Resampling, fromarray

    if image.mode.startswith("I"):  # 16 bits; convert would make white of all from 255 on
        image = fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("L" if wanted.gray else "RGB")
    if wanted.size is not None:
        image = image.resize(wanted.size[::-1], Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if wanted.gray else pixels.permute(2, 0, 1)

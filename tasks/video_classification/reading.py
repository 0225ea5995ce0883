"""The frames of one clip, from pictures in a folder or from a video file."""

from __future__ import annotations

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


def read_clip(path: Path, wanted: Frames) -> Tensor:
    """The frames of a folder of pictures, in the order of their names, or of a video.

    Args:
        path: of either.
        wanted: which of them.

    Returns:
        uint8 ``[T, C, H, W]``, with ``C`` 3, or 1 where ``wanted.gray`` is set.

    Raises:
        DataError: a picture or a video cannot be read, its frames have several sizes, or there are none.
    """
    taken = islice(_pictures(path) if path.is_dir() else _video(path), 0, None, wanted.every)
    frames: list[Tensor] = []
    for name, image in islice(taken, wanted.most):
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


def _pictures(folder: Path) -> Iterator[tuple[str, Image]]:
    from PIL import Image, UnidentifiedImageError  # late: only clips of pictures need it; matplotlib brings it

    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES):
        try:
            with Image.open(path) as image:
                image.load()
                yield str(path), image
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{path} is not a whole picture ({_first(error)}): replace it, or take it out") from error


def _video(path: Path) -> Iterator[tuple[str, Image]]:
    from PIL import Image

    try:
        import av  # late: an extra
    except ImportError as error:
        raise DataError(
            f"{path} is a video, which needs the extra video: pip install 'lightning-rnn[video]', or give its frames "
            "as pictures in a folder"
        ) from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no pictures, only sound: take it out")
            for number, frame in enumerate(container.decode(video=0)):
                yield f"{path}, frame {number}", Image.fromarray(frame.to_ndarray(format="rgb24"))
    except av.FFmpegError as error:
        raise DataError(f"{path} is not a whole video ({_first(error)}): replace it, or take it out") from error


def _first(error: BaseException) -> str:
    """The first line of a reason, in short."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].split(":")[0][:80]


def _to_tensor(image: Image, wanted: Frames) -> Tensor:
    from PIL.Image import Resampling

    image = image.convert("L" if wanted.gray else "RGB")
    if wanted.size is not None:
        image = image.resize(wanted.size[::-1], Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if wanted.gray else pixels.permute(2, 0, 1)

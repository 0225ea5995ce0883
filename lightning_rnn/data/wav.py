"""Sound files (wav), by Python's own reader."""

from __future__ import annotations

import wave
from typing import IO

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.errors import DataError

_TYPES = {1: "u1", 2: "<i2", 4: "<i4"}


def read_wav(file: str | IO[bytes], name: str, rate: int | None = None) -> Tensor:
    """The samples of an uncompressed wav file, channels averaged.

    Args:
        file: its path, or its bytes as a stream.
        name: of the file, for messages.
        rate: samples a second that it must have; None takes any.

    Returns:
        float32 ``[N]`` in -1..1.

    Raises:
        DataError: it is not such a file, holds no sample, or has another rate.

    Example:
        >>> import io
        >>> with wave.open(stream := io.BytesIO(), "wb") as sound:
        ...     sound.setparams((1, 2, 8000, 0, "NONE", ""))
        ...     sound.writeframes(np.array([0, 16384, -32768], "<i2").tobytes())
        >>> size = stream.seek(0)
        >>> read_wav(stream, "a.wav", 8000)
        tensor([ 0.0000,  0.5000, -1.0000])
    """
    try:
        with wave.open(file, "rb") as sound:
            width, channels, found = sound.getsampwidth(), sound.getnchannels(), sound.getframerate()
            raw = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        reason = str(error) or "it ends early"
        raise DataError(f"{name} cannot be read as wav ({reason}): save it as uncompressed wav") from error
    if rate is not None and found != rate:
        raise DataError(f"{name} has {found} samples a second, not {rate}: resample it, or set the rate to its own")
    if width not in _TYPES:
        raise DataError(f"{name} has samples of {8 * width} bits: save it with 8, 16 or 32")
    whole = len(raw) // (width * channels) * (width * channels)
    if not whole:
        raise DataError(f"{name} has no sample: record it again, or take it out")
    values = np.frombuffer(raw[:whole], _TYPES[width]).astype(np.float64).reshape(-1, channels).mean(1)
    scaled = values / 128 - 1 if width == 1 else values / 2 ** (8 * width - 1)
    return torch.from_numpy(scaled.astype(np.float32))

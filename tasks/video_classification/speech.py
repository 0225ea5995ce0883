"""Spoken digits as frames of a log-mel spectrum."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from lightning_rnn.data import Ragged, Source
from lightning_rnn.data.members import reader_of
from lightning_rnn.data.module import Split
from lightning_rnn.data.wav import read_wav
from lightning_rnn.errors import DataError, require
from lightning_rnn.functional.spectra import log_mel
from lightning_rnn.paths import data_path

from .clips import Clips, listed

log = logging.getLogger(__name__)
NAME = re.compile(r"(\d)_([^_/]+)_(\d+)\.wav")  # digit, speaker, number of the recording
OFFICIAL = 5  # recordings 0 to 4 of each digit and speaker are the test part


@dataclass(frozen=True)
class Recording:
    """One file: its name, and what that says."""

    name: str
    digit: str
    speaker: str
    number: int
    wave: Tensor


def _sounds(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the wav files in a folder or an archive."""
    if path.is_dir():
        for file in sorted(path.rglob("*.wav")):
            yield file.name, file.read_bytes()
        return
    reader = reader_of(path) if path.is_file() else None
    if reader is None:
        raise DataError(f"no archive or folder {path}: put it there, or set LIGHTNING_RNN_DATA to the folder above it")
    with closing(reader(path)) as members:
        for member in members:
            if member.kind == "file" and member.name.endswith(".wav") and member.open is not None:
                stream = member.open()
                assert stream is not None
                yield member.name.rpartition("/")[2], stream.read()


class SpokenDigits(Source):
    """The free spoken digit dataset (Jackson et al., CC BY-SA 4.0): ten digits, six speakers, 8 kHz.

    Inputs are log-mel frames, see :func:`lightning_rnn.functional.spectra.log_mel`. The predict part is the test part.

    Args:
        path: a folder of ``digit_speaker_number.wav``, or an archive of them, relative to the data folder.
        split: ``official`` tests on recordings 0 to 4 of each digit and speaker (the set's own cut: its speakers are
            in both parts), ``speaker`` on all recordings of one speaker, who is in no other part.
        speaker: that is tested on, with ``split: speaker``.
        rate: samples a second, that every file must have.
        bands: of the mel scale.
        window: seconds that a frame looks at.
        hop: seconds from frame to frame.

    Raises:
        ConfigError: an unknown split, or a number that is out of range.
    """

    def __init__(
        self,
        path: str = "speech/fsdd.tar.xz",
        split: Literal["official", "speaker"] = "official",
        speaker: str = "theo",
        rate: int = 8000,
        bands: int = 40,
        window: float = 0.025,
        hop: float = 0.01,
    ) -> None:
        require(split in ("official", "speaker"), f"source.split must be official or speaker, got {split!r}")
        for name, value in (("rate", rate), ("bands", bands), ("window", window), ("hop", hop)):
            require(value > 0, f"source.{name} must be above 0, got {value}")
        self.path, self.split, self.speaker = path, split, speaker
        self.rate, self.bands, self.window, self.hop = rate, bands, window, hop
        self._recordings: list[Recording] = []

    def read(self, split: Split) -> Clips | None:
        """The recordings of a part; see :meth:`Source.read`."""
        if split == "val":
            return None
        part = [one for one in self._read() if self._is_test(one) == (split != "train")]
        where = str(data_path(self.path))
        if not part:
            raise DataError(f"{where}: no recording is in the {split} part: give more of them, or another split")
        rows = [log_mel(one.wave, self.rate, self.bands, self.window, self.hop) for one in part]
        groups = [one.speaker for one in part] if self.split == "speaker" else None
        return Clips(Ragged.from_list(rows), [one.digit for one in part], where, [one.name for one in part], groups)

    def _is_test(self, recording: Recording) -> bool:
        return recording.number < OFFICIAL if self.split == "official" else recording.speaker == self.speaker

    def _read(self) -> list[Recording]:
        """All of them, read once."""
        path = data_path(self.path)
        for name, sound in () if self._recordings else _sounds(path):
            found = NAME.fullmatch(name)
            if found is None:
                raise DataError(f"{path}: {name} is not named digit_speaker_number.wav: rename it, or take it out")
            wave = read_wav(io.BytesIO(sound), f"{path}, {name}", self.rate)
            self._recordings.append(Recording(name, found[1], found[2], int(found[3]), wave))
        if not self._recordings:
            raise DataError(f"{path} has no .wav file: put some in, or give another path")
        speakers = sorted({one.speaker for one in self._recordings})
        if self.split == "speaker" and self.speaker not in speakers:
            raise DataError(f"{path} has no speaker {self.speaker!r}, only {listed(speakers)}: set source.speaker")
        return self._recordings

"""Sound: log-mel frames by their definition, and wav files of all kinds."""

from __future__ import annotations

import io
import math
import wave

import numpy as np
import pytest
import torch

from lightning_rnn.data.wav import read_wav
from lightning_rnn.errors import DataError
from lightning_rnn.functional.spectra import log_mel, mel_bands


def mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def hertz(mels: float) -> float:
    return 700 * (10 ** (mels / 2595) - 1)


def triangle(k: int, frequency: float, bands: int, rate: int) -> float:
    """The k-th of so many triangles, by its three corners."""
    left, top, right = (hertz(mel(rate / 2) * (k + i) / (bands + 1)) for i in range(3))
    if left <= frequency <= top:
        return (frequency - left) / (top - left)
    return (right - frequency) / (right - top) if top < frequency <= right else 0.0


def test_log_mel_is_its_definition_in_numpy() -> None:
    rate, bands = 8000, 12
    sound = np.random.RandomState(0).randn(1000) * 0.1
    found = log_mel(torch.from_numpy(sound), rate, bands, window=0.025, hop=0.01)
    assert found.shape == (1 + (1000 - 200) // 80, bands)
    window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / 200) for n in range(200)])
    for t in (0, 3, len(found) - 1):
        piece = sound[80 * t : 80 * t + 200] * window
        power = [abs(np.sum(piece * np.exp(-2j * np.pi * f * np.arange(200) / 200))) ** 2 for f in range(101)]
        for k in range(bands):
            energy = sum(triangle(k, f * rate / 200, bands, rate) * power[f] for f in range(101))
            assert found[t, k].item() == pytest.approx(math.log(max(energy, 1e-6)), abs=1e-4)


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    for frequency in (300, 1000, 2500):
        tone = torch.sin(2 * math.pi * frequency * torch.arange(4000) / 8000)
        weights = mel_bands(20, 200, 8000)[:, round(frequency / 40)]
        assert log_mel(tone, 8000, 20).mean(0).argmax() == weights.argmax()


def test_a_sound_shorter_than_a_window_has_one_frame() -> None:
    assert log_mel(torch.ones(10), 8000, 20).shape == (1, 20)


def recorded(samples: bytes, width: int = 2, channels: int = 1, rate: int = 8000) -> io.BytesIO:
    with wave.open(stream := io.BytesIO(), "wb") as sound:
        sound.setparams((channels, width, rate, 0, "NONE", ""))
        sound.writeframes(samples)
    stream.seek(0)
    return stream


@pytest.mark.parametrize(("width", "kind", "scale"), [(1, "u1", 128), (2, "<i2", 2**15), (4, "<i4", 2**31)])
def test_samples_of_each_width_are_in_minus_one_to_one(width: int, kind: str, scale: int) -> None:
    wanted = np.array([-1.0, -0.5, 0.0, 0.5])
    values = (wanted * scale + (128 if width == 1 else 0)).astype(kind)
    assert read_wav(recorded(values.tobytes(), width), "a.wav").tolist() == wanted.tolist()


def test_channels_are_averaged() -> None:
    values = np.array([[16384, 0], [-16384, -16384]], "<i2")
    assert read_wav(recorded(values.tobytes(), channels=2), "a.wav").tolist() == [0.25, -0.5]


def test_what_is_no_such_sound_is_named() -> None:
    sample = np.zeros(4, "<i2").tobytes()
    for stream, words in (
        (recorded(sample, rate=16000), "a.wav has 16000 samples a second, not 8000"),
        (recorded(b""), "a.wav has no sample"),
        (recorded(b"\0" * 6, width=3), "a.wav has samples of 24 bits"),
        (io.BytesIO(b"RIFFxxxx"), "a.wav cannot be read as wav"),
        (io.BytesIO(b""), "a.wav cannot be read as wav"),
    ):
        with pytest.raises(DataError, match=words):
            read_wav(stream, "a.wav", 8000)

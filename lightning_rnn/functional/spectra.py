"""Sound as a sequence of spectra."""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-6  # of a band's power: silence is not minus infinity


def mel_of(hertz: Tensor) -> Tensor:
    """The mel scale, ``2595 log10(1 + f / 700)`` (O'Shaughnessy 1987, as in HTK)."""
    return 2595 * torch.log10(1 + hertz / 700)


def mel_bands(bands: int, window: int, rate: int, low: float = 0.0, high: float | None = None) -> Tensor:
    """Triangles, evenly spaced in mels, that sum the bins of a power spectrum: float64 ``[bands, window // 2 + 1]``.

    Triangle ``k`` rises from center ``k - 1`` to 1 at center ``k`` and falls to center ``k + 1``, linear in hertz.

    Args:
        bands: how many.
        window: samples that were transformed.
        rate: samples a second.
        low: hertz where the first triangle begins.
        high: hertz where the last one ends; None is half the rate.

    Example:
        >>> mel_bands(4, 16, 8000).shape
        torch.Size([4, 9])
    """
    bins = torch.arange(window // 2 + 1, dtype=torch.float64) * rate / window
    ends = mel_of(torch.tensor([low, rate / 2 if high is None else high], dtype=torch.float64)).tolist()
    mels = torch.linspace(ends[0], ends[1], bands + 2, dtype=torch.float64)
    edges: Tensor = 700 * (10 ** (mels / 2595) - 1)
    before, center, after = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return torch.minimum((bins - before) / (center - before), (after - bins) / (after - center)).clamp(min=0)


def log_mel(wave: Tensor, rate: int, bands: int = 40, window: float = 0.025, hop: float = 0.01) -> Tensor:
    r"""Log-mel frames of a sound.

    :math:`y_{t,k} = \log(\max(\sum_f M_{k,f} |X_{t,f}|^2, 10^{-6}))`, where :math:`X_t` is the discrete Fourier
    transform of the samples from ``t * hop`` on under a periodic Hann window. A sound shorter than a window is filled
    with zeros to one; samples past the last whole window are left out.

    Args:
        wave: float ``[N]``, in -1..1.
        rate: samples a second.
        bands: of the mel scale, see :func:`mel_bands`.
        window: seconds.
        hop: seconds from one frame to the next.

    Returns:
        float32 ``[T, bands]``, ``T = max(0, N - window) // hop + 1`` in samples.

    Example:
        >>> log_mel(torch.zeros(8000), 8000).shape
        torch.Size([98, 40])
    """
    size, step = round(window * rate), max(1, round(hop * rate))
    samples = wave.to(torch.float64)
    samples = torch.nn.functional.pad(samples, (0, max(0, size - len(samples))))
    frames = samples.unfold(0, size, step) * torch.hann_window(size, dtype=torch.float64)
    power = torch.fft.rfft(frames, dim=1).abs().square()
    energy = power @ mel_bands(bands, size, rate).T
    levels: Tensor = energy.clamp(min=FLOOR).log().to(torch.float32)
    return levels

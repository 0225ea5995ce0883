"""Clips whose class no single frame reveals, nor all of them without their order: digits that move on a torus."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data import Digits, IdxImages, Ragged, Source
from lightning_rnn.data.module import Split
from lightning_rnn.errors import require

from .clips import Clips

PLACES = 13  # of the digit in a clip, one a frame: prime, and 2² + 3²
TURN = 5  # place n is (n, 5 n) / 13 of the torus: 5² = -1 (mod 13), so that a quarter turn takes places to places
# The steps from place to place that lead by (2, -3) / 13 of the torus and its quarter turns, and by twice that.
STEPS = {"south-east": 3, "south-west": 2, "north-west": 10, "north-east": 11}
SPEEDS = {"slow": 1, "fast": 2}
CLASSES = [f"{direction} {speed}" for direction in STEPS for speed in SPEEDS]


def places(label: Tensor, start: Tensor) -> Tensor:
    """The digit's places on the torus of size 1, ``[..., 13, 2]`` (down, right), float64.

    Frame ``t`` shows place ``n = s t (mod 13)``, at ``start + (n, 5 n) / 13 (mod 1)``, with the class's step ``s``. As
    13 is prime, every class visits the same 13 places once, in another order: neither a frame nor the set of frames
    tells anything of the class. The places are a lattice of squares: the shortest ways between them have four
    directions, quarter turns of each other.

    Args:
        label: class numbers of :data:`CLASSES`, int64 ``[...]``.
        start: where place 0 is, float64 ``[..., 2]`` in 0..1.

    Example:
        >>> where = places(torch.arange(8), torch.zeros(8, 2, dtype=torch.float64))
        >>> bool((where.sum(1) - where.sum(1)[0]).abs().max() < 1e-9)
        True
    """
    steps = torch.tensor([step * speed for step in STEPS.values() for speed in SPEEDS.values()])
    n = steps[label].unsqueeze(-1) * torch.arange(PLACES) % PLACES
    return (start.unsqueeze(-2) + torch.stack([n, TURN * n], -1) / PLACES) % 1


def render(images: Tensor, where: Tensor, size: int) -> Tensor:
    """Images pasted on a torus.

    Args:
        images: uint8 ``[N, h, w]``.
        where: of the upper left corner, ``[N, T, 2]`` in 0..1; rounded to whole pixels.
        size: of the canvas, not below ``h`` and ``w``.

    Returns:
        uint8 ``[N, T, 1, size, size]``.
    """
    height, width = images.shape[1:]
    corner = (where * size).round().long()
    rows = (corner[..., 0, None] + torch.arange(height)) % size
    columns = (corner[..., 1, None] + torch.arange(width)) % size
    flat = (rows.unsqueeze(-1) * size + columns.unsqueeze(-2)).flatten(2)
    canvas = images.new_zeros(*where.shape[:2], size * size)
    canvas.scatter_(2, flat, images.flatten(1).unsqueeze(1).expand(-1, where.shape[1], -1))
    return canvas.view(*where.shape[:2], 1, size, size)


class MovingDigits(Source):
    """A handwritten digit that moves over a torus: what leaves on one side comes in on the other.

    The class is the direction (four) and the speed (two); the digit, where it starts and hence every single frame say
    nothing of it, nor do all 13 frames of a clip without their order, see :func:`places`. The parts have different
    images: the test part those of the set's own test part, the validation part a tenth of the other images.

    Args:
        images: ``digits`` are scikit-learn's, 8 x 8 (no download); ``mnist`` are MNIST's, 28 x 28.
        size: pixels of a side of the frames; None is 24 for ``digits`` and 64 for ``mnist``.
        train: clips to train on.
        val: clips to choose by.
        test: clips to report on, the predict part too.
        seed: of all that is drawn.

    Raises:
        ConfigError: the frames are smaller than the images, or a part has no clips.

    Example:
        >>> clips = MovingDigits(train=4).read("train")
        >>> clips.inputs.values.shape, clips.labels[0] in CLASSES
        (torch.Size([52, 1, 24, 24]), True)
    """

    def __init__(
        self,
        images: Literal["digits", "mnist"] = "digits",
        size: int | None = None,
        train: int = 2000,
        val: int = 400,
        test: int = 1000,
        seed: int = 0,
    ) -> None:
        smallest = {"digits": 8, "mnist": 28}[images]
        self.images, self.size = images, size or {"digits": 24, "mnist": 64}[images]
        require(self.size >= smallest, f"source.size must be at least {smallest}, the images', got {self.size}")
        self.counts: dict[Split, int] = {"train": train, "val": val, "test": test, "predict": test}
        for name, count in self.counts.items():
            require(count >= 1, f"source.{name} must be at least 1, got {count}")
        require(seed >= 0, f"source.seed must not be negative, got {seed}")
        self.seed = seed
        self.source: Source = Digits() if images == "digits" else IdxImages("mnist")

    def prepare(self) -> None:
        """Download what is absent."""
        self.source.prepare()

    def read(self, split: Split) -> Clips:
        """The clips of a part; see :meth:`Source.read`."""
        images = self._images(split)
        count, part = self.counts[split], ("train", "val", "test").index("test" if split == "predict" else split)
        random = np.random.RandomState((self.seed, part))
        chosen = torch.from_numpy(random.permutation(np.arange(count) % len(images)))
        label = torch.from_numpy(random.permutation(np.arange(count) % len(CLASSES)))
        where = places(label, torch.from_numpy(random.random_sample((count, 2))))
        frames = torch.cat(
            [
                render(images[c], w, self.size)
                for c, w in zip(torch.split(chosen, 256), torch.split(where, 256), strict=True)
            ]
        )
        labels = [CLASSES[i] for i in label.tolist()]
        ids = [f"{split} {row} of image {image}" for row, image in enumerate(chosen.tolist())]
        return Clips(Ragged.from_dense(frames), labels, f"moving {self.images}", ids)

    def _images(self, split: Split) -> Tensor:
        """uint8 ``[N, h, w]``, those of the part alone."""
        found = self.source.read("test" if split in ("test", "predict") else "train")
        assert found is not None and isinstance(found.inputs, Ragged)
        images = found.inputs.values.view(len(found), -1, found.inputs.values.shape[1])
        images = (images * 255).round().to(torch.uint8)
        if split in ("test", "predict"):
            return images
        is_val = torch.arange(len(images)) % 10 == 9
        return images[is_val if split == "val" else ~is_val]

"""What a condition goes through before it conditions anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from lightning_rnn.errors import ConfigError

from .spec import GenerationSpec

EncoderKind = Literal["identity", "dense", "cnn"]


class DenseEncoder(nn.Module):
    """A layer with tanh: ``[B, C]`` → ``[B, E]``.

    Args:
        condition_size: ``C``.
        output_size: ``E``.
    """

    def __init__(self, condition_size: int, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size
        self.layer = nn.Linear(condition_size, output_size)

    def forward(self, conditions: Tensor) -> Tensor:
        """``[B, E]``."""
        encoded: Tensor = self.layer(conditions).tanh()
        return encoded


class IdentityEncoder(nn.Module):
    """The condition as it is.

    Args:
        condition_size: ``C``.
    """

    def __init__(self, condition_size: int) -> None:
        super().__init__()
        self.output_size = condition_size

    def forward(self, conditions: Tensor) -> Tensor:
        """``[B, C]``."""
        return conditions


def build_encoder(
    kind: EncoderKind, spec: GenerationSpec, output_size: int, image_channels: Sequence[int] = (16, 32)
) -> nn.Module:
    """The encoder of a kind; it has an ``output_size``.

    Args:
        kind: ``identity``; ``dense``, one layer with tanh; ``cnn``, convolutions, for conditions that are images.
        spec: of the data.
        output_size: features of the others' output.
        image_channels: of each convolution of ``cnn``, see :class:`.images.ImageEncoder`.

    Raises:
        ConfigError: ``cnn`` and the conditions are no images.

    Example:
        >>> build_encoder("dense", GenerationSpec(condition_size=10), 4).output_size
        4
    """
    if kind == "identity":
        return IdentityEncoder(spec.condition_size)
    if kind == "dense":
        return DenseEncoder(spec.condition_size, output_size)
    if spec.image is None:
        raise ConfigError("model.encoder cnn is for conditions that are images, these are not: use dense or identity")
    from .images import ImageEncoder  # late: of images alone

    return ImageEncoder(spec.image, output_size, image_channels)

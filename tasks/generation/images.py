"""An image as a condition: a small convolutional network that makes a vector of it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lightning_rnn.errors import require


class ImageEncoder(nn.Module):
    """Convolutions of 3 × 3 with ReLU, each followed by a maximum over 2 × 2 pixels, and one linear layer.

    Args:
        image: rows and columns of an image.
        output_size: entries of the vector.
        channels: of each convolution.
        dropout: share of the last convolution's features dropped.

    Raises:
        ConfigError: no channels, or more halvings than the image has pixels for.

    Example:
        >>> import torch
        >>> ImageEncoder([8, 8], 16, [4, 8])(torch.zeros(3, 64)).shape
        torch.Size([3, 16])
    """

    def __init__(
        self, image: Sequence[int], output_size: int, channels: Sequence[int] = (16, 32), dropout: float = 0.0
    ) -> None:
        super().__init__()
        require(bool(channels) and min(channels) > 0, f"image_channels must be numbers above 0, got {list(channels)}")
        left = [side >> len(channels) for side in image]
        require(
            min(left) > 0,
            f"{len(channels)} convolutions halve an image of {image[0]} x {image[1]} pixels to nothing: give fewer "
            "image_channels",
        )
        self.image, self.output_size = tuple(image), output_size
        layers: list[nn.Module] = []
        for before, after in zip([1, *channels], channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout))
        self.projection = nn.Linear(channels[-1] * left[0] * left[1], output_size)

    def forward(self, condition: Tensor) -> Tensor:
        """The vectors of images.

        Args:
            condition: ``[B, rows * columns]``.

        Returns:
            ``[B, output_size]``.
        """
        images = condition.view(-1, 1, *self.image)
        return self.projection(self.features(images)).relu()  # type: ignore[no-any-return]

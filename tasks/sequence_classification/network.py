"""The network: embedding or scaling, convolutions where asked for, a recurrent stack, pooling, a linear head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lightning_rnn import GRU, LSTM, SimpleRNN
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.functional import StepOptions, sequence_mask
from lightning_rnn.layers import (
    ConvBlock,
    Frames,
    LockedDropout,
    MaskedBatchNorm,
    RecurrentLayer,
    Regularization,
    SequencePooling,
    SeriesFeatures,
)
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.pooling import Pooling
from lightning_rnn.layers.series import Feature, FramePooling, Scale

from .data import ClassificationSpec

Activation = Literal["tanh", "relu"]
Cell = Literal["simple_rnn", "lstm", "gru"]
EMBEDDING_STD = 0.1  # small, so that rare tokens are quiet until they are learned
BatchNorm = Literal["none", "pooled", "sequence"]
CELLS: dict[Cell, type[RecurrentLayer]] = {"simple_rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}


KNOWN = {  # an option's values
    "cell": get_args(Cell),
    "activation": get_args(Activation),
    "initializer": get_args(Initializer),
    "pooling": get_args(Pooling),
    "scale": get_args(Scale),
    "features": get_args(Feature),
    "frame_pooling": get_args(FramePooling),
    "batch_norm": get_args(BatchNorm),
}


@dataclass(frozen=True)
class NetworkOptions:
    """The classifier's arguments that shape the network; see :class:`SequenceClassifier` for each.

    Raises:
        ConfigError: one has a value that it cannot have.
    """

    cell: Cell
    hidden_size: int
    num_layers: int
    bidirectional: bool
    activation: Activation
    initializer: Initializer
    pooling: list[Pooling]
    embedding_size: int
    scale: Scale
    features: list[Feature]
    aligned_above: float
    frames: int | None
    frame_window: int
    frame_pooling: FramePooling
    conv_channels: list[int]
    conv_kernels: list[int]
    conv_steps: int | None
    conv_skip: bool
    input_dropout: float
    layer_dropout: float
    dropout: float
    batch_norm: BatchNorm
    jitter: float

    def __post_init__(self) -> None:
        require(len(self.pooling) > 0, "model.pooling must name at least one way, got none")
        for name, known in KNOWN.items():
            given = getattr(self, name)
            for value in [given] if isinstance(given, str) else given:
                require(value in known, f"model.{name} must be one of {', '.join(known)}, got {value!r}")


def hop(steps: int, wanted: int | None) -> int:
    """Steps that become one so that about ``wanted`` are left of ``steps``.

    Example:
        >>> hop(500, 128), hop(24, 128), hop(24, None)
        (4, 1, 1)
    """
    return max(1, round(steps / wanted)) if wanted else 1


class SequenceClassifierNetwork(nn.Module):
    """Sequence → class scores ``[B, C]``: embedding or features, convolutions, frames, recurrent layers, pooling, head.

    Args:
        spec: the data it is for.
        options: its shape.
    """

    def __init__(self, spec: ClassificationSpec, options: NetworkOptions) -> None:
        super().__init__()
        self.embedding: nn.Embedding | None = None
        self.features: SeriesFeatures | None = None
        if spec.kind == "text":
            self.embedding = nn.Embedding(spec.features, options.embedding_size, padding_idx=0)
            nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
            width = options.embedding_size
        else:
            self.features = series_features(spec, options)
            width = self.features.output_size
        self.jitter = options.jitter
        self.convolutions = nn.ModuleList()
        pool = hop(spec.longest, options.conv_steps)
        for i, (channels, kernel) in enumerate(zip(options.conv_channels, options.conv_kernels, strict=True)):
            self.convolutions.append(ConvBlock(width, channels, kernel, pool if i == 0 else 1))
            width = channels
        self.between = nn.Dropout(options.layer_dropout)
        self.skip = SequencePooling(width, ["mean", "max"]) if options.conv_skip else None
        steps = -(-spec.longest // pool) if options.conv_channels else spec.longest
        distance = hop(steps, options.frames)
        self.frames = Frames(distance, distance * options.frame_window, options.frame_pooling)
        self.input_dropout = LockedDropout(options.input_dropout)
        self.rnn = CELLS[options.cell](
            width * self.frames.widening,
            options.hidden_size,
            options.num_layers,
            bidirectional=options.bidirectional,
            initializer=options.initializer,
            step_options=StepOptions(activation=options.activation),
            regularization=Regularization(layer_dropout=options.layer_dropout),
        )
        self.per_step = spec.labels == "step"
        if self.per_step:
            check_per_step(options)
        self.sequence_norm = MaskedBatchNorm(self.rnn.output_size) if options.batch_norm == "sequence" else None
        self.pooling = SequencePooling(self.rnn.output_size, ["last"] if self.per_step else options.pooling)
        width = self.pooling.output_size + (self.skip.output_size if self.skip else 0)
        self.norm = nn.BatchNorm1d(width) if options.batch_norm == "pooled" else nn.Identity()
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(width, len(spec.class_names))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Class scores before softmax, ``[B, C]``, or ``[B, T, C]`` where each step has a label.

        Args:
            x: token ids int64 ``[B, T]``, or float ``[B, T, D]``.
            lengths: int64 ``[B]``.
        """
        mask = None if lengths is None else sequence_mask(lengths, x.shape[1])
        if self.embedding is not None:
            x = self.embedding(x)
            x = x if mask is None else torch.where(mask.unsqueeze(2), x, 0)
        elif self.features is not None:
            x = self.features(x, mask)
            if self.training and self.jitter:
                noise = self.jitter * torch.randn_like(x)
                x = x + (noise if mask is None else torch.where(mask.unsqueeze(2), noise, 0))
        for i, block in enumerate(self.convolutions):
            x, lengths = block(self.between(x) if i else x, lengths)
        skipped = [self.skip(x, lengths)] if self.skip else []
        x, lengths = self.frames(x, lengths)
        output = self.rnn(self.input_dropout(x), lengths=lengths)
        sequence, last = output.sequence, output.last
        if self.sequence_norm is not None:
            sequence = self.sequence_norm(sequence, None if lengths is None else sequence_mask(lengths, x.shape[1]))
        if self.per_step:
            each: Tensor = self.head(self.dropout(sequence))
            return each
        pooled = torch.cat([self.pooling(sequence, lengths, last=last), *skipped], dim=1)
        if self.training and len(pooled) < 2 and isinstance(self.norm, nn.BatchNorm1d):
            raise ConfigError(
                "model.batch_norm pooled needs two rows in each training batch, one has a single row: raise "
                "data.batch_size or data.max_tokens, or leave batch_norm out"
            )
        scores: Tensor = self.head(self.dropout(self.norm(pooled)))
        return scores


def check_per_step(options: NetworkOptions) -> None:
    """Whether what comes out has the steps that went in.

    Raises:
        ConfigError: an option shortens the sequence or needs one vector of it.
    """
    wrong = {
        "frames": options.frames is not None,
        "conv_steps": options.conv_steps is not None,
        "conv_skip": options.conv_skip,
        "batch_norm": options.batch_norm == "pooled",
        "pooling": options.pooling != ["last"],
    }
    for name in (name for name, given in wrong.items() if given):
        raise ConfigError(f"model.{name} makes one vector of several steps, but each step has a label: leave it out")


def series_features(spec: ClassificationSpec, options: NetworkOptions) -> SeriesFeatures:
    """The features of series as the training part's moments scale them."""
    return SeriesFeatures(
        options.scale,
        options.features,
        options.aligned_above,
        mean=spec.mean or [],
        std=spec.std or [],
        profile=spec.profile,
        spread=spec.spread,
    )


def shift_images(x: Tensor, most: int) -> Tensor:
    """Each sequence ``[B, T, D]`` moved by up to ``most`` steps and features at random, zeros moving in."""
    b, t, d = x.shape
    padded = nn.functional.pad(x, (most, most, most, most))
    dt, dd = torch.randint(0, 2 * most + 1, (2, b, 1), device=x.device)
    rows = (dt + torch.arange(t, device=x.device)).unsqueeze(2)
    columns = (dd + torch.arange(d, device=x.device)).unsqueeze(1)
    return padded[torch.arange(b, device=x.device).reshape(-1, 1, 1), rows, columns]


def distort_images(x: Tensor, most: float) -> Tensor:
    """Each image ``[B, T, D]`` turned, stretched and sheared at random: its axes move by up to this share."""
    axes = torch.eye(2, 3, device=x.device).repeat(len(x), 1, 1)
    axes[:, :, :2] += (2 * torch.rand(len(x), 2, 2, device=x.device) - 1) * most
    grid = nn.functional.affine_grid(axes, [len(x), 1, *x.shape[1:]], align_corners=False)
    return nn.functional.grid_sample(x.unsqueeze(1), grid.to(x.dtype), align_corners=False).squeeze(1)


def slide_series(x: Tensor, lengths: Tensor, most: float) -> Tensor:
    """Each series ``[B, T, D]`` moved in time by up to a share of its length, its first or last valid step repeated."""
    offset = ((2 * torch.rand(len(x), device=x.device) - 1) * most * lengths).round().long()
    t = torch.arange(x.shape[1], device=x.device)
    last = (lengths - 1).clamp(min=0).unsqueeze(1)
    index = torch.where(t < lengths.unsqueeze(1), (t + offset.unsqueeze(1)).clamp(min=0).minimum(last), t)
    return x.gather(1, index.unsqueeze(2).expand_as(x))

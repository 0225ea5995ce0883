"""The network: features of each frame, recurrent layers, pooling, a linear head."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_rnn.functional import sequence_mask
from lightning_rnn.layers import Bidirectional, LockedDropout, MaskedBatchNorm, SequencePooling, TimeDistributed
from lightning_rnn.layers.pooling import Pooling
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.layers.table import CellName, recurrent

from .frame_networks import FrameCNN, features_of, from_class_path
from .joints import Feature, VectorFeatures
from .spec import VideoSpec


@dataclass(frozen=True)
class NetworkOptions:
    """The classifier's arguments that shape the network; see :class:`VideoClassifier` for each."""

    cell: CellName
    hidden_size: int
    num_layers: int
    bidirectional: bool
    pooling: list[Pooling]
    frame_network: dict[str, Any] | None
    freeze: bool
    conv_channels: list[int]
    frame_size: int | None
    features: list[Feature]
    normalize: bool
    input_dropout: float
    layer_dropout: float
    dropout: float


class FrameFeatures(nn.Module):
    """A module applied to every valid frame of clips, at once: padding is never seen, not by statistics either.

    Args:
        network: one vector for each frame.
        shape: of a frame.
        freeze: in evaluation mode and without gradient, also while the rest trains.
    """

    def __init__(self, network: nn.Module, shape: list[int], freeze: bool) -> None:
        super().__init__()
        self.output_size = features_of(network, shape)
        self.every = TimeDistributed(network, at_once=True)
        self.freeze, self.axes = freeze, len(shape) + 2
        if freeze:
            self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> FrameFeatures:
        """As any module, but frozen ones stay in evaluation mode."""
        super().train(mode and not self.freeze)
        return self

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x [B, T, ...]``, ``mask [B, T]`` bool → ``[B, T, F]``; padding is 0. Bytes are scaled to 0..1."""
        with torch.no_grad() if self.freeze else nullcontext():
            rows = x.flatten(0, 1)
            if mask is None:
                return self._vectors(rows).view(*x.shape[:2], -1)
            place = mask.flatten().nonzero().squeeze(1)
            found = self._vectors(rows.index_select(0, place))
            flat = found.new_zeros(len(rows), self.output_size).index_copy(0, place, found)
            return flat.view(*mask.shape, -1)

    def _vectors(self, frames: Tensor) -> Tensor:
        """``[N, ...]`` → ``[N, F]``; all frames as one long clip, so that its one batch is over frames."""
        frames = frames if frames.is_floating_point() else frames.to(torch.get_default_dtype()) / 255
        vectors: Tensor = self.every(frames.unsqueeze(0)).squeeze(0)
        return vectors


class RecurrentStack(nn.Module):
    """Recurrent layers of any cell on top of each other, in one or both directions, dropout between them."""

    def __init__(self, input_size: int, options: NetworkOptions) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        width = input_size
        for _ in range(options.num_layers):
            layer: SequenceLayer = recurrent(options.cell, width, options.hidden_size)
            self.layers.append(Bidirectional(layer) if options.bidirectional else layer)
            width = options.hidden_size * (1 + options.bidirectional)
        self.between, self.output_size = LockedDropout(options.layer_dropout), width

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """``x [B, T, D]`` → outputs of all steps ``[B, T, H]`` and of the last one ``[B, H]``."""
        last = x.new_zeros(0)
        for place, layer in enumerate(self.layers):
            output = layer(self.between(x) if place else x, lengths=lengths)
            x, last = output.sequence, output.last
        return x, last


class VideoNetwork(nn.Module):
    """Clip → class scores ``[B, C]``.

    Args:
        spec: the data it is for.
        options: its shape.
    """

    def __init__(self, spec: VideoSpec, options: NetworkOptions) -> None:
        super().__init__()
        self.is_frames = spec.kind == "frames"
        self.vectors = None if self.is_frames else _vectors(spec, options)
        shape = spec.shape if self.vectors is None else [self.vectors.output_size]
        self.norm = None if self.vectors is None else MaskedBatchNorm(shape[0])
        network = _frame_network(shape, options)
        self.frames = None if network is None else FrameFeatures(network, shape, options.freeze)
        width = shape[0] if self.frames is None else self.frames.output_size
        self.input_dropout = LockedDropout(options.input_dropout)
        self.rnn = RecurrentStack(width, options)
        self.pooling = SequencePooling(self.rnn.output_size, options.pooling)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(self.pooling.output_size, len(spec.class_names))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Class scores, before softmax.

        Args:
            x: frames ``[B, T, C, H, W]`` (bytes, or float in 0..1) or vectors float ``[B, T, D]``; in place of frames
                also what :attr:`frames` made of them, ``[B, T, F]``.
            lengths: int64 ``[B]``.
        """
        mask = None if lengths is None else sequence_mask(lengths, x.shape[1])
        if self.vectors is not None and self.norm is not None:
            x = self.norm(self.vectors(x, mask), mask)
        if self.frames is not None and x.ndim == self.frames.axes:
            x = self.frames(x, mask)
        sequence, last = self.rnn(self.input_dropout(x), lengths)
        pooled = self.pooling(sequence, lengths, last=last)
        scores: Tensor = self.head(self.dropout(pooled))
        return scores


def _vectors(spec: VideoSpec, options: NetworkOptions) -> VectorFeatures:
    return VectorFeatures(spec.shape[0], options.features, spec.joints, options.normalize)


def _frame_network(shape: list[int], options: NetworkOptions) -> nn.Module | None:
    """The network of a frame; None where vectors go to the recurrent layers as they are."""
    if options.frame_network is not None:
        return from_class_path(options.frame_network)
    if len(shape) == 3:
        return FrameCNN(shape, options.conv_channels, options.frame_size or 64)
    return None if options.frame_size is None else nn.Sequential(nn.Linear(shape[0], options.frame_size), nn.ReLU())

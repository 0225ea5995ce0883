"""The network: embedding or scaling, convolutions where asked for, a recurrent stack, pooling, a linear head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_rnn import GRU, LSTM, SimpleRNN
from lightning_rnn.functional import sequence_mask
from lightning_rnn.functional.cells import Activation
from lightning_rnn.layers import ConvBlock, LockedDropout, RecurrentLayer, SequencePooling, SeriesScaling
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.pooling import Pooling
from lightning_rnn.layers.series import Scale
from .data import ClassificationSpec

Cell = Literal["simple_rnn", "lstm", "gru"]
CELLS: dict[Cell, type[RecurrentLayer]] = {"simple_rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}


@dataclass(frozen=True)
class NetworkOptions:
    """The classifier's arguments that shape the network; see :class:`SequenceClassifier` for each."""

    cell: Cell
    hidden_size: int
    num_layers: int
    bidirectional: bool
    activation: Activation
    initializer: Initializer
    pooling: list[Pooling]
    embedding_size: int
    scale: Scale
    conv_channels: list[int]
    conv_kernels: list[int]
    input_dropout: float
    layer_dropout: float
    dropout: float
    batch_norm: bool


class SequenceClassifierNetwork(nn.Module):
    """Sequence → class scores ``[B, C]``.

    Args:
        spec: the data it is for.
        options: its shape.

    Attributes:
        rnn: the recurrent stack.
    """

    def __init__(self, spec: ClassificationSpec, options: NetworkOptions) -> None:
        super().__init__()
        self.embedding: nn.Embedding | None = None
        self.scaling: SeriesScaling | None = None
        if spec.kind == "text":
            self.embedding = nn.Embedding(spec.features, options.embedding_size, padding_idx=0)
            width = options.embedding_size
        else:
            self.scaling = SeriesScaling(options.scale, spec.mean or [], spec.std or [])
            width = spec.features
        self.convolutions = nn.ModuleList()
        for channels, kernel in zip(options.conv_channels, options.conv_kernels, strict=True):
            self.convolutions.append(ConvBlock(width, channels, kernel))
            width = channels
        self.input_dropout = LockedDropout(options.input_dropout)
        self.rnn = CELLS[options.cell](
            width,
            options.hidden_size,
            options.num_layers,
            activation=options.activation,
            bidirectional=options.bidirectional,
            layer_dropout=options.layer_dropout,
            initializer=options.initializer,
        )
        self.pooling = SequencePooling(self.rnn.output_size, options.pooling)
        width = self.pooling.output_size
        self.norm = nn.BatchNorm1d(width) if options.batch_norm else nn.Identity()
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(width, len(spec.class_names))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Class scores, before softmax.

        Args:
            x: token ids int64 ``[B, T]``, or float ``[B, T, D]``.
            lengths: int64 ``[B]``.
        """
        mask = None if lengths is None else sequence_mask(lengths, x.shape[1])
        if self.embedding is not None:
            x = self.embedding(x)
        elif self.scaling is not None:
            x = self.scaling(x, mask)
        for block in self.convolutions:
            x = block(x, mask)
        output = self.rnn(self.input_dropout(x), lengths=lengths)
        scores: Tensor = self.head(self.dropout(self.norm(self.pooling(output, lengths))))
        return scores


def shift_images(x: Tensor, most: int) -> Tensor:
    """Each sequence ``[B, T, D]`` moved by up to ``most`` steps and features at random, zeros moving in."""
    b, t, d = x.shape
    padded = nn.functional.pad(x, (most, most, most, most))
    dt, dd = torch.randint(0, 2 * most + 1, (2, b, 1), device=x.device)
    rows = (dt + torch.arange(t, device=x.device)).unsqueeze(2)
    columns = (dd + torch.arange(d, device=x.device)).unsqueeze(1)
    return padded[torch.arange(b, device=x.device).reshape(-1, 1, 1), rows, columns]

"""What every decoder shares: how it starts, what it gives, how its output is read out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnn.errors import require
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.table import CellName
from lightning_rnn.seq2seq.attention import AttentionKind, AttentionOptions
from lightning_rnn.seq2seq.bridges import Bridge, BridgeKind, Encoded
from lightning_rnn.types import Nest


class DecoderOutput(NamedTuple):
    """What a decoder gives for all steps.

    Attributes:
        sequence: ``[B, T, O]``.
        weights: attention of each step, ``[B, T, S]``; None without attention.
        state: after the last step, leaves ``[B, ...]``.
    """

    sequence: Tensor
    weights: Tensor | None
    state: Nest


@dataclass(frozen=True)
class DecoderOptions:
    """What shapes a decoder beside its kind.

    Attributes:
        cell: of all layers, see :func:`lightning_rnn.layers.table.recurrent`.
        hidden_size: features of each layer, ``H``.
        num_layers: how many.
        dropout: share of the features dropped between layers while training.
        output_dropout: share of the output's features dropped while training; what is fed back keeps them.
        residual: what enters a layer after the first is added to its output, the context left out (Wu et al. 2016,
            arXiv 1609.08144, section 3.1).
        attention: which, see :func:`lightning_rnn.seq2seq.build_attention`; of kind ``none``: none.
        attention_size: features inside the attention; None: as its kind has it.
        attention_options: what some kinds of attention let one choose.
        bridge: from the encoder's state, see :func:`lightning_rnn.seq2seq.bridges.build_bridge`.
        readout_size: features of the output of a layer ``tanh(W [...] + b)``; None: ``hidden_size`` where the kind
            ends in such a layer, else there is none.
        initializer: of SimpleRNN, LSTM and GRU.
    """

    cell: CellName = "lstm"
    hidden_size: int = 256
    num_layers: int = 1
    dropout: float = 0.0
    output_dropout: float = 0.0
    residual: bool = False
    attention: AttentionKind = "bahdanau"
    attention_size: int | None = None
    attention_options: AttentionOptions | None = None
    bridge: BridgeKind = "zero"
    readout_size: int | None = None
    initializer: Initializer | None = None

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers"):
            value = getattr(self, name)
            require(value >= 1, f"{name} of the decoder must be at least 1, got {value}")
        for name in ("dropout", "output_dropout"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} of the decoder must be at least 0 and below 1, got {value}")


class Decoder(nn.Module, ABC):
    """Writes a sequence, having read another.

    Args:
        output_size: features of the output, ``O``.
        bridge: from the encoder's state to the decoder's.
        output_dropout: share of the output's features dropped while training.
    """

    def __init__(self, output_size: int, bridge: Bridge, output_dropout: float) -> None:
        super().__init__()
        self.output_size, self.bridge = output_size, bridge
        self.output_dropout = nn.Dropout(output_dropout)

    @abstractmethod
    def start(self, encoded: Encoded) -> tuple[Nest, Nest]:
        """The state before the first step and the constants, leaves ``[B, ...]``.

        Raises:
            ValueError: the encoder's state is not nested as was told.
        """

    @abstractmethod
    def forward(self, x: Tensor, state: Nest, constants: Nest, *, lengths: Tensor | None = None) -> DecoderOutput:
        """All steps of inputs that are known: teacher forcing.

        Args:
            x: ``[B, T, D]``.
            state: from :meth:`start`, leaves ``[B, ...]``.
            constants: from :meth:`start`, leaves ``[B, ...]``.
            lengths: integers ``[B]``, real steps of the target. They change nothing at real steps, only the layers'
                state returned: without them it is that after the last column.
        """

    @abstractmethod
    def step(self, x: Tensor, state: Nest, constants: Nest) -> tuple[Tensor, Tensor | None, Nest]:
        """One step of ``x [N, D]``: output ``[N, O]``, attention ``[N, S]`` or None, the new state.

        ``N`` is a multiple of the ``B`` rows of the constants, rows of one sentence adjacent. Leaves of the state are
        ``[N, ...]``.
        """


class Readout(nn.Module):
    r"""What is read out of several parts: :math:`\tanh(W [p_1; p_2; \dots] + b)`.

    Args:
        sizes: features of the parts.
        size: features of the output.

    Example:
        >>> Readout([3, 4], 5)(torch.zeros(2, 7, 3), torch.zeros(2, 7, 4)).shape
        torch.Size([2, 7, 5])
    """

    def __init__(self, sizes: list[int], size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(sizes), size)

    def forward(self, *parts: Tensor) -> Tensor:
        """``[..., O]`` of parts ``[..., D_i]``."""
        return torch.tanh(self.linear(torch.cat(parts, -1) if len(parts) > 1 else parts[0]))

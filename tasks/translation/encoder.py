"""The encoder: recurrent layers of any cell over the source."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_rnn.layers import Bidirectional
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.table import LAYERS, CellName, recurrent
from lightning_rnn.types import State


def directed(
    cell: CellName, input_size: int, hidden_size: int, bidirectional: bool, initializer: Initializer | None = None
) -> nn.Module:
    """One recurrent layer, or two that read in both directions, side by side.

    Raises:
        ConfigError: there is no such cell, or it has no such initializer.

    Example:
        >>> import torch
        >>> directed("mgu", 3, 5, bidirectional=True)(torch.zeros(2, 7, 3)).sequence.shape
        torch.Size([2, 7, 10])
    """
    if cell in LAYERS:  # one call for both directions
        kind = LAYERS[cell]
        return kind(input_size, hidden_size, bidirectional=bidirectional, initializer=initializer or "torch")
    layer = recurrent(cell, input_size, hidden_size, initializer=initializer)
    return Bidirectional(layer) if bidirectional else layer


class Encoder(nn.Module):
    """Layers on top of each other.

    Args:
        cell: of the layers, see :func:`lightning_rnn.layers.table.recurrent`.
        input_size: features of a source token.
        hidden_size: units of each layer and direction.
        num_layers: how many.
        bidirectional: whether each reads in both directions (Bahdanau et al. 2015, section 3.2).
        dropout: share of the features dropped between layers.
        initializer: of the recurrent weights, for SimpleRNN, LSTM and GRU.

    Raises:
        ConfigError: see :func:`directed`.

    Example:
        >>> import torch
        >>> sequence, states = Encoder("lstm", 3, 5, num_layers=2)(torch.zeros(2, 7, 3), torch.tensor([7, 4]))
        >>> sequence.shape, len(states)
        (torch.Size([2, 7, 10]), 2)
    """

    def __init__(
        self,
        cell: CellName,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        initializer: Initializer | None = None,
    ) -> None:
        super().__init__()
        self.output_size = hidden_size * (2 if bidirectional else 1)
        sizes = [input_size, *[self.output_size] * (num_layers - 1)]
        self.layers = nn.ModuleList(directed(cell, size, hidden_size, bidirectional, initializer) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """The outputs of the last layer and the states of all.

        Args:
            x: ``[B, S, D]``.
            lengths: int64 ``[B]``.

        Returns:
            outputs ``[B, S, M]``, and the layers' final states in a tuple; of one layer without the tuple.
        """
        states = []
        for i, layer in enumerate(self.layers):
            output = layer(self.dropout(x) if i else x, lengths=lengths)
            x = output.sequence
            states.append(output.state)
        return x, tuple(states) if len(states) > 1 else states[0]

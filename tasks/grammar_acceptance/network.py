"""The network: symbols one-hot or numbers as they are, recurrent layers, a head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.errors import require
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.table import CellName, recurrent
from lightning_rnn.types import Nest

from .spec import GrammarSpec


@dataclass(frozen=True)
class NetworkOptions:
    """The arguments of :class:`GrammarModel` that shape the network; see there."""

    cell: CellName = "lstm"
    hidden_size: int = 64
    num_layers: int = 1
    initializer: Initializer | None = None
    activation: str | None = None
    forget_bias: float | None = None
    bias: bool = True
    freeze_recurrent: bool = False
    head_size: int = 0


class GrammarNetwork(nn.Module):
    """Sequence → scores ``[B, T, O]`` at every step, or ``[B, O]`` at the end.

    Args:
        spec: the data it is for.
        options: its shape.
        each_step: whether scores are put out at every step.

    Example:
        >>> import torch
        >>> network = GrammarNetwork(GrammarSpec(symbols=8, outputs=8), NetworkOptions())
        >>> scores, state = network(torch.zeros(2, 5, dtype=torch.int64))
        >>> scores.shape, state.h.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 64]))
    """

    def __init__(self, spec: GrammarSpec, options: NetworkOptions, each_step: bool = True) -> None:
        super().__init__()
        self.symbols, self.each_step = spec.symbols, each_step
        self.rnn = recurrent(
            options.cell,
            spec.symbols - 1 if spec.symbols else spec.features,
            options.hidden_size,
            options.num_layers,
            initializer=options.initializer,
            activation=options.activation,
            forget_bias=options.forget_bias,
            bias=options.bias,
        )
        if options.freeze_recurrent:
            freeze_recurrent(self.rnn)
        width = options.head_size or options.hidden_size
        hidden = [nn.Linear(options.hidden_size, width), nn.ReLU()] if options.head_size else []
        self.head = nn.Sequential(*hidden, nn.Linear(width, spec.outputs))

    def forward(self, x: Tensor, lengths: Tensor | None = None, state: Nest | None = None) -> tuple[Tensor, Nest]:
        """Scores, before softmax or sigmoid, and the last state.

        Args:
            x: ids int64 ``[B, T]``, or float ``[B, T, D]``.
            lengths: int64 ``[B]``.
            state: where to go on from.
        """
        output = self.rnn(self.embed(x), state, lengths=lengths)
        return self.head(output.sequence if self.each_step else output.last), output.state

    def embed(self, x: Tensor) -> Tensor:
        """What the recurrent layers read: the numbers, or one-hot symbols; the id 0 (start, blank) is all zeros."""
        if not self.symbols:
            return x
        dtype = next(self.rnn.parameters()).dtype
        return F.one_hot(x, self.symbols)[..., 1:].to(dtype)


def freeze_recurrent(rnn: nn.Module) -> None:
    """Keep the recurrent matrices as they start.

    Raises:
        ConfigError: there are none.

    Example:
        >>> from lightning_rnn import LSTM
        >>> layer = LSTM(3, 5)
        >>> freeze_recurrent(layer)
        >>> [name for name, parameter in layer.named_parameters() if parameter.requires_grad]
        ['weight_ih_l0', 'bias_ih_l0', 'bias_hh_l0']
    """
    matrices = [parameter for name, parameter in rnn.named_parameters() if "weight_hh" in name]
    require(bool(matrices), "model.freeze_recurrent: this cell has no recurrent matrix: leave it out")
    for matrix in matrices:
        matrix.requires_grad_(False)

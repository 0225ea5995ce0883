"""Recurrent layers by the name of their cell, for options and configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch

from lightning_rnn.errors import ConfigError
from lightning_rnn.functional import StepOptions
from lightning_rnn.layers.gated_cells import CIFGCell, IndRNNCell, MGUCell, NASCell, UGRNNCell
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.layer_norm_cells import LayerNormGRUCell, LayerNormLSTMCell
from lightning_rnn.layers.minimal_cells import MinGRU, MinGRUCell, MinLSTM, MinLSTMCell
from lightning_rnn.layers.recurrent import GRU, LSTM, RecurrentLayer, SimpleRNN
from lightning_rnn.layers.rnn import RNN
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.layers.special_cells import SLSTMCell

CellName = Literal[
    "simple_rnn",
    "lstm",
    "gru",
    "min_gru",
    "min_lstm",
    "ind_rnn",
    "mgu",
    "ugrnn",
    "cifg",
    "nas",
    "slstm",
    "layer_norm_lstm",
    "layer_norm_gru",
]
LAYERS: dict[str, type[RecurrentLayer]] = {"simple_rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}
PARALLEL: dict[str, Callable[..., RNN]] = {"min_gru": MinGRU, "min_lstm": MinLSTM}
CELLS: dict[str, Callable[..., Any]] = {
    "min_gru": MinGRUCell,
    "min_lstm": MinLSTMCell,
    "ind_rnn": IndRNNCell,
    "mgu": MGUCell,
    "ugrnn": UGRNNCell,
    "cifg": CIFGCell,
    "nas": NASCell,
    "slstm": SLSTMCell,
    "layer_norm_lstm": LayerNormLSTMCell,
    "layer_norm_gru": LayerNormGRUCell,
}


def recurrent(
    cell: CellName,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    initializer: Initializer | None = None,
    activation: str | None = None,
    forget_bias: float | None = None,
    bias: bool = True,
) -> SequenceLayer:
    """One or more recurrent layers of a kind of cell.

    Args:
        cell: which; ``simple_rnn``, ``lstm`` and ``gru`` run on the fast kernels, ``min_gru`` and ``min_lstm`` (one
            layer) as a parallel scan, the others as a loop.
        input_size: features of the input.
        hidden_size: features of the output.
        num_layers: layers on top of each other.
        initializer: of the first three, see :func:`lightning_rnn.layers.initializers.initialize`; None: ``torch``.
        activation: of the first three; None: tanh.
        bias: whether there are bias vectors.
        forget_bias: of ``lstm``: bias of the forget gates of every layer at the start; None: as the initializer has it.

    Raises:
        ConfigError: there is no such cell, or one that does not take ``initializer``, ``activation`` or
            ``forget_bias`` is given it.

    Example:
        >>> recurrent("gru", 3, 5, initializer="keras")
        GRU(3, 5, num_layers=1)
        >>> import torch
        >>> recurrent("mgu", 3, 5, 2)(torch.zeros(2, 7, 3)).sequence.shape
        torch.Size([2, 7, 5])
    """
    if cell not in get_args(CellName):
        raise ConfigError(f"no cell is called {cell!r}: use {', '.join(get_args(CellName))}")
    if cell != "lstm" and forget_bias is not None:
        raise ConfigError(f"the cell {cell} has no forget_bias to choose: leave it out, or use lstm")
    if cell in LAYERS:
        layer = LAYERS[cell](
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            initializer=initializer or "torch",
            step_options=None if activation is None else StepOptions(activation=activation),
        )
        return layer if forget_bias is None else _with_forget_bias(layer, forget_bias)
    for name, given in (("initializer", initializer), ("activation", activation)):
        if given is not None:
            raise ConfigError(f"the cell {cell} has no {name} to choose: leave it out, or use {', '.join(LAYERS)}")
    if cell in PARALLEL and num_layers == 1:
        return PARALLEL[cell](input_size, hidden_size, bias=bias)
    sizes = (input_size, *[hidden_size] * (num_layers - 1))
    cells = [CELLS[cell](size, hidden_size, bias=bias) for size in sizes]
    return RNN(cells if num_layers > 1 else cells[0])


@torch.no_grad()
def _with_forget_bias(layer: RecurrentLayer, bias: float) -> RecurrentLayer:
    """An LSTM whose forget gates (the second of four blocks) have this bias in all."""
    for name, parameter in layer.named_parameters():
        if "bias" in name:
            parameter.chunk(4)[1].fill_(bias if "bias_ih" in name else 0.0)
    return layer

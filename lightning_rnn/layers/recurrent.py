"""SimpleRNN, LSTM and GRU: torch's weights and names, lengths and masks as arguments."""

from __future__ import annotations

from typing import ClassVar, get_args

import torch
from torch import Tensor, nn

from lightning_rnn.functional import sequence_mask
from lightning_rnn.functional.cells import Activation
from lightning_rnn.layers.engines import (
    KINDS,
    CellKind,
    Engine,
    EngineChoice,
    Run,
    Weights,
    choose,
    run_fused,
    run_scan,
)
from lightning_rnn.layers.initializers import Initializer, initialize
from lightning_rnn.types import LSTMState, RNNOutput, State


class RecurrentLayer(nn.Module):
    """What the three layers share. A subclass names its row of the table of cells and nothing else.

    Args:
        input_size: features of the input, ``D``.
        hidden_size: features of the output, ``H``.
        num_layers: layers stacked on each other.
        activation: ``tanh`` or ``relu``, in place of the tanh of the equations.
        bias: whether there are bias vectors.
        bidirectional: a second direction from the end to the start; outputs are side by side, ``2H``.
        layer_dropout: share of the outputs dropped between layers while training (torch's ``dropout``).
        zero_output_for_mask: outputs of masked steps are zero; else they repeat the last valid one.
        initializer: ``torch``, ``keras`` or ``chrono``, see :func:`lightning_rnn.layers.initializers.initialize`.
        engine: ``auto``, ``fused`` or ``scan``; anything but auto raises rather than fall back.

    Parameters have the names, shapes and gate order of ``torch.nn``: a ``state_dict`` moves both ways.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        activation: Activation = "tanh",
        bias: bool = True,
        bidirectional: bool = False,
        layer_dropout: float = 0.0,
        zero_output_for_mask: bool = False,
        initializer: Initializer = "torch",
        engine: Engine = "auto",
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if size < 1:
                raise ValueError(f"{type(self).__name__}: {name} must be at least 1, got {size}")
        if not 0 <= layer_dropout <= 1:
            raise ValueError(f"{type(self).__name__}: layer_dropout must be between 0 and 1, got {layer_dropout}")
        for name, value, allowed in (
            ("activation", activation, get_args(Activation)),
            ("initializer", initializer, get_args(Initializer)),
            ("engine", engine, get_args(Engine)),
        ):
            if value not in allowed:
                raise ValueError(f"{type(self).__name__}: {name} must be one of {', '.join(allowed)}, got {value!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.activation, self.bias, self.bidirectional, self.layer_dropout = (
            activation,
            bias,
            bidirectional,
            layer_dropout,
        )
        self.zero_output_for_mask, self.initializer, self.engine = zero_output_for_mask, initializer, engine
        rows = self._kind.gates * hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else self.output_size
            for suffix in self._suffixes(layer):
                self.register_parameter(f"weight_ih{suffix}", nn.Parameter(torch.empty(rows, width)))
                self.register_parameter(f"weight_hh{suffix}", nn.Parameter(torch.empty(rows, hidden_size)))
                if bias:
                    self.register_parameter(f"bias_ih{suffix}", nn.Parameter(torch.empty(rows)))
                    self.register_parameter(f"bias_hh{suffix}", nn.Parameter(torch.empty(rows)))
        self.reset_parameters()

    @property
    def _kind(self) -> CellKind:
        return KINDS[self.kind]

    @property
    def output_size(self) -> int:
        """Features of the output: ``H``, or ``2H`` when bidirectional."""
        return self.hidden_size * (2 if self.bidirectional else 1)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"] if self.bidirectional else [f"_l{layer}"]

    def _weights(self, suffix: str) -> Weights:
        biases = [getattr(self, f"bias_{name}{suffix}") if self.bias else None for name in ("ih", "hh")]
        return Weights(getattr(self, f"weight_ih{suffix}"), getattr(self, f"weight_hh{suffix}"), *biases)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for layer in range(self.num_layers):
            for suffix in self._suffixes(layer):
                ih, hh, *biases = self._weights(suffix)
                initialize(self.initializer, self.kind, ih, hh, [b for b in biases if b is not None])

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"
        return text + (", bidirectional=True" if self.bidirectional else "")

    def explain(
        self, x: Tensor, state: State | None = None, *, lengths: Tensor | None = None, mask: Tensor | None = None
    ) -> EngineChoice:
        """The engine that ``forward`` with these arguments runs on, and why.

        Example:
            >>> GRU(3, 5).explain(torch.zeros(2, 7, 3)).engine
            'fused'
        """
        self._check(x, lengths, mask)
        return choose(self.engine, self._kind, self.activation, mask)

    def forward(
        self, x: Tensor, state: State | None = None, *, lengths: Tensor | None = None, mask: Tensor | None = None
    ) -> RNNOutput:
        """Run over a batch.

        Args:
            x: ``[B, T, D]`` in the dtype of the weights; ``T = 0`` is legal.
            state: initial state in the structure of ``RNNOutput.state``, each tensor ``[B, H]``; None is zero.
            lengths: integers ``[B]``, valid steps of each row, padding on the right; 0 is legal.
            mask: bool ``[B, T]``, True where a step is valid, any pattern. Not with ``lengths``.

        Raises:
            ValueError: a shape does not fit, a length is outside 0..T (checked on the CPU only, as a GPU would have to
                be waited for), both ``lengths`` and ``mask``, or ``engine="fused"`` cannot run the call.
            TypeError: wrong dtype of ``x``, ``state``, ``lengths`` or ``mask``.
        """
        choice = self.explain(x, state, lengths=lengths, mask=mask)
        initial = self._initial(x, state)
        if mask is None and lengths is not None and choice.engine == "scan":
            mask = sequence_mask(lengths, x.shape[1])
        finals: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.layer_dropout:
                x = nn.functional.dropout(x, self.layer_dropout, self.training)
            outputs, lasts, states = [], [], []
            for direction, suffix in enumerate(self._suffixes(layer)):
                run = Run(self._kind, self.activation, bool(direction), self.zero_output_for_mask)
                weights, start = self._weights(suffix), initial[layer][direction]
                if choice.engine == "fused":
                    output, last, final = run_fused(run, x, start, weights, lengths)
                else:
                    output, last, final = run_scan(run, x, start, weights, mask)
                outputs.append(output)
                lasts.append(last)
                states.append(LSTMState(*final) if self._kind.states > 1 else final[0])
            x = torch.cat(outputs, dim=-1) if self.bidirectional else outputs[0]
            finals.append(tuple(states) if self.bidirectional else states[0])
        last = torch.cat(lasts, dim=-1) if self.bidirectional else lasts[0]
        return RNNOutput(x, tuple(finals) if self.num_layers > 1 else finals[0], last)

    def _check(self, x: Tensor, lengths: Tensor | None, mask: Tensor | None) -> None:
        """Shapes and dtypes, before any kernel is called: the kernels themselves do not check."""
        name, dtype = type(self).__name__, self._weights("_l0").ih.dtype
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"{name}: expected x of shape [B, T, {self.input_size}], got {list(x.shape)}")
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"{name}: x is {x.dtype}, the weights are {dtype}; convert one of them with .to()")
        if lengths is not None and mask is not None:
            raise ValueError(f"{name}: give lengths or mask, not both")
        if lengths is not None:
            if lengths.shape != x.shape[:1]:
                raise ValueError(f"{name}: expected lengths of shape [{x.shape[0]}], got {list(lengths.shape)}")
            if lengths.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
                raise TypeError(f"{name}: lengths must be integers, got {lengths.dtype}")
            if not lengths.is_cuda and lengths.numel() and not torch.compiler.is_compiling():
                low, high = int(lengths.min()), int(lengths.max())
                if low < 0 or high > x.shape[1]:
                    raise ValueError(f"{name}: lengths must be in 0..{x.shape[1]} (T), got {low}..{high}")
        if mask is not None:
            if mask.shape != x.shape[:2]:
                raise ValueError(f"{name}: expected mask of shape {list(x.shape[:2])}, got {list(mask.shape)}")
            if mask.dtype != torch.bool:
                raise TypeError(f"{name}: mask must be bool, True where a step is valid, got {mask.dtype}")

    def _initial(self, x: Tensor, state: State | None) -> list[list[tuple[Tensor, ...]]]:
        """The initial state as ``[layer][direction]`` tuples of tensors, checked."""
        directions = 2 if self.bidirectional else 1
        if state is None:
            zero = x.new_zeros(x.shape[0], self.hidden_size)
            return [[(zero,) * self._kind.states] * directions] * self.num_layers
        layers = _members(self, state, self.num_layers, "layers") if self.num_layers > 1 else (state,)
        return [
            [
                self._direction_state(x, one)
                for one in (_members(self, layer, 2, "directions") if self.bidirectional else (layer,))
            ]
            for layer in layers
        ]

    def _direction_state(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        parts = (state,) if isinstance(state, Tensor) else tuple(state)
        name, shape = type(self).__name__, [x.shape[0], self.hidden_size]
        if len(parts) != self._kind.states or not all(isinstance(part, Tensor) for part in parts):
            wanted = "an LSTMState(h, c)" if self._kind.states > 1 else "one tensor h"
            raise TypeError(
                f"{name}: the state of one layer and direction must be {wanted}, got {type(state).__name__}"
            )
        tensors = tuple(part for part in parts if isinstance(part, Tensor))
        for tensor in tensors:
            if list(tensor.shape) != shape:
                raise ValueError(f"{name}: expected states of shape {shape} ([B, H]), got {list(tensor.shape)}")
            if tensor.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
                raise TypeError(f"{name}: the state is {tensor.dtype}, x is {x.dtype}")
            if tensor.device != x.device:
                raise ValueError(f"{name}: the state is on {tensor.device}, x on {x.device}")
        return tensors


def _members(layer: nn.Module, state: State, count: int, what: str) -> tuple[State, ...]:
    if isinstance(state, (Tensor, LSTMState)) or len(state) != count:
        raise ValueError(f"{type(layer).__name__}: expected a state tuple of {count} {what}")
    return state


class SimpleRNN(RecurrentLayer):
    r"""Elman's network, :math:`h_t = \phi(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})`; state ``h [B, H]``.

    Arguments are those of :class:`RecurrentLayer`; weights those of ``torch.nn.RNN``.

    Example:
        >>> out = SimpleRNN(28, 150)(torch.zeros(4, 28, 28), lengths=torch.tensor([28, 3, 1, 0]))
        >>> out.last.shape
        torch.Size([4, 150])
    """

    kind = "simple_rnn"


class LSTM(RecurrentLayer):
    """Long short-term memory, :func:`lightning_rnn.functional.lstm_step`; state :class:`LSTMState` ``(h, c)``.

    Arguments are those of :class:`RecurrentLayer`; weights those of ``torch.nn.LSTM``.

    Example:
        >>> output, (forward, backward) = LSTM(28, 64, bidirectional=True)(torch.zeros(4, 28, 28))
        >>> output.shape, backward.c.shape
        (torch.Size([4, 28, 128]), torch.Size([4, 64]))
    """

    kind = "lstm"


class GRU(RecurrentLayer):
    """Gated recurrent unit, :func:`lightning_rnn.functional.gru_step`; state ``h [B, H]``.

    Arguments are those of :class:`RecurrentLayer`; weights those of ``torch.nn.GRU``.

    Example:
        >>> output, (first, second) = GRU(28, 64, num_layers=2)(torch.zeros(4, 28, 28))
        >>> second.shape
        torch.Size([4, 64])
    """

    kind = "gru"

"""ConvLSTM and ConvGRU cells: one step over images, whose products with the weights are convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.functional.options import Activation, activation
from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cell import Cell
from lightning_rnn.layers.convolutional_steps import (
    CONVOLVE,
    ConvGates,
    ConvKind,
    Function,
    Padding,
    Window,
    conv_gru_step,
    conv_lstm_step,
)
from lightning_rnn.layers.gates import collect, create
from lightning_rnn.layers.initializers import initialize
from lightning_rnn.layers.options import Regularization
from lightning_rnn.types import LSTMState, Nest, State


class ConvCell(Cell):
    """What the convolutional cells share. A subclass names its row of the table and nothing else.

    Args:
        in_channels: channels of the input, ``C``; None: taken from the first input.
        out_channels: channels of the output, ``F`` (Keras' ``filters``).
        kernel_size: of both convolutions; a number, or one for each spatial axis.
        dimensions: spatial axes: 1, 2 or 3.
        stride: of the input convolution; the recurrent one always has 1.
        padding: of the input convolution: ``valid`` (none) or ``same`` as TensorFlow has it, for any kernel and stride.
            The recurrent one always has ``same``.
        dilation: of the input convolution; not together with ``stride``.
        bias: whether the input convolution has a bias.
        activation: of the candidate and of the output.
        recurrent_activation: of the gates.
        unit_forget_bias: ConvLSTM: the forget gate's bias starts at 1, else 0.
        dropout: share of the input dropped.
        recurrent_dropout: share of the state dropped before the recurrent convolution. Both draw one mask
            ``[B, channels, *spatial]`` for each gate, the same at every step of a call.

    Parameters are ``weight_ih [G*F, C, *kernel]``, ``weight_hh [G*F, F, *kernel]`` and ``bias_ih [G*F]``; they start as
    in Keras (Glorot-uniform, orthogonal, zero). Images may change their size from call to call.
    """

    kind: ClassVar[ConvKind]
    _sizes: tuple[int, ...] | None = None  # of the last input: what the size of a state follows from

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        dimensions: int = 2,
        stride: int | Sequence[int] = 1,
        padding: Padding = "valid",
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        unit_forget_bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if dimensions not in CONVOLVE:
            raise ValueError(f"{name}: dimensions must be 1, 2 or 3, got {dimensions}")
        if padding not in get_args(Padding):
            raise ValueError(f"{name}: padding must be one of {', '.join(get_args(Padding))}, got {padding!r}")
        for what, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: {what} must be at least 1, got {value}")
        self.out_channels, self.dimensions, self.padding, self.bias = out_channels, dimensions, padding, bias
        self.kernel_size = per_axis(f"{name}: kernel_size", kernel_size, dimensions)
        self.stride = per_axis(f"{name}: stride", stride, dimensions)
        self.dilation = per_axis(f"{name}: dilation", dilation, dimensions)
        if max(self.stride) > 1 and max(self.dilation) > 1:
            raise ValueError(f"{name}: stride {self.stride} and dilation {self.dilation}: only one may be above 1")
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self._functions()  # refuses unknown names
        noise = Regularization(dropout=dropout, recurrent_dropout=recurrent_dropout)  # refuses what is no share
        self.dropout, self.recurrent_dropout = noise.dropout, noise.recurrent_dropout
        self.unit_forget_bias = unit_forget_bias
        self.build(in_channels)

    @property
    def in_channels(self) -> int | None:
        """Channels of the input, None before they are known."""
        size: int | None = self.input_size
        return size

    @property
    def output_size(self) -> int:
        """Channels of the output."""
        return self.out_channels

    def _functions(self) -> tuple[Function, Function]:
        return activation(self.activation), activation(self.recurrent_activation)

    def _window(self) -> Window:
        return Window(self.kernel_size, self.stride, self.dilation, self.padding)

    def build(self, input_size: Any) -> Self:
        """Make the parameters for inputs of ``C`` channels, or of the shape ``(C, *sizes)``; None waits."""
        if isinstance(input_size, (tuple, list)):
            self._see(tuple(input_size))
            input_size = input_size[0]
        return super().build(input_size)

    def create(self, input_size: int) -> None:
        rows = self.kind.gates * self.out_channels
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, input_size, *self.kernel_size),
            "weight_hh": (rows, self.out_channels, *self.kernel_size),
        }
        create(self, shapes | {"bias_ih": (rows,)} if self.bias else shapes)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        w = collect(self)
        biases = [] if w.bias_ih is None else [w.bias_ih]
        initialize("keras", self.kind.name, w.weight_ih, w.weight_hh, biases)
        if not self.unit_forget_bias:
            for bias in biases:
                bias.zero_()

    def size_of(self, x: Nest) -> int:
        """``C``; takes note of the spatial sizes, which the initial state depends on."""
        ranks = self.dimensions + 2, self.dimensions + 3
        if not isinstance(x, Tensor) or x.ndim not in ranks:
            got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"{type(self).__name__}: expected a tensor [B, C, *sizes] or [B, T, C, *sizes] with {self.dimensions} "
                f"sizes, got {got}"
            )
        shape = tuple(x.shape[-self.dimensions - 1 :])
        self._see(shape)
        return shape[0]

    def _see(self, shape: tuple[int, ...]) -> None:
        name, sizes = type(self).__name__, shape[1:]
        if len(sizes) != self.dimensions:
            raise ValueError(f"{name}: expected a shape (C, *sizes) with {self.dimensions} sizes, got {shape}")
        if min(self._window().places(sizes)) < 1:
            raise ValueError(
                f"{name}: images of {list(sizes)} are smaller than the kernel {list(self.kernel_size)} with dilation "
                f"{list(self.dilation)}; padding='same' takes any size"
            )
        self._sizes = sizes

    def bind(self, x: Nest, batch: int) -> Stepper:
        weights, sizes = collect(self), tuple(x.shape[-self.dimensions :])

        def mask(share: float, *shape: int) -> Tensor | None:
            if not share or not self.training:
                return None
            return F.dropout(weights.weight_hh.new_ones(batch, self.kind.gates, *shape), share)

        window = self._window()
        dropped_input = mask(self.dropout, weights.weight_ih.shape[1], *sizes)
        dropped = mask(self.recurrent_dropout, self.out_channels, *window.places(sizes))
        return ConvGates(self.kind, weights, window, *self._functions(), dropped_input, dropped)

    def _quiet(self) -> ConvGates:
        return ConvGates(self.kind, collect(self), self._window(), *self._functions())

    def project(self, x: Nest) -> Nest:
        return self._quiet().project(x)

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        return self._quiet().step(projected, state)

    def initial_state(self, batch: int) -> State:
        """Zeros ``[B, F, *places]`` for images as large as those of the last input.

        Raises:
            ValueError: there was none yet.
        """
        name = type(self).__name__
        if self._sizes is None:
            raise ValueError(f"{name}: the size of the images is not known before a call; say build((C, *sizes))")
        h = self.zeros(batch, self.out_channels, *self._window().places(self._sizes))
        return h if self.kind.states == 1 else LSTMState(h, torch.zeros_like(h))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


def per_axis(what: str, value: int | Sequence[int], dimensions: int) -> tuple[int, ...]:
    """One number for each spatial axis."""
    numbers = (value,) * dimensions if isinstance(value, int) else tuple(value)
    if len(numbers) != dimensions or min(numbers) < 1:
        raise ValueError(f"{what} must be a number of at least 1, or {dimensions} of them, got {value}")
    return numbers


class ConvLSTMCell(ConvCell):
    """One step of :class:`ConvLSTM2d` or its siblings; state :class:`LSTMState` ``(h, c)``, see :func:`conv_lstm_step`.

    Example:
        >>> output, (h, c) = ConvLSTMCell(3, 5, 3)(torch.zeros(2, 3, 8, 8))
        >>> c.shape
        torch.Size([2, 5, 6, 6])
    """

    kind = ConvKind("lstm", 4, 2, conv_lstm_step)


class ConvGRUCell(ConvCell):
    """One step of :class:`ConvGRU2d`; state ``h``, see :func:`conv_gru_step`.

    Example:
        >>> output, h = ConvGRUCell(3, 5, 3, dimensions=1, padding="same", stride=2)(torch.zeros(2, 3, 9))
        >>> h.shape
        torch.Size([2, 5, 5])
    """

    kind = ConvKind("gru", 3, 1, conv_gru_step)

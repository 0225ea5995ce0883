"""ConvLSTM and ConvGRU: recurrent layers over images, whose products with the weights are convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.functional import Weights
from lightning_rnn.functional.options import Activation, activation
from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cell import Cell
from lightning_rnn.layers.config import to_config
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.gates import collect, create
from lightning_rnn.layers.initializers import initialize
from lightning_rnn.layers.options import Regularization, TimeOptions
from lightning_rnn.layers.rnn import RNN
from lightning_rnn.types import LSTMState, Nest, State

Padding = Literal["valid", "same"]
Recurrent = Callable[[Tensor, int, int], Tensor]  # the convolution of a state with the weights of gates first to last
Function = Callable[[Tensor], Tensor]
CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class Window:
    r"""How a kernel goes over its input. Every field has one entry for each spatial axis.

    The output has :math:`\lfloor (n - d (k - 1) - 1) / s \rfloor + 1` places. With ``same`` it has
    :math:`\lceil n / s \rceil`, for which zeros are put around the input, the odd one at its end (TensorFlow's rule).

    Example:
        >>> Window((2, 3), (1, 2), padding="same").margins((5, 5))
        [(0, 1), (1, 1)]
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...] = (1, 1, 1)
    padding: Padding = "valid"

    def margins(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Zeros before and after the input, for each axis of these sizes."""
        if self.padding == "valid":
            return [(0, 0)] * len(sizes)
        axes = zip(sizes, self.kernel, self.stride, self.dilation, strict=False)
        total = [max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in axes]
        return [(zeros // 2, zeros - zeros // 2) for zeros in total]

    def places(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Sizes of the output for an input of these sizes."""
        axes = zip(sizes, self.kernel, self.stride, self.dilation, self.margins(sizes), strict=False)
        return tuple((n + sum(zeros) - d * (k - 1) - 1) // s + 1 for n, k, s, d, zeros in axes)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int = 1) -> Tensor:
        """``x [N, C, *sizes]`` with ``weight [O, C / groups, *kernel]`` → ``[N, O, *places]``."""
        rank = weight.ndim - 2
        margins = self.margins(x.shape[2:])
        if any(before != after for before, after in margins):
            x = F.pad(x, [zeros for pair in reversed(margins) for zeros in pair])
            margins = [(0, 0)] * rank
        around = [before for before, _ in margins]
        return CONVOLVE[rank](x, weight, bias, self.stride[:rank], around, self.dilation[:rank], groups)


def conv_lstm_step(x_t: Tensor, state: Nest, recurrent: Recurrent, phi: Function, sigma: Function) -> LSTMState:
    r"""One step of a convolutional LSTM (Shi et al. 2015, arXiv 1506.04214, eq. 3 without peepholes; Keras).

    :math:`i, f, o = \sigma(W * x + U * h + b),\ g = \phi(W * x + U * h + b),\ c' = f c + i g,\ h' = o\,\phi(c')`, where
    :math:`*` is a convolution.

    Args:
        x_t: :math:`W * x + b`, ``[B, 4F, *places]`` in the order i, f, g, o.
        state: ``(h, c)``, each ``[B, F, *places]``.
        recurrent: ``recurrent(h, 0, 4)`` is :math:`U * h`.
        phi: of the candidate and the output.
        sigma: of the gates.

    Example:
        >>> h, c = torch.zeros(1, 1, 3), torch.ones(1, 1, 3)
        >>> x_t, none = torch.zeros(1, 4, 3), lambda h, a, b: 0 * h.repeat(1, b - a, 1)
        >>> conv_lstm_step(x_t, (h, c), none, torch.tanh, torch.sigmoid).c
        tensor([[[0.5000, 0.5000, 0.5000]]])
    """
    h, c = state
    i, f, g, o = (x_t + recurrent(h, 0, 4)).chunk(4, dim=1)
    c = sigma(f) * c + sigma(i) * phi(g)
    return LSTMState(sigma(o) * phi(c), c)


def conv_gru_step(x_t: Tensor, state: Nest, recurrent: Recurrent, phi: Function, sigma: Function) -> Tensor:
    r"""One step of a convolutional GRU (Ballas et al. 2015, arXiv 1511.06432, eq. 12-15).

    :math:`z, r = \sigma(W * x + U * h + b),\ n = \phi(W * x + U * (r h) + b),\ h' = (1 - z) h + z n`. As in the paper
    the update gate lets in what is new; :class:`GRU`'s keeps what is old, so it is the same with :math:`1 - z`.

    Args:
        x_t: :math:`W * x + b`, ``[B, 3F, *places]`` in the order r, z, n.
        state: ``h [B, F, *places]``.
        recurrent: ``recurrent(h, 0, 2)`` is :math:`U * h` for r and z, ``recurrent(r * h, 2, 3)`` for n.
        phi: of the candidate.
        sigma: of the gates.

    Example:
        >>> x_t, none = torch.zeros(1, 3, 3), lambda h, a, b: 0 * h.repeat(1, b - a, 1)
        >>> conv_gru_step(x_t, torch.ones(1, 1, 3), none, torch.tanh, torch.sigmoid)
        tensor([[[0.5000, 0.5000, 0.5000]]])
    """
    h: Tensor = state
    x_r, x_z, x_n = x_t.chunk(3, dim=1)
    h_r, h_z = recurrent(h, 0, 2).chunk(2, dim=1)
    r, z = sigma(x_r + h_r), sigma(x_z + h_z)
    n = phi(x_n + recurrent(r * h, 2, 3))
    return (1 - z) * h + z * n


class ConvKind(NamedTuple):
    """One row of the table of convolutional cells."""

    name: str
    gates: int
    states: int
    step: Callable[[Tensor, Nest, Recurrent, Function, Function], Nest]


@dataclass(frozen=True, eq=False)
class ConvGates:
    """A convolutional cell made ready for one call: weights, windows, the noise drawn.

    Attributes:
        kind: its row of the table.
        weights: parameters.
        window: of the input convolution.
        phi: activation of the candidate.
        sigma: activation of the gates.
        dropped_input: input dropout, ``[B, G, C, *sizes]``, the same at every step.
        dropped: recurrent dropout, ``[B, G, F, *places]``, the same at every step.
    """

    kind: ConvKind
    weights: Weights
    window: Window
    phi: Function
    sigma: Function
    dropped_input: Tensor | None = None
    dropped: Tensor | None = None

    def project(self, x: Nest) -> Tensor:
        """The input convolution of one step ``[B, C, *sizes]`` or of all ``[B, T, C, *sizes]`` at once."""
        w = self.weights
        wanted, got = w.weight_ih.shape[1], x.shape[1 - w.weight_ih.ndim]
        if got != wanted:
            raise ValueError(f"expected inputs of {wanted} channels, got {got} in {list(x.shape)}")
        lead, groups = x.shape[: 1 - w.weight_ih.ndim], 1
        if self.dropped_input is not None:
            mask = self.dropped_input.unsqueeze(1) if len(lead) > 1 else self.dropped_input
            x, groups = (x.unsqueeze(len(lead)) * mask).flatten(len(lead), len(lead) + 1), self.kind.gates
        y = self.window.convolve(x.flatten(0, len(lead) - 1), w.weight_ih, w.bias_ih, groups)
        return y.reshape(*lead, *y.shape[1:])

    def recurrent(self, h: Tensor, first: int, last: int) -> Tensor:
        """The recurrent convolution for the gates ``first`` to ``last``: stride 1, the size stays."""
        weight, groups = self.weights.weight_hh, 1
        size = weight.shape[1]
        if self.dropped is not None:
            h, groups = (h.unsqueeze(1) * self.dropped[:, first:last]).flatten(1, 2), last - first
        window = Window(self.window.kernel, (1, 1, 1), padding="same")
        return window.convolve(h, weight[first * size : last * size], groups=groups)

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, Nest]:
        h = state if self.kind.states == 1 else state[0]
        if h.shape[2:] != projected.shape[2:]:
            raise ValueError(
                f"the state has places {list(h.shape[2:])}, the input convolution gives {list(projected.shape[2:])}"
            )
        new = self.kind.step(projected, state, self.recurrent, self.phi, self.sigma)
        return (new if self.kind.states == 1 else new[0]), new


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


class ConvRNN(RNN):
    """A convolutional cell over time. A subclass names the cell and the number of spatial axes and nothing else.

    Args:
        in_channels: channels of the input, ``C``; None: taken from the first input.
        out_channels: channels of the output, ``F`` (Keras' ``filters``).
        kernel_size: of both convolutions; a number, or one for each spatial axis.
        stride: of the input convolution; the recurrent one always has 1.
        padding: of the input convolution: ``valid`` (none) or ``same``; the recurrent one always has ``same``.
        dilation: of the input convolution; not together with ``stride``.
        bias: whether the input convolution has a bias.
        activation: of the candidate and of the output.
        recurrent_activation: of the gates.
        unit_forget_bias: ConvLSTM: the forget gate's bias starts at 1, else 0.
        dropout: share of the input dropped, a mask for each gate, the same at every step.
        recurrent_dropout: share of the state dropped before the recurrent convolution, likewise.
        reverse: from the last step to the first (Keras' ``go_backwards``); outputs are in the order of processing.
        stateful: the final state is where the next call starts; see :meth:`reset_states`.
        zero_output_for_mask: outputs of masked steps are zero; else they repeat the last valid one.
        time_options: unrolling, checkpoints, axis order, states of all steps.
        engine: ``auto`` or ``scan``; no fused kernel computes these layers.

    ``x`` is ``[B, T, C, *sizes]`` (channels first, where Keras has them last), states are ``[B, F, *places]``. ``cell``
    holds the parameters, see :class:`ConvCell`.
    """

    cell_class: ClassVar[type[ConvCell]]
    dimensions: ClassVar[int]
    cell: ConvCell

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = "valid",
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        unit_forget_bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reverse: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        time_options: TimeOptions | None = None,
        engine: Engine = "auto",
    ) -> None:
        cell = self.cell_class(
            in_channels,
            out_channels,
            kernel_size,
            dimensions=self.dimensions,
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=bias,
            activation=activation,
            recurrent_activation=recurrent_activation,
            unit_forget_bias=unit_forget_bias,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
        )
        super().__init__(
            cell,
            reverse=reverse,
            stateful=stateful,
            zero_output_for_mask=zero_output_for_mask,
            time_options=time_options,
            engine=engine,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data: the cell's and those of time."""
        config = self.cell.get_config()
        del config["dimensions"]  # the class says it
        return config | {
            "reverse": self.reverse,
            "stateful": self.stateful,
            "zero_output_for_mask": self.zero_output_for_mask,
            "time_options": to_config(self.time_options),
            "engine": self.engine,
        }

    def _ready(self, x: Nest, constants: Any = None) -> Stepper:
        if not isinstance(x, Tensor) or x.ndim != self.dimensions + 3:
            got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"{type(self).__name__}: expected x [B, T, C, *sizes], {self.dimensions + 3} axes, got {got}"
            )
        return super()._ready(x, constants)


class ConvLSTM1d(ConvRNN):
    """Convolutional LSTM over series of channels ``[B, T, C, L]``, see :class:`ConvRNN` and :func:`conv_lstm_step`.

    Example:
        >>> sequence, (h, c) = ConvLSTM1d(3, 5, 3)(torch.zeros(2, 4, 3, 8))
        >>> sequence.shape, c.shape
        (torch.Size([2, 4, 5, 6]), torch.Size([2, 5, 6]))
    """

    cell_class, dimensions = ConvLSTMCell, 1


class ConvLSTM2d(ConvRNN):
    """Convolutional LSTM over images ``[B, T, C, height, width]``, see :class:`ConvRNN` and :func:`conv_lstm_step`.

    Example:
        >>> sequence, (h, c) = ConvLSTM2d(3, 5, 3, padding="same")(torch.zeros(2, 4, 3, 8, 9))
        >>> sequence.shape, c.shape
        (torch.Size([2, 4, 5, 8, 9]), torch.Size([2, 5, 8, 9]))
    """

    cell_class, dimensions = ConvLSTMCell, 2


class ConvLSTM3d(ConvRNN):
    """Convolutional LSTM over volumes ``[B, T, C, depth, height, width]``, see :class:`ConvRNN`.

    Example:
        >>> sequence, (h, c) = ConvLSTM3d(3, 5, (1, 2, 2), stride=2)(torch.zeros(2, 4, 3, 5, 6, 6))
        >>> sequence.shape, c.shape
        (torch.Size([2, 4, 5, 3, 3, 3]), torch.Size([2, 5, 3, 3, 3]))
    """

    cell_class, dimensions = ConvLSTMCell, 3


class ConvGRU2d(ConvRNN):
    """Convolutional GRU over images ``[B, T, C, height, width]``, see :class:`ConvRNN` and :func:`conv_gru_step`.

    Example:
        >>> sequence, h = ConvGRU2d(3, 5, 3)(torch.zeros(2, 4, 3, 8, 9))
        >>> sequence.shape, h.shape
        (torch.Size([2, 4, 5, 6, 7]), torch.Size([2, 5, 6, 7]))
    """

    cell_class, dimensions = ConvGRUCell, 2

"""Convolutional gates: how a kernel goes over images, and one step of ConvLSTM and ConvGRU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.functional import Weights
from lightning_rnn.types import LSTMState, Nest

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
        >>> import torch
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
        >>> import torch
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

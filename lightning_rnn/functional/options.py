"""What can be varied in one step of a cell, and the activations by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = str | Callable[[Tensor], Tensor]
LayerNorm = Literal["none", "addons", "haste", "basic"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": lambda x: F.relu6(x + 3) / 6,  # Keras 3; F.hardsigmoid has its gradient in float32 alone
    "hard_sigmoid_keras2": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),  # Keras 2, TF1, ONNX
    "linear": lambda x: x,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "relu6": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),  # Keras' slope
    "softplus": F.softplus,
    "softsign": F.softsign,
    "mish": F.mish,
    "exponential": torch.exp,
    "hard_tanh": F.hardtanh,
    "softmax": lambda x: x.softmax(-1),
}


def activation(name: Activation) -> Callable[[Tensor], Tensor]:
    """The function of a name; a function is returned as it is.

    Raises:
        ValueError: no activation has that name.
    """
    if callable(name):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation is called {name!r}; there are {', '.join(ACTIVATIONS)}, or give a function")
    return ACTIVATIONS[name]


aten = torch.ops.aten
_Write = Callable[[Tensor, Tensor], Tensor]
_Slope = Callable[[Tensor, Tensor, Tensor], Tensor]


class Derivative(NamedTuple):
    """An activation whose derivative is known by hand.

    Attributes:
        write: ``write(x, out)`` computes it into ``out``, which may be ``x``.
        slope: ``slope(grad, kept, out)`` computes ``grad * derivative`` into ``out``.
        of_output: whether the derivative follows from the output, so that ``kept`` is that; else it is the input.
    """

    write: _Write
    slope: _Slope
    of_output: bool = True


def _write(name: str) -> _Write:
    return lambda x, out: out.copy_(ACTIVATIONS[name](x))


def _inside(low: float, high: float, scale: float = 1.0) -> _Slope:
    def slope(grad: Tensor, kept: Tensor, out: Tensor) -> Tensor:
        inside = (kept > low) & (kept < high)
        return torch.mul(grad, inside if scale == 1 else inside.to(grad.dtype) * scale, out=out)

    return slope


DERIVATIVES: dict[str, Derivative] = {
    "tanh": Derivative(
        lambda x, out: torch.tanh(x, out=out), lambda g, y, out: aten.tanh_backward.grad_input(g, y, grad_input=out)
    ),
    "sigmoid": Derivative(
        lambda x, out: torch.sigmoid(x, out=out),
        lambda g, y, out: aten.sigmoid_backward.grad_input(g, y, grad_input=out),
    ),
    "relu": Derivative(lambda x, out: torch.clamp(x, min=0, out=out), lambda g, y, out: torch.mul(g, y > 0, out=out)),
    "hard_sigmoid": Derivative(_write("hard_sigmoid"), _inside(0, 1, 1 / 6)),
    "hard_sigmoid_keras2": Derivative(_write("hard_sigmoid_keras2"), _inside(0, 1, 0.2)),
    "linear": Derivative(lambda x, out: out.copy_(x), lambda g, y, out: out.copy_(g)),
    "elu": Derivative(
        _write("elu"), lambda g, y, out: aten.elu_backward.grad_input(g, 1, 1, 1, True, y, grad_input=out)
    ),
    "selu": Derivative(
        _write("selu"),
        lambda g, y, out: aten.elu_backward.grad_input(
            g, 1.6732632423543772, 1.0507009873554805, 1, True, y, grad_input=out
        ),
    ),
    "gelu": Derivative(
        _write("gelu"), lambda g, x, out: aten.gelu_backward.grad_input(g, x, grad_input=out), of_output=False
    ),
    "silu": Derivative(
        _write("silu"), lambda g, x, out: aten.silu_backward.grad_input(g, x, grad_input=out), of_output=False
    ),
    "relu6": Derivative(_write("relu6"), _inside(0, 6)),
    "leaky_relu": Derivative(
        _write("leaky_relu"), lambda g, y, out: aten.leaky_relu_backward.grad_input(g, y, 0.2, True, grad_input=out)
    ),
    "softplus": Derivative(
        _write("softplus"),
        lambda g, x, out: aten.softplus_backward.grad_input(g, x, 1, 20, grad_input=out),
        of_output=False,
    ),
    "softsign": Derivative(_write("softsign"), lambda g, y, out: torch.mul(g, (1 - y.abs()).square_(), out=out)),
    "mish": Derivative(
        _write("mish"), lambda g, x, out: out.copy_(aten.mish_backward(g.contiguous(), x.contiguous())), of_output=False
    ),
    "exponential": Derivative(lambda x, out: torch.exp(x, out=out), lambda g, y, out: torch.mul(g, y, out=out)),
    "hard_tanh": Derivative(_write("hard_tanh"), _inside(-1, 1)),
}


def derivative(name: Activation) -> Derivative | None:
    """How an activation is computed with its derivative; None for functions, and for softmax, which mixes features."""
    return DERIVATIVES.get(name) if isinstance(name, str) else None


@dataclass(frozen=True)
class StepOptions:
    """Variants of the equations of one step. Which a cell knows is in its row of the table of cells.

    Attributes:
        activation: of the candidate and of the output; a name in ``ACTIVATIONS`` or a function.
        recurrent_activation: of the gates.
        reset_after: GRU: the reset gate multiplies the product (cuDNN's form) or, False, the state before it (the
            paper's form, Cho et al. 2014, arXiv 1406.1078).
        peephole: LSTM: gates see the memory through a diagonal (Gers and Schmidhuber 2000; Sak et al. 2014, eq. 1-6).
        layer_norm: LSTM: ``addons`` (input and recurrent products normalized apart, the normalized memory is stored),
            ``haste`` (gains only, memory stored as it is, normalized where it is read) or ``basic`` (TF1's
            ``LayerNormBasicLSTMCell``: each gate's sum, and the stored memory); GRU: ``haste``; SimpleRNN: ``addons``.
        layer_norm_eps: added to the variance; None: the variant's own.
        cell_clip: LSTM: memory is clipped to ± this.
        proj_clip: LSTM: the projected output is clipped to ± this.
    """

    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    reset_after: bool = True
    peephole: bool = False
    layer_norm: LayerNorm = "none"
    layer_norm_eps: float | None = None
    cell_clip: float | None = None
    proj_clip: float | None = None

    def __post_init__(self) -> None:
        activation(self.activation)
        activation(self.recurrent_activation)
        for name in ("cell_clip", "proj_clip", "layer_norm_eps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, or None for none, got {value}")


@dataclass(frozen=True)
class NormForm:
    """What a named variant of layer normalization does.

    Attributes:
        apart: input and recurrent products are normalized each for itself, else their sum.
        groups: blocks that are normalized each for itself.
        shift: whether there is an offset beside the gain.
        memory: the memory is normalized where it is ``read``, or before it is ``stored``, or not.
        eps: added to the variance.
    """

    apart: bool
    groups: int
    shift: bool
    memory: Literal["none", "read", "stored"]
    eps: float


NORMS: dict[tuple[str, str], NormForm] = {
    ("simple_rnn", "addons"): NormForm(False, 1, False, "none", 1e-5),
    ("lstm", "addons"): NormForm(True, 1, True, "stored", 1e-3),
    ("lstm", "haste"): NormForm(True, 1, False, "read", 1e-5),
    ("lstm", "basic"): NormForm(False, 4, True, "stored", 1e-12),
    ("gru", "haste"): NormForm(True, 1, False, "none", 1e-5),
}

"""What can be varied in one step of a cell, and the activations by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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

"""What the ONNX operators compute of our options: gates, activations, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lightning_rnn.functional.options import ACTIVATIONS, activation
from lightning_rnn.layers import RecurrentLayer
from lightning_rnn.layers.gates import collect


class Operator(NamedTuple):
    """One row of the table of operators.

    Attributes:
        name: of the ONNX operator.
        order: where each of its gates stands in ours.
        activations: which of our options each of its activations is.
    """

    name: str
    order: tuple[int, ...]
    activations: tuple[Literal["activation", "recurrent_activation"], ...]


OPERATORS = {
    "simple_rnn": Operator("RNN", (0,), ("activation",)),
    "lstm": Operator("LSTM", (0, 3, 1, 2), ("recurrent_activation", "activation", "activation")),  # i o f c
    "gru": Operator("GRU", (1, 0, 2), ("recurrent_activation", "activation")),  # z r h
}


FUNCTIONS: dict[str, tuple[str, dict[str, float]]] = {
    "tanh": ("Tanh", {}),
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_sigmoid_keras2": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    "linear": ("Affine", {"alpha": 1.0, "beta": 0.0}),
    "elu": ("Elu", {"alpha": 1.0}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
}


def activations_of(layer: RecurrentLayer, operator: Operator) -> dict[str, Any]:
    """Attributes; alphas and betas are listed for those functions alone that have them."""
    found = [FUNCTIONS[function_of(getattr(layer.step_options, name))] for name in operator.activations]
    found *= layer._directions
    attributes: dict[str, Any] = {"activations": [name for name, _ in found]}
    for name in ("alpha", "beta"):
        values = [constants[name] for _, constants in found if name in constants]
        if values:
            attributes[f"activation_{name}"] = values
    return attributes


def function_of(given: str | Callable[[Tensor], Tensor]) -> str:
    """The name of an activation, also where the function itself was given; empty where ONNX has none."""
    function = activation(given)
    return next((name for name in FUNCTIONS if ACTIVATIONS[name] is function), "")


def weight_of(layer: RecurrentLayer) -> Tensor:
    """A weight that every layer has, of the dtype of all."""
    return collect(layer, "_l0").weight_ih


def check(layer: RecurrentLayer, state: bool) -> None:
    """Refuse what no graph of these operators computes."""
    if not isinstance(layer, RecurrentLayer):
        raise TypeError(f"ONNX export takes a SimpleRNN, LSTM or GRU, got {type(layer).__name__}")
    name, options = type(layer).__name__, layer.step_options
    if layer.input_size is None:
        raise ValueError(f"{name}: there are no weights yet: call build(input_size), or the layer once, before")
    refused = [
        f"{which}={getattr(options, which)!r}"
        for which in dict.fromkeys(OPERATORS[layer.kind].activations)
        if not function_of(getattr(options, which))
    ]
    given = {
        "proj_size": layer.proj_size,
        "layer_norm": options.layer_norm != "none",
        "cell_clip (ONNX clips what enters the activations, not the memory)": options.cell_clip,
        "zoneout": layer.regularization.zoneout,
        "return_all_states": layer.time_options.return_all_states,
        "kept state: export a stateful layer with state=True and hand the state on": layer.stateful and not state,
        f"weights of {weight_of(layer).dtype} here, only of float16, float32 and float64": weight_of(layer).dtype
        not in (torch.float16, torch.float32, torch.float64),
    }
    refused += [what for what, there in given.items() if there]
    if refused:
        raise ValueError(f"{name}: the ONNX operator has no {', no '.join(refused)}")

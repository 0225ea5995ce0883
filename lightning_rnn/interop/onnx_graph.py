"""The nodes of a layer: its operators, and what stands around them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_rnn.functional import Weights
from lightning_rnn.interop.onnx_operators import OPERATORS, Operator, activations_of
from lightning_rnn.layers import RecurrentLayer
from lightning_rnn.layers.gates import collect

Array = NDArray[Any]


@dataclass
class Graph:
    """Nodes ``(operator, inputs, outputs, attributes)`` and constants, by name."""

    dtype: np.dtype[Any]
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def add(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """One node with one output, and the name of that."""
        out = out or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append((operator, list(inputs), [out], attributes))
        return out

    def constant(self, name: str, values: Array) -> str:
        self.constants[name] = values
        return name

    def weights(self, name: str, tensors: list[Tensor]) -> str:
        """One tensor of each direction, on top of each other."""
        return self.constant(name, torch.stack(tensors).detach().cpu().numpy())

    def integers(self, values: int | list[int]) -> str:
        name = f"int64_{values}".replace(", ", "_").replace("-", "minus_").replace("[", "of_").replace("]", "")
        return self.constant(name, np.array(values, dtype=np.int64))

    def zero(self) -> str:
        return self.constant("zero", np.zeros((), self.dtype))


def add_layer(
    graph: Graph, layer: RecurrentLayer, index: int, x: str, lens: str, starts: list[str]
) -> tuple[str, list[str]]:
    """One layer on ``x [T, B, D]``: ``[T, B, H * directions]`` and its final states, direction by direction."""
    operator = OPERATORS[layer.kind]
    suffixes, size = layer._suffixes(index), layer.sizes[index]
    weights = [collect(layer, suffix) for suffix in suffixes]
    states = layer._kind.states
    stacked = [_stack(graph, starts[i::states]) for i in range(states)]
    inputs = [x, *_parameters(graph, operator, weights, index), lens, *stacked]
    if layer.step_options.peephole:
        peepholes = [w.weight_ch[[0, 2, 1]].flatten() for w in weights if w.weight_ch is not None]  # i o f
        inputs.append(graph.weights(f"P_l{index}", peepholes))
    while not inputs[-1]:
        inputs.pop()
    outputs = [f"{name}_l{index}" for name in ("Y", "Y_h", "Y_c")[: states + 1]]
    direction = "bidirectional" if layer.bidirectional else "reverse" if layer.reverse else "forward"
    attributes = {"hidden_size": size, "direction": direction, **activations_of(layer, operator)}
    if operator.name == "GRU":
        attributes["linear_before_reset"] = int(layer.step_options.reset_after)
    graph.nodes.append((operator.name, inputs, outputs, attributes))
    sequence = graph.add("Transpose", outputs[0], perm=[0, 2, 1, 3])
    sequence = graph.add("Reshape", sequence, graph.integers([0, 0, size * len(suffixes)]))
    finals = []
    for d in range(len(suffixes)):
        for i, name in enumerate(outputs[1:]):
            end, start = graph.add("Gather", name, graph.integers(d), axis=0), starts[d * states + i]
            finals.append(graph.add("Where", _some(graph), end, start) if lens and start else end)
    return sequence, finals


def _parameters(graph: Graph, operator: Operator, weights: list[Weights], index: int) -> list[str]:
    """``W [dirs, G*H, D]``, ``R [dirs, G*H, H]`` and ``B [dirs, 2*G*H]`` with the gates in ONNX' order."""

    def ordered(tensor: Tensor) -> Tensor:
        gates = tensor.chunk(len(operator.order))
        return torch.cat([gates[i] for i in operator.order])

    names = [
        graph.weights(f"W_l{index}", [ordered(w.weight_ih) for w in weights]),
        graph.weights(f"R_l{index}", [ordered(w.weight_hh) for w in weights]),
    ]
    biases = [
        torch.cat([ordered(w.bias_ih), ordered(w.bias_hh)])
        for w in weights
        if w.bias_ih is not None and w.bias_hh is not None
    ]
    return [*names, graph.weights(f"B_l{index}", biases) if biases else ""]


def state_names(layer: RecurrentLayer, when: str) -> list[str]:
    """``initial_h_l0``, ``initial_c_l0``, ``initial_h_l0_reverse`` and so on."""
    parts = ("h", "c")[: layer._kind.states]
    suffixes = [suffix for index in range(layer.num_layers) for suffix in layer._suffixes(index)]
    return [f"{when}_{part}{suffix}" for suffix in suffixes for part in parts]


def starts_of(graph: Graph, layer: RecurrentLayer, index: int, x: str, state: bool) -> list[str]:
    """Names of one layer's initial states ``[B, H]``, empty where they are zero."""
    count = layer._directions * layer._kind.states
    if state:
        return state_names(layer, "initial")[index * count : (index + 1) * count]
    if layer.start == "zeros":
        return [""] * count
    batch = graph.add("Gather", graph.add("Shape", x), graph.integers([1]), axis=0)
    shape = graph.add("Concat", batch, graph.integers([1]), axis=0)
    names = [f"{part}0{suffix}" for suffix in layer._suffixes(index) for part in ("h", "c")[: layer._kind.states]]
    return [graph.add("Expand", graph.weights(name, [getattr(layer, name)]), shape) for name in names]


def _stack(graph: Graph, names: list[str]) -> str:
    """``[directions, B, H]`` of each direction's ``[B, H]``."""
    if not names[0]:
        return ""
    parts = [graph.add("Unsqueeze", name, graph.integers([0])) for name in names]
    return graph.add("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]


def _some(graph: Graph) -> str:
    """``[B, 1]``: rows of at least one step. onnxruntime returns zeros, not the initial state, for the others."""
    lens = graph.add("Unsqueeze", "sequence_lens", graph.integers([1]))
    return graph.add("Greater", lens, graph.constant("int32_0", np.zeros((), np.int32)))


def fill(graph: Graph, layer: RecurrentLayer, x: str) -> str:
    """Masked steps of ``x [T, B, H]``: zero, or the last valid output where a forward direction repeats it."""
    lens = graph.add("Cast", "sequence_lens", to=7)  # int64
    steps = graph.add("Gather", graph.add("Shape", x), graph.integers(0), axis=0)
    time = graph.add("Range", graph.integers(0), steps, graph.integers(1))
    time = graph.add("Unsqueeze", time, graph.integers([1, 2]))
    lens = graph.add("Unsqueeze", lens, graph.integers([1]))
    zeroed = graph.add("Where", graph.add("Less", time, lens), x, graph.zero())
    if layer.zero_output_for_mask or layer.reverse:
        return zeroed
    last = graph.add("Max", graph.add("Sub", lens, graph.integers(1)), graph.integers(0))
    index = graph.add("Expand", graph.add("Min", time, last), graph.add("Shape", x))
    repeated = graph.add("Where", _some(graph), graph.add("GatherElements", x, index, axis=0), graph.zero())
    if not layer.bidirectional:
        return repeated
    forward = np.arange(layer.output_size) < layer.output_size // 2  # the other half ends at t = 0
    return graph.add("Where", graph.constant("forward", forward), repeated, zeroed)

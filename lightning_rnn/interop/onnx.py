"""Layers as ONNX models: each layer is the one RNN, LSTM or GRU operator, with peepholes, lengths and activations.

Equations and layouts: the operators' schemas, https://onnx.ai/onnx/operators/onnx__LSTM.html and its siblings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.functional import Weights
from lightning_rnn.functional.options import ACTIVATIONS, activation
from lightning_rnn.layers import RecurrentLayer
from lightning_rnn.layers.gates import collect

if TYPE_CHECKING:
    from onnx import ModelProto

Array = NDArray[Any]
OLDEST = 14  # the operators' outputs and what stands around them are the same from here on


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


def export(
    layer: RecurrentLayer, path: str | PathLike[str], *, opset: int = 17, lengths: bool = False, state: bool = False
) -> None:
    """Write a layer as an ONNX model, as it computes in eval mode; batch and time are free.

    Inputs are ``x [B, T, D]`` (``[T, B, D]`` of a ``time_major`` layer), with ``lengths`` also ``sequence_lens [B]``
    int32, with ``state`` also ``initial_h_l0 [B, H]``, ``initial_c_l0``, ``initial_h_l0_reverse`` and so on. Outputs
    are ``sequence`` in the axis order of ``x`` and ``final_h_l0 [B, H]`` and so on; states come in the order of the
    leaves of ``RNNOutput.state``. Without ``state`` the initial one is the layer's: zeros, or learned.

    Args:
        layer: a SimpleRNN, LSTM or GRU.
        path: of the file to write.
        opset: version of the operators, 14 or newer.
        lengths: rows have lengths of their own, 0 included; what padding puts out is as in the layer.
        state: the initial state is an input.

    Raises:
        ImportError: the ``onnx`` package is not installed.
        TypeError: ``layer`` is another module.
        ValueError: the layer has options that the operators have not, each named; it has no weights yet; the
            ``opset`` is too old or unknown.

    onnxruntime 1.32 on the CPU: these operators have no float64; ``B = 0`` ends the process, and so does ``T = 0`` in a
    GRU without ``lengths``; final states of ``T = 0`` are the initial ones with ``lengths``, else zeros.
    """
    model = to_model(layer, opset=opset, lengths=lengths, state=state)
    import onnx

    onnx.save(model, str(path))


def to_model(layer: RecurrentLayer, *, opset: int = 17, lengths: bool = False, state: bool = False) -> ModelProto:
    """The checked model that :func:`export` writes; arguments and errors are the same.

    Example:
        >>> from lightning_rnn import GRU
        >>> model = to_model(GRU(3, 5, num_layers=2, bidirectional=True), lengths=True)
        >>> [node.op_type for node in model.graph.node].count("GRU")
        2
        >>> [value.name for value in model.graph.output][:3]
        ['sequence', 'final_h_l0', 'final_h_l0_reverse']
    """
    _check(layer, state)
    graph = _Graph(np.dtype(str(_weight(layer).dtype).removeprefix("torch.")))
    x = "x" if layer.time_options.time_major else graph.add("Transpose", "x", perm=[1, 0, 2])
    lens = "sequence_lens" if lengths else ""
    finals = []
    for index in range(layer.num_layers):
        skip = layer.residual and (index > 0 or layer.input_size == layer.output_size)
        outputs, ends = _layer(graph, layer, index, x, lens, _starts(graph, layer, index, x, state))
        x = graph.add("Add", outputs, x) if skip else outputs
        finals += ends
    if lengths:
        x = _fill(graph, layer, x)
    if layer.reverse and not layer.time_options.keep_order:
        first, beyond = graph.integers([-1]), graph.integers([np.iinfo(np.int64).min])
        x = graph.add("Slice", x, first, beyond, graph.integers([0]), graph.integers([-1]))
    if not layer.time_options.time_major:
        x = graph.add("Transpose", x, perm=[1, 0, 2])
    graph.add("Identity", x, out="sequence")
    for name, final in zip(_names(layer, "final"), finals, strict=True):
        graph.add("Identity", final, out=name)
    return _assemble(graph, layer, opset, lengths, state)


@dataclass
class _Graph:
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


def _layer(
    graph: _Graph, layer: RecurrentLayer, index: int, x: str, lens: str, starts: list[str]
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
    attributes = {"hidden_size": size, "direction": direction, **_activations(layer, operator)}
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


def _parameters(graph: _Graph, operator: Operator, weights: list[Weights], index: int) -> list[str]:
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


def _activations(layer: RecurrentLayer, operator: Operator) -> dict[str, Any]:
    """Attributes; alphas and betas are listed for those functions alone that have them."""
    found = [FUNCTIONS[_function(getattr(layer.step_options, name))] for name in operator.activations]
    found *= layer._directions
    attributes: dict[str, Any] = {"activations": [name for name, _ in found]}
    for name in ("alpha", "beta"):
        values = [constants[name] for _, constants in found if name in constants]
        if values:
            attributes[f"activation_{name}"] = values
    return attributes


def _function(given: str | Callable[[Tensor], Tensor]) -> str:
    """The name of an activation, also where the function itself was given; empty where ONNX has none."""
    function = activation(given)
    return next((name for name in FUNCTIONS if ACTIVATIONS[name] is function), "")


def _names(layer: RecurrentLayer, when: str) -> list[str]:
    parts = ("h", "c")[: layer._kind.states]
    suffixes = [suffix for index in range(layer.num_layers) for suffix in layer._suffixes(index)]
    return [f"{when}_{part}{suffix}" for suffix in suffixes for part in parts]


def _starts(graph: _Graph, layer: RecurrentLayer, index: int, x: str, state: bool) -> list[str]:
    """Names of one layer's initial states ``[B, H]``, empty where they are zero."""
    count = layer._directions * layer._kind.states
    if state:
        return _names(layer, "initial")[index * count : (index + 1) * count]
    if layer.start == "zeros":
        return [""] * count
    batch = graph.add("Gather", graph.add("Shape", x), graph.integers([1]), axis=0)
    shape = graph.add("Concat", batch, graph.integers([1]), axis=0)
    names = [f"{part}0{suffix}" for suffix in layer._suffixes(index) for part in ("h", "c")[: layer._kind.states]]
    return [graph.add("Expand", graph.weights(name, [getattr(layer, name)]), shape) for name in names]


def _stack(graph: _Graph, names: list[str]) -> str:
    """``[directions, B, H]`` of each direction's ``[B, H]``."""
    if not names[0]:
        return ""
    parts = [graph.add("Unsqueeze", name, graph.integers([0])) for name in names]
    return graph.add("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]


def _some(graph: _Graph) -> str:
    """``[B, 1]``: rows of at least one step. onnxruntime returns zeros, not the initial state, for the others."""
    lens = graph.add("Unsqueeze", "sequence_lens", graph.integers([1]))
    return graph.add("Greater", lens, graph.constant("int32_0", np.zeros((), np.int32)))


def _fill(graph: _Graph, layer: RecurrentLayer, x: str) -> str:
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


def _weight(layer: RecurrentLayer) -> Tensor:
    return collect(layer, "_l0").weight_ih


def _check(layer: RecurrentLayer, state: bool) -> None:
    """Refuse what no graph of these operators computes."""
    if not isinstance(layer, RecurrentLayer):
        raise TypeError(f"ONNX export takes a SimpleRNN, LSTM or GRU, got {type(layer).__name__}")
    name, options = type(layer).__name__, layer.step_options
    if layer.input_size is None:
        raise ValueError(f"{name}: there are no weights yet: call build(input_size), or the layer once, before")
    refused = [
        f"{which}={getattr(options, which)!r}"
        for which in dict.fromkeys(OPERATORS[layer.kind].activations)
        if not _function(getattr(options, which))
    ]
    given = {
        "proj_size": layer.proj_size,
        "layer_norm": options.layer_norm != "none",
        "cell_clip (ONNX clips what enters the activations, not the memory)": options.cell_clip,
        "zoneout": layer.regularization.zoneout,
        "return_all_states": layer.time_options.return_all_states,
        "kept state: export a stateful layer with state=True and hand the state on": layer.stateful and not state,
        f"weights of {_weight(layer).dtype} here, only of float16, float32 and float64": _weight(layer).dtype
        not in (torch.float16, torch.float32, torch.float64),
    }
    refused += [what for what, there in given.items() if there]
    if refused:
        raise ValueError(f"{name}: the ONNX operator has no {', no '.join(refused)}")


def _assemble(graph: _Graph, layer: RecurrentLayer, opset: int, lengths: bool, state: bool) -> ModelProto:
    """The model of the graph, checked."""
    try:
        from onnx import TensorProto, checker, defs, helper, numpy_helper
    except ImportError as error:
        raise ImportError("writing ONNX needs the onnx package: pip install lightning-rnn[onnx]") from error
    newest = defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ValueError(f"opset must be in {OLDEST}..{newest}, got {opset}")
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    axes = ["time", "batch"] if layer.time_options.time_major else ["batch", "time"]
    sizes = [leaf.shape[1] for leaf in pytree.tree_leaves(layer.initial_state(1))]

    def states(when: str) -> list[Any]:
        named = zip(_names(layer, when), sizes, strict=True)
        return [helper.make_tensor_value_info(name, kind, ["batch", size]) for name, size in named]

    inputs = [helper.make_tensor_value_info("x", kind, [*axes, layer.input_size])]
    if lengths:
        inputs.append(helper.make_tensor_value_info("sequence_lens", TensorProto.INT32, ["batch"]))
    outputs = [helper.make_tensor_value_info("sequence", kind, [*axes, layer.output_size]), *states("final")]
    made = helper.make_graph(
        [helper.make_node(op, given, got, **attributes) for op, given, got, attributes in graph.nodes],
        type(layer).__name__,
        inputs + (states("initial") if state else []),
        outputs,
        [numpy_helper.from_array(values, name) for name, values in graph.constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        made, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets), producer_name="lightning-rnn"
    )
    checker.check_model(model, full_check=True)
    return model

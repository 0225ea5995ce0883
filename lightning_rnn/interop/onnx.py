"""Layers as ONNX models: each layer is the one RNN, LSTM or GRU operator, with peepholes, lengths and activations.

Equations and layouts: the operators' schemas, https://onnx.ai/onnx/operators/onnx__LSTM.html and its siblings.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils import _pytree as pytree

from lightning_rnn.interop.onnx_graph import Graph, add_layer, fill, starts_of, state_names
from lightning_rnn.interop.onnx_operators import FUNCTIONS as FUNCTIONS
from lightning_rnn.interop.onnx_operators import check, weight_of
from lightning_rnn.layers import RecurrentLayer

if TYPE_CHECKING:
    from onnx import ModelProto

OLDEST = 14  # the operators' outputs and what stands around them are the same from here on


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
    check(layer, state)
    graph = Graph(np.dtype(str(weight_of(layer).dtype).removeprefix("torch.")))
    x = "x" if layer.time_options.time_major else graph.add("Transpose", "x", perm=[1, 0, 2])
    lens = "sequence_lens" if lengths else ""
    finals = []
    for index in range(layer.num_layers):
        skip = layer.residual and (index > 0 or layer.input_size == layer.output_size)
        outputs, ends = add_layer(graph, layer, index, x, lens, starts_of(graph, layer, index, x, state))
        x = graph.add("Add", outputs, x) if skip else outputs
        finals += ends
    if lengths:
        x = fill(graph, layer, x)
    if layer.reverse and not layer.time_options.keep_order:
        first, beyond = graph.integers([-1]), graph.integers([np.iinfo(np.int64).min])
        x = graph.add("Slice", x, first, beyond, graph.integers([0]), graph.integers([-1]))
    if not layer.time_options.time_major:
        x = graph.add("Transpose", x, perm=[1, 0, 2])
    graph.add("Identity", x, out="sequence")
    for name, final in zip(state_names(layer, "final"), finals, strict=True):
        graph.add("Identity", final, out=name)
    return _assemble(graph, layer, opset, lengths, state)


def _assemble(graph: Graph, layer: RecurrentLayer, opset: int, lengths: bool, state: bool) -> ModelProto:
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
        named = zip(state_names(layer, when), sizes, strict=True)
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

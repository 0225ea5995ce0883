"""ONNX models of the layers, run by onnxruntime, against the layers; float32."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, SimpleRNN
from lightning_rnn.functional import StepOptions
from lightning_rnn.interop.onnx import FUNCTIONS, export, to_model
from lightning_rnn.layers import RecurrentLayer, Regularization, TimeOptions

D, H = 3, 4
LAYERS: list[type[RecurrentLayer]] = [SimpleRNN, LSTM, GRU]
every = pytest.mark.parametrize("cls", LAYERS)
LENGTHS = [6, 3, 0, 1]


def random_layer(cls: type[RecurrentLayer], **options: Any) -> RecurrentLayer:
    """Biases, peepholes and learned states away from zero, so that none can be forgotten."""
    layer = cls(D, options.pop("hidden_size", H), **options).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def inputs_of(layer: RecurrentLayer, batch: int, steps: int, lengths: bool, state: bool) -> tuple[Tensor, Any, Any]:
    x = torch.randn(batch, steps, D)
    start = None
    if state:
        start = pytree.tree_map(lambda leaf: torch.randn(leaf.shape), layer.initial_state(batch))
    if layer.time_options.time_major:
        x = x.transpose(0, 1)
    if not lengths:
        return x, start, None
    rows = torch.tensor(LENGTHS).clamp(max=steps)[:batch]
    padding = torch.arange(steps) >= rows.unsqueeze(1)
    x[padding.T if layer.time_options.time_major else padding] = torch.nan  # must not be seen
    return x, start, rows


def check(
    layer: RecurrentLayer, *, lengths: bool = False, state: bool = False, opset: int = 17, tolerance: float = 1e-5
) -> None:
    """One model serves several batch sizes and numbers of steps, and equals the layer on each."""
    model = to_model(layer, lengths=lengths, state=state, opset=opset)
    recurrent = [node.op_type for node in model.graph.node if node.op_type in ("RNN", "LSTM", "GRU")]
    assert len(recurrent) == layer.num_layers
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for batch, steps in ((4, 6), (2, 9), (1, 1)):
        x, start, rows = inputs_of(layer, batch, steps, lengths, state)
        fed = [x, *([] if rows is None else [rows.int()]), *([] if start is None else pytree.tree_leaves(start))]
        names = [value.name for value in session.get_inputs()]
        got = session.run(None, {name: value.numpy() for name, value in zip(names, fed, strict=True)})
        with torch.no_grad():
            output = layer(x, start, lengths=rows)
        wanted = [output.sequence, *pytree.tree_leaves(output.state)]
        for one, other in zip(got, wanted, strict=True):
            assert one.shape == tuple(other.shape)
            np.testing.assert_allclose(one, other.numpy(), rtol=tolerance, atol=tolerance)


@every
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("direction", [{}, {"bidirectional": True}, {"reverse": True}])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_equals_the_layer(
    cls: type[RecurrentLayer], num_layers: int, direction: dict[str, bool], lengths: bool, state: bool
) -> None:
    check(random_layer(cls, num_layers=num_layers, **direction), lengths=lengths, state=state)


@every
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"bias": False, "bidirectional": True},
        {"hidden_size": [4, 2, 5], "bidirectional": True},
        {"residual": True, "hidden_size": D, "num_layers": 2},
        {"residual": True, "num_layers": 2, "bidirectional": True},
        {"residual": True, "num_layers": 2, "reverse": True},
        {"zero_output_for_mask": True},
        {"zero_output_for_mask": True, "bidirectional": True, "num_layers": 2},
        {"reverse": True, "time_options": TimeOptions(keep_order=True)},
        {"time_options": TimeOptions(time_major=True), "bidirectional": True},
        {"initial_state": "learned", "bidirectional": True, "num_layers": 2},
        {"regularization": Regularization(dropout=0.5, layer_dropout=0.5, weight_dropout=0.5), "num_layers": 2},
    ],
    ids=lambda options: "-".join(options),
)
def test_options_of_the_layer_equal_it(cls: type[RecurrentLayer], options: dict[str, Any], lengths: bool) -> None:
    check(random_layer(cls, **options), lengths=lengths)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_peepholes(bidirectional: bool, state: bool) -> None:
    options = StepOptions(peephole=True)
    layer = random_layer(LSTM, bidirectional=bidirectional, num_layers=2, step_options=options)
    check(layer, lengths=True, state=state)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gru_in_the_form_of_the_paper(bidirectional: bool, bias: bool) -> None:
    options = StepOptions(reset_after=False)
    check(random_layer(GRU, bidirectional=bidirectional, bias=bias, step_options=options), lengths=True, state=True)


@every
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_activations(cls: type[RecurrentLayer], name: str, bidirectional: bool) -> None:
    layer = random_layer(cls, step_options=StepOptions(activation=name), bidirectional=bidirectional)
    for parameter in layer.parameters():
        parameter.data.mul_(0.5)  # what is not bounded must not explode
    check(layer)


@pytest.mark.parametrize("cls", [LSTM, GRU])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("gate", ["hard_sigmoid", "hard_sigmoid_keras2", "softsign", "linear"])
@pytest.mark.parametrize("name", ["tanh", "leaky_relu", "elu"])
def test_pairs_of_activations(cls: type[RecurrentLayer], gate: str, name: str, bidirectional: bool) -> None:
    options = StepOptions(activation=name, recurrent_activation=gate)
    layer = random_layer(cls, step_options=options, bidirectional=bidirectional)
    for parameter in layer.parameters():
        parameter.data.mul_(0.5)
    check(layer)


def test_an_activation_given_as_its_function() -> None:
    check(random_layer(SimpleRNN, step_options=StepOptions(activation=torch.relu)))


@every
@pytest.mark.parametrize("opset", [14, 22])
def test_opsets(cls: type[RecurrentLayer], opset: int) -> None:
    layer = random_layer(cls, bidirectional=True, num_layers=2)
    check(layer, lengths=True, state=True, opset=opset)
    assert to_model(layer, opset=opset).opset_import[0].version == opset


@every
def test_no_steps(cls: type[RecurrentLayer]) -> None:
    layer = random_layer(cls)
    model = to_model(layer, lengths=True, state=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x, start, lengths = inputs_of(layer, 2, 0, True, True)
    fed = [x, lengths.int(), *pytree.tree_leaves(start)]
    names = [value.name for value in session.get_inputs()]
    sequence, *finals = session.run(None, {name: value.numpy() for name, value in zip(names, fed, strict=True)})
    assert sequence.shape == (2, 0, H)
    for final, leaf in zip(finals, pytree.tree_leaves(start), strict=True):
        np.testing.assert_array_equal(final, leaf.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_file_holds_the_weights_in_their_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    layer = LSTM(D, H).to(dtype)
    export(layer, tmp_path / "lstm.onnx", state=True)
    model = onnx.load(tmp_path / "lstm.onnx")
    onnx.checker.check_model(model, full_check=True)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert weights["R_l0"].dtype == np.dtype(str(dtype).removeprefix("torch."))
    np.testing.assert_array_equal(weights["R_l0"][0, :H], layer.state_dict()["weight_hh_l0"][:H].numpy())
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input]
    assert shapes == [["batch", "time", D], ["batch", H], ["batch", H]]


def test_a_stateful_layer_hands_its_state_on() -> None:
    layer = random_layer(GRU, stateful=True)
    check(layer, state=True)
    with pytest.raises(ValueError, match="kept state: export a stateful layer with state=True"):
        to_model(layer)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (LSTM(D, H, proj_size=2), "proj_size"),
        (LSTM(D, H, step_options=StepOptions(cell_clip=1.0)), r"cell_clip \(ONNX clips what enters the activations"),
        (LSTM(D, H, step_options=StepOptions(layer_norm="haste")), "layer_norm"),
        (LSTM(D, H, proj_size=2, step_options=StepOptions(activation="mish")), "no activation='mish', no proj_size"),
        (GRU(D, H, step_options=StepOptions(recurrent_activation="relu6")), "recurrent_activation='relu6'"),
        (GRU(D, H, regularization=Regularization(zoneout=0.1)), "zoneout"),
        (GRU(D, H, time_options=TimeOptions(return_all_states=True)), "return_all_states"),
        (GRU(None, H), "no weights yet"),
        (GRU(D, H).bfloat16(), "bfloat16"),
    ],
)
def test_what_onnx_has_not_is_refused_by_name(layer: RecurrentLayer, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_model(layer)


@pytest.mark.parametrize("opset", [13, 1000])
def test_opsets_out_of_range_are_refused(opset: int) -> None:
    with pytest.raises(ValueError, match=r"opset must be in 14\.\."):
        to_model(GRU(D, H), opset=opset)


def test_other_modules_are_refused() -> None:
    with pytest.raises(TypeError, match="got Linear"):
        to_model(nn.Linear(D, H))  # type: ignore[arg-type]


def test_without_the_package_one_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnx":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install lightning-rnn\[onnx\]"):
        to_model(GRU(D, H))

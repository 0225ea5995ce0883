"""Parity with Keras 3 itself, run on its torch backend in float64: outputs, states, gradients, files."""

from __future__ import annotations

import copy
import itertools
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch
from layer_checks import HERE
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.errors import CheckpointError
from lightning_rnn.interop.keras import get_weights, layer_from_config, load_model, set_weights, state_from_keras
from lightning_rnn.layers import RNN, Bidirectional

# Off TensorFlow, Keras multiplies matrices of float64 in float32: for 1e-10 it must keep what it is given.
keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
# Keras' own: its variables lack an argument that NumPy 2 asks for
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

B, T, D, H = 4, 6, 3, 5
MASKS = {
    "none": None,
    "right": [[1] * 6, [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]],
    "left": [[1] * 6, [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1], [0, 1, 1, 1, 1, 1]],
    "holes": [[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 1, 0], [1, 1, 1, 0, 1, 1], [0, 0, 1, 1, 1, 1]],
    "empty row": [[1] * 6, [0] * 6, [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
}


def precision(name: str) -> None:
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)


@pytest.fixture(autouse=True)
def float64() -> Any:
    precision("float64")
    yield
    precision("float32")


def randomize(layer: Any, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Random weights and biases: constant ones would hide a wrong order of gates."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(0, 0.5, w.shape) for w in layer.get_weights()]
    layer.set_weights(weights)
    return weights


def ours_of(layer: Any) -> Any:
    mine = layer_from_config(keras.saving.serialize_keras_object(layer))
    set_weights(mine, layer.get_weights())
    return mine


def tensor(*shape: int, seed: int = 1, grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(grad)


def mask_of(name: str) -> Tensor | None:
    rows = MASKS[name]
    return None if rows is None else torch.tensor(rows, dtype=torch.bool)


def close(mine: Tensor, its: Any, tolerance: float = 1e-10, what: str = "") -> None:
    expected = torch.as_tensor(its).to(mine.dtype)
    torch.testing.assert_close(mine, expected, rtol=0, atol=tolerance, msg=lambda message: f"{what}: {message}")


def gradients(outputs: Any, weights: list[Tensor], sources: list[Tensor]) -> tuple[Tensor, ...]:
    """Of the outputs' sum by these weights."""
    total = torch.stack([(a * w).sum() for a, w in zip(outputs, weights, strict=True)]).sum()
    return torch.autograd.grad(total, sources)


CELLS: list[tuple[str, dict[str, Any]]] = [
    ("SimpleRNN", {}),
    ("SimpleRNN", {"use_bias": False, "activation": "relu"}),
    ("LSTM", {}),
    ("LSTM", {"use_bias": False, "unit_forget_bias": False}),
    ("LSTM", {"activation": "softsign", "recurrent_activation": "hard_sigmoid"}),
    ("GRU", {}),
    ("GRU", {"reset_after": False}),
    ("GRU", {"use_bias": False, "recurrent_activation": "hard_sigmoid", "activation": "elu"}),
]
cells = pytest.mark.parametrize(
    ("cls", "options"), CELLS, ids=[f"{cls}-{'-'.join(map(str, options.values()))}" for cls, options in CELLS]
)


def engines_of(options: dict[str, Any]) -> list[str]:
    """What must run a case, of what is there."""
    plain = not {"recurrent_activation", "reset_after"} & set(options)
    fused = plain and options.get("activation", "tanh") in ("tanh", "relu")
    return [name for name in HERE if fused or name != "fused"]


@cells
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("backwards", "zero"), [(False, False), (True, False), (False, True), (True, True)])
def test_outputs_states_and_gradients(
    cls: str, options: dict[str, Any], mask: str, backwards: bool, zero: bool
) -> None:
    flags = {"go_backwards": backwards, "zero_output_for_mask": zero, "return_sequences": True, "return_state": True}
    theirs = getattr(keras.layers, cls)(H, **options, **flags)
    theirs.build((B, T, D))
    randomize(theirs)
    mine = ours_of(theirs)
    x, valid = tensor(B, T, D, grad=True), mask_of(mask)
    count = 2 if cls == "LSTM" else 1
    states = [tensor(B, H, seed=7 + i, grad=True) for i in range(count)]
    state = state_from_keras(mine, states)
    state = pytree.tree_unflatten(states, pytree.tree_structure(state))
    its = theirs(x, initial_state=states, mask=valid)
    weights = [tensor(*value.shape, seed=i) for i, value in enumerate(its)]
    its_grads = gradients(its, weights, [x, *states, *(v.value for v in theirs.trainable_variables)])
    bias = options.get("use_bias", True)
    split = bias and cls == "GRU" and options.get("reset_after", True)  # two rows of biases
    names = ["weight_ih_l0", "weight_hh_l0"] + ["bias_ih_l0"] * bias + ["bias_hh_l0"] * split
    tolerance = 1e-6 if "hard_sigmoid" in options.values() else 1e-10  # torch's hardsigmoid has a float32 gradient
    for engine in engines_of(options):
        mine.engine = engine
        assert mine.explain(x, state, mask=valid).engine == engine
        output = mine(x, state, mask=valid)
        found = [output.sequence, *pytree.tree_leaves(output.state)]
        for a, b in zip(found, its, strict=True):
            close(a, b, what=engine)
        mine_grads = gradients(found, weights, [x, *states, *(getattr(mine, name) for name in names)])
        for a, b in zip(mine_grads[: 1 + count], its_grads[: 1 + count], strict=True):
            close(a, b, tolerance, engine)
        as_weights = copy.deepcopy(mine)
        with torch.no_grad():  # gradients of weights go through the layout as weights do
            for name, grad in zip(names, mine_grads[1 + count :], strict=True):
                getattr(as_weights, name).copy_(grad)
            if bias and not split:
                as_weights.bias_hh_l0.zero_()
        for a, b in zip(get_weights(as_weights), its_grads[1 + count :], strict=True):
            close(torch.as_tensor(a), b, tolerance, engine)


@cells
def test_last_output_and_weights_back(cls: str, options: dict[str, Any]) -> None:
    theirs = getattr(keras.layers, cls)(H, **options)
    theirs.build((B, T, D))
    weights = randomize(theirs)
    mine = ours_of(theirs)
    x, valid = tensor(B, T, D), mask_of("holes")
    close(mine(x, mask=valid).last, theirs(x, mask=valid))
    for a, b in zip(get_weights(mine), weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cls", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("mask", MASKS)
def test_float32_on_the_kernels(cls: str, mask: str) -> None:
    precision("float32")
    theirs = getattr(keras.layers, cls)(16, return_sequences=True)
    theirs.build((B, T, D))
    rng = np.random.default_rng(0)
    theirs.set_weights([rng.normal(0, 0.5, w.shape).astype("float32") for w in theirs.get_weights()])
    mine = ours_of(theirs)
    x = tensor(B, T, D).float()
    expected = theirs(x, mask=mask_of(mask))
    for engine in HERE[:-1]:
        mine.engine = engine
        close(mine(x, mask=mask_of(mask)).sequence, expected, 1e-5, engine)


@pytest.mark.parametrize("cls", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("mask", ["none", "right", "holes", "empty row"])
@pytest.mark.parametrize("sequences", [False, True])
def test_bidirectional(cls: str, merge: str | None, mask: str, sequences: bool) -> None:
    inner = getattr(keras.layers, cls)(H, return_sequences=sequences, return_state=True)
    theirs = keras.layers.Bidirectional(inner, merge_mode=merge)
    theirs.build((B, T, D))
    randomize(theirs)
    mine = ours_of(theirs)
    assert isinstance(mine, Bidirectional)
    x, valid = tensor(B, T, D), mask_of(mask)
    count = 4 if cls == "LSTM" else 2
    states = [tensor(B, H, seed=5 + i) for i in range(count)]
    output = mine(x, state_from_keras(mine, states), mask=valid)
    its = list(theirs(x, initial_state=states, mask=valid))
    said = output.sequence if sequences else output.last
    said = list(said) if merge is None else [said]
    for a, b in zip([*said, *pytree.tree_leaves(output.state)], its, strict=True):
        close(a, b)
    for a, b in zip(get_weights(mine), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mask", ["none", "holes"])
def test_stack_of_mixed_cells(mask: str) -> None:
    members = [keras.layers.LSTMCell(H), keras.layers.GRUCell(4), keras.layers.SimpleRNNCell(2)]
    theirs = keras.layers.RNN(members, return_sequences=True, return_state=True)
    theirs.build((B, T, D))
    randomize(theirs)
    mine = ours_of(theirs)
    assert isinstance(mine, RNN)
    x, valid = tensor(B, T, D), mask_of(mask)
    output = mine(x, mask=valid)
    its = theirs(x, mask=valid)
    close(output.sequence, its[0])
    for a, b in zip(pytree.tree_leaves(output.state), pytree.tree_leaves(list(its[1:])), strict=True):
        close(a, b)
    for a, b in zip(get_weights(mine), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cls", ["SimpleRNN", "LSTM", "GRU"])
def test_stateful_over_three_calls(cls: str) -> None:
    theirs = getattr(keras.layers, cls)(H, stateful=True)
    theirs.build((B, T, D))
    randomize(theirs)
    mine = ours_of(theirs)
    for call in range(3):
        x = tensor(B, T, D, seed=call)
        close(mine(x).last, theirs(x))
    for a, b in zip(pytree.tree_leaves(mine.states), theirs.states, strict=True):
        close(a, b.value)
    mine.reset_states()
    theirs.reset_state()
    close(mine(tensor(B, T, D)).last, theirs(tensor(B, T, D)))


CONVOLUTIONS = list(itertools.product([1, 2, 3], ["valid", "same"], [1, 2], ["channels_last", "channels_first"]))


@pytest.mark.parametrize(("dimensions", "padding", "stride", "order"), CONVOLUTIONS)
def test_conv_lstm(dimensions: int, padding: str, stride: int, order: str) -> None:
    cls = getattr(keras.layers, f"ConvLSTM{dimensions}D")
    theirs = cls(2, 2, strides=stride, padding=padding, data_format=order, return_sequences=True, return_state=True)
    spatial = (5, 4, 5)[:dimensions]
    shape = (2, 3, 3, *spatial) if order == "channels_first" else (2, 3, *spatial, 3)
    theirs.build(shape)
    randomize(theirs)
    mine = ours_of(theirs)
    x, valid = tensor(*shape), torch.tensor([[True, False, True], [False, True, True]])
    output = mine(x, mask=valid)
    its = theirs(x, mask=valid)
    close(output.sequence, its[0])
    for a, b in zip(pytree.tree_leaves(output.state), its[1:], strict=True):
        close(a, b)
    for a, b in zip(get_weights(mine), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_time_distributed_dense() -> None:
    theirs = keras.layers.TimeDistributed(keras.layers.Dense(2, activation="relu"))
    theirs.build((B, T, D))
    randomize(theirs)
    close(ours_of(theirs)(tensor(B, T, D)), theirs(tensor(B, T, D)))


def test_sequential_file(tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int64"),
            layers.Embedding(7, 3, mask_zero=True),
            layers.LSTM(4, return_sequences=True),
            layers.TimeDistributed(layers.Dense(3, activation="softsign")),
            layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode="sum"),
            layers.LayerNormalization(),
            layers.LSTM(4, return_sequences=True),
            layers.RNN([layers.LSTMCell(2), layers.LSTMCell(3), layers.GRUCell(3)]),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(2),
        ]
    )
    rng = np.random.default_rng(0)
    model.set_weights([np.abs(rng.normal(0, 0.5, w.shape)) for w in model.get_weights()])
    model.save(tmp_path / "model.keras")
    ids = torch.tensor([[1, 2, 0, 3, 0], [4, 0, 0, 0, 0], [6, 5, 4, 3, 2]])
    mine = load_model(tmp_path / "model.keras")
    close(mine(ids), model(ids, training=False))


def test_bad_files_and_configs_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    with pytest.raises(CheckpointError, match=r"broken\.keras cannot be read as a \.keras file"):
        load_model(tmp_path / "broken.keras")
    with pytest.raises(ValueError, match="no counterpart for the Keras layer 'Conv9D'"):
        layer_from_config({"class_name": "Conv9D", "config": {}})
    with pytest.raises(ValueError, match="no counterpart for the Keras activation 'nope'"):
        layer_from_config({"class_name": "LSTM", "config": {"units": 2, "activation": "nope"}})
    layer = layer_from_config({"class_name": "LSTM", "config": {"units": 2}})
    with pytest.raises(ValueError, match=r"LSTM kernel: expected an array of shape \[3, 8\]"):
        set_weights(layer, [np.zeros((3, 9)), np.zeros((2, 8)), np.zeros(8)])
    with pytest.raises(ValueError, match="takes 3 arrays of weights, got 4"):
        set_weights(layer, [np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8), np.zeros(8)])

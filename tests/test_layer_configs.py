"""Copies, configs and mistakes of SimpleRNN, LSTM and GRU."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import torch
from layer_calls import LENGTHS, B, D, H, T, ours
from layer_checks import check_refused, close, engines, rand

from lightning_rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, LSTMState, SimpleRNN
from lightning_rnn.functional import StepOptions
from lightning_rnn.layers import RecurrentLayer, Regularization, TimeOptions

# Copies and configs


EVERYTHING: list[tuple[type[RecurrentLayer], dict[str, Any]]] = [
    (SimpleRNN, {"hidden_size": [4, 4], "residual": True, "step_options": StepOptions("relu", layer_norm="addons")}),
    (
        LSTM,
        {
            "hidden_size": H,
            "num_layers": 2,
            "bias": False,
            "bidirectional": True,
            "proj_size": 2,
            "zero_output_for_mask": True,
            "initial_state": "learned",
            "initializer": "keras",
            "unit_forget_bias": True,
            "step_options": StepOptions(peephole=True, cell_clip=2.0, proj_clip=1.0, recurrent_activation="softsign"),
            "regularization": Regularization(0.1, 0.2, 0.3, 0.4, False, 0.5, 0.6),
            "time_options": TimeOptions(unroll=True, checkpoint=2, offload=True, return_all_states=True),
            "engine": "scan",
        },
    ),
    (
        GRU,
        {
            "hidden_size": [4, 2],
            "reverse": True,
            "stateful": True,
            "initializer": "chrono",
            "step_options": StepOptions(reset_after=False),
            "time_options": TimeOptions(keep_order=True, time_major=True),
        },
    ),
]


@pytest.mark.parametrize(("cls", "options"), EVERYTHING)
def test_configs_and_copies(cls: Any, options: dict[str, Any]) -> None:
    layer = cls(D, **options).double()
    config = layer.get_config()
    assert {name: value for name, value in config.items() if name in options} != {} and set(options) <= set(config)
    again = cls.from_config(json.loads(json.dumps(config))).double()
    assert again.get_config() == config
    for name, value in options.items():
        if name != "initial_state":
            assert getattr(again, name) == value
    again.load_state_dict(layer.state_dict())
    x = rand(B, B, D)
    layer(x)
    kept = layer.states
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), again):
        if layer.stateful:
            close(kept, other.states) if other is not again else None
            layer.reset_states()
            other.reset_states()
        close(other.eval()(x), layer.eval()(x))
    layer(x)
    copied = copy.deepcopy(layer)
    copied(2 * x)
    if layer.stateful:
        assert bool((layer.states[0] != copied.states[0]).any())


def test_a_function_is_in_no_config() -> None:
    with pytest.raises(TypeError, match=r"StepOptions\.activation is .*, which a config cannot hold"):
        GRU(D, H, step_options=StepOptions(activation=torch.sin)).get_config()


@ours
@engines()
def test_input_size_from_the_first_input(cls: Any, engine: Any) -> None:
    layer = cls(None, H, 2, bidirectional=True, initial_state="learned", engine=engine)
    assert list(layer.parameters()) == [] and layer.get_config()["input_size"] is None
    with pytest.raises(ValueError, match="no learned initial state before the first input"):
        layer.initial_state(B)
    assert layer.explain(torch.zeros(B, T, D)).engine == engine
    given = cls(D, H, 2, bidirectional=True, initial_state="learned", engine=engine)
    given.load_state_dict(layer.state_dict())
    x = torch.randn(B, T, D)
    close(layer(x), given(x))
    with pytest.raises(ValueError, match=r"expected x of shape \[B, T, 3\], got \[4, 6, 5\]"):
        layer(torch.zeros(B, T, 5))


# Mistakes

X = torch.zeros(B, T, D)
ONES = torch.ones(B, T).bool()
BAD: list[tuple[dict[str, Any], str]] = [
    ({"x": torch.zeros(B, T, 9)}, r"\[B, T, 3\], got \[4, 6, 9\]|3 features, got 9"),
    ({"x": torch.zeros(B, D)}, r"expect(ed|s) x of shape \[B, T, [3D]\], got \[4, 3\]"),
    ({"x": torch.zeros(B, T, 2, D)}, r"expect(ed|s) x of shape \[B, T, [3D]\], got \[4, 6, 2, 3\]"),
    ({"x": [X]}, r"expect(ed|s) x of shape \[B, T, [3D]\], got list"),
    ({"x": X.double()}, "x is torch.float64, the weights are"),
    ({"x": X.long()}, "x is torch.int64, the weights are"),
    ({"x": X.to("meta")}, "x is on meta, the weights are on cpu"),
    ({"state": LSTMState(torch.zeros(2, H), torch.zeros(2, H))}, r"shape \[4, 4\].*got \[2, 4\]"),
    ({"state": LSTMState(torch.zeros(B, H), torch.zeros(B, 9))}, r"shape \[4, 4\].*got \[4, 9\]"),
    ({"state": torch.zeros(B, H)}, r"LSTMState\(h, c\), got Tensor|2 tensors, got 1"),
    ({"state": (torch.zeros(B, H),) * 3}, r"LSTMState\(h, c\), got tuple|2 tensors, got 3"),
    ({"state": ("h", "c")}, r"LSTMState\(h, c\), got tuple|made of tensors, got str"),
    ({"state": 5}, r"LSTMState\(h, c\), got int|2 tensors, got 1"),
    ({"state": LSTMState(torch.zeros(B, H).double(), torch.zeros(B, H))}, "state is torch.float64"),
    ({"state": LSTMState(torch.zeros(B, H).to("meta"), torch.zeros(B, H))}, "state is on meta, x on cpu"),
    ({"lengths": torch.tensor([7, 1, 1, 1])}, r"0..6 \(T\), got 1..7"),
    ({"lengths": torch.tensor([-1, 1, 1, 1])}, r"got -1..1"),
    ({"lengths": torch.tensor([1, 1])}, r"shape \[4\], got \[2\]"),
    ({"lengths": torch.ones(B)}, "must be integers, got torch.float32"),
    ({"lengths": [1, 1, 1, 1]}, "lengths must be a tensor, got list"),
    ({"lengths": LENGTHS.to("meta")}, "lengths are on meta, x on cpu"),
    ({"mask": torch.ones(B, T)}, "mask must be bool, got torch.float32"),
    ({"mask": ONES[:, :2]}, r"mask of shape \[4, 6\], got \[4, 2\]"),
    ({"mask": ONES.to("meta")}, "mask is on meta, x on cpu"),
    ({"mask": ONES, "lengths": LENGTHS}, "give lengths or mask, not both"),
    ({"reset_mask": ONES.int()}, "reset_mask must be bool"),
    ({"reset_mask": ONES[:2]}, r"reset_mask of shape \[4, 6\], got \[2, 6\]"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
@pytest.mark.parametrize("make", [lambda: LSTM(D, H), lambda: RNN(LSTMCell(D, H))], ids=["LSTM", "RNN"])
def test_bad_input_gives_one_sentence(make: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        make()(**({"x": X} | arguments))
    assert str(caught.value).startswith(("LSTM: ", "RNN: ")) and "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [torch.zeros(B, H), LSTMState(X, X), 5, (torch.zeros(B, H),) * 3])
def test_states_of_many_layers_are_counted(state: Any) -> None:
    for options in ({"num_layers": 2}, {"bidirectional": True}):
        with pytest.raises(ValueError, match="expected a state tuple of 2"):
            GRU(D, H, **options)(X, state)


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (GRU(D, H, engine="fused", step_options=StepOptions(activation="relu")), {}, "the activation 'relu'"),
    (LSTM(D, H, engine="fused", step_options=StepOptions(peephole=True, cell_clip=1.0)), {}, "peepholes.*cell_clip"),
    (LSTM(D, [5, 2], engine="fused", proj_size=3), {}, "a projection of at least the hidden size"),
    (GRU(D, H, engine="fused", regularization=Regularization(recurrent_dropout=0.1)), {}, "recurrent dropout"),
    (GRU(D, H, engine="fused", regularization=Regularization(zoneout=0.1)), {}, "zoneout"),
    (GRU(D, H, engine="fused", time_options=TimeOptions(return_all_states=True)), {}, "the states of all steps"),
    (GRU(D, H, engine="fused", time_options=TimeOptions(unroll=True)), {}, "unroll=True asks for the loop"),
    (GRU(D, H, engine="fused"), {"reset_mask": ONES}, "reset_mask"),
    (RNN(GRUCell(D, H), engine="fused"), {"reset_mask": ONES}, "reset_mask"),
    (RNN([GRUCell(D, H), GRUCell(H, H)], engine="fused"), {}, "no fused kernel computes"),
]


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_fused_raises_with_the_reason_and_auto_falls_back(index: int) -> None:
    layer, arguments, reason = REFUSED[index]
    check_refused(layer, "fused", f"{reason}.*Use engine='auto'", X, **arguments)
    auto, loop = copy.deepcopy(layer), copy.deepcopy(layer)
    auto.engine, loop.engine = "auto", "scan"
    choice = auto.explain(X, **arguments)
    assert choice.engine != "fused" and choice.reasons
    found = []
    for other in (auto, loop):
        torch.manual_seed(7)
        found.append(other(torch.ones(B, T, D), **arguments))
    close(*found, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": [4, 2], "num_layers": 3}, "hidden_size has 2 entries, num_layers is 3"),
        ({"hidden_size": [4, 0]}, "hidden_size must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"hidden_size": [4, 2], "residual": True}, r"residual needs layers of one size, got \[4, 2\]"),
        ({"proj_size": -1}, "proj_size must not be negative"),
        ({"proj_size": 2}, "GRU has no projection"),
        ({"reverse": True, "bidirectional": True}, "reverse and bidirectional exclude each other"),
        ({"initial_state": "ones"}, "initial_state must be one of zeros, learned"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRU(**({"input_size": D, "hidden_size": H} | options))
    with pytest.raises(ValueError, match="checkpoint must be a number of steps of at least 1"):
        TimeOptions(checkpoint=0)

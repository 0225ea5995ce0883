"""One engine against the other, and every transform of torch against the plain call."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import torch
from layer_checks import ENGINES, check_refused, close, engines, gradients, leaves, one_engine, rand, random_like, twin
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from lightning_rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, LSTMState, SimpleRNN
from lightning_rnn.functional import StepOptions, sequence_mask
from lightning_rnn.layers import RecurrentLayer, Regularization, TimeOptions

B, T, D, H = 4, 6, 3, 4
LENGTHS = torch.tensor([6, 2, 0, 5])
HOLES = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1]]).bool()
CALLS: dict[str, dict[str, Tensor]] = {
    "all valid": {},
    "lengths": {"lengths": LENGTHS},
    "holes": {"mask": HOLES},
    "left": {"mask": sequence_mask(LENGTHS, T).flip(1)},
    "nothing": {"mask": torch.zeros(B, T, dtype=torch.bool)},
}
CLASSES: list[type[RecurrentLayer]] = [SimpleRNN, LSTM, GRU]
ours = pytest.mark.parametrize("cls", CLASSES)
calls = pytest.mark.parametrize("call", CALLS)


def random_state(layer: Any) -> Any:
    return random_like(layer.initial_state(B), requires_grad=True)


WAYS: list[dict[str, Any]] = [{}, {"num_layers": 2, "bidirectional": True, "bias": False}, {"reverse": True}]


@ours
@calls
@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("given", [False, True])
@engines("native", "fused")
def test_kernels_equal_the_loop_for_any_mask(
    cls: Any, call: str, ways: dict[str, Any], given: bool, engine: Any
) -> None:
    kernel = cls(D, H, engine=engine, **ways).double()
    loop = twin(kernel, engine="scan")
    x = rand(B, T, D).requires_grad_()
    state = random_state(kernel) if given else None
    found = []
    for layer in (kernel, loop):
        assert layer.explain(x, state, **CALLS[call]).engine == layer.engine
        output = layer(x, state, **CALLS[call])
        found.append((output, gradients(output, [x, *leaves(state), *layer.parameters()])))
    close(found[0][0], found[1][0])
    close(found[0][1], found[1][1], atol=1e-11)


@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, True)])
@engines()
def test_projection_equals_torch(engine: Any, layers: int, bidirectional: bool) -> None:
    layer = LSTM(D, H, layers, bidirectional=bidirectional, proj_size=2, engine=engine).double()
    theirs = torch.nn.LSTM(D, H, layers, bidirectional=bidirectional, proj_size=2, batch_first=True).double()
    theirs.load_state_dict(layer.state_dict())
    x, lengths = rand(B, T, D).requires_grad_(), torch.tensor([6, 2, 1, 5])
    assert layer.explain(x, lengths=lengths).engine == engine
    state = random_state(layer)
    h, c = (torch.stack(leaves(state)[i::2]) for i in range(2))
    output = layer(x, state, lengths=lengths)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    sequence, (h_n, c_n) = theirs(packed, (h, c))
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(sequence, batch_first=True)
    mask = sequence_mask(lengths, T)
    mine = [output.sequence[mask], *(torch.stack(leaves(output.state)[i::2]) for i in range(2))]
    its = [padded[mask], h_n, c_n]
    close(mine, its)
    sources = [x, *leaves(state)]
    close(gradients(mine, [*sources, *layer.parameters()]), gradients(its, [*sources, *theirs.parameters()]), 1e-11)


@engines()
@pytest.mark.parametrize("state_dtype", [torch.float32, torch.float64])
def test_memory_passes_a_long_padding_unchanged(state_dtype: torch.dtype, engine: Any) -> None:
    layer, x = LSTM(D, H, engine=engine).to(state_dtype), torch.randn(B, 300, D, dtype=state_dtype)
    lengths = torch.tensor([0, 1, 3, 4])
    start = LSTMState(torch.randn(B, H, dtype=state_dtype), 9 * torch.randn(B, H, dtype=state_dtype))
    far, near = layer(x, start, lengths=lengths), layer(x[:, :4], start, lengths=lengths)
    close((far.state, far.last), (near.state, near.last), atol=1e-6 if state_dtype == torch.float32 else 1e-14)
    assert torch.equal(far.state.c[0], start.c[0]) and torch.equal(far.state.h[0], start.h[0])


@ours
@engines()
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_lengths_may_be_small_integers(cls: Any, dtype: torch.dtype, engine: Any) -> None:
    layer = cls(D, H, engine=engine, bidirectional=True, time_options=TimeOptions(checkpoint=4)).double()
    x = rand(B, T, D)
    close(layer(x, lengths=LENGTHS.to(dtype)), layer(x, lengths=LENGTHS))


NOISES = {
    "no noise": Regularization(),
    "variational": Regularization(0.3, 0.3, 0.3, 0.3, zoneout=0.2, weight_dropout=0.3),
    "each step": Regularization(0.0, 0.3, 0.3, 0.3, variational=False),
    "weights": Regularization(dropout=0.4, weight_dropout=0.4),
}
RESETS = torch.tensor([[0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]]).bool()
OWN = ("native", "scan")  # what no fused kernel has


def can_be_fused(noise: str, call: str) -> bool:
    return noise in ("no noise", "weights") and call != "resets"


CHUNKS, HOST = TimeOptions(checkpoint=4), TimeOptions(offload=True)
SAVINGS = [(CHUNKS, noise, call) for noise in NOISES for call in ("lengths", "holes", "resets")] + [
    (TimeOptions(checkpoint=1), "no noise", "all valid"),
    (TimeOptions(checkpoint=4, offload=True), "variational", "holes"),
    (HOST, "no noise", "lengths"),
    (HOST, "no noise", "resets"),
    (HOST, "each step", "holes"),
]


@ours
@pytest.mark.parametrize(
    ("time", "noise", "call", "engine"),
    [
        pytest.param(*saving, *parameter.values, marks=parameter.marks)
        for saving in SAVINGS
        for parameter in map(one_engine, ENGINES if can_be_fused(*saving[1:]) else OWN)
    ],
)
def test_memory_saved_changes_no_value(cls: Any, time: TimeOptions, noise: str, call: str, engine: Any) -> None:
    start = "learned" if call == "resets" else "zeros"
    options: dict[str, Any] = {"bidirectional": True, "regularization": NOISES[noise], "initial_state": start}
    plain = cls(D, H, 2, engine=engine, **options).double()
    saving = twin(plain, time_options=time)
    x, arguments = rand(B, T, D).requires_grad_(), CALLS.get(call, {"reset_mask": RESETS, "mask": HOLES})
    assert saving.explain(x, **arguments).engine == engine
    state = random_state(plain) if call != "resets" else None
    found = []
    for layer in (plain, saving):
        torch.manual_seed(7)
        output = layer(x, state, **arguments)
        torch.manual_seed(8)  # what backward draws again is not what comes next
        found.append((output, gradients(output, [x, *leaves(state), *layer.parameters()])))
    close(found[0][0], found[1][0])
    close(found[0][1], found[1][1], atol=1e-11)


@ours
@pytest.mark.parametrize(
    ("engine", "recurrent"),
    [
        pytest.param(*parameter.values, share, marks=parameter.marks)
        for share, names in ((0.0, ENGINES), (0.4, OWN))
        for parameter in map(one_engine, names)
    ],
)
def test_a_chunk_draws_the_same_again(cls: Any, engine: Any, recurrent: float) -> None:
    noise = Regularization(dropout=0.4, recurrent_dropout=recurrent, variational=False)
    layer = cls(D, H, engine=engine, regularization=noise, time_options=CHUNKS).double()

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(2)
        output: Tensor = layer(x, mask=HOLES).sequence
        return output

    assert torch.autograd.gradcheck(run, rand(B, T, D).requires_grad_(), fast_mode=True)


@engines()
@pytest.mark.parametrize("cls", [LSTM, GRU])
def test_chunks_keep_less(cls: Any, engine: Any) -> None:
    def kept(time: TimeOptions) -> int:
        layer, count = cls(2, 8, engine=engine, time_options=time), 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(torch.randn(8, 64, 2))
        return count

    assert kept(TimeOptions(checkpoint=8)) < kept(TimeOptions()) / 2


@pytest.mark.parametrize(
    ("call", "time"), [("lengths", TimeOptions()), ("holes", TimeOptions()), ("holes", TimeOptions(checkpoint=2))]
)
@engines("native", "fused")
def test_kernels_of_lstm_have_second_derivatives(call: str, time: TimeOptions, engine: Any) -> None:
    layer = LSTM(2, 2, engine=engine, time_options=time).double()
    names = [name for name, _ in layer.named_parameters()]
    arguments = {"lengths": torch.tensor([3, 1])} if call == "lengths" else {"mask": HOLES[[0, 3], 2:5]}

    def run(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        output = functional_call(layer, dict(zip(names, weights, strict=True)), (x, LSTMState(h, c)), arguments)
        return output.sequence, *output.state

    inputs = [rand(2, 3, 2), rand(2, 2), rand(2, 2), *(p.detach() for p in layer.parameters())]
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@ours
@calls
@engines()
def test_gradients_in_eval_mode(cls: Any, call: str, engine: Any) -> None:
    layer = cls(D, H, 2, engine=engine).double()
    x = rand(B, T, D).requires_grad_()
    expected = gradients(layer(x, **CALLS[call]), [x, *layer.parameters()])
    close(gradients(layer.eval()(x, **CALLS[call]), [x, *layer.parameters()]), expected)
    with torch.no_grad():
        close(layer(x, **CALLS[call]), layer(x.detach(), **CALLS[call]))
    layer.requires_grad_(False)
    (of_input,) = gradients(layer(x, **CALLS[call]), [x])
    close(of_input, expected[0])


@ours
@engines()
@pytest.mark.parametrize("call", ["holes", "left", "resets"])
def test_bfloat16_autocast_with_masks_stays_near_float32(cls: Any, engine: Any, call: str) -> None:
    arguments = CALLS.get(call, {"reset_mask": RESETS, "mask": HOLES})
    layer, x = cls(D, H, 2, bidirectional=True, engine=engine), torch.randn(B, T, D, requires_grad=True)
    if call == "resets" and engine == "fused":
        check_refused(layer, "fused", "reset_mask", x, **arguments)
        return
    expected = layer(x, **arguments)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x, **arguments)
    for a, b in zip(leaves(low), leaves(expected), strict=True):
        torch.testing.assert_close(a.float(), b, rtol=0, atol=3e-2)
    sources = [x, *layer.parameters()]
    for a, b in zip(gradients(low, sources), gradients(expected, sources), strict=True):
        assert a.dtype == b.dtype and float((a - b).norm()) < 0.05 * float(b.norm()) + 1e-6


# Transforms


def compiled_equals_eager(cls: Any, call: str, backend: str, **options: Any) -> None:
    torch.compiler.reset()
    layer = cls(D, H, **options)
    x = torch.randn(B, T, D, requires_grad=True)
    expected = layer(x, **CALLS[call])
    compiled: Any = torch.compile(layer, fullgraph=True, backend=backend)
    output = compiled(x, **CALLS[call])
    close(output, expected, atol=1e-5)
    sources = [x, *layer.parameters()]
    close(gradients(output, sources), gradients(expected, sources), atol=1e-4)


@pytest.mark.parametrize(
    ("cls", "call", "options"),
    [
        (SimpleRNN, "holes", {"engine": "fused"}),
        (LSTM, "holes", {"engine": "fused"}),
        (GRU, "holes", {"engine": "fused"}),
        (LSTM, "lengths", {"engine": "fused", "bidirectional": True}),
        (GRU, "holes", {"engine": "scan"}),
        (LSTM, "holes", {}),  # what auto takes need not be what it takes when it is compiled
        (GRU, "lengths", {}),
    ],
)
def test_compiled_equals_eager(cls: Any, call: str, options: dict[str, Any]) -> None:
    compiled_equals_eager(cls, call, "aot_eager", **options)


@pytest.mark.parametrize(("name", "gates"), [("simple_rnn relu 0", 1), ("lstm tanh 1", 4), ("gru tanh 1", 3)])
def test_what_the_compiler_is_told_of_the_kernel_holds(name: str, gates: int) -> None:
    state = rand(H, B).T  # dense, but not in order
    tensors = [rand(T, B, D).transpose(0, 1), state, rand(gates * H, D), rand(gates * H, H)]
    if gates == 4:
        tensors.insert(1, rand(B, 2 * H)[:, ::2])
    if name.endswith("1"):
        tensors += [rand(gates * H), rand(gates * H)]
    tensors = [tensor.requires_grad_() for tensor in tensors]
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.lightning_rnn.fused.default, (name, tensors), test_utils=tests)
    detached = [tensor.detach() for tensor in tensors]
    grads = [rand(T, B, H).transpose(0, 1), *(rand(B, H) for _ in range(2 if gates == 4 else 1))]
    torch.library.opcheck(torch.ops.lightning_rnn.fused_backward.default, (name, detached, grads), test_utils=tests)


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "engine"), [(SimpleRNN, "fused"), (LSTM, "fused"), (GRU, "fused"), (GRU, "scan")])
@pytest.mark.filterwarnings("ignore")  # what the compiler of kernels says
def test_inductor_equals_eager(cls: Any, engine: str) -> None:
    compiled_equals_eager(cls, "lengths", "inductor", engine=engine)
    if engine == "fused":
        compiled_equals_eager(cls, "holes", "inductor", engine=engine, num_layers=2, bidirectional=True)


@pytest.mark.parametrize(
    ("cls", "call", "engine"),
    [
        (SimpleRNN, "holes", "fused"),
        (LSTM, "lengths", "fused"),
        (LSTM, "holes", "fused"),
        (GRU, "lengths", "fused"),
        (GRU, "holes", "auto"),
    ],
)
def test_exported_program_equals_the_layer(cls: Any, call: str, engine: Any) -> None:
    layer, x = cls(D, H, engine=engine).eval(), torch.randn(B, T, D)
    program = torch.export.export(layer, (x,), dict(CALLS[call])).module()
    other = {name: value.flip(0) for name, value in CALLS[call].items()}
    y = torch.randn(B, T, D)
    close(program(y, **other), layer(y, **other), atol=1e-6)


@ours
@engines()
def test_functional_call_uses_the_weights_given(cls: Any, engine: Any) -> None:
    options: dict[str, Any] = {"bidirectional": True, "initial_state": "learned", "engine": engine}
    layer, other = (cls(D, H, 2, **options).double() for _ in range(2))
    x = rand(B, T, D)
    for name, parameter in other.named_parameters():
        if name.startswith(("h0", "c0")):
            torch.nn.init.normal_(parameter)
    weights = {name: p.detach().requires_grad_() for name, p in other.named_parameters()}
    output = functional_call(layer, weights, (x,), {"mask": HOLES})
    close(output, other(x, mask=HOLES))
    close(gradients(output, list(weights.values())), gradients(other(x, mask=HOLES), list(other.parameters())))


@ours
@pytest.mark.parametrize("call", ["all valid", "lengths", "holes"])
def test_vmap_over_models_equals_a_loop(cls: Any, call: str) -> None:
    layers = [cls(D, H, 2).double() for _ in range(3)]
    weights, buffers = stack_module_state(layers)
    x, reasons = rand(B, T, D), []

    def run(parameters: Any, kept: Any) -> Any:
        reasons.extend(layers[0].explain(x, **CALLS[call]).reasons)
        return functional_call(layers[0], (parameters, kept), (x,), CALLS[call]).sequence

    stacked = vmap(run)(weights, buffers)
    close(stacked, torch.stack([layer(x, **CALLS[call]).sequence for layer in layers]))
    assert any("vmap" in reason for reason in reasons)


@ours
@pytest.mark.parametrize("call", ["lengths", "holes"])
def test_torch_func_grad_equals_backward(cls: Any, call: str) -> None:
    layer = cls(D, H, bidirectional=True).double()
    x = rand(B, T, D)
    weights = dict(layer.named_parameters())

    def loss(parameters: Any, x: Tensor) -> Tensor:
        value: Tensor = functional_call(layer, parameters, (x,), CALLS[call]).sequence.pow(2).sum()
        return value

    expected = torch.autograd.grad(loss(weights, x), list(weights.values()))
    close(list(grad(loss)({k: v.detach() for k, v in weights.items()}, x).values()), list(expected))
    rows = vmap(grad(loss, argnums=1), in_dims=(None, 0))(weights, torch.stack([x, 2 * x]))
    y = x.clone().requires_grad_()
    close(rows[0], torch.autograd.grad(loss(weights, y), y)[0])


@ours
@engines()
def test_jacobian_of_all_outputs_at_once(cls: Any, engine: Any) -> None:
    layer, x = cls(D, 2, engine=engine).double(), rand(1, 3, D)

    def run(x: Tensor) -> Tensor:
        sequence: Tensor = layer(x, lengths=torch.tensor([2])).sequence
        return sequence

    jacobian: Any = torch.autograd.functional.jacobian
    slow, fast = (jacobian(run, x, vectorize=vectorize) for vectorize in (False, True))
    close(slow, fast)


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

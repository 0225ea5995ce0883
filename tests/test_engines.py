"""One engine against the other, and every transform of torch against the plain call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_calls import CALLS, HOLES, LENGTHS, B, D, H, T, ours
from layer_checks import ENGINES, check_refused, close, engines, gradients, leaves, one_engine, rand, random_like, twin
from torch import Tensor
from torch.func import functional_call

from lightning_rnn import GRU, LSTM, LSTMState
from lightning_rnn.functional import sequence_mask
from lightning_rnn.layers import Regularization, TimeOptions

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

"""Int8 layers against the float layers they are made of, and layers in bfloat16 against themselves in float32."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, Bidirectional, LSTMState, SimpleRNN
from lightning_rnn.functional import StepOptions
from lightning_rnn.layers import RecurrentLayer, Regularization, TimeOptions
from lightning_rnn.layers.quantized import QuantizedRNN, int8_linear, quantize_dynamic, quantize_rows

B, T, D, H = 4, 9, 12, 32
LENGTHS = torch.tensor([9, 2, 0, 5])
HOLES = torch.rand(B, T, generator=torch.Generator().manual_seed(1)) < 0.6
CLASSES: list[type[RecurrentLayer]] = [SimpleRNN, LSTM, GRU]
ours = pytest.mark.parametrize("cls", CLASSES)


def near(a: Any, b: Any, atol: float = 2e-2) -> float:
    """The largest difference, which is below ``atol``; structures are equal."""
    assert pytree.tree_structure(a) == pytree.tree_structure(b)
    pairs = [(x, y) for x, y in zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True) if x is not None]
    for mine, its in pairs:
        torch.testing.assert_close(mine, its, rtol=0, atol=atol)
    return max((x.float() - y.float()).abs().max().item() for x, y in pairs if x.numel())


def random_state(layer: RecurrentLayer) -> Any:
    return pytree.tree_map(lambda leaf: torch.rand_like(leaf) * 2 - 1, layer.initial_state(B))


def dense(layer: RecurrentLayer) -> RecurrentLayer:
    """The float layer whose weights are the rounded ones."""
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if name.startswith("weight"):
                rounded, scale = quantize_rows(weight)
                weight.copy_(rounded * scale)
    return other


OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"bias": False, "zero_output_for_mask": True},
    {"hidden_size": [H, 8, 16]},
    {"num_layers": 2, "bidirectional": True, "input_size": 2 * H, "residual": True},
    {"num_layers": 2, "residual": True},
    {"num_layers": 2, "residual": True, "input_size": H, "reverse": True},
    {"reverse": True, "num_layers": 2, "time_options": TimeOptions(keep_order=True, time_major=True)},
    {"num_layers": 2, "time_options": TimeOptions(time_major=True, return_all_states=True)},
    {"bidirectional": True, "time_options": TimeOptions(return_all_states=True)},
    {"initial_state": "learned", "bidirectional": True},
    {"regularization": Regularization(zoneout=0.2, dropout=0.5, layer_dropout=0.5), "num_layers": 2},
    {"step_options": StepOptions(activation="softsign")},
    {"step_options": StepOptions(activation="softmax"), "num_layers": 2},
    {"time_options": TimeOptions(checkpoint=3, offload=True)},
]
CALLS: dict[str, dict[str, Tensor]] = {
    "all valid": {},
    "lengths": {"lengths": LENGTHS},
    "holes": {"mask": HOLES},
    "resets": {"reset_mask": HOLES, "lengths": LENGTHS},
}


@ours
@pytest.mark.parametrize("index", range(len(OPTIONS)))
@pytest.mark.parametrize("call", CALLS)
@torch.no_grad()
def test_it_is_near_the_float_layer_with_every_option(cls: Any, index: int, call: str) -> None:
    layer = cls(**({"input_size": D, "hidden_size": H} | OPTIONS[index])).eval()
    for name, parameter in layer.named_parameters():
        if name.startswith(("h0", "c0")):
            parameter.uniform_(-1, 1)
    x, quantized = torch.randn(B, T, layer.input_size), quantize_dynamic(layer)
    x = layer._turn(x)
    arguments = {name: value if name == "lengths" else layer._turn(value) for name, value in CALLS[call].items()}
    for state in (None, random_state(layer)):
        near(quantized(x, state, **arguments), layer(x, state, **arguments), 5e-2 if layer.residual else 2e-2)
    near(quantized.initial_state(B), layer.initial_state(B), atol=0)
    assert quantized.explain(x, **arguments).engine == "scan"


@ours
@torch.no_grad()
def test_the_error_is_that_of_seven_bits(cls: Any) -> None:
    """Below 2e-2, and not below what seven bits allow: integers were really used."""
    layer, x = cls(64, 128, num_layers=2).eval(), torch.randn(16, 50, 64)
    quantized = quantize_dynamic(layer)
    worst = near(quantized(x).sequence, layer(x).sequence)
    rounding = near(dense(layer)(x).sequence, layer(x).sequence)
    assert rounding > 0 and 1e-4 < worst < 2e-2


def test_the_integer_product_is_exact() -> None:
    x, weight = torch.randint(-127, 128, (5, 300)).float(), torch.randint(-127, 128, (7, 300)).to(torch.int8)
    x[:, 0] = 127  # so that the scale is 1
    exact = x.double() @ weight.double().t()
    assert torch.equal(int8_linear(x, weight, torch.ones(7)).double(), exact)
    bias = torch.randn(7)
    torch.testing.assert_close(int8_linear(x, weight, torch.ones(7), bias), exact.float() + bias)


def test_rounding_is_to_the_nearest_of_255_levels() -> None:
    x = torch.randn(20, 50)
    rounded, scale = quantize_rows(x)
    assert rounded.dtype == torch.int8 and rounded.abs().amax(1).tolist() == [127] * 20
    assert ((rounded * scale - x).abs() <= scale / 2 + 1e-7).all()
    zeros = quantize_rows(torch.zeros(2, 3))
    assert torch.equal(zeros[0] * zeros[1], torch.zeros(2, 3))


@ours
@torch.no_grad()
def test_rows_are_independent_and_padding_changes_nothing(cls: Any) -> None:
    quantized, x = quantize_dynamic(cls(D, H, num_layers=2)), torch.randn(B, T, D)
    x[0] *= 100  # the scale of one row is not that of another
    whole = quantized(x, lengths=LENGTHS)
    for row in range(B):
        alone = quantized(x[row : row + 1, : LENGTHS[row]])
        near(alone.last[0], whole.last[row], atol=1e-6)
        near(
            pytree.tree_map(lambda leaf: leaf[0], alone.state),
            pytree.tree_map(lambda leaf, r=row: leaf[r], whole.state),
            1e-6,
        )
    first, second = quantized(x[:, :4]), None
    second = quantized(x[:, 4:], first.state)
    near(torch.cat([first.sequence, second.sequence], 1), quantized(x).sequence, atol=1e-6)


@ours
@torch.no_grad()
def test_no_rows_and_no_steps_are_legal_and_bad_numbers_stay_visible(cls: Any) -> None:
    quantized = quantize_dynamic(cls(D, H, num_layers=2))
    assert quantized(torch.zeros(0, T, D)).sequence.shape == (0, T, H)
    assert quantized(torch.zeros(B, 0, D)).sequence.shape == (B, 0, H)
    x = torch.randn(B, T, D)
    x[1, 3, 2] = float("nan")
    sequence = quantized(x).sequence
    assert sequence[1, 3:].isnan().all() and not sequence[[0, 2, 3]].isnan().any() and not sequence[1, :3].isnan().any()


@torch.no_grad()
def test_packed_rows_come_out_packed() -> None:
    layer, x = GRU(D, H).eval(), torch.randn(3, T, D)
    packed = pack_padded_sequence(x, torch.tensor([9, 2, 5]), batch_first=True, enforce_sorted=False)
    near(quantize_dynamic(layer)(packed).sequence.data, layer(packed).sequence.data)


@ours
@torch.no_grad()
def test_a_quarter_of_the_size_saved_and_loaded(cls: Any) -> None:
    layer, x = cls(64, 128, num_layers=2, bidirectional=True), torch.randn(B, T, 64)
    quantized = quantize_dynamic(layer)
    files = []
    for module in (layer, quantized):
        files.append(io.BytesIO())
        torch.save(module.state_dict(), files[-1])
    assert files[1].tell() < 0.29 * files[0].tell()  # a quarter, biases and one scale for each row
    files[1].seek(0)
    other = quantize_dynamic(cls(64, 128, num_layers=2, bidirectional=True))
    assert not torch.equal(other(x).sequence, quantized(x).sequence)
    other.load_state_dict(torch.load(files[1], weights_only=True))
    assert torch.equal(other(x).sequence, quantized(x).sequence)
    assert torch.equal(copy.deepcopy(other)(x).sequence, quantized(x).sequence)
    assert not list(quantized.parameters())


class Net(nn.Module):
    def __init__(self, cls: Any) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"rnn": cls(8, 64), "both": Bidirectional(cls(64, 16))})
        self.head = nn.Linear(32, 10)
        self.again = self.body["rnn"]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body["both"](self.again(x).sequence).last)  # type: ignore[no-any-return]


@ours
def test_every_layer_inside_a_module_is_quantized_in_a_copy(cls: Any) -> None:
    net, x = Net(cls).eval(), torch.randn(B, T, 8)
    before = copy.deepcopy(net.state_dict())
    quantized = quantize_dynamic(net)
    assert isinstance(quantized, Net) and quantized.again is quantized.body["rnn"]
    assert not any(isinstance(module, RecurrentLayer) for module in quantized.modules())
    assert sum(isinstance(module, QuantizedRNN) for module in quantized.modules()) == 3
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not {id(p) for p in net.parameters()} & {id(p) for p in quantized.parameters()}
    with torch.no_grad():
        near(quantized(x), net(x))


@pytest.mark.parametrize("cls", [LSTM, GRU])
def test_a_trained_classifier_loses_less_than_half_a_point(cls: Any) -> None:
    data = load_digits()
    x, y = torch.tensor(data.images, dtype=torch.float32) / 16, torch.tensor(data.target)
    order = torch.randperm(len(x))
    train, test = order[:1200], order[1200:]
    net = Net(cls)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(20):
        for rows in train[torch.randperm(len(train))].split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        right = [(one(x[test]).argmax(1) == y[test]).float().mean().item() for one in (net, quantize_dynamic(net))]
    assert right[0] > 0.93 and right[1] > right[0] - 0.005


REFUSED: list[tuple[Any, str]] = [
    (
        lambda: LSTM(D, H, step_options=StepOptions(peephole=True, cell_clip=1.0)),
        r"has no peephole=True, cell_clip=1\.0",
    ),
    (lambda: LSTM(D, H, proj_size=3), "LSTM in int8 has no proj_size"),
    (lambda: GRU(D, H, step_options=StepOptions(reset_after=False)), "has no reset_after=False"),
    (lambda: GRU(D, H, step_options=StepOptions(layer_norm="haste")), "has no layer_norm='haste'"),
    (lambda: GRU(D, H, stateful=True), "has no stateful=True"),
    (lambda: GRU(None, H), r"has no weights yet: call build\(input_size\)"),
    (lambda: nn.Linear(3, 3), "Linear has no SimpleRNN, LSTM or GRU inside"),
]


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_what_is_not_there_is_named(index: int) -> None:
    make, message = REFUSED[index]
    with pytest.raises(ValueError, match=message):
        quantize_dynamic(make())


X = torch.zeros(B, T, D)
BAD: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((X[0],), {}, ValueError, r"expected x of shape \[B, T, 12\], got \[9, 12\]"),
    ((X.double(),), {}, TypeError, "x is torch.float64 and scales are torch.float32; both must be float32"),
    ((X.to("meta"),), {}, ValueError, "int8 layers run on the CPU, x is on meta"),
    ((X.clone().requires_grad_(),), {}, ValueError, r"has no gradients: call it under torch\.no_grad"),
    ((X, torch.zeros(B, H)), {}, ValueError, "expected a state tuple of 2 layers"),
    ((X, (torch.zeros(1, H),) * 2), {}, ValueError, r"expected a state of shape \[4, 32\], got \[1, 32\]"),
    ((X,), {"lengths": LENGTHS, "mask": HOLES}, ValueError, "give lengths or mask, not both"),
    ((X,), {"lengths": LENGTHS + 1}, ValueError, r"lengths must be in 0\.\.9"),
]


@pytest.mark.parametrize("index", range(len(BAD)))
def test_mistakes_give_one_sentence(index: int) -> None:
    arguments, named, kind, message = BAD[index]
    with pytest.raises(kind, match=message) as caught:
        quantize_dynamic(GRU(D, H, num_layers=2))(*arguments, **named)
    assert "\n" not in str(caught.value)


def test_a_quantized_layer_stays_in_float32() -> None:
    with pytest.raises(TypeError, match=r"scales are torch\.bfloat16; both must be float32"):
        quantize_dynamic(GRU(D, H)).to(torch.bfloat16)(X)
    with pytest.raises(TypeError, match="made of a layer, not of a config"):
        quantize_dynamic(GRU(D, H)).get_config()


# bfloat16


def engines_of(layer: RecurrentLayer, x: Tensor) -> list[str]:
    """Those that run this call."""
    found = []
    for engine in ("fused", "native", "scan"):
        layer.engine = engine  # type: ignore[assignment]
        try:
            layer.explain(x)
        except ValueError:
            continue
        found.append(engine)
    return found


@ours
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@torch.no_grad()
def test_bfloat16_is_near_float32_on_every_engine(cls: Any, lengths: Tensor | None) -> None:
    layer, x = cls(64, 128, num_layers=2).eval(), torch.randn(B, T, 64)
    exact = layer(x, lengths=lengths)
    low = copy.deepcopy(layer).to(torch.bfloat16)
    for engine in engines_of(low, x.bfloat16()):
        within = 5e-3 if engine == "native" else 8e-3  # the others round gates and memory too
        low.engine = engine  # type: ignore[assignment]
        output = low(x.bfloat16(), lengths=lengths)
        assert {leaf.dtype for leaf in pytree.tree_leaves((output.sequence, output.state))} == {torch.bfloat16}
        for mine, its in ((output.sequence, exact.sequence), (output.last, exact.last)):
            assert (mine.float() - its).norm() < within * its.norm(), engine


@ours
@torch.no_grad()
def test_autocast_is_near_float32_on_every_engine(cls: Any) -> None:
    layer, x = cls(64, 128, num_layers=2).eval(), torch.randn(B, T, 64)
    exact = layer(x)
    for engine in engines_of(layer, x):
        layer.engine = engine  # type: ignore[assignment]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = layer(x, lengths=torch.full((B,), T))
            again = layer(x, output.state)  # states of one call go into the next
        assert (output.sequence.float() - exact.sequence).norm() < 8e-3 * exact.sequence.norm(), engine
        assert again.sequence.dtype == output.sequence.dtype
        if cls is LSTM and engine == "fused":
            assert isinstance(output.state[1], LSTMState) and output.state[1].c.dtype == torch.bfloat16

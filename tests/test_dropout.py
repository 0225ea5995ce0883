"""Noise while training: each kind against the equations with the masks that were drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_checks import ENGINES, HERE, check_refused, close, engines, one_engine, rand
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, RNN, LSTMCell, LSTMState, SimpleRNN
from lightning_rnn.functional import StepOptions, sequence_mask
from lightning_rnn.layers import RecurrentLayer, Regularization, gates

B, T, D, H = 3, 5, 3, 4
LENGTHS = torch.tensor([5, 0, 3])
HOLES = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [1, 0, 1, 1, 0]]).bool()
CALLS: list[dict[str, Tensor]] = [{}, {"lengths": LENGTHS}, {"mask": HOLES}]
CLASSES: list[type[RecurrentLayer]] = [SimpleRNN, LSTM, GRU]
GATES = {SimpleRNN: 1, LSTM: 4, GRU: 3}
ours = pytest.mark.parametrize("cls", CLASSES)
calls = pytest.mark.parametrize("call", CALLS, ids=["all valid", "lengths", "holes"])
variational = pytest.mark.parametrize("variational", [True, False])

Masks = list[Tensor]


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> Masks:
    """The masks that dropout drew, in order; already scaled by 1 / (1 - share)."""
    drawn: Masks = []

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        assert training and not inplace
        drawn.append((torch.rand_like(x) >= p).to(x) / (1 - p))
        return x * drawn[-1]

    def chances(steps: int, wanted: Any, device: Any) -> list[Tensor]:
        falls = real(steps, wanted, device)
        if len(wanted[0][1]) == 3:  # of every gate, so not zoneout
            drawn.extend((~falls[0]).double() / (1 - wanted[0][0]))
        return falls

    real = gates.chances
    monkeypatch.setattr(F, "dropout", dropout)
    monkeypatch.setattr(gates, "chances", chances)
    return drawn


def pair(cls: type[RecurrentLayer], noise: Regularization, layers: int = 1, **options: Any) -> tuple[Any, Any]:
    """A layer with noise, and the same without."""
    noisy = cls(D, H, layers, regularization=noise, **options).double()
    plain = cls(D, H, layers, **options).double()
    plain.load_state_dict(noisy.state_dict())
    return noisy, plain


def valid_of(call: dict[str, Tensor]) -> Tensor:
    if "lengths" in call:
        return sequence_mask(call["lengths"], T)
    return call.get("mask", torch.ones(B, T, dtype=torch.bool))


def by_steps(layer: Any, x: Tensor, valid: Tensor, drops: list[Tensor], zone: Any = None) -> tuple[Tensor, Any]:
    """The three cells in a loop, with the state that each gate sees multiplied by ``drops[t] [B, G, H]``."""
    u = layer.weight_hh_l0.reshape(-1, H, H)
    h, c, outputs = x.new_zeros(B, H), x.new_zeros(B, H), []
    output = x.new_zeros(B, H)
    for t in range(T):
        a = x[:, t] @ layer.weight_ih_l0.T + layer.bias_ih_l0
        r = torch.cat([(h * drops[t][:, g]) @ u[g].T for g in range(len(u))], 1) + layer.bias_hh_l0
        new_c = c
        if layer.kind == "simple_rnn":
            new = torch.tanh(a + r)
        elif layer.kind == "lstm":
            i, f, g, o = (a + r).chunk(4, 1)
            new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            new = o.sigmoid() * new_c.tanh()
        else:
            (a_r, a_z, a_n), (h_r, h_z, h_n) = a.chunk(3, 1), r.chunk(3, 1)
            z = (a_z + h_z).sigmoid()
            new = (1 - z) * (a_n + (a_r + h_r).sigmoid() * h_n).tanh() + z * h
        if zone is not None:
            new = zone(t, h, new)
        now = valid[:, t : t + 1]
        h, c, output = torch.where(now, new, h), torch.where(now, new_c, c), torch.where(now, new, output)
        outputs.append(output)
    return torch.stack(outputs, 1), LSTMState(h, c) if layer.kind == "lstm" else h


@ours
@calls
@variational
@engines()
def test_input_dropout(cls: Any, call: dict[str, Tensor], variational: bool, engine: Any, masks: Masks) -> None:
    layer, plain = pair(cls, Regularization(dropout=0.4, variational=variational), engine=engine)
    x = rand(B, T, D)
    assert layer.explain(x, **call).engine == engine
    masks.clear()
    output = layer(x, **call)
    (mask,) = masks
    assert list(mask.shape) == ([B, D] if variational else [B, T, D])
    close(output, plain(x * (mask.unsqueeze(1) if variational else mask), **call))


@ours
@calls
@variational
@engines("native", "scan")
def test_recurrent_dropout(cls: Any, call: dict[str, Tensor], variational: bool, engine: Any, masks: Masks) -> None:
    layer, _ = pair(cls, Regularization(recurrent_dropout=0.4, variational=variational), engine=engine)
    x = rand(B, T, D)
    assert layer.explain(x, **call).engine == engine
    check_refused(layer, "fused", "recurrent dropout", x, **call)
    masks.clear()
    output = layer(x, **call)
    assert [list(mask.shape) for mask in masks] == [[B, GATES[cls], H]] * (1 if variational else T)
    sequence, state = by_steps(layer, x, valid_of(call), masks * T if variational else masks)
    close((output.sequence, output.state), (sequence, state))


@engines("native", "scan")
def test_recurrent_dropout_of_a_reset_state_and_of_a_projection(engine: Any, masks: Masks) -> None:
    noise = Regularization(recurrent_dropout=0.4)
    before = StepOptions(reset_after=False)
    gru: Any = GRU(D, H, regularization=noise, step_options=before, engine=engine).double()
    x, h = rand(B, 1, D), rand(B, H)
    output = gru(x, h).sequence[:, 0]
    m, u = masks.pop(), gru.weight_hh_l0.reshape(3, H, H)
    a = (x[:, 0] @ gru.weight_ih_l0.T + gru.bias_ih_l0 + gru.bias_hh_l0).chunk(3, 1)
    r, z = ((a[g] + (h * m[:, g]) @ u[g].T).sigmoid() for g in (0, 1))
    close(output, (1 - z) * (a[2] + (r * h * m[:, 2]) @ u[2].T).tanh() + z * h)
    LSTM(D, H, proj_size=2, regularization=noise, engine=engine).double()(x)
    assert masks.pop().shape == (B, 4, 2)


@ours
@calls
@variational
@engines()
def test_output_dropout_leaves_the_state(
    cls: Any, call: dict[str, Tensor], variational: bool, engine: Any, masks: Masks
) -> None:
    noise = Regularization(output_dropout=0.4, variational=variational)
    layer, plain = pair(cls, noise, bidirectional=True, engine=engine)
    x, valid = rand(B, T, D), valid_of(call).unsqueeze(2)
    assert layer.explain(x, **call).engine == engine
    output, expected = layer(x, **call), plain(x, **call)
    assert [list(mask.shape) for mask in masks] == [[B, 1 if variational else T, H]] * 2
    close(output.sequence * valid, expected.sequence * torch.cat([m.expand(B, T, H) for m in masks], 2) * valid)
    close(output.state, expected.state)


@ours
@calls
@engines()
def test_layer_dropout_stands_where_torch_has_it(cls: Any, call: dict[str, Tensor], engine: Any, masks: Masks) -> None:
    layer, plain = pair(cls, Regularization(layer_dropout=0.4), layers=3, engine=engine)
    singles = [cls(D if i == 0 else H, H, engine=engine).double() for i in range(3)]
    for i, single in enumerate(singles):
        names = {name.replace("_l0", f"_l{i}"): parameter for name, parameter in single.named_parameters()}
        for name, parameter in names.items():
            parameter.data.copy_(getattr(plain, name))
    x = rand(B, T, D)
    output = layer(x, **call)
    assert [list(mask.shape) for mask in masks] == [[B, T, H]] * 2
    first = singles[0](x, **call)
    second = singles[1](first.sequence * masks[0], **call)
    third = singles[2](second.sequence * masks[1], **call)
    close((output.sequence, output.state, output.last), (third.sequence, (first[1], second[1], third[1]), third.last))


@ours
@calls
@engines()
def test_weight_dropout_is_drawn_once_on_any_engine(
    cls: Any, call: dict[str, Tensor], engine: Any, masks: Masks
) -> None:
    layer, plain = pair(cls, Regularization(weight_dropout=0.4), bidirectional=True, engine=engine)
    x = rand(B, T, D)
    assert layer.explain(x, **call).engine == engine
    masks.clear()
    output = layer(x, **call)
    assert [list(mask.shape) for mask in masks] == [[GATES[cls] * H, H]] * 2
    for mask, suffix in zip(masks, ("_l0", "_l0_reverse"), strict=True):
        getattr(plain, f"weight_hh{suffix}").data.mul_(mask)
    close(output, plain(x, **call))
    output.sequence.sum().backward()
    assert bool((layer.weight_hh_l0.grad[masks[0] == 0] == 0).all())


@ours
@calls
@engines("native", "scan")
def test_zoneout_keeps_units_and_expects_in_eval(
    cls: Any, call: dict[str, Tensor], engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, _ = pair(cls, Regularization(zoneout=0.3), engine=engine)
    x, drawn, real = rand(B, T, D), [], gates.chances
    ones = [torch.ones(B, GATES[cls], H, dtype=torch.float64)] * T
    assert layer.explain(x, **call).engine == engine
    check_refused(layer, "fused", "zoneout", x, **call)

    def chances(*of: Any) -> list[Tensor]:
        (falls,) = real(*of)
        drawn.extend(falls)
        return [falls]

    monkeypatch.setattr(gates, "chances", chances)
    output = layer(x, **call)
    assert [list(one.shape) for one in drawn] == [[B, H]] * T
    trained = by_steps(layer, x, valid_of(call), ones, lambda t, old, new: torch.where(drawn[t], old, new))
    close((output.sequence, output.state), trained)
    output = layer.eval()(x, **call)
    expected = by_steps(layer, x, valid_of(call), ones, lambda t, old, new: 0.3 * old + 0.7 * new)
    close((output.sequence, output.state), expected)
    assert len(drawn) == T


def only(name: str, share: float, **more: Any) -> Regularization:
    options: dict[str, Any] = {name: share, **more}
    return Regularization(**options)


NOISES = {
    name: only(name, 0.3)
    for name in ("dropout", "layer_dropout", "recurrent_dropout", "output_dropout", "weight_dropout", "zoneout")
}
each = pytest.mark.parametrize("name", NOISES)


@ours
@each
def test_eval_mode_has_no_noise(cls: Any, name: str) -> None:
    layer, plain = pair(cls, NOISES[name], layers=2, bidirectional=True)
    x, state = rand(B, T, D), torch.get_rng_state()
    layer.eval()
    for each in HERE:
        if each == "fused" and name == "zoneout":  # what is expected of it is a step of its own
            check_refused(layer, each, name, x)
            continue
        layer.engine = plain.engine = each
        assert layer.explain(x).engine == each
        first, second = layer(x, mask=HOLES), layer(x, mask=HOLES)
        assert torch.equal(torch.get_rng_state(), state)
        close(first, second, atol=0)
        if name != "zoneout":
            close(first, plain(x, mask=HOLES), atol=0)


# numbers for outputs of each step are drawn in the order of the output's memory, which is the kernel's own
SAME = [(name, variational) for name in NOISES for variational in (True, False)]
SAME.remove(("output_dropout", False))


@ours
@pytest.mark.parametrize(
    ("name", "variational", "engine"),
    [
        pytest.param(*draw, *parameter.values, marks=parameter.marks)
        for draw in SAME
        for parameter in map(one_engine, ["native"] if draw[0] in ("recurrent_dropout", "zoneout") else ENGINES[:2])
    ],
)
def test_engines_draw_the_same(cls: Any, name: str, variational: bool, engine: Any) -> None:
    noise = only(name, 0.3, variational=variational)
    layer, _ = pair(cls, noise, layers=2, bidirectional=True, engine=engine)
    loop = cls(D, H, 2, bidirectional=True, regularization=noise, engine="scan").double()
    loop.load_state_dict(layer.state_dict())
    x = rand(B, T, D)
    torch.manual_seed(3)
    a = layer(x, lengths=LENGTHS)
    torch.manual_seed(3)
    close(a, loop(x, lengths=LENGTHS))
    assert float((layer(x, lengths=LENGTHS).last - a.last).detach().abs().max()) > 1e-3  # the next call draws anew


@ours
@each
def test_explain_draws_nothing(cls: Any, name: str) -> None:
    layer, _ = pair(cls, NOISES[name], layers=2)
    x, state = rand(B, T, D), torch.get_rng_state()
    layer.explain(x, lengths=LENGTHS)
    assert torch.equal(torch.get_rng_state(), state)


def test_explain_of_a_cell_draws_nothing() -> None:
    rnn = RNN(LSTMCell(D, H, regularization=Regularization(dropout=0.5, recurrent_dropout=0.5, weight_dropout=0.5)))
    state = torch.get_rng_state()
    x = torch.zeros(B, T, D)
    for asked in (name for name in HERE if name != "fused"):
        rnn.engine = asked
        assert rnn.explain(x).engine == asked
    rnn.engine = "auto"
    assert rnn.explain(x).engine != "fused"
    assert torch.equal(torch.get_rng_state(), state)


@ours
def test_a_share_of_one_drops_everything(cls: Any) -> None:
    x = rand(B, T, D)
    layer, plain = pair(cls, Regularization(dropout=1.0))
    close(layer(x), plain(torch.zeros_like(x)))
    layer, _ = pair(cls, Regularization(output_dropout=1.0))
    close(layer(x).sequence, torch.zeros(B, T, H, dtype=torch.float64))
    start = random_state = pytree.tree_map(torch.randn_like, layer.initial_state(B))
    layer, _ = pair(cls, Regularization(zoneout=1.0))
    output = layer(x, start)
    h = random_state[0] if isinstance(random_state, LSTMState) else random_state
    close(output.sequence, h.unsqueeze(1).expand(B, T, H))
    for noise in (Regularization(recurrent_dropout=1.0), Regularization(weight_dropout=1.0)):
        layer, plain = pair(cls, noise)
        torch.nn.init.zeros_(plain.weight_hh_l0)
        output = layer(x, start)
        close(output, plain(x, start))
        output.sequence.sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in layer.parameters())
    layer, plain = pair(cls, Regularization(layer_dropout=1.0), layers=2)
    torch.nn.init.zeros_(plain.weight_ih_l1)
    close(layer(x).sequence, plain(x).sequence)


@variational
def test_share_and_scale(variational: bool) -> None:
    rows, steps, size = 60, 30, 20
    layer = GRU(D, size, regularization=Regularization(output_dropout=0.3, variational=variational))
    plain = GRU(D, size)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(rows, steps, D)
    ratio = layer(x).sequence / plain(x).sequence
    dropped = ratio == 0
    assert bool(torch.isclose(ratio[~dropped], torch.tensor(1 / 0.7), rtol=1e-4).all())
    assert abs(float(dropped.float().mean()) - 0.3) < (0.06 if variational else 0.012)  # more than four deviations
    assert bool((dropped == dropped[:, :1]).all()) == variational
    assert not bool((dropped == dropped[:1]).all()) and not bool((dropped == dropped[:, :, :1]).all())


@pytest.mark.parametrize("share", [-0.1, 1.1])
@each
def test_shares_outside_are_refused(name: str, share: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be between 0 and 1, got"):
        only(name, share)


def test_a_cell_has_no_dropout_of_outputs() -> None:
    for name in ("layer_dropout", "output_dropout"):
        with pytest.raises(ValueError, match=f"a cell has no {name}; wrap it in a DropoutWrapper"):
            LSTMCell(D, H, regularization=NOISES[name])

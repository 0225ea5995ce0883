"""The options of SimpleRNN, LSTM and GRU against their equations, written out row by row in float64."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from layer_checks import ENGINES, HERE, check_refused, close, engines, gradients, leaves, rand, random_like
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, LSTMState, SimpleRNN, SimpleRNNCell
from lightning_rnn.functional import StepOptions, sequence_mask
from lightning_rnn.layers import RecurrentLayer, Regularization, TimeOptions

B, T, D, H = 4, 6, 3, 4
LENGTHS = torch.tensor([6, 2, 0, 5])
HOLES = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1]]).bool()
LEFT = sequence_mask(LENGTHS, T).flip(1)
CALLS: dict[str, dict[str, Tensor]] = {
    "all valid": {},
    "lengths": {"lengths": LENGTHS},
    "holes": {"mask": HOLES},
    "left": {"mask": LEFT},
}
CLASSES: list[type[RecurrentLayer]] = [SimpleRNN, LSTM, GRU]
ours = pytest.mark.parametrize("cls", CLASSES)
calls = pytest.mark.parametrize("call", CALLS)


def valid_of(call: dict[str, Tensor]) -> Tensor:
    if "lengths" in call:
        return sequence_mask(call["lengths"], T)
    return call.get("mask", torch.ones(B, T, dtype=torch.bool))


# The reference: one step, one row in one direction, then layers of them


def norm(v: Tensor, gain: Any, offset: Any = None, eps: float = 1e-5) -> Tensor:
    centred = v - v.mean(-1, keepdim=True)
    v = centred / ((centred**2).mean(-1, keepdim=True) + eps) ** 0.5
    v = v if gain is None else v * gain
    return v if offset is None else v + offset


ACTIVATION: dict[Any, Callable[[Tensor], Tensor]] = {
    "tanh": lambda v: (v.exp() - (-v).exp()) / (v.exp() + (-v).exp()),
    "sigmoid": lambda v: 1 / (1 + (-v).exp()),
    "relu": lambda v: v * (v > 0),
    "linear": lambda v: v,
    "softsign": lambda v: v / (1 + v.abs()),
    "hard_sigmoid": lambda v: (v / 6 + 0.5).clamp(0, 1),
    "hard_sigmoid_keras2": lambda v: (v / 5 + 0.5).clamp(0, 1),
}


def step(kind: str, w: dict[str, Any], o: StepOptions, x: Tensor, old: list[Tensor], drop: Any = None) -> list[Tensor]:
    """One step of one row; ``drop [G, P]`` multiplies the state as each gate sees it."""
    phi = ACTIVATION.get(o.activation, o.activation)
    sigma = ACTIVATION.get(o.recurrent_activation, o.recurrent_activation)
    assert callable(phi) and callable(sigma)
    gates, h = {"simple_rnn": 1, "lstm": 4, "gru": 3}[kind], old[0]
    size = w["weight_hh"].shape[0] // gates
    drop = torch.ones(gates, h.shape[0], dtype=h.dtype) if drop is None else drop
    u = w["weight_hh"].reshape(gates, size, -1)
    zero = torch.zeros(gates * size, dtype=h.dtype)
    b_x, b_h = (zero if w["bias_ih"] is None else w[name] for name in ("bias_ih", "bias_hh"))
    a, r = w["weight_ih"] @ x, torch.cat([u[g] @ (h * drop[g]) for g in range(gates)])
    if kind == "simple_rnn":
        total = a + r if o.layer_norm == "none" else norm(a + r, w["norm_hh_weight"], eps=o.layer_norm_eps or 1e-5)
        return [phi(total + b_x + b_h)]
    if kind == "gru":
        if o.layer_norm == "haste":
            a, r = norm(a, w["norm_ih_weight"]), norm(r, w["norm_hh_weight"])
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (a + b_x).chunk(3), (r + b_h).chunk(3)
        gate, z = sigma(x_r + h_r), sigma(x_z + h_z)
        inner = gate * h_n if o.reset_after else u[2] @ (gate * h * drop[2]) + b_h[2 * size :]
        return [(1 - z) * phi(x_n + inner) + z * h]
    c = old[1]
    if o.layer_norm == "addons":
        a = norm(a, w["norm_ih_weight"], w["norm_ih_bias"], 1e-3)
        r = norm(r, w["norm_hh_weight"], w["norm_hh_bias"], 1e-3)
    if o.layer_norm == "haste":
        a, r = norm(a, w["norm_ih_weight"]), norm(r, w["norm_hh_weight"])
    total = a + r
    if o.layer_norm == "basic":
        each = [norm(part, None, eps=1e-12) for part in total.chunk(4)]
        total = torch.cat(each) * w["norm_hh_weight"] + w["norm_hh_bias"]
    i, f, g, out = (total + b_x + b_h).chunk(4)
    if o.peephole:
        i, f = i + w["weight_ch"][0] * c, f + w["weight_ch"][1] * c
    c = sigma(f) * c + sigma(i) * phi(g)
    if o.cell_clip is not None:
        c = c.clamp(-o.cell_clip, o.cell_clip)
    read = c
    if o.layer_norm != "none":
        eps = {"addons": 1e-3, "haste": 1e-5, "basic": 1e-12}[o.layer_norm]
        read = norm(c, w["norm_c_weight"], w["norm_c_bias"], eps)
        c = c if o.layer_norm == "haste" else read
    if o.peephole:
        out = out + w["weight_ch"][2] * c
    h = sigma(out) * phi(read)
    if w["weight_hr"] is not None:
        h = w["weight_hr"] @ h
        h = h if o.proj_clip is None else h.clamp(-o.proj_clip, o.proj_clip)
    return [h, c]


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_ch")
NORM_NAMES = tuple(f"norm_{side}_{what}" for side in ("ih", "hh", "c") for what in ("weight", "bias"))


def direction(
    layer: RecurrentLayer, suffix: str, x: Tensor, start: Any, valid: Tensor, backwards: bool, skip: Any, drop: Any
) -> tuple[Tensor, Tensor, Any]:
    w = {name: getattr(layer, name + suffix, None) for name in NAMES + NORM_NAMES}
    parts = leaves(start)
    rows, finals = [], []
    for b in range(x.shape[0]):
        state, output, steps = [part[b] for part in parts], torch.zeros_like(parts[0][b]), {}
        for t in sorted(range(x.shape[1]), reverse=backwards):
            if valid[b, t]:
                state = step(layer.kind, w, layer.step_options, x[b, t], state, None if drop is None else drop[b])
                output = state[0] if skip is None else state[0] + skip[b, t]
            steps[t] = output if valid[b, t] or not layer.zero_output_for_mask else torch.zeros_like(output)
        rows.append(torch.stack([steps[t] for t in range(x.shape[1])]))
        finals.append(state)
    sequence = torch.stack(rows)
    states = [torch.stack(column) for column in zip(*finals, strict=True)]
    return sequence, sequence[:, 0 if backwards else -1], LSTMState(*states) if len(states) > 1 else states[0]


def reference(layer: RecurrentLayer, x: Tensor, state: Any, valid: Tensor, drop: Any = None) -> tuple[Any, ...]:
    """Sequence, state and last output, in the axes and the order of the layer's own."""
    suffixes = ["", "_reverse"] if layer.bidirectional else [""]
    finals: list[Any] = []
    lasts: list[Tensor] = []
    for i in range(layer.num_layers):
        here = state[i] if layer.num_layers > 1 else state
        adds = layer.residual and (i > 0 or x.shape[2] == layer.output_size)
        halves = x.chunk(len(suffixes), -1)
        ran = [
            direction(
                layer,
                f"_l{i}{suffix}",
                x,
                here[d] if layer.bidirectional else here,
                valid,
                d == 1 or layer.reverse,
                halves[d] if adds else None,
                drop,
            )
            for d, suffix in enumerate(suffixes)
        ]
        x, lasts = torch.cat([r[0] for r in ran], -1), [r[1] for r in ran]
        finals.append(tuple(r[2] for r in ran) if layer.bidirectional else ran[0][2])
    x = x.flip(1) if layer.reverse and not layer.time_options.keep_order else x
    return x, tuple(finals) if layer.num_layers > 1 else finals[0], torch.cat(lasts, -1)


def compare(layer: Any, call: dict[str, Tensor], names: tuple[str, ...], given: bool = False, width: int = D) -> None:
    """Values and the gradients of input, state and all weights, on each of the engines; the others refuse the call."""
    layer = layer.double()
    x = rand(B, T, width).requires_grad_()
    state = layer.initial_state(B)
    if given:
        state = random_like(state, requires_grad=True)
    expected = reference(layer, x, state, valid_of(call))
    sources = [x, *layer.parameters(), *(leaves(state) if given else [])]
    slopes = gradients(expected, sources)
    for name in HERE:
        if name not in names:
            check_refused(layer, name, "", x, **call)
            continue
        layer.engine = name
        assert layer.explain(x, **call).engine == name
        output = layer(x, state if given else None, **call)
        found = output.sequence, output.state, output.last
        close(found, expected, what=name)
        close(gradients(found, sources), slopes, atol=1e-11, what=name)


STRUCTURES: dict[str, dict[str, Any]] = {
    "a list of sizes": {"hidden_size": [4, 2, 3]},
    "a list of sizes, both ways": {"hidden_size": [4, 2], "bidirectional": True},
    "no bias": {"bias": False, "num_layers": 2},
    "residual": {"num_layers": 3, "residual": True},
    "residual from the first": {"hidden_size": 3, "num_layers": 2, "residual": True},
    "residual both ways": {"hidden_size": 2, "num_layers": 3, "residual": True, "bidirectional": True},
    "reverse": {"reverse": True, "num_layers": 2},
    "reverse, order kept": {"reverse": True, "time_options": TimeOptions(keep_order=True), "residual": True},
    "learned start": {"initial_state": "learned", "num_layers": 2, "bidirectional": True},
    "zero at masked steps": {"zero_output_for_mask": True, "num_layers": 2, "bidirectional": True, "residual": True},
    "reverse, zero": {"reverse": True, "zero_output_for_mask": True},
}


@ours
@pytest.mark.parametrize("call", ["all valid", "lengths", "holes"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_structures_equal_the_equations(cls: type[RecurrentLayer], call: str, structure: str) -> None:
    layer = cls(D, **({"hidden_size": H} | STRUCTURES[structure]))
    if layer.start == "learned":
        for name, parameter in layer.named_parameters():
            if name.startswith(("h0", "c0")):
                torch.nn.init.normal_(parameter)
    compare(layer, CALLS[call], ENGINES)


@ours
@pytest.mark.parametrize("call", ["lengths", "holes"])
def test_residual_of_the_input_both_ways(cls: type[RecurrentLayer], call: str) -> None:
    compare(cls(6, 3, 2, bidirectional=True, residual=True), CALLS[call], ENGINES, given=True, width=6)


@ours
@engines()
@pytest.mark.parametrize("ways", [{"reverse": True}, {"num_layers": 2, "bidirectional": True, "residual": True}])
def test_what_masked_steps_hold_reaches_nothing(cls: Any, engine: str, ways: dict[str, Any]) -> None:
    layer = cls(D, H, engine=engine, **ways).double()
    x = rand(B, T, D)
    dirty = torch.where(HOLES.unsqueeze(2), x, torch.nan).requires_grad_()
    output = layer(dirty, mask=HOLES)
    close(output, layer(x, mask=HOLES))
    output.sequence.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in [dirty, *layer.parameters()])
    assert dirty.grad is not None and bool((dirty.grad[~HOLES] == 0).all())


@ours
def test_learned_states_start_at_zero(cls: Any) -> None:
    layer = cls(D, H, 2, bidirectional=True, initial_state="learned")
    starts = [p for name, p in layer.named_parameters() if name.startswith(("h0", "c0"))]
    assert len(starts) == (8 if cls is LSTM else 4)
    for parameter in starts:
        torch.nn.init.ones_(parameter)
    close(layer.initial_state(B), pytree.tree_map(torch.ones_like, layer.initial_state(B)))
    layer.reset_parameters()
    assert not any(bool(parameter.any()) for parameter in starts)


def squash(v: Tensor) -> Tensor:
    return v / (1 + v**2)


VARIANTS: list[tuple[type[RecurrentLayer], StepOptions, dict[str, Any]]] = [
    (SimpleRNN, StepOptions(activation="softsign"), {}),
    (SimpleRNN, StepOptions(activation=squash), {}),
    (SimpleRNN, StepOptions(layer_norm="addons"), {}),
    (SimpleRNN, StepOptions(layer_norm="addons", layer_norm_eps=0.1), {"bias": False}),
    (LSTM, StepOptions(activation=squash, recurrent_activation="hard_sigmoid"), {}),
    (LSTM, StepOptions(recurrent_activation="hard_sigmoid_keras2"), {}),
    (LSTM, StepOptions(peephole=True), {}),
    (LSTM, StepOptions(cell_clip=0.2), {}),
    (LSTM, StepOptions(peephole=True, cell_clip=0.1, activation="relu"), {"bidirectional": True}),
    (LSTM, StepOptions(), {"proj_size": 2, "num_layers": 2}),
    (LSTM, StepOptions(), {"proj_size": 5, "residual": True, "num_layers": 2}),
    (LSTM, StepOptions(proj_clip=0.05), {"proj_size": 2, "bidirectional": True, "bias": False}),
    (LSTM, StepOptions(proj_clip=0.1, cell_clip=0.1, peephole=True), {"proj_size": 3, "initial_state": "learned"}),
    (LSTM, StepOptions(layer_norm="addons"), {}),
    (LSTM, StepOptions(layer_norm="haste"), {"num_layers": 2}),
    (LSTM, StepOptions(layer_norm="basic"), {}),
    (LSTM, StepOptions(layer_norm="basic", peephole=True), {"bias": False, "bidirectional": True}),
    (GRU, StepOptions(reset_after=False), {}),
    (GRU, StepOptions(reset_after=False), {"bias": False, "bidirectional": True}),
    (GRU, StepOptions(activation="relu", recurrent_activation="hard_sigmoid"), {}),
    (GRU, StepOptions(activation=squash, reset_after=False), {"num_layers": 2}),
    (GRU, StepOptions(layer_norm="haste"), {"num_layers": 2}),
    (GRU, StepOptions(layer_norm="haste"), {"bias": False}),
]


@pytest.mark.parametrize("call", ["lengths", "holes"])
@pytest.mark.parametrize("index", range(len(VARIANTS)))
def test_variants_of_the_step_equal_the_equations(index: int, call: str) -> None:
    cls, options, structure = VARIANTS[index]
    layer = cls(D, H, step_options=options, **structure)
    for parameter in layer.parameters():  # also the gains, offsets and starts, which are 1 and 0 at first
        torch.nn.init.uniform_(parameter, -1, 1)
    native = () if callable(options.activation) else ("native",)
    fused = ("fused",) if options == StepOptions() and layer.proj_size < H else ()
    compare(layer, CALLS[call], (*native, *fused, "scan"), given=layer.start == "zeros")


@ours
def test_variants_of_one_cell_are_named_to_another(cls: type[RecurrentLayer]) -> None:
    wrong: dict[Any, list[StepOptions]] = {
        SimpleRNN: [StepOptions(recurrent_activation="relu"), StepOptions(layer_norm="haste")],
        LSTM: [StepOptions(reset_after=False), StepOptions(proj_clip=1.0)],
        GRU: [StepOptions(layer_norm="haste", reset_after=False), StepOptions(cell_clip=1.0)],
    }
    for options in wrong[cls]:
        with pytest.raises(ValueError, match=rf"^{cls.__name__}.*(no option|must be one of|needs)"):
            cls(D, H, step_options=options)
    with pytest.raises(ValueError, match="no activation is called 'nope'"):
        StepOptions(activation="nope")


@pytest.mark.parametrize(("value", "expected"), [(True, 1.0), (False, 0.0)])
def test_unit_forget_bias(value: bool, expected: float) -> None:
    for layer in (LSTM(D, H, unit_forget_bias=value, bidirectional=True), LSTMCell(D, H, unit_forget_bias=value)):
        biases = {name: parameter for name, parameter in layer.named_parameters() if "bias" in name}
        sums = {name: float(parameter[H : 2 * H].detach().sum()) for name, parameter in biases.items()}
        assert sums == {name: expected * H if "ih" in name else 0.0 for name in biases}
        assert all(bool((parameter[:H] != 0).any()) for parameter in biases.values())


# Where episodes start, kept states, states of all steps, the order of axes


def episodes(layer: RecurrentLayer, x: Tensor, given: Any, valid: Tensor, resets: Tensor) -> tuple[Tensor, Any]:
    """One row, its episodes run apart. Each starts anew but at the row's own ends, where it has the given state."""
    cuts = [0, *(t for t in range(1, T) if resets[t]), T]
    parts, finals = [], []
    for start, stop in pairwise(cuts):
        forward, backward = start == 0 and not resets[0], stop == T
        fresh = layer.initial_state(1)

        def choose(old: Any, new: Any, forward: bool = forward, backward: bool = backward) -> Any:
            if not layer.bidirectional:
                return old if (backward if layer.reverse else forward) else new
            return (old[0] if forward else new[0], old[1] if backward else new[1])

        if layer.num_layers > 1:
            state = tuple(choose(old, new) for old, new in zip(given, fresh, strict=True))
        else:
            state = choose(given, fresh)
        output = layer(x[:, start:stop], state, mask=valid[None, start:stop])
        parts.append(output.sequence)
        finals.append(output.state)
    first, last = finals[0], finals[-1]
    if not layer.bidirectional:
        return torch.cat(parts, 1), first if layer.reverse else last
    pairs = zip(last, first, strict=True) if layer.num_layers > 1 else [(last, first)]
    both = tuple((end[0], begin[1]) for end, begin in pairs)
    return torch.cat(parts, 1), both if layer.num_layers > 1 else both[0]


KEEP = TimeOptions(keep_order=True)


@ours
@pytest.mark.parametrize(("call", "start"), [("all valid", "learned"), ("lengths", "zeros"), ("holes", "learned")])
@pytest.mark.parametrize("ways", [{}, {"reverse": True, "time_options": KEEP}, {"bidirectional": True}])
@engines("native", "scan")
def test_reset_mask_runs_episodes_apart(cls: Any, call: str, start: Any, ways: dict[str, Any], engine: Any) -> None:
    layer = cls(D, H, 2, initial_state=start, engine=engine, **ways).double()
    for name, parameter in layer.named_parameters():
        if name.startswith(("h0", "c0")):
            torch.nn.init.normal_(parameter)
    x, resets, valid = rand(B, T, D), torch.rand(B, T) < 0.4, valid_of(CALLS[call])
    state = random_like(layer.initial_state(B))
    output = layer(x, state, reset_mask=resets, **CALLS[call])
    check_refused(layer, "fused", "reset_mask", x, reset_mask=resets)
    for b in range(B):
        row = pytree.tree_map(lambda leaf, b=b: leaf[b : b + 1], state)
        sequence, final = episodes(layer, x[b : b + 1], row, valid[b], resets[b])
        close(output.sequence[b, valid[b]], sequence[0, valid[b]])
        close(pytree.tree_map(lambda leaf, b=b: leaf[b : b + 1], output.state), final)
    close(output, layer(x, state, mask=valid, reset_mask=resets))
    none = torch.zeros_like(resets)
    close(layer(x, state, reset_mask=none, **CALLS[call]), layer(x, state, **CALLS[call]))


MADE: dict[str, Callable[..., Any]] = {
    "SimpleRNN": lambda **options: SimpleRNN(D, H, 2, **options),
    "LSTM": lambda **options: LSTM(D, H, **options),
    "GRU": lambda **options: GRU(D, H, initial_state="learned", **options),
    "RNN of LSTMCell": lambda **options: RNN(LSTMCell(D, H), **options),
    "RNN of a stack": lambda **options: RNN([GRUCell(D, H), LSTMCell(H, 2)], **options),
}
made = pytest.mark.parametrize("name", MADE)


@made
def test_stateful_layers_go_on_where_they_were(name: str) -> None:
    layer = MADE[name](stateful=True).double()
    plain = MADE[name]().double()
    assert layer.states is None
    plain.load_state_dict(layer.state_dict())
    x = rand(B, 9, D)
    outputs = [layer(x[:, t : t + 3]) for t in (0, 3, 6)]
    close(torch.cat([output.sequence for output in outputs], 1), plain(x).sequence)
    close(layer.states, plain(x).state)
    assert not any(leaf.requires_grad for leaf in leaves(layer.states))
    assert set(layer.state_dict()) == set(plain.state_dict()) == {name for name, _ in layer.named_parameters()}
    given = random_like(plain(x).state)
    close(layer(x, given), plain(x, given))
    close(layer.states, plain(x, given).state)
    with pytest.raises(ValueError, match=r"the kept state has 4 rows, x has 2; call reset_states\(\)"):
        layer(x[:2])
    layer.reset_states()
    close(layer(x[:2]), plain(x[:2]))


@made
def test_reset_states_of_some_rows_or_to_values(name: str) -> None:
    layer = MADE[name](stateful=True).double()
    x = rand(B, T, D)
    with pytest.raises(ValueError, match="no state is kept yet"):
        layer.reset_states(pytree.tree_map(lambda leaf: leaf[:1], layer.initial_state(B)), rows=[0])
    layer(x)
    before, fresh = layer.states, layer.initial_state(B)
    for rows in ([0, 2], torch.tensor([True, False, True, False])):
        layer.reset_states(before)
        layer.reset_states(rows=rows)
        for now, old, new in zip(leaves(layer.states), leaves(before), leaves(fresh), strict=True):
            close(now, torch.stack([new[0], old[1], new[2], old[3]]))
    values = random_like(fresh)
    layer.reset_states([leaf.detach().numpy() for leaf in leaves(values)])
    close(layer.states, values)
    close(layer(x), plain_of(layer, name)(x, values))
    layer.reset_states(before)
    layer.reset_states(pytree.tree_map(lambda leaf: leaf[:2], values), rows=[1, 3])
    for now, old, new in zip(leaves(layer.states), leaves(before), leaves(values), strict=True):
        close(now, torch.stack([old[0], new[0], old[2], new[1]]))
    with pytest.raises(ValueError, match="arrays of state, got 7"):
        layer.reset_states([torch.zeros(B, H)] * 7)
    with pytest.raises(ValueError, match="only a layer with stateful=True"):
        MADE[name]().reset_states()


def plain_of(layer: Any, name: str) -> Any:
    plain = MADE[name]().double()
    plain.load_state_dict(layer.state_dict())
    return plain


@ours
@calls
@pytest.mark.parametrize("ways", [{}, {"reverse": True}, {"reverse": True, "keep": True}, {"bidirectional": True}])
@engines("native", "scan")
def test_states_of_all_steps_are_those_of_every_part(cls: Any, call: str, ways: dict[str, Any], engine: Any) -> None:
    ways = dict(ways)
    time = TimeOptions(return_all_states=True, keep_order=ways.pop("keep", False))
    layer = cls(D, H, time_options=time, engine=engine, **ways).double()
    x, valid = rand(B, T, D), valid_of(CALLS[call])
    state = random_like(layer.initial_state(B))
    output = layer(x, state, **CALLS[call])
    check_refused(layer, "fused", "the states of all steps", x)
    close((output.sequence, output.state, output.last), reference(layer, x, state, valid))
    for t in range(T):
        until = layer(x[:, : t + 1], state, mask=valid[:, : t + 1]).state
        since = layer(x[:, t:], state, mask=valid[:, t:]).state
        if layer.bidirectional:
            here = pytree.tree_map(lambda leaf, t=t: leaf[:, t], output.all_states)
            close(here, (until[0], since[1]))
        else:
            at = T - 1 - t if layer.reverse and not time.keep_order else t
            here = pytree.tree_map(lambda leaf, at=at: leaf[:, at], output.all_states)
            close(here, since if layer.reverse else until)


@pytest.mark.parametrize("time", [TimeOptions(), TimeOptions(return_all_states=True, keep_order=True)])
@pytest.mark.parametrize("ways", [{}, {"reverse": True}])
@pytest.mark.parametrize("name", [*MADE, "both ways"])
def test_time_major_is_transposed(name: str, ways: dict[str, Any], time: TimeOptions) -> None:
    turned = TimeOptions(keep_order=time.keep_order, return_all_states=time.return_all_states, time_major=True)
    if name == "both ways":
        first, second = (LSTM(D, H, 2, bidirectional=True, time_options=o).double() for o in (time, turned))
    else:
        first, second = (MADE[name](time_options=o, **ways).double() for o in (time, turned))
    second.load_state_dict(first.state_dict())
    x, resets = rand(B, T, D), torch.rand(B, T) < 0.3
    for call in ({}, {"lengths": LENGTHS}, {"mask": HOLES}, {"mask": LEFT, "reset_mask": resets}):
        a = first(x, **call)
        b = second(x.transpose(0, 1), **{k: v if k == "lengths" else v.transpose(0, 1) for k, v in call.items()})
        close(a.sequence, b.sequence.transpose(0, 1))
        close((a.state, a.last), (b.state, b.last))
        close(a.all_states, pytree.tree_map_only(Tensor, lambda leaf: leaf.transpose(0, 1), b.all_states))


# A cell in RNN is the layer

CELLS: list[tuple[Any, Any, StepOptions, dict[str, Any]]] = [
    (SimpleRNN, SimpleRNNCell, StepOptions(activation="relu"), {}),
    (LSTM, LSTMCell, StepOptions(), {"proj_size": 2}),
    (LSTM, LSTMCell, StepOptions(peephole=True, cell_clip=0.3), {}),
    (LSTM, LSTMCell, StepOptions(layer_norm="addons"), {"bias": False}),
    (GRU, GRUCell, StepOptions(), {}),
    (GRU, GRUCell, StepOptions(reset_after=False), {}),
]
TIMES: list[dict[str, Any]] = [
    {},
    {"reverse": True},
    {"reverse": True, "time_options": TimeOptions(keep_order=True, return_all_states=True)},
    {"zero_output_for_mask": True, "time_options": TimeOptions(checkpoint=2)},
    {"time_options": TimeOptions(unroll=True)},
]
NOISE = Regularization(dropout=0.3, recurrent_dropout=0.3, zoneout=0.2, weight_dropout=0.3)


@pytest.mark.parametrize("noise", [Regularization(), Regularization(dropout=0.5, variational=False), NOISE])
@pytest.mark.parametrize("ways", TIMES)
@pytest.mark.parametrize("index", range(len(CELLS)))
def test_a_cell_over_time_is_the_layer(index: int, ways: dict[str, Any], noise: Regularization) -> None:
    cls, cell, options, more = CELLS[index]
    layer = cls(D, H, step_options=options, regularization=noise, **ways, **more).double()
    rnn = RNN(cell(D, H, step_options=options, regularization=noise, **more), **ways).double()
    rnn.load_state_dict({f"cell.{name.removesuffix('_l0')}": v for name, v in layer.state_dict().items()})
    x, resets = rand(B, T, D), torch.rand(B, T) < 0.3
    state = random_like(layer.initial_state(B))
    for call in ({"lengths": LENGTHS}, {"mask": LEFT, "reset_mask": resets}):
        assert layer.explain(x, state, **call) == rnn.explain(x, state, **call)
        for given in (None, state):
            torch.manual_seed(1)
            expected = layer(x, given, **call)
            torch.manual_seed(1)
            close(rnn(x, given, **call), expected)

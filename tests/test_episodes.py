"""Episodes, kept states, states of all steps and the order of axes, against the equations row by row."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from layer_checks import check_refused, close, engines, leaves, rand, random_like
from layer_equations import CALLS, reference, valid_of
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, SimpleRNN
from lightning_rnn.functional import sequence_mask
from lightning_rnn.layers import RecurrentLayer, TimeOptions

B, T, D, H = 4, 6, 3, 4
LENGTHS = torch.tensor([6, 2, 0, 5])
HOLES = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1]]).bool()
LEFT = sequence_mask(LENGTHS, T).flip(1)
CLASSES: list[type[RecurrentLayer]] = [SimpleRNN, LSTM, GRU]
ours = pytest.mark.parametrize("cls", CLASSES)
calls = pytest.mark.parametrize("call", CALLS)


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

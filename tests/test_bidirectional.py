"""Bidirectional layers: against the layer with two directions, by their merges, ends, states and times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layer_checks import rand
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from wrapped_cells import Sum, close, tensors

from lightning_rnn import GRU, LSTM, LSTMState, SimpleRNN
from lightning_rnn.layers import RNN, GRUCell, TimeOptions
from lightning_rnn.layers.bidirectional import Bidirectional
from lightning_rnn.layers.convolutional import ConvLSTM2d

B, T, D, H = 4, 6, 3, 5
LENGTHS = torch.tensor([6, 2, 4, 0])
HOLES = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]).bool()
MASKS: list[dict[str, Tensor]] = [{}, {"lengths": LENGTHS}, {"mask": HOLES}]
masked = pytest.mark.parametrize("given", MASKS, ids=["none", "lengths", "holes"])


# Bidirectional


@masked
@pytest.mark.parametrize("cls", [SimpleRNN, LSTM, GRU])
def test_bidirectional_equals_the_layer_with_two_directions(cls: Any, given: dict[str, Tensor]) -> None:
    wrapped, whole = Bidirectional(cls(D, H).double()), cls(D, H, bidirectional=True).double()
    weights = wrapped.layer.state_dict() | {
        f"{name}_reverse": value for name, value in wrapped.backward_layer.state_dict().items()
    }
    whole.load_state_dict(weights)
    x = rand(B, T, D)
    start = pytree.tree_map(torch.randn_like, whole.initial_state(B))
    close(wrapped(x, start, **given), whole(x, start, **given))
    close(wrapped(x[:, :0]), whole(x[:, :0]))


@masked
@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None, torch.maximum])
def test_merges(mode: Any, given: dict[str, Tensor]) -> None:
    layer = Bidirectional(GRU(D, H), mode).double()
    x = rand(B, T, D)
    ours = layer(x, **given)
    forward, backward = layer.layer(x, **given), layer.backward_layer(x, **given)
    merge = {
        "concat": lambda a, b: np.concatenate([a, b], -1),
        "sum": np.add,
        "mul": np.multiply,
        "ave": lambda a, b: (a + b) / 2,
        None: lambda a, b: (a, b),
        torch.maximum: np.maximum,
    }[mode]
    pairs = (forward.sequence, backward.sequence.flip(1)), (forward.last, backward.last)
    for mine, (a, b) in zip((ours.sequence, ours.last), pairs, strict=True):
        wanted = pytree.tree_map(torch.from_numpy, merge(a.detach().numpy(), b.detach().numpy()))
        close(mine, wanted)
    assert isinstance(ours.sequence, tuple) == isinstance(ours.last, tuple) == (mode is None)
    assert layer.output_size == {"concat": 2 * H, None: (H, H)}.get(mode, H)


def test_last_is_the_end_of_each_direction_and_not_the_last_step() -> None:
    layer = Bidirectional(RNN(Sum()), backward_layer=RNN(Sum(), reverse=True))
    x = torch.tensor([[[1.0], [2.0], [4.0]]], dtype=torch.float64)
    output = layer(x)
    assert output.sequence.tolist() == [[[1, 7], [3, 6], [7, 4]]]
    assert output.last.tolist() == [[7, 7]]
    assert [state.item() for state in output.state] == [7, 7]
    assert layer(x, lengths=torch.tensor([2])).last.tolist() == [[3, 3]]


def test_reset_mask_splits_both_directions() -> None:
    layer, x = Bidirectional(GRU(D, H)).double(), rand(1, T, D)
    starts = torch.tensor([[False, False, True, False, False, False]])
    parts = torch.cat([layer(x[:, :2]).sequence, layer(x[:, 2:]).sequence], dim=1)
    close(layer(x, reset_mask=starts).sequence, parts)


def test_a_copied_direction_has_weights_of_its_own_of_the_same_sort() -> None:
    layer = Bidirectional(LSTM(D, H, unit_forget_bias=True).double().eval())
    first, second = layer.layer, layer.backward_layer
    assert isinstance(second, LSTM) and second.reverse and not second.training and second.unit_forget_bias
    assert not torch.equal(first.weight_ih_l0, second.weight_ih_l0)
    assert second.weight_ih_l0.dtype == torch.float64
    late = Bidirectional(RNN(GRUCell(None, H))).build(D)
    assert late(torch.zeros(B, T, D)).last.shape == (B, 2 * H)


@pytest.mark.parametrize("reversed_first", [False, True])
@pytest.mark.parametrize("keep_order", [False, True])
def test_each_direction_is_put_at_its_own_time(reversed_first: bool, keep_order: bool) -> None:
    options = TimeOptions(keep_order=keep_order)
    layers = [
        GRU(D, H, reverse=reverse, time_options=options).double() for reverse in (reversed_first, not reversed_first)
    ]
    plain = [GRU(D, H, reverse=layer.reverse).double() for layer in layers]
    for mine, other in zip(layers, plain, strict=True):
        other.load_state_dict(mine.state_dict())
    x = rand(B, T, D)
    ours = Bidirectional(layers[0], None, layers[1])(x, lengths=LENGTHS).sequence
    wanted = [layer(x, lengths=LENGTHS).sequence for layer in plain]
    close(ours, [y.flip(1) if layer.reverse else y for y, layer in zip(wanted, plain, strict=True)])


def test_time_major_and_states_of_all_steps() -> None:
    turned = Bidirectional(GRU(D, H, time_options=TimeOptions(time_major=True, return_all_states=True)).double())
    plain = Bidirectional(GRU(D, H).double())
    plain.load_state_dict(turned.state_dict())
    x = rand(B, T, D)
    ours, theirs = turned(x.transpose(0, 1)), plain(x)
    close((ours.sequence.transpose(0, 1), ours.last, ours.state), (theirs.sequence, theirs.last, theirs.state))
    close([kept.transpose(0, 1) for kept in ours.all_states], theirs.sequence.chunk(2, dim=-1))
    assert theirs.all_states is None


def test_stateful_three_calls() -> None:
    kept, plain = Bidirectional(LSTM(D, H, stateful=True).double()), Bidirectional(LSTM(D, H).double())
    plain.load_state_dict(kept.state_dict())
    assert kept.stateful and kept.states is None
    state = None
    for x in rand(3, B, T, D):
        theirs = plain(x, state)
        state = theirs.state
        close(kept(x), theirs)
    close(kept.states, state)
    forward, backward = pytree.tree_map(torch.randn_like, kept.initial_state(B))
    x = rand(B, T, D)
    for values in ((forward, backward), [leaf.numpy() for leaf in (*forward, *backward)]):
        kept.reset_states(values)
        close(kept(x), plain(x, (forward, backward)))
    kept.reset_states(rows=[1])
    assert not any(leaf[1].any() for leaf in tensors(kept.states)) and all(
        leaf[0].all() for leaf in tensors(kept.states)
    )
    kept.reset_states()
    close(kept(x), plain(x))
    with pytest.raises(ValueError, match="as many arrays for each direction, got 3"):
        kept.reset_states([np.zeros((B, H))] * 3)


def test_images_are_merged_along_their_channels() -> None:
    layer, x = Bidirectional(ConvLSTM2d(2, 3, 3).double()), rand(2, 4, 2, 5, 5)
    output, parts = layer(x), (layer.layer(x), layer.backward_layer(x))
    assert output.sequence.shape == (2, 4, 6, 3, 3) and output.last.shape == (2, 6, 3, 3)
    close(output.last.chunk(2, dim=1), [part.last for part in parts])


def test_explain_is_of_the_forward_layer() -> None:
    layer, x = Bidirectional(GRU(D, H)), torch.zeros(B, T, D)
    assert layer.explain(x, lengths=LENGTHS) == layer.layer.explain(x, lengths=LENGTHS)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (lambda: (nn.GRU(D, H),), TypeError, "expected a layer over time"),
        (lambda: (GRU(D, H), "max"), ValueError, "merge_mode must be concat, sum, mul, ave"),
        (lambda: (GRU(D, H, reverse=True),), ValueError, "layer is reversed"),
        (lambda: (GRU(D, H), "sum", GRU(D, H)), ValueError, "run in one direction"),
        (lambda: (GRU(D, H), "sum", GRU(D, H, reverse=True, stateful=True)), ValueError, "agree on stateful"),
        (
            lambda: (GRU(D, H), "sum", GRU(D, H, reverse=True, time_options=TimeOptions(time_major=True))),
            ValueError,
            "agree on time_major",
        ),
        (lambda: (GRU(D, H, bidirectional=True),), ValueError, "exclude each other"),
        (lambda: (RNN(Sum()),), TypeError, "give a backward_layer"),
    ],
)
def test_what_cannot_be_bidirectional(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Bidirectional(*arguments())


def test_a_state_that_is_no_pair() -> None:
    layer, h = Bidirectional(LSTM(D, H)), torch.zeros(B, H)
    for state in (LSTMState(h, h), (h, h, h, h), h):
        with pytest.raises(ValueError, match="pair of states"):
            layer(torch.zeros(B, T, D), state)

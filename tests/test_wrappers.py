"""What stands around layers and cells, against the equations in plain torch and numpy, in float64."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from layer_checks import HERE
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, LSTMState, SimpleRNN
from lightning_rnn.layers import RNN, GRUCell, LSTMCell, SimpleRNNCell, StackedCells, TimeOptions
from lightning_rnn.layers.bidirectional import Bidirectional
from lightning_rnn.layers.config import from_config, to_config
from lightning_rnn.layers.convolutional import ConvLSTM2d
from lightning_rnn.layers.distributed_in_time import TimeDistributed
from lightning_rnn.layers.embedding import Embedding, Masking
from lightning_rnn.layers.wrappers import (
    DeviceWrapper,
    DropoutWrapper,
    EmbeddingWrapper,
    HighwayWrapper,
    InputProjectionWrapper,
    OutputProjectionWrapper,
    ResidualWrapper,
)

B, T, D, H = 4, 6, 3, 5
LENGTHS = torch.tensor([6, 2, 4, 0])
HOLES = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]).bool()
MASKS: list[dict[str, Tensor]] = [{}, {"lengths": LENGTHS}, {"mask": HOLES}]
masked = pytest.mark.parametrize("given", MASKS, ids=["none", "lengths", "holes"])


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def tensors(nest: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(nest) if isinstance(leaf, Tensor)]


def close(ours: Any, theirs: Any) -> None:
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        assert_close(a, b, rtol=1e-10, atol=1e-12)


class Sum(nn.Module):
    """A cell that is no :class:`Cell`: the running sum."""

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, 1, dtype=torch.float64)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x + state, x + state


class First(Sum):
    """Its output is narrower than its input."""

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :1], state


class Pair(nn.Module):
    """A cell whose inputs, outputs and states are pairs."""

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(batch, 2, dtype=torch.float64), torch.zeros(batch, 3, dtype=torch.float64)

    def forward(self, x: Any, state: Any) -> tuple[Any, Any]:
        new = state[0] + x[0], state[1] - x[1]
        return new, new


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


# Cells in wrappers

CELLS = {
    "dropout": lambda: DropoutWrapper(LSTMCell(D, D), 0.5, 0.5, 0.5),
    "variational": lambda: DropoutWrapper(LSTMCell(D, D), 0.5, 0.5, 0.5, variational=True),
    "residual": lambda: ResidualWrapper(LSTMCell(D, D)),
    "highway": lambda: HighwayWrapper(LSTMCell(D, D)),
    "transform": lambda: HighwayWrapper(LSTMCell(D, D), 0.5, coupled=False),
    "input": lambda: InputProjectionWrapper(LSTMCell(2, D), 2, "tanh", D),
    "output": lambda: OutputProjectionWrapper(LSTMCell(D, 2), D, "relu"),
    "device": lambda: DeviceWrapper(LSTMCell(D, D), "cpu"),
}
wrappers = pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)


@masked
@wrappers
def test_step_by_step_equals_the_whole(make: Any, given: dict[str, Tensor]) -> None:
    cell, x = make().double().eval(), rand(B, T, D)
    whole = RNN(cell)(x, **given)
    mask = HOLES if "mask" in given else torch.arange(T) < (LENGTHS if given else torch.full((B,), T)).unsqueeze(1)
    state, previous = cell.initial_state(B), torch.zeros(B, D, dtype=torch.float64)
    for t in range(T):
        output, new = cell(x[:, t], state)
        valid = mask[:, t].unsqueeze(1)
        state = pytree.tree_map(lambda a, b, valid=valid: torch.where(valid, a, b), new, state)
        previous = torch.where(valid, output, previous)
        close(whole.sequence[:, t], previous)
    close((whole.state, whole.last), (state, previous))
    assert RNN(cell)(x[:, :0]).sequence.shape == (B, 0, D)


@wrappers
def test_wrappers_stack_and_nest(make: Any) -> None:
    first, second = make(), make()
    stacked = RNN(StackedCells([first, ResidualWrapper(second)])).double().eval()
    x = rand(B, T, D)
    below = RNN(first)(x)
    above = RNN(second)(below.sequence)
    close(stacked(x).sequence, below.sequence + above.sequence)
    assert stacked.train()(x).sequence.shape == (B, T, D)
    assert len(tensors(stacked(x).state)) == 4


@wrappers
def test_configs_round_trip(make: Any) -> None:
    cell = make()
    config = json.loads(json.dumps(to_config(cell)))
    again = from_config(config)
    assert to_config(again) == config and type(again) is type(cell)
    assert [p.shape for p in again.parameters()] == [p.shape for p in cell.parameters()]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bidirectional(LSTM(D, H), "ave"),
        lambda: Bidirectional(GRU(D, H), None, GRU(D, 2, reverse=True)),
        lambda: Bidirectional(RNN(ResidualWrapper(GRUCell(D, D)))),
        lambda: EmbeddingWrapper(GRUCell(D, H), 9, D),
        lambda: DropoutWrapper(LSTMCell(D, H), state_filter=[False, True]),
        lambda: Masking(-1.0),
        lambda: Embedding(9, D, mask_zero=True),
        lambda: TimeDistributed(Embedding(9, D), at_once=True),
    ],
)
def test_configs_of_layers_round_trip(make: Any) -> None:
    layer = make()
    config = json.loads(json.dumps(to_config(layer)))
    again = from_config(config)
    assert to_config(again) == config
    assert [p.shape for p in again.parameters()] == [p.shape for p in layer.parameters()]


def test_a_config_does_not_hold_functions() -> None:
    with pytest.raises(TypeError, match="merge_mode"):
        Bidirectional(GRU(D, H), torch.maximum).get_config()
    assert Bidirectional(GRU(D, H)).get_config()["backward_layer"] is None


@wrappers
def test_sizes_wait_for_the_first_input(make: Any) -> None:
    config = to_config(make())
    config["config"]["cell"]["config"]["input_size"] = None
    if "size" in config["config"]:
        config["config"] |= {"input_size": None} if "input_size" in config["config"] else {}
    cell = from_config(config)
    assert not cell._built
    output, _ = cell(torch.zeros(B, D))
    assert output.shape == (B, D) and cell.input_size == D
    assert RNN(cell)(torch.zeros(B, T, D)).last.shape == (B, D)


@wrappers
def test_wrapped_layers_can_be_copied_and_pickled(make: Any) -> None:
    layer, x = RNN(make()).double().eval(), rand(B, T, D)
    close(copy.deepcopy(layer)(x), layer(x))
    close(pickle.loads(pickle.dumps(layer))(x), layer(x))


def test_residual_numbers() -> None:
    x = rand(B, T, 1)
    close(RNN(ResidualWrapper(Sum()))(x).sequence, x + x.cumsum(1))
    close(RNN(ResidualWrapper(Sum(), lambda x, y: x * y))(x).sequence, x * x.cumsum(1))
    pair = rand(B, T, 2), rand(B, T, 3)
    close(RNN(ResidualWrapper(Pair()))(pair).sequence, (pair[0] + pair[0].cumsum(1), pair[1] - pair[1].cumsum(1)))


@pytest.mark.parametrize("coupled", [True, False])
def test_highway_numbers(coupled: bool) -> None:
    cell = HighwayWrapper(GRUCell(D, D), -0.7, coupled).double()
    assert cell.carry.bias.tolist() == pytest.approx([-0.7] * D)
    x = rand(B, T, D)
    inner = RNN(cell.cell)(x).sequence.detach().numpy()

    def gate(linear: nn.Linear) -> Any:
        return 1 / (1 + np.exp(-(x.numpy() @ linear.weight.detach().numpy().T + linear.bias.detach().numpy())))

    carry = gate(cell.carry)
    if not coupled:
        assert cell.transform is not None and cell.transform.bias.tolist() == pytest.approx([0.7] * D)
    transform = 1 - carry if cell.transform is None else gate(cell.transform)
    close(RNN(cell)(x).sequence, torch.from_numpy(carry * x.numpy() + transform * inner))


def test_projections_numbers() -> None:
    x = rand(B, T, D)
    cell = InputProjectionWrapper(GRUCell(2, H), 2, "tanh").double()
    RNN(cell).build(D).double()
    w, b = cell.projection.weight, cell.projection.bias
    close(RNN(cell)(x), RNN(cell.cell)(torch.tanh(x @ w.T + b)))
    out = OutputProjectionWrapper(GRUCell(D, H), 2, torch.relu).double()
    ours, theirs = RNN(out)(x), RNN(out.cell)(x)
    close(ours.sequence, torch.relu(theirs.sequence @ out.projection.weight.T + out.projection.bias))
    close(ours.state, theirs.state)
    assert out.output_size == RNN(out).output_size == 2


def test_what_does_not_see_the_state_is_done_for_all_steps_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    for kind in (nn.Linear, nn.Embedding):
        forward = kind.forward

        def seen(self: Any, x: Tensor, forward: Any = forward) -> Any:
            shapes.append(tuple(x.shape))
            return forward(self, x)

        monkeypatch.setattr(kind, "forward", seen)
    RNN(EmbeddingWrapper(HighwayWrapper(InputProjectionWrapper(GRUCell(2, D), 2, input_size=D)), 9, D))(
        torch.zeros(B, T, dtype=torch.long)
    )
    assert shapes == [(B, T), (B, T, D), (B, T, D)]


def test_embedding_of_ids_in_every_shape() -> None:
    cell = EmbeddingWrapper(GRUCell(D, H), 9, D).double()
    ids = torch.randint(9, (B, T))
    theirs = RNN(cell.cell)(cell.embedding.weight[ids])
    close(RNN(cell)(ids), theirs)
    close(RNN(cell)(ids.unsqueeze(2).int()), theirs)
    close(RNN(cell)(ids[:, :1]).sequence, theirs.sequence[:, :1])
    close(RNN(cell)(ids, lengths=LENGTHS), RNN(cell.cell)(cell.embedding.weight[ids], lengths=LENGTHS))
    for step in (ids[:, 0], ids[:, :1]):
        close(cell(step)[0], theirs.sequence[:, 0])
    assert RNN(cell)(ids[:, :0]).sequence.shape == (B, 0, H)
    stacked = RNN(StackedCells([EmbeddingWrapper(GRUCell(D, H), 9, D), GRUCell(H, 2)]))
    for given in (ids, ids[:, :2], ids.unsqueeze(2)):
        assert stacked(given).sequence.shape == (*given.shape[:2], 2)


def test_a_shortcut_around_an_embedding_is_refused() -> None:
    with pytest.raises(ValueError, match="turns 1 features into 5"):
        ResidualWrapper(EmbeddingWrapper(GRUCell(D, H), 9, D))


# Dropout


def draws(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Replaces dropout by masks that count up, and keeps them."""
    made: list[Tensor] = []

    def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
        made.append(torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape) / 7 + 100 * len(made))
        return x * made[-1]

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    return made


def test_dropout_of_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, x = DropoutWrapper(SimpleRNNCell(D, H), 0.1, 0.2, 0.3).double(), rand(B, T, D)
    made = draws(monkeypatch)
    ours = RNN(cell)(x).sequence
    assert [tuple(mask.shape) for mask in made] == [(B, T, D)] + [(B, H), (B, H)] * T
    h = torch.zeros(B, H, dtype=torch.float64)
    for t in range(T):
        output, h = cell.cell(x[:, t] * made[0][:, t], h)
        close(ours[:, t], output * made[1 + 2 * t])
        h = h * made[2 + 2 * t]


def test_variational_dropout_is_the_same_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, x = DropoutWrapper(LSTMCell(D, H), 0.1, 0.2, 0.3, variational=True).double(), rand(B, T, D)
    made = draws(monkeypatch)
    ours = RNN(cell)(x)
    assert [tuple(mask.shape) for mask in made] == [(B, D), (B, H), (B, H), (B, H)]
    state = cell.initial_state(B)
    for t in range(T):
        output, (h, c) = cell.cell(x[:, t] * made[0], state)
        close(ours.sequence[:, t], output * made[1])
        state = LSTMState(h * made[2], c)
    close(ours.state, state)
    single, _ = cell(x[:, 0])
    assert single.shape == (B, H) and len(made) == 8


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("which", [None, True, [False, True], lambda s: LSTMState(False, False) if len(s) == 2 else s])
def test_which_state_is_dropped(which: Any, variational: bool) -> None:
    cell = DropoutWrapper(LSTMCell(D, H), state_dropout=1.0, variational=variational, state_filter=which)
    output, (h, c) = cell(torch.ones(B, D))
    kept = {None: (False, True), True: (False, False)}.get(which if not isinstance(which, list) else None)
    if isinstance(which, list):
        kept = (True, False)
    if callable(which):
        kept = (True, True)
    assert (bool(h.any()), bool(c.any())) == kept and output.any()


def test_the_memory_of_a_stack_is_never_dropped() -> None:
    cell = DropoutWrapper(StackedCells([LSTMCell(D, H), GRUCell(H, 2)]), state_dropout=1.0)
    _, (first, second) = cell(torch.ones(B, D))
    assert not first.h.any() and first.c.any() and not second.any()
    halves = DropoutWrapper(cell.cell, state_dropout=1.0, state_filter=[True, False])
    _, (first, second) = halves(torch.ones(B, D))
    assert not first.h.any() and not first.c.any() and second.any()
    with pytest.raises(ValueError, match="does not fit the state"):
        DropoutWrapper(cell.cell, state_dropout=1.0, state_filter=[True, False, True])(torch.ones(B, D))


def test_dropout_does_nothing_in_eval_and_leaves_the_kernel() -> None:
    layer, x = RNN(DropoutWrapper(LSTMCell(D, H), 0.5, 0.5, 0.5, True)).double(), rand(B, T, D)
    assert layer.explain(x).engine == "scan"  # no other has a cell with something around it
    close(layer.eval()(x), RNN(layer.cell.cell)(x))
    for engine in HERE:
        layer.engine = engine
        assert layer.explain(x).engine == engine
        close(layer(x), RNN(layer.cell.cell)(x))


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_keeps_the_mean_and_its_share(variational: bool) -> None:
    cell = DropoutWrapper(Sum(), 0.25, variational=variational)
    y = RNN(cell)(torch.ones(2000, 2, 1, dtype=torch.float64)).sequence.diff(dim=1, prepend=torch.zeros(2000, 1, 1))
    assert (y == 0).double().mean().item() == pytest.approx(0.25, abs=0.04)
    assert torch.all(((y - 4 / 3).abs() < 1e-12) | (y == 0))
    assert torch.equal(y[:, 0], y[:, 1]) == variational


def test_dropout_draws_the_same_when_a_chunk_is_computed_again() -> None:
    gradients = []
    for checkpoint in (None, 2):
        torch.manual_seed(1)
        cell = DropoutWrapper(GRUCell(D, H), 0.3, 0.3, 0.3, variational=True).double()
        RNN(cell, time_options=TimeOptions(checkpoint=checkpoint))(
            torch.ones(B, T, D).double()
        ).sequence.sum().backward()
        gradients.append([parameter.grad for parameter in cell.parameters()])
    close(*gradients)


def test_gradients_through_wrappers() -> None:
    cell = HighwayWrapper(DropoutWrapper(ResidualWrapper(GRUCell(2, 2)), variational=True), 0.3).double()
    layer, x = RNN(cell), rand(2, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, lengths=torch.tensor([3, 1])).sequence, (x,))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: DropoutWrapper(GRUCell(D, H), 1.5), ValueError, "input_dropout must be between 0 and 1, got 1.5"),
        (lambda: DropoutWrapper(nn.Linear(D, H)), TypeError, "Linear is not one"),
        (lambda: ResidualWrapper(GRUCell(D, H)), ValueError, "turns 3 features into 5"),
        (lambda: HighwayWrapper(GRUCell(D, H)), ValueError, "turns 3 features into 5"),
        (lambda: InputProjectionWrapper(GRUCell(D, H), 2), ValueError, "expects inputs of 3 features, got 2"),
        (lambda: InputProjectionWrapper(GRUCell(2, H), 2, "tan"), ValueError, "no activation is called 'tan'"),
        (lambda: OutputProjectionWrapper(Sum(), 2), ValueError, "does not tell its output_size"),
        (lambda: EmbeddingWrapper(GRUCell(D, H), 9, 2), ValueError, "expects inputs of 3 features, got 2"),
    ],
)
def test_what_cannot_be_wrapped(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_wrong_inputs_of_wrapped_cells() -> None:
    embedded = EmbeddingWrapper(GRUCell(D, H), 9, D)
    with pytest.raises(TypeError, match=r"tensor of integers, got torch\.float32"):
        RNN(embedded)(torch.zeros(B, T, 1))
    with pytest.raises(ValueError, match=r"expected ids of shape .* got \[4, 6, 2\]"):
        RNN(embedded)(torch.zeros(B, T, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="give a residual_fn"):
        RNN(ResidualWrapper(First()))(rand(B, T, 2))
    with pytest.raises(ValueError, match="RNN: ResidualWrapper expects inputs of 3 features, got 2"):
        RNN(ResidualWrapper(GRUCell(D, D)))(torch.zeros(B, T, 2))
    with pytest.raises(ValueError, match="one tensor of floats"):
        HighwayWrapper(Pair())((rand(B, 2), rand(B, 3)))
    with pytest.raises(ValueError, match="variational output_dropout needs a cell with output_size"):
        RNN(DropoutWrapper(Sum(), output_dropout=0.5, variational=True))(rand(B, T, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_a_cell_on_another_device() -> None:
    cell = DeviceWrapper(GRUCell(D, H), "cuda:0")
    layer, x = RNN(StackedCells([cell, GRUCell(H, 2)])), rand(B, T, D)
    layer.double()
    assert {p.device.type for p in cell.parameters()} == {"cuda"}
    layer.to("cpu")
    assert {p.device.type for p in cell.parameters()} == {"cuda"}
    output = layer(x, lengths=LENGTHS)
    output.sequence.sum().backward()
    assert {leaf.device.type for leaf in tensors(output)} == {"cpu"}
    close(output, RNN(StackedCells([cell.cell.cpu(), layer.cell.cells[1]]))(x, lengths=LENGTHS))


def test_a_device_keeps_its_cell() -> None:
    cell = DeviceWrapper(GRUCell(D, H), "cpu")
    assert cell.to(torch.float64).cell.weight_ih.dtype == torch.float64
    assert cell.to("meta").cell.weight_ih.is_meta
    assert cell.to_empty(device="cpu").cell.weight_ih.device.type == "cpu"


# Masking, embedding, time distributed


def test_masking_against_numpy() -> None:
    x = rand(B, T, D)
    x[0, 2:] = x[1] = -2.0
    x[2, 0, 0] = -2.0
    mask = np.any(x.numpy() != -2.0, axis=-1)
    layer = Masking(-2.0)
    assert np.array_equal(layer.compute_mask(x).numpy(), mask)
    assert np.array_equal(layer(x).numpy(), x.numpy() * mask[..., None])
    assert layer.compute_mask(x.reshape(B, T, D, 1)).shape == (B, T)
    with pytest.raises(ValueError, match=r"expected x of shape \[B, T, D\], got \[4, 6\]"):
        layer(x[..., 0])
    rnn = GRU(D, H).double()
    close(rnn(layer(x), mask=layer.compute_mask(x)), rnn(x, mask=torch.from_numpy(mask)))


def test_embedding_tells_padding() -> None:
    ids = torch.tensor([[3, 0, 1], [0, 0, 0]])
    plain, told = Embedding(5, D), Embedding(5, D, mask_zero=True)
    assert plain.compute_mask(ids) is None
    mask = told.compute_mask(ids)
    assert mask is not None and mask.tolist() == [[True, False, True], [False] * 3]
    assert torch.equal(told(ids), told.weight[ids])
    frozen = Embedding.from_pretrained(rand(5, D), mask_zero=True)
    assert not frozen.weight.requires_grad and frozen.mask_zero and frozen.embedding_dim == D
    with pytest.raises(ValueError, match=r"vectors of shape \[V, D\]"):
        Embedding.from_pretrained(rand(5))


@pytest.mark.parametrize("at_once", [False, True])
def test_time_distributed_equals_the_layer_at_each_step(at_once: bool) -> None:
    conv, x = nn.Conv2d(3, 4, 3).double(), rand(2, 5, 3, 6, 6)
    close(TimeDistributed(conv, at_once)(x), torch.stack([conv(frame) for frame in x.unbind(1)], dim=1))
    assert TimeDistributed(conv, at_once)(x[:, :0]).shape == (2, 0, 4, 4, 4)


def test_time_distributed_sees_the_statistics_of_one_step() -> None:
    x = rand(B, T, D) * torch.arange(1, T + 1).unsqueeze(1)
    y = TimeDistributed(nn.BatchNorm1d(D).double())(x).detach().numpy()
    wanted = (x.numpy() - x.numpy().mean(0)) / np.sqrt(x.numpy().var(0) + 1e-5)
    assert np.allclose(y, wanted, atol=1e-12)
    assert not np.allclose(TimeDistributed(nn.BatchNorm1d(D).double(), at_once=True)(x).detach().numpy(), wanted)


class Masked(nn.Module):
    def forward(self, x: dict[str, Tensor], mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first, second = x["a"], x["b"]
        assert mask is None or mask.shape == first.shape[:1]
        return (first if mask is None else first * mask.unsqueeze(1)), second.sum(1)


@pytest.mark.parametrize("at_once", [False, True])
def test_time_distributed_nests_and_masks(at_once: bool) -> None:
    layer, x = TimeDistributed(Masked(), at_once), {"a": rand(B, T, D), "b": rand(B, T, 2)}
    close(layer(x), (x["a"], x["b"].sum(2)))
    close(layer(x, mask=HOLES), (x["a"] * HOLES.unsqueeze(2), x["b"].sum(2)))
    close(TimeDistributed(nn.Identity(), at_once)(x["a"], mask=HOLES), x["a"])
    inner = GRU(D, H).double()
    words = rand(B, 2, T, D)
    output = TimeDistributed(inner, at_once)(words)
    close(output.sequence, torch.stack([inner(words[:, t]).sequence for t in range(2)], dim=1))


def test_time_distributed_says_what_is_wrong() -> None:
    layer = TimeDistributed(nn.Linear(D, H))
    for x, mask in ((torch.zeros(B), None), (torch.zeros(B, T, D), HOLES[:, :2]), (torch.zeros(B, T, D), HOLES[0])):
        with pytest.raises(ValueError, match=r"every input and the mask must be \[B, T, \.\.\.\]"):
            layer(x, mask=mask)
    with pytest.raises(ValueError, match="a row for each of 24"):
        TimeDistributed(nn.Flatten(0), at_once=True)(torch.zeros(B, T, D))
    with pytest.raises(TypeError, match="expected a module, got int"):
        TimeDistributed(3)  # type: ignore[arg-type]

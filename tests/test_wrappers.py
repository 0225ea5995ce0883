"""What stands around layers and cells, against the equations in plain torch and numpy, in float64."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from layer_checks import rand
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from wrapped_cells import Sum, close, tensors

from lightning_rnn import GRU, LSTM
from lightning_rnn.layers import RNN, GRUCell, LSTMCell, StackedCells
from lightning_rnn.layers.bidirectional import Bidirectional
from lightning_rnn.layers.config import from_config, to_config
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

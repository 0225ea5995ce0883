"""Nests of inputs, outputs and states, and constants: the cell of Keras' guide to RNNs, against numpy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.layers import RNN, Bidirectional, Cell, GRUCell, StackedCells, TimeOptions
from lightning_rnn.types import Nest

Array = np.ndarray[Any, Any]
B, T = 4, 5
MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)


class NestedCell(Cell):
    """A vector and a matrix at every step, summed over time: ``state += input x kernel``; the output is the product.

    The input is a dict ``{"vector": [B, 3], "matrix": [B, 2, 3]}``, output and state are pairs ``[B, 4], [B, 3, 2]``.
    """

    def __init__(self, sizes: tuple[int, int, int] = (4, 3, 2)) -> None:
        super().__init__()
        self.sizes = sizes

    def size_of(self, x: Nest) -> Any:
        return x["vector"].shape[-1], *x["matrix"].shape[-2:]

    def create(self, input_size: Any) -> None:
        i, j, k = input_size
        one, two, three = self.sizes
        self.kernel_1 = nn.Parameter(torch.rand(i, one))
        self.kernel_2_3 = nn.Parameter(torch.rand(j, k, two, three))

    @property
    def output_size(self) -> Any:
        one, two, three = self.sizes
        return one, (two, three)

    def initial_state(self, batch: int) -> Nest:
        one, two, three = self.sizes
        return self.zeros(batch, one), self.zeros(batch, two, three)

    def project(self, x: Nest) -> Nest:
        """For a step or all of them."""
        return x["vector"] @ self.kernel_1, torch.einsum("...ij,ijkl->...kl", x["matrix"], self.kernel_2_3)

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        return projected, tuple(old + new for old, new in zip(state, projected, strict=True))


class ModuleCell(nn.Module):
    """The same as a plain module, which has no idea of :class:`Cell`; its outputs are a dict."""

    def __init__(self, like: NestedCell) -> None:
        super().__init__()
        self.cell = like

    def initial_state(self, batch: int) -> Nest:
        return list(self.cell.initial_state(batch))

    def forward(self, x: Nest, state: Nest) -> tuple[Nest, Nest]:
        (a, b), new = self.cell(x, tuple(state))
        return {"vector": a, "matrix": b}, list(new)


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 1, shape)


def inputs() -> dict[str, Array]:
    return {"vector": draw(B, T, 3, seed=1), "matrix": draw(B, T, 2, 3, seed=2)}


def start() -> tuple[Array, Array]:
    return draw(B, 4, seed=3), draw(B, 3, 2, seed=4)


def tensors(nest: Any) -> Any:
    return pytree.tree_map(torch.as_tensor, nest)


def built() -> NestedCell:
    cell = NestedCell().build((3, 2, 3)).double()
    with torch.no_grad():
        cell.kernel_1.copy_(torch.as_tensor(draw(3, 4, seed=5)))
        cell.kernel_2_3.copy_(torch.as_tensor(draw(2, 3, 3, 2, seed=6)))
    return cell


def reference(x: dict[str, Array], state: tuple[Array, Array], mask: Array, zero: bool = False) -> Any:
    """Keras' loop: a masked step keeps the state and repeats the output, which is zero at the beginning."""
    kernel_1, kernel_2_3 = draw(3, 4, seed=5), draw(2, 3, 3, 2, seed=6)
    vectors, matrices = [np.zeros((B, 4))], [np.zeros((B, 3, 2))]
    one, two = state
    for t in range(x["vector"].shape[1]):
        a = x["vector"][:, t] @ kernel_1
        b = np.tensordot(x["matrix"][:, t], kernel_2_3, axes=2)
        row, block = mask[:, t, None], mask[:, t, None, None]
        one, two = np.where(row, one + a, one), np.where(block, two + b, two)
        vectors.append(np.where(row, a, 0 if zero else vectors[-1]))
        matrices.append(np.where(block, b, 0 if zero else matrices[-1]))
    return (np.stack(vectors[1:], 1), np.stack(matrices[1:], 1)), (one, two)


def close(mine: Any, its: Any) -> None:
    flat, flat_its = pytree.tree_leaves(mine), pytree.tree_leaves(its)
    assert len(flat) == len(flat_its)
    for a, b in zip(flat, flat_its, strict=True):
        np.testing.assert_allclose(a.detach().numpy() if isinstance(a, Tensor) else a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("zero", [False, True])
def test_nests_of_inputs_outputs_and_states(masked: bool, zero: bool) -> None:
    layer = RNN(built(), zero_output_for_mask=zero)
    mask = MASK if masked else np.ones((B, T), bool)
    outputs, final = reference(inputs(), start(), mask, zero)
    mine = layer(tensors(inputs()), tensors(start()), mask=torch.as_tensor(MASK) if masked else None)
    assert isinstance(mine.sequence, tuple) and isinstance(mine.state, tuple)
    close(mine.sequence, outputs)
    close(mine.state, final)
    close(mine.last, tuple(part[:, -1] for part in outputs))


def test_a_plain_module_with_dicts_and_lists() -> None:
    layer = RNN(ModuleCell(built()))
    outputs, final = reference(inputs(), start(), MASK)
    mine = layer(tensors(inputs()), list(tensors(start())), mask=torch.as_tensor(MASK))
    assert isinstance(mine.sequence, dict) and isinstance(mine.state, list)
    close([mine.sequence["vector"], mine.sequence["matrix"]], outputs)
    close(mine.state, final)


def test_sizes_come_from_the_first_nest() -> None:
    layer = RNN(NestedCell())
    assert not list(layer.parameters())
    output = layer(pytree.tree_map(Tensor.float, tensors(inputs())))
    assert [tuple(p.shape) for p in layer.parameters()] == [(3, 4), (2, 3, 3, 2)]
    assert [tuple(part.shape) for part in output.sequence] == [(B, T, 4), (B, T, 3, 2)]


def test_lengths_direction_and_time_major() -> None:
    lengths = np.array([5, 3, 0, 1])
    mask = np.arange(T) < lengths[:, None]
    x = inputs()
    layer = RNN(built(), zero_output_for_mask=True, time_options=TimeOptions(time_major=True))
    mine = layer(pytree.tree_map(lambda leaf: leaf.transpose(0, 1), tensors(x)), lengths=torch.as_tensor(lengths))
    outputs, final = reference(x, (np.zeros((B, 4)), np.zeros((B, 3, 2))), mask, zero=True)
    close([part.transpose(0, 1) for part in mine.sequence], outputs)
    close(mine.state, final)
    backwards = {name: part[:, ::-1] for name, part in x.items()}
    outputs, final = reference(backwards, start(), mask[:, ::-1])
    mine = RNN(built(), reverse=True)(tensors(x), tensors(start()), mask=torch.as_tensor(mask))
    close(mine.sequence, outputs)  # in the order of processing, as Keras' go_backwards
    close(mine.state, final)


def test_gradients_through_a_masked_nest() -> None:
    """Masked steps and rows get none; the kernel's is that of the reference, which is linear in it."""
    cell, x = built(), tensors(inputs())
    leaves = [leaf.requires_grad_() for leaf in pytree.tree_leaves(x)]
    output = RNN(cell)(x, tensors(start()), mask=torch.as_tensor(MASK))
    sum(part.sum() for part in output.state).backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert not leaf.grad[~torch.as_tensor(MASK)].any()
    valid = np.where(MASK[..., None], inputs()["vector"], 0).sum((0, 1))
    assert cell.kernel_1.grad is not None
    close(cell.kernel_1.grad, np.repeat(valid[:, None], 4, axis=1))


def test_both_directions() -> None:
    """Each part of the nest is merged for itself."""
    x, mask = inputs(), torch.as_tensor(MASK)
    layer = Bidirectional(RNN(built()), "sum", RNN(built(), reverse=True))
    backwards = {name: part[:, ::-1] for name, part in x.items()}
    zero = np.zeros((B, 4)), np.zeros((B, 3, 2))
    ahead, ahead_state = reference(x, start(), MASK)
    behind, behind_state = reference(backwards, zero, MASK[:, ::-1])
    mine = layer(tensors(x), (tensors(start()), tensors(zero)), mask=mask)
    close(mine.sequence, [a + b[:, ::-1] for a, b in zip(ahead, behind, strict=True)])
    close(mine.state, (ahead_state, behind_state))


class Flat(nn.Module):
    """Turns a step's dict into a vector: a cell without a state."""

    def initial_state(self, batch: int) -> Nest:
        return ()

    def forward(self, x: Nest, state: Nest) -> tuple[Nest, Nest]:
        return torch.cat([x["vector"], x["matrix"].flatten(1)], dim=1), ()


def test_a_stack_that_begins_with_a_nest() -> None:
    gru = GRUCell(9, 4).double()
    x = tensors(inputs())
    flat = torch.cat([x["vector"], x["matrix"].flatten(2)], dim=2)
    mine = RNN(StackedCells([Flat(), gru]))(x, mask=torch.as_tensor(MASK))
    plain = RNN(gru)(flat, mask=torch.as_tensor(MASK))
    close(mine.sequence, plain.sequence.detach().numpy())
    assert mine.state[0] == ()


def test_stateful_nests_are_kept_reset_and_set() -> None:
    layer, ones = RNN(built(), stateful=True), np.ones((B, T), bool)
    x, zero = inputs(), (np.zeros((B, 4)), np.zeros((B, 3, 2)))
    once = reference(x, zero, ones)[1]
    layer(tensors(x))
    close(layer.states, once)
    close(layer(tensors(x)).state, reference(x, once, ones)[1])
    layer.reset_states()
    assert layer.states is None
    layer.reset_states(start())  # numpy arrays will do
    close(layer.states, start())
    close(layer(tensors(x)).state, reference(x, start(), ones)[1])
    layer.reset_states(list(start()))
    layer.reset_states(rows=[1, 3])  # two rows back to the initial state, the others stay
    kept = tuple(
        np.where(np.isin(np.arange(B), [1, 3]).reshape(B, *[1] * (part.ndim - 1)), 0, part) for part in start()
    )
    close(layer.states, kept)
    values = tuple(part[:1] for part in start())
    layer.reset_states(values, rows=torch.tensor([False, True, False, False]))
    changed = tuple(part.copy() for part in kept)
    for part, value in zip(changed, values, strict=True):
        part[1:2] = value
    close(layer.states, changed)


def test_what_does_not_fit_is_said() -> None:
    layer = RNN(built(), stateful=True)
    x = tensors(inputs())
    with pytest.raises(ValueError, match="RNN: the state of this cell has 2 tensors, got 1"):
        layer(x, (torch.zeros(B, 4),))
    with pytest.raises(ValueError, match=r"RNN: expected a state of shape \[4, 3, 2\], got \[4, 2, 3\]"):
        layer(x, (torch.zeros(B, 4).double(), torch.zeros(B, 2, 3).double()))
    with pytest.raises(ValueError, match=r"same B and T; got \[4, 4, 2, 3\] beside \[4, 5, 3\]"):
        layer({"vector": x["vector"], "matrix": x["matrix"][:, 1:]})
    with pytest.raises(ValueError, match="RNN: expected 2 arrays of state, got 3"):
        layer.reset_states([np.zeros(1)] * 3)
    with pytest.raises(ValueError, match="no state is kept yet"):
        layer.reset_states(start(), rows=[0])


class ConstantCell(nn.Module):
    """Keras 2's cell with ``constants``: ``h' = tanh(x W + h U + k C)``."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(draw(3, 4, seed=0)))
        self.u = nn.Parameter(torch.as_tensor(draw(4, 4, seed=1)))
        self.c = nn.Parameter(torch.as_tensor(draw(2, 4, seed=2)))

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, 4)

    def forward(self, x: Tensor, state: Tensor, constants: list[Tensor]) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x @ self.w + state @ self.u + constants[0] @ self.c)
        return h, h


def constant_reference(x: Array, k: Array, mask: Array) -> tuple[Array, Array]:
    w, u, c = draw(3, 4, seed=0), draw(4, 4, seed=1), draw(2, 4, seed=2)
    h, output, outputs = np.zeros((B, 4)), np.zeros((B, 4)), []
    for t in range(T):
        new = np.tanh(x[:, t] @ w + h @ u + k @ c)
        valid = mask[:, t, None]
        h, output = np.where(valid, new, h), np.where(valid, new, output)
        outputs.append(output)
    return np.stack(outputs, 1), h


def test_constants_are_seen_at_every_step() -> None:
    x, k = draw(B, T, 3, seed=9), draw(B, 2, seed=8)
    constant = torch.as_tensor(k).requires_grad_()
    mine = RNN(ConstantCell())(torch.as_tensor(x), mask=torch.as_tensor(MASK), constants=[constant])
    outputs, final = constant_reference(x, k, MASK)
    close(mine.sequence, outputs)
    close(mine.state, final)
    mine.state.sum().backward()
    assert constant.grad is not None
    small, moved = 1e-6, [k.copy(), k.copy()]
    moved[0][2, 1] += small
    moved[1][2, 1] -= small
    ahead, behind = (constant_reference(x, each, MASK)[1].sum() for each in moved)
    np.testing.assert_allclose(constant.grad[2, 1].item(), (ahead - behind) / (2 * small), rtol=1e-6)
    assert not constant.grad[3].any()  # a row without a valid step


class Swapping(nn.Module):
    """A cell whose states come back with their keys in another order."""

    def initial_state(self, batch: int) -> dict[str, Tensor]:
        return {"sum": torch.zeros(batch, 1), "count": torch.zeros(batch, 1)}

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        new = {"count": state["count"] + 1, "sum": state["sum"] + x}
        return new["sum"] / new["count"], new


def test_states_in_dicts_go_by_their_keys() -> None:
    x, mask = torch.tensor([[[2.0], [4.0], [6.0]]]), torch.tensor([[False, True, True]])
    start = {"count": torch.tensor([[3.0]]), "sum": torch.tensor([[30.0]])}
    layer = RNN(Swapping(), stateful=True)
    output = layer(x, start, mask=mask)
    assert output.last.item() == 8.0
    assert (output.state["sum"].item(), output.state["count"].item()) == (40.0, 5.0)
    layer.reset_states(start)
    assert layer(x, mask=mask).last.item() == 8.0

"""The loop over time, once for every cell: nests, masks, episode starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.functional.masks import Valid, expand
from lightning_rnn.types import Nest


class Stepper(Protocol):
    """A cell made ready for one call: its dropout masks are drawn."""

    def project(self, x: Nest) -> Nest:
        """What needs no loop, for one step or for all of them."""
        ...

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        """One step: ``(output, new state)``."""
        ...


class Resets(NamedTuple):
    """Episode starts: before a step where ``mask [B, T]`` is True, the state is set to ``state``."""

    mask: Tensor
    state: Nest


class Ran(NamedTuple):
    """What an engine returns: outputs that hold at valid steps, the final state, all states where asked for."""

    outputs: Nest
    state: Nest
    all_states: Nest = None


def in_order(nest: Nest, like: Nest) -> Nest:
    """A nest with the keys of its dicts in the order of ``like``, as leaves are met in the order of keys."""
    if isinstance(nest, dict) and isinstance(like, dict) and nest.keys() == like.keys():
        return {key: in_order(nest[key], like[key]) for key in like}
    if type(nest) in (list, tuple) and isinstance(like, (list, tuple)) and len(nest) == len(like):
        return type(nest)(in_order(a, b) for a, b in zip(nest, like, strict=True))
    return nest


def choose_rows(mask: Tensor, new: Nest, old: Nest) -> Nest:
    """``new`` in the rows where ``mask [B]`` is True, else ``old``, for every tensor of a nest."""
    return _merge(lambda a, b: torch.where(expand(mask, a), a, b.to(a.dtype)), new, old)


def _merge(function: Callable[[Tensor, Tensor], Tensor], new: Nest, old: Nest) -> Nest:
    """A function of the tensors of two nests; keys of dicts may be in another order."""
    if isinstance(new, Tensor):
        return function(new, old)
    if type(new) in (tuple, list) or _is_named(new):
        return _like(new, [_merge(function, a, b) for a, b in zip(new, old, strict=True)])
    if type(new) is dict:
        return {key: _merge(function, value, old[key]) for key, value in new.items()}
    leaves, spec = pytree.tree_flatten(new)
    pairs = zip(leaves, pytree.tree_leaves(in_order(old, new)), strict=True)
    return pytree.tree_unflatten([function(a, b) for a, b in pairs], spec)


def _is_named(nest: Nest) -> bool:
    return isinstance(nest, tuple) and pytree.is_namedtuple_class(type(nest))


def _like(nest: Nest, parts: list[Any]) -> Nest:
    """Parts in a tuple, list or named tuple as ``nest`` is one."""
    return type(nest)(*parts) if _is_named(nest) else type(nest)(parts)


def _unbind(nest: Nest, steps: int) -> Sequence[Nest]:
    """A nest of ``[B, T, ...]`` as ``T`` nests of ``[B, ...]``; the backward of one unbind is one stack."""
    if isinstance(nest, Tensor):
        return nest.unbind(1)
    leaves, spec = pytree.tree_flatten(nest)
    columns = [leaf.unbind(1) for leaf in leaves]
    if type(nest) is tuple and all(isinstance(part, Tensor) for part in nest):
        return list(zip(*columns, strict=True))
    return [pytree.tree_unflatten([column[t] for column in columns], spec) for t in range(steps)]


def _stack(steps: list[Nest]) -> Nest:
    """``T`` nests of ``[B, ...]`` as one of ``[B, T, ...]``."""
    first = steps[0]
    if isinstance(first, Tensor):
        return torch.stack(steps, dim=1)
    if type(first) in (tuple, list) or _is_named(first):
        return _like(first, [_stack(list(part)) for part in zip(*steps, strict=True)])
    if type(first) is dict:
        return {key: _stack([step[key] for step in steps]) for key in first}
    leaves = zip(*[pytree.tree_leaves(step) for step in steps], strict=True)
    return pytree.tree_unflatten([torch.stack(leaf, dim=1) for leaf in leaves], pytree.tree_structure(first))


def length_of(x: Nest) -> int:
    """``T`` of a nest of tensors ``[B, T, ...]``."""
    return int(pytree.tree_leaves(x)[0].shape[1])


def scan(
    stepper: Stepper,
    x: Nest,
    state: Nest,
    valid: Valid | None = None,
    resets: Resets | None = None,
    all_states: bool = False,
) -> Ran:
    """Apply a cell along time.

    At a masked step the state is carried over; the output there means nothing yet (:func:`fill_masked` sets it).

    Args:
        stepper: the cell.
        x: a nest of ``[B, T, ...]``.
        state: a nest of ``[B, ...]``.
        valid: which steps are real; None: all.
        resets: episode starts inside the sequence.
        all_states: whether to keep the state after every step.

    Example:
        >>> class Sum:
        ...     def project(self, x): return x
        ...     def step(self, x_t, state): return (x_t + state, x_t + state)
        >>> scan(Sum(), torch.tensor([[1.0, 2.0, 3.0]]), torch.zeros(1)).outputs.tolist()
        [[1.0, 3.0, 6.0]]
    """
    steps = length_of(x)
    if not steps:
        return _empty(stepper, x, state, all_states)
    columns = _unbind(stepper.project(x), steps)
    masks = None if valid is None else valid.mask.unbind(1)
    starts = None if resets is None else resets.mask.unbind(1)
    outputs: list[Nest] = []
    states: list[Nest] = []
    step = stepper.step
    for t in range(steps):
        if starts is not None and resets is not None:
            state = choose_rows(starts[t], resets.state, state)
        output, new = step(columns[t], state)
        state = new if masks is None else choose_rows(masks[t], new, state)
        outputs.append(output)
        if all_states:
            states.append(state)
    return Ran(_stack(outputs), state, _stack(states) if all_states else None)


def _empty(stepper: Stepper, x: Nest, state: Nest, all_states: bool) -> Ran:
    """``T = 0``: a step on zeros tells what the outputs look like."""
    with torch.no_grad():
        zeros = pytree.tree_map(lambda leaf: leaf.new_zeros(leaf.shape[0], *leaf.shape[2:]), x)
        output, new = stepper.step(stepper.project(zeros), state)

    def none(leaf: Tensor) -> Tensor:
        return leaf.unsqueeze(1)[:, :0].clone()

    return Ran(pytree.tree_map(none, output), state, pytree.tree_map(none, new) if all_states else None)

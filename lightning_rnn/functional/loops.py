"""TensorFlow 1's loops over a cell: past a row's end outputs are ZERO and the state is carried over.

Where a layer repeats the last output (Keras), these return zeros. The layers of :mod:`lightning_rnn.layers` are faster:
a loop calls the cell once a step, so what a cell draws once a call, such as dropout masks, is drawn anew at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.functional.masks import Valid, expand, fill_masked, reverse_sequence
from lightning_rnn.functional.scan import length_of, scan
from lightning_rnn.types import Nest

Told = tuple[Tensor, Nest, Nest, Nest, Any]  # finished, next input, next state, what to emit, next loop state
LoopFunction = Callable[[int, Nest, Nest, Any], Told]


class StepCell(Protocol):
    """What serves as a cell: ``output, new_state = cell(x_t, state)``."""

    def __call__(self, x: Nest, state: Nest, /) -> tuple[Nest, Nest]:
        """One step."""
        ...

    def initial_state(self, batch: int, /) -> Nest:
        """The state of ``batch`` rows before the first step."""
        ...


class _Calls:
    """A cell as a stepper of :func:`scan`."""

    def __init__(self, cell: StepCell) -> None:
        self.cell = cell

    def project(self, x: Nest) -> Nest:
        return x

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        return self.cell(projected, state)


def dynamic_rnn(
    cell: StepCell,
    inputs: Nest,
    sequence_length: Tensor | Sequence[int] | None = None,
    initial_state: Nest | None = None,
    time_major: bool = False,
) -> tuple[Nest, Nest]:
    """A cell over time as ``tf.compat.v1.nn.dynamic_rnn``.

    Args:
        cell: any module with ``forward(x_t, state)`` and ``initial_state(batch)``.
        inputs: a nest of ``[B, T, ...]``.
        sequence_length: integers ``[B]`` in 0..T; None: every step is valid.
        initial_state: a nest of ``[B, ...]``; None: the cell's.
        time_major: inputs and outputs are ``[T, B, ...]``.

    Returns:
        Outputs, a nest of ``[B, T, ...]``, zero from ``sequence_length`` on, and the state after the last valid step;
        a row of length 0 keeps its initial state.

    Raises:
        ValueError: shapes do not fit, or a length is outside 0..T.
        TypeError: lengths are not integers.

    Example:
        >>> class Sum(torch.nn.Module):
        ...     def initial_state(self, batch): return torch.zeros(batch, 1)
        ...     def forward(self, x, state): return x + state, x + state
        >>> outputs, state = dynamic_rnn(Sum(), torch.ones(2, 3, 1), [2, 0])
        >>> outputs.squeeze(2).tolist(), state.tolist()
        ([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]], [[2.0], [0.0]])
    """
    x = _turn(inputs, time_major)
    first, lengths = _check(x, sequence_length)
    state = _state(cell, initial_state, first)
    valid = Valid.of(first.shape[1], lengths, None)
    if valid is not None:  # what stands in padding reaches neither outputs nor gradients
        x = pytree.tree_map(lambda leaf: torch.where(expand(valid.mask, leaf), leaf, 0), x)
    ran = scan(_Calls(cell), x, state, valid)
    outputs = pytree.tree_map(lambda leaf: fill_masked(leaf, valid, zero=True), ran.outputs)
    return _turn(outputs, time_major), ran.state


def static_rnn(
    cell: StepCell,
    inputs: Sequence[Nest],
    initial_state: Nest | None = None,
    sequence_length: Tensor | Sequence[int] | None = None,
) -> tuple[list[Nest], Nest]:
    """A cell over a list of steps as ``tf.compat.v1.nn.static_rnn``; see :func:`dynamic_rnn`.

    Args:
        cell: any module with ``forward(x_t, state)`` and ``initial_state(batch)``.
        inputs: one nest of ``[B, ...]`` for each step.
        initial_state: a nest of ``[B, ...]``; None: the cell's.
        sequence_length: integers ``[B]`` in 0..T; None: every step is valid.

    Returns:
        Outputs, a list of nests of ``[B, ...]``, and the state after the last valid step.

    Raises:
        ValueError: there are no steps, shapes do not fit, or a length is outside 0..T.
        TypeError: lengths are not integers.

    Example:
        >>> class Sum(torch.nn.Module):
        ...     def initial_state(self, batch): return torch.zeros(batch)
        ...     def forward(self, x, state): return x + state, x + state
        >>> static_rnn(Sum(), [torch.ones(1), torch.ones(1)])
        ([tensor([1.]), tensor([2.])], tensor([2.]))
    """
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise ValueError("static_rnn: inputs must be a list with at least one step; for a tensor use dynamic_rnn")
    outputs, state = dynamic_rnn(cell, _stack(inputs, dim=1), sequence_length, initial_state)
    leaves, spec = pytree.tree_flatten(outputs)
    steps = zip(*[leaf.unbind(1) for leaf in leaves], strict=True)
    return [pytree.tree_unflatten(list(step), spec) for step in steps], state


def bidirectional_dynamic_rnn(
    cell_fw: StepCell,
    cell_bw: StepCell,
    inputs: Nest,
    sequence_length: Tensor | Sequence[int] | None = None,
    initial_state_fw: Nest | None = None,
    initial_state_bw: Nest | None = None,
    time_major: bool = False,
) -> tuple[tuple[Nest, Nest], tuple[Nest, Nest]]:
    """Two cells, the second from each row's end to its start, as ``tf.compat.v1.nn.bidirectional_dynamic_rnn``.

    Args:
        cell_fw: from the first step on.
        cell_bw: from the last valid step back.
        inputs: a nest of ``[B, T, ...]``.
        sequence_length: integers ``[B]`` in 0..T; None: every step is valid.
        initial_state_fw: of ``cell_fw``; None: the cell's.
        initial_state_bw: of ``cell_bw``, at the end; None: the cell's.
        time_major: inputs and outputs are ``[T, B, ...]``.

    Returns:
        ``((outputs_fw, outputs_bw), (state_fw, state_bw))``, outputs at the time of their inputs.

    Example:
        >>> class Sum(torch.nn.Module):
        ...     def initial_state(self, batch): return torch.zeros(batch)
        ...     def forward(self, x, state): return x + state, x + state
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> bidirectional_dynamic_rnn(Sum(), Sum(), x, [2])[0]
        (tensor([[1., 3., 0.]]), tensor([[3., 2., 0.]]))
    """
    x = _turn(inputs, time_major)
    _, lengths = _check(x, sequence_length)

    def backwards(nest: Nest) -> Nest:
        return pytree.tree_map(lambda leaf: reverse_sequence(leaf, lengths), nest)

    out_fw, state_fw = dynamic_rnn(cell_fw, x, lengths, initial_state_fw)
    out_bw, state_bw = dynamic_rnn(cell_bw, backwards(x), lengths, initial_state_bw)
    outputs = _turn(out_fw, time_major), _turn(backwards(out_bw), time_major)
    return outputs, (state_fw, state_bw)


def raw_rnn(cell: StepCell, loop_fn: LoopFunction) -> tuple[Nest, Nest, Any]:
    """A cell in a loop that ``loop_fn`` steers, as ``tf.compat.v1.nn.raw_rnn``.

    ``finished, next_input, next_state, emit, next_loop_state = loop_fn(time, output, state, loop_state)`` is called
    before the first step with ``time = 0`` and None for the rest, then after each step, with ``time`` an int. Its first
    ``next_state`` is the initial state; its first ``emit`` tells the structure of what is emitted, by tensors without
    the batch axis (as in TF1), None is for the cell's output. A row that has once been finished emits zeros and keeps
    its state. A ``next_loop_state`` of None leaves the old one. The loop ends when all rows are finished.

    Args:
        cell: ``output, new_state = cell(x_t, state)``.
        loop_fn: as above; ``finished`` is bool ``[B]``, the others are nests of ``[B, ...]``, the loop state anything.

    Returns:
        What was emitted, as tensors ``[T, B, ...]`` where TF1 had a TensorArray, the final state, the final loop state.

    Raises:
        ValueError: a shape or structure is not what it was before.
        TypeError: ``finished`` is not bool.

    Example:
        >>> class Sum(torch.nn.Module):
        ...     def initial_state(self, batch): return torch.zeros(batch)
        ...     def forward(self, x, state): return x + state, x + state
        >>> def count(time, output, state, loop_state):
        ...     state = torch.zeros(2) if state is None else state
        ...     return time >= torch.tensor([3, 1]), torch.ones(2), state, output, None
        >>> raw_rnn(Sum(), count)[:2]
        (tensor([[1., 1.],
                [2., 0.],
                [3., 0.]]), tensor([3., 1.]))
    """
    finished, x, state, structure, loop_state = loop_fn(0, None, None, None)
    batch = _rows(x)
    _check_finished(finished, batch)
    if structure is None and bool(finished.all()):  # no step will tell what would have been emitted
        with torch.no_grad():
            structure = pytree.tree_map(lambda leaf: leaf.new_zeros(leaf.shape[1:]), cell(x, state)[0])
    zeros = None if structure is None else pytree.tree_map(lambda leaf: leaf.new_zeros(batch, *leaf.shape), structure)
    emitted: list[Nest] = []
    time = 0
    while not bool(finished.all()):
        output, new = cell(x, state)
        time += 1
        now, x, new, emit, told = loop_fn(time, output, new, loop_state)
        _check_finished(now, batch)
        zeros = pytree.tree_map(torch.zeros_like, output) if zeros is None else zeros
        emitted.append(_freeze(finished, zeros, emit, "emit_output"))
        state = _freeze(finished, state, new, "next_cell_state")
        loop_state = loop_state if told is None else told
        finished = finished | now
    if not emitted:
        return pytree.tree_map(lambda leaf: leaf.unsqueeze(0)[:0], zeros), state, loop_state
    return _stack(emitted, dim=0), state, loop_state


def _freeze(finished: Tensor, old: Nest, new: Nest, what: str) -> Nest:
    """``old`` in the finished rows, else ``new``; scalars and what is no tensor are taken from ``new``."""
    before, spec = pytree.tree_flatten(old)
    after = pytree.tree_leaves(new)
    shapes = [[list(leaf.shape) if isinstance(leaf, Tensor) else None for leaf in nest] for nest in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"raw_rnn: {what} of loop_fn had shapes {shapes[0]} at first, now it has {shapes[1]}")
    leaves = [
        torch.where(expand(finished, b), a.to(b), b) if isinstance(b, Tensor) and b.ndim else b
        for a, b in zip(before, after, strict=True)
    ]
    return pytree.tree_unflatten(leaves, spec)


def _check_finished(finished: Tensor, batch: int) -> None:
    if not isinstance(finished, Tensor) or finished.dtype != torch.bool:
        got = finished.dtype if isinstance(finished, Tensor) else type(finished).__name__
        raise TypeError(f"raw_rnn: elements_finished of loop_fn must be a bool tensor [B], got {got}")
    if finished.shape != (batch,):
        raise ValueError(f"raw_rnn: elements_finished of loop_fn must be [{batch}], got {list(finished.shape)}")


def _check(x: Nest, sequence_length: Tensor | Sequence[int] | None) -> tuple[Tensor, Tensor | None]:
    """The first tensor of the inputs, and the lengths as int64 ``[B]`` on its device."""
    first: Tensor = pytree.tree_leaves(x)[0]
    for leaf in pytree.tree_leaves(x):
        if leaf.ndim < 2 or leaf.shape[:2] != first.shape[:2]:
            raise ValueError(
                "every input must have the same batch and time axes; "
                f"got {list(leaf.shape)} beside {list(first.shape)} (batch first)"
            )
    if sequence_length is None:
        return first, None
    lengths = torch.as_tensor(sequence_length, device=first.device)
    batch, steps = first.shape[0], length_of(x)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"sequence_length must be integers, got {lengths.dtype}")
    if lengths.shape != (batch,):
        raise ValueError(f"expected sequence_length of shape [{batch}], got {list(lengths.shape)}")
    traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if batch and not traced:
        low, high = int(lengths.min()), int(lengths.max())
        if low < 0 or high > steps:
            raise ValueError(f"sequence_length must be in 0..{steps} (T), got {low}..{high}")
    return first, lengths.long()


def _state(cell: StepCell, given: Nest | None, x: Tensor) -> Nest:
    """The state to start from; the cell's own follows the inputs' device and dtype."""
    if given is None:

        def move(leaf: Tensor) -> Tensor:
            both = leaf.is_floating_point() and x.is_floating_point()
            return leaf.to(x.device, x.dtype if both else leaf.dtype)

        return pytree.tree_map_only(Tensor, move, cell.initial_state(x.shape[0]))
    for leaf in pytree.tree_leaves(given):
        if leaf.shape[:1] != x.shape[:1]:
            raise ValueError(f"expected an initial_state of {x.shape[0]} rows, got {list(leaf.shape)}")
    return given


def _rows(x: Nest) -> int:
    """``B`` of a nest of ``[B, ...]``."""
    return int(pytree.tree_leaves(x)[0].shape[0])


def _stack(steps: Sequence[Nest], dim: int) -> Nest:
    """One nest with a time axis from a nest for each step."""
    return pytree.tree_map(lambda *leaves: torch.stack(leaves, dim=dim), *steps)


def _turn(nest: Nest, time_major: bool) -> Nest:
    return pytree.tree_map(lambda leaf: leaf.transpose(0, 1), nest) if time_major else nest

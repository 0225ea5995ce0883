"""The linear recurrence ``h_t = a_t h_{t-1} + b_t``, over all steps at once."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lightning_rnn.functional.masks import Valid, expand
from lightning_rnn.functional.scan import Ran, Resets, Stepper
from lightning_rnn.types import Nest


def linear_scan(a: Tensor, b: Tensor, initial: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    r"""All :math:`h_t = a_t h_{t-1} + b_t`: about :math:`2 \log_2 T` operations in a row, work in proportion to T.

    Two steps are one step, :math:`h_t = (a_t a_{t-1}) h_{t-2} + (a_t b_{t-1} + b_t)`: every second state is the same
    problem at half the length, and the others are one step away (Blelloch 1990, Prefix Sums and Their Applications,
    section 1.4). There is no division and no logarithm, so any sign and ``a = 0`` are fine; with :math:`|a| \le 1`
    nothing grows. Every derivative exists.

    Args:
        a: factors, ``[B, T, ...]`` or what expands to it.
        b: terms, ``[B, T, ...]``.
        initial: the state before the first step, ``[B, ...]``; None: zero.
        mask: bool ``[B, T]``; the state passes a step where it is False unchanged, whatever ``a`` and ``b`` hold there.

    Returns:
        The state after every step, ``[B, T, ...]``.

    Example:
        >>> linear_scan(torch.full((1, 4), 0.5), torch.ones(1, 4)).tolist()
        [[1.0, 1.5, 1.75, 1.875]]
    """
    a = a.expand_as(b)
    if mask is not None:
        a, b = torch.where(expand(mask, a), a, 1), torch.where(expand(mask, b), b, 0)
    if not b.shape[1]:
        return b
    if initial is not None:
        b = torch.cat([a[:, :1] * initial.unsqueeze(1) + b[:, :1], b[:, 1:]], dim=1)
    return _halve(a, b)


def _halve(a: Tensor, b: Tensor) -> Tensor:
    """All states where the one before the first is zero."""
    if b.shape[1] < 2:
        return b
    (a_even, a_odd), (b_even, b_odd) = (a[:, ::2], a[:, 1::2]), (b[:, ::2], b[:, 1::2])
    pairs = b_odd.shape[1]
    odd = _halve(a_odd * a_even[:, :pairs], a_odd * b_even[:, :pairs] + b_odd)
    rest = a_even[:, 1:] * odd[:, : b_even.shape[1] - 1] + b_even[:, 1:]
    even = torch.cat([b_even[:, :1], rest], dim=1)
    states = torch.stack([even[:, :pairs], odd], dim=2).flatten(1, 2)
    return torch.cat([states, even[:, pairs:]], dim=1)


@runtime_checkable
class LinearStepper(Stepper, Protocol):
    """A cell whose step is linear in its state, which is one tensor and the output."""

    def coefficients(self, projected: Nest) -> tuple[Tensor, Tensor]:
        """``a`` and ``b`` of ``h_t = a_t h_{t-1} + b_t``, of one step or of all of them."""
        ...


def run_linear(
    stepper: LinearStepper,
    x: Nest,
    state: Tensor,
    valid: Valid | None = None,
    resets: Resets | None = None,
    all_states: bool = False,
) -> Ran:
    """What :func:`lightning_rnn.functional.scan` computes, for a cell that is linear in its state, without its loop.

    Example:
        >>> class Half:
        ...     def project(self, x): return x
        ...     def coefficients(self, x): return torch.full_like(x, 0.5), x
        ...     def step(self, x, h): return 0.5 * h + x, 0.5 * h + x
        >>> run_linear(Half(), torch.ones(1, 3, 1), torch.zeros(1, 1)).state.tolist()
        [[1.75]]
    """
    a, b = stepper.coefficients(stepper.project(x))
    if valid is not None:
        mask = expand(valid.mask, a)
        a, b = torch.where(mask, a, 1), torch.where(mask, b, 0)
    if resets is not None:  # an episode's first step sees the state of the start alone
        starts = expand(resets.mask, a)
        b = torch.where(starts, a * resets.state.unsqueeze(1) + b, b)
        a = torch.where(starts, 0, a)
    states = linear_scan(a, b, state)
    return Ran(states, states[:, -1] if states.shape[1] else state, states if all_states else None)

"""The loop over time, once for every cell: masks, carry-over, direction."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def scan(
    step: Step,
    xs: Tensor,
    state: tuple[Tensor, ...],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    zero_output_for_mask: bool = False,
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Apply ``step`` along time.

    At a masked step the state is carried over and the output repeats the one before (zero before the first valid
    step), or is zero with ``zero_output_for_mask``.

    Args:
        step: ``(x_t, state) -> state``, whose first member is the output.
        xs: ``[B, T, ...]``.
        state: tensors ``[B, H]``, the first one shaped as the output.
        mask: bool ``[B, T]``, True where a step is valid.
        reverse: go from the last step to the first; outputs stay at their own time.
        zero_output_for_mask: outputs of masked steps are zero.

    Returns:
        outputs ``[B, T, H]``, the output of the last step processed ``[B, H]``, the final state.
    """
    steps = xs.shape[1]
    last = torch.zeros_like(state[0])
    outputs: list[Tensor] = []
    for t in reversed(range(steps)) if reverse else range(steps):
        new = step(xs[:, t], state)
        if mask is None:
            state, last = new, new[0]
        else:
            valid = mask[:, t].unsqueeze(1)
            state = tuple(torch.where(valid, a, b) for a, b in zip(new, state, strict=True))
            last = torch.where(valid, new[0], torch.zeros_like(last) if zero_output_for_mask else last)
        outputs.append(last)
    if not outputs:
        return last.unsqueeze(1)[:, :0], last, state
    return torch.stack(outputs[::-1] if reverse else outputs, dim=1), last, state

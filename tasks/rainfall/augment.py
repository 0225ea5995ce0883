"""Drop-in: a sequence stretched to a number of steps by steps of its own that come again."""

from __future__ import annotations

import torch
from torch import Tensor


def drop_in(x: Tensor, lengths: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat steps at random, in their order, until a row has as many as ``uniform``; longer rows stay as they are.

    Aaron Sim's augmentation (winner of "How Much Did It Rain? II"): the network learns that a scan may stand for more
    or less time, and the mean over several draws is a better prediction than one.

    Args:
        x: ``[B, T, D]``.
        lengths: int64 ``[B]``, valid steps.
        uniform: ``[B, S]``, or ``[1, S]`` for the same draw in every row: numbers from 0 to below 1; entry ``j`` from
            a row's length on says which of its steps comes once more.

    Returns:
        ``[B, max(S, T), D]`` with 0 at padding, and the new lengths: ``max(S, length)``, but 0 where it was 0.

    Example:
        >>> x = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [0.0], [0.0]]])
        >>> rows, lengths = drop_in(x, torch.tensor([3, 1]), torch.tensor([[0.1, 0.9, 0.5, 0.7]]))
        >>> rows.squeeze(2).tolist(), lengths.tolist()
        ([[1.0, 2.0, 3.0, 3.0], [4.0, 4.0, 4.0, 4.0]], [4, 4])
    """
    steps, known = x.shape[1], lengths.unsqueeze(1)
    width = max(uniform.shape[1], steps)
    if not steps:
        return x.new_zeros(len(x), width, *x.shape[2:]), lengths
    slot = torch.arange(width, device=x.device)
    padded = torch.nn.functional.pad(uniform, (0, width - uniform.shape[1]))
    again = torch.minimum((padded * known).long(), (known - 1).clamp(min=0))  # rounding may reach the length itself
    index = torch.where(slot < known, slot, again)
    longer = torch.where(lengths > 0, lengths.clamp(min=uniform.shape[1]), 0)
    inside = slot < longer.unsqueeze(1)
    order = torch.where(inside, index, steps).sort(dim=1).values.clamp(max=steps - 1)
    rows = x.gather(1, order.unsqueeze(2).expand(-1, -1, x.shape[2]))
    return torch.where(inside.unsqueeze(2), rows, 0), longer


def fixed_draws(copies: int, steps: int) -> Tensor:
    """Numbers for :func:`drop_in`, ``[copies, steps]``, that are always the same: no prediction changes by chance.

    A Latin hypercube (McKay, Beckman and Conover 1979): at each step every share ``1 / copies`` has one number, so the
    mean over copies varies about half as much as that of independent draws.

    Example:
        >>> fixed_draws(4, 2).mul(4).long().sort(0).values.tolist()
        [[0, 0], [1, 1], [2, 2], [3, 3]]
    """
    random = torch.Generator().manual_seed(1)
    share = torch.rand(copies, steps, generator=random).argsort(0)
    return (share + torch.rand(copies, steps, generator=random)) / copies

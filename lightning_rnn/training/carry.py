"""The state that a row of one batch hands to the same row of the next: truncated backpropagation through time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.errors import DataError
from lightning_rnn.layers.cell import first_tensor
from lightning_rnn.types import LSTMState, SequenceBatch, State


class Carry:
    """Keeps the state after a batch of streams (see :class:`lightning_rnn.data.Streams`) for the next one.

    Example:
        >>> from lightning_rnn import LSTM
        >>> import torch
        >>> layer, carry = LSTM(3, 5), Carry()
        >>> x, starts = torch.randn(2, 8, 3), torch.tensor([True, True])
        >>> for chunk in x.split(4, dim=1):
        ...     output, state = layer(chunk, carry.take(SequenceBatch(chunk, starts=starts)))
        ...     carry.keep(state)
        ...     starts = torch.tensor([False, False])
        >>> torch.allclose(carry.state.h, layer(x).state.h)
        True
    """

    def __init__(self) -> None:
        self.state: State | None = None

    def take(self, batch: SequenceBatch) -> State | None:
        """The state that the batch begins with, zero in rows that begin a stream; None where all do.

        Raises:
            DataError: the batch before had another number of rows.
        """
        if self.state is None or batch.starts is None or bool(batch.starts.all()):
            return None
        begins, rows = batch.starts, first_tensor(self.state).shape[0]
        if rows != len(begins):
            raise DataError(
                f"a batch of {len(begins)} rows goes on from one of {rows}: give all batches of an epoch the same "
                "number of rows, as StreamBatchSampler does"
            )
        state: State = pytree.tree_map_only(
            Tensor, lambda t: t.masked_fill(begins.view(-1, *(1,) * (t.ndim - 1)), 0), self.state
        )
        return state

    def keep(self, state: State) -> None:
        """Keep the state after a batch, cut off from the graph."""
        self.state = pytree.tree_map_only(Tensor, Tensor.detach, state)


def to_plain(state: Any) -> Any:
    """A state as lists, dicts and tensors on the CPU, for a checkpoint.

    Example:
        >>> import torch
        >>> plain = to_plain((LSTMState(torch.zeros(2), torch.ones(2)), None))
        >>> plain[0]["c"].tolist(), plain[1]
        ([1.0, 1.0], None)
    """
    if isinstance(state, LSTMState):
        return {"h": to_plain(state.h), "c": to_plain(state.c)}
    if isinstance(state, (tuple, list)):
        return [to_plain(one) for one in state]
    return None if state is None else state.detach().cpu()


def from_plain(plain: Any) -> Any:
    """What :func:`to_plain` was given, with tuples for lists."""
    if isinstance(plain, dict):
        return LSTMState(plain["h"], plain["c"])
    return tuple(from_plain(one) for one in plain) if isinstance(plain, list) else plain


def share_out(states: Sequence[Any], rank: int, world: int) -> Any:
    """One process' rows of a state, from the states of all processes when it was saved.

    Row ``j`` of the whole batch is row ``j // P`` of process ``j % P``, with ``P`` processes then, ``world`` now.

    Example:
        >>> import torch
        >>> share_out([torch.tensor([0, 2, 4]), torch.tensor([1, 3])], rank=0, world=1)
        tensor([0, 1, 2, 3, 4])
    """
    if states[0] is None or len(states) == world:
        return states[min(rank, len(states) - 1)]
    flat = [pytree.tree_flatten(state) for state in states]
    leaves = [_interleave([leaves[i] for leaves, _ in flat])[rank::world] for i in range(len(flat[0][0]))]
    return pytree.tree_unflatten(leaves, flat[0][1])


def _interleave(parts: Sequence[Tensor]) -> Tensor:
    whole = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole

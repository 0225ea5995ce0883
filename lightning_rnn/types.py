"""What every part agrees on: the axes, the batch, what a recurrent layer returns.

Axis legend: ``B`` batch, ``T`` time, ``D`` features, ``H`` hidden, ``V`` vocabulary, ``K`` beam.
Batch comes first everywhere, states too: ``[B, H]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Nest: TypeAlias = Any  # a tensor, or tuples, lists and dicts of nests


class LSTMState(NamedTuple):
    """State of one LSTM direction: output ``h [B, H]`` and memory ``c [B, H]`` (torch's order, not TF1's)."""

    h: Tensor
    c: Tensor


State: TypeAlias = Tensor | LSTMState | tuple["State", ...]


@dataclass(frozen=True)
class RNNOutput:
    """What a recurrent layer returns; unpacks as ``(sequence, state)``.

    Attributes:
        sequence: outputs of every step, ``[B, T, H]`` (``[B, T, 2H]`` when bidirectional).
        state: state after the last valid step. SimpleRNN and GRU: ``h [B, H]``; LSTM: :class:`LSTMState`;
            bidirectional: ``(forward, backward)``; several layers: a tuple in layer order.
        last: output of the last step processed, ``[B, H]``; bidirectional: the forward end beside the backward end,
            which is at ``t = 0`` (so not ``sequence[:, -1]``).
        all_states: the states of every step where the layer was asked for them, else None.

    Example:
        >>> import torch
        >>> from lightning_rnn import LSTM
        >>> sequence, state = LSTM(3, 5)(torch.zeros(2, 7, 3))
        >>> sequence.shape, state.h.shape
        (torch.Size([2, 7, 5]), torch.Size([2, 5]))
    """

    sequence: Tensor
    state: State
    last: Tensor
    all_states: Nest = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.sequence, self.state))

    def __getitem__(self, index: int) -> Any:
        return (self.sequence, self.state)[index]

    def __len__(self) -> int:
        return 2


def _flatten(output: RNNOutput) -> tuple[list[Any], None]:
    return [output.sequence, output.state, output.last, output.all_states], None


pytree.register_pytree_node(
    RNNOutput,
    _flatten,
    lambda values, _: RNNOutput(*values),
    serialized_type_name="lightning_rnn.types.RNNOutput",
)


@dataclass
class SequenceBatch:
    """What every datamodule yields and every module takes.

    Attributes:
        inputs: ``[B, T, ...]`` or a nest of such tensors; token ids are int64 ``[B, T]``.
        targets: a nest, or None where a batch has no answers (predict).
        lengths: int64 ``[B]``, valid steps of each row, padding on the right; None means every step is valid.
        mask: bool ``[B, T]``, True where a step is valid; for padding that is not on the right. Not with ``lengths``.
        target_lengths: int64 ``[B]`` where targets are sequences.
        ids: int64 ``[B]``, row numbers in the split, so that predictions can be joined back.
        starts: bool ``[B]``, only where rows continue those of the batch before (see
            :class:`lightning_rnn.data.Streams`): True where a row begins a new stream, without the carried state.
        stands_in: in evaluation, where a global batch has fewer rows than there are processes: a process without one
            goes through a row of another's, to stay in step; nothing of it counts, and ``ids`` are empty.

    Example:
        >>> batch = SequenceBatch(torch.zeros(4, 7, 3), lengths=torch.tensor([7, 5, 2, 0]))
        >>> len(batch), batch.to("cpu").inputs.shape
        (4, torch.Size([4, 7, 3]))
    """

    inputs: Nest
    targets: Nest | None = None
    lengths: Tensor | None = None
    mask: Tensor | None = None
    target_lengths: Tensor | None = None
    ids: Tensor | None = None
    starts: Tensor | None = None
    stands_in: bool = False

    def __post_init__(self) -> None:
        if self.lengths is not None and self.mask is not None:
            raise ValueError("SequenceBatch takes lengths or mask, not both")
        if not isinstance(self.inputs, Tensor):
            return
        for name, given, axes in (("lengths", self.lengths, 1), ("mask", self.mask, 2)):
            if given is not None and given.shape != self.inputs.shape[:axes]:
                raise ValueError(
                    f"SequenceBatch: {name} {list(given.shape)} for inputs {list(self.inputs.shape)}: give "
                    f"{list(self.inputs.shape[:axes])}"
                )

    def __len__(self) -> int:
        leaves = [leaf for leaf in pytree.tree_leaves(self.inputs) if isinstance(leaf, Tensor)]
        return leaves[0].shape[0]

    def _map(self, function: Callable[[Tensor], Tensor]) -> SequenceBatch:
        values = {f.name: pytree.tree_map_only(Tensor, function, getattr(self, f.name)) for f in fields(self)}
        return SequenceBatch(**values)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SequenceBatch:
        """The same batch on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SequenceBatch:
        """The same batch in page-locked memory."""
        return self._map(Tensor.pin_memory)

"""Rows in a ``PackedSequence`` or a jagged nested tensor: padded on the way in, what they were on the way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.types import Nest, RNNOutput

Ragged = PackedSequence | Tensor


def is_ragged(x: object) -> bool:
    """Whether ``x`` is a ``PackedSequence`` or a nested tensor."""
    return isinstance(x, PackedSequence) or (isinstance(x, Tensor) and x.is_nested)


def unpack(x: Ragged) -> tuple[Tensor, Tensor, Callable[[Tensor], Ragged]]:
    """``(padded [B, T, D], lengths [B], pack)``, where ``pack`` turns a padded sequence into what ``x`` was.

    Raises:
        ValueError: a nested tensor that is not jagged.

    Example:
        >>> rows = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged)
        >>> padded, lengths, pack = unpack(rows)
        >>> padded.shape, lengths.tolist(), pack(padded).is_nested
        (torch.Size([2, 4, 3]), [2, 4], True)
    """
    if isinstance(x, PackedSequence):
        padded, lengths = pad_packed_sequence(x, batch_first=True)

        def pack(sequence: Tensor) -> PackedSequence:
            return pack_padded_sequence(sequence, lengths, batch_first=True, enforce_sorted=False)

        return padded, lengths.to(padded.device), pack
    if x.layout != torch.jagged:
        raise ValueError("a nested tensor must be jagged: make it with layout=torch.jagged")
    offsets: Tensor = x.offsets()  # type: ignore[attr-defined]
    sizes = offsets.diff()

    def nest(sequence: Tensor) -> Tensor:
        steps = torch.arange(sequence.shape[1], device=sequence.device)
        values = sequence[steps < sizes.unsqueeze(1)]
        return torch.nested.nested_tensor_from_jagged(values, offsets)

    return torch.nested.to_padded_tensor(x, 0.0), sizes, nest


def run_padded(layer: SequenceLayer, x: Ragged, state: Nest | None, *masks: Tensor | None) -> RNNOutput:
    """A layer's forward on ragged rows, by the same on padded ones; its sequence is what ``x`` was.

    Args:
        layer: called as ``layer.forward(x, state, lengths=lengths)``.
        x: the rows.
        state: as the layer takes it.
        masks: what was given beside the rows.

    Raises:
        ValueError: lengths or a mask were given: the rows bring their own.
    """
    if any(mask is not None for mask in masks):
        name = layer._get_name()  # type: ignore[no-untyped-call]
        raise ValueError(f"{name}: packed or nested rows have their lengths; give no others")
    padded, lengths, pack = unpack(x)
    output: RNNOutput = layer.forward(layer._turn(padded), state, lengths=lengths)
    return replace(output, sequence=pack(layer._turn(output.sequence)))  # type: ignore[arg-type]

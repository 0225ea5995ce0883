"""A stack cut in time: piece t of one group of layers beside piece t + 1 of the group below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.distributed.stacks import LayerRun, Piece, Stack, pieces_of, valid_on
from lightning_rnn.functional.masks import Valid, fill_masked
from lightning_rnn.functional.scan import length_of
from lightning_rnn.layers.cell import first_tensor, map_tensors
from lightning_rnn.layers.packing import is_ragged
from lightning_rnn.layers.wrappers import moves
from lightning_rnn.types import Nest, RNNOutput


def groups_of(layers: int, groups: int) -> list[range]:
    """Layers in groups of neighbours, of which no two differ by more than one layer; the first are the larger.

    Example:
        >>> [list(group) for group in groups_of(5, 2)]
        [[0, 1, 2], [3, 4]]
    """
    size, more = divmod(layers, groups)
    ends = [i * size + min(i, more) for i in range(groups + 1)]
    return [range(a, b) for a, b in pairwise(ends)]


def wavefront(groups: int, pieces: int) -> Iterator[tuple[int, int]]:
    """``(group, piece)`` in the order of launching: those of a wave do not wait for each other.

    Example:
        >>> list(wavefront(2, 3))
        [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (1, 2)]
    """
    for wave in range(groups + pieces - 1):
        for group in range(max(0, wave - pieces + 1), min(groups, wave + 1)):
            yield group, wave - group


@dataclass
class Call:
    """One call of a stack, checked and cut.

    Attributes:
        x: input with the batch first, ``[B, T, ...]``.
        valid: which steps are real; None: all.
        pieces: of time.
        layers: the stack's, for this call.
        states: of each layer, as far as it has come.
        fresh: of each layer, the state at which its episodes start.
        all_states: of each layer and piece, where asked for.
    """

    x: Nest
    valid: Valid | None
    pieces: list[Piece]
    layers: list[LayerRun]
    states: list[Nest]
    fresh: list[Nest]
    all_states: list[list[Nest]]

    def cut(self, x: Nest) -> list[Nest]:
        """A nest of ``[B, T, ...]`` piece by piece."""
        return [map_tensors(lambda leaf, p=p: leaf[:, p.start : p.stop], x) for p in self.pieces]  # type: ignore[misc]

    def run(self, group: range, x: Nest, piece: Piece) -> tuple[Nest, Nest]:
        """A group of layers over a piece: its outputs, and that of the last step processed."""
        last: Nest = None
        for place in group:
            ran, last = self.layers[place](x, self.states[place], self.fresh[place], piece)
            self.states[place], x = ran.state, ran.outputs
            self.all_states[place].append(ran.all_states)
        return x, last


@dataclass(frozen=True)
class Arguments:
    """What a layer is called with beside its input; see :meth:`RecurrentLayer.forward`."""

    state: Nest | None = None
    lengths: Tensor | None = None
    mask: Tensor | None = None
    reset_mask: Tensor | None = None


def begin(stack: Stack, x: Nest, given: Arguments, chunks: int) -> Call:
    """Check a call and cut it.

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not.
    """
    module = stack.module
    x, mask, resets = module._turn(x), module._turn(given.mask), module._turn(given.reset_mask)
    states, fresh = stack.begin(x, given.state)
    valid = module._valid(first_tensor(x), given.lengths, mask, resets)
    steps = length_of(x)
    pieces = pieces_of(steps, 1 if stack.against_chunks() else chunks, valid, resets)
    layers = [stack.layer(place, steps) for place in range(stack.depth)]
    return Call(x, valid, pieces, layers, states, fresh, [[] for _ in layers])


def end(stack: Stack, call: Call, sequence: Nest, last: Nest | None) -> RNNOutput:
    """What the module returns.

    Args:
        stack: whose call it is.
        call: the call, run.
        sequence: outputs of the last layer.
        last: that of the last step processed; None: of ``sequence``, whose masked steps know of their piece alone.
    """
    module = stack.module
    if last is None:
        zero = module.zero_output_for_mask
        sequence = map_tensors(lambda leaf: fill_masked(leaf, call.valid, zero=zero), sequence)
        last = map_tensors(lambda leaf: leaf[:, -1].clone() if leaf.shape[1] else leaf.sum(1), sequence)
    state = stack.public(call.states)
    module._keep(state)
    kept = None
    if module.time_options.return_all_states:
        kept = module._turn(module._order(stack.public([joined(parts) for parts in call.all_states])))
    return RNNOutput(module._turn(module._order(sequence)), state, last, kept)


def joined(parts: Sequence[Nest]) -> Nest:
    """Pieces of nests of ``[B, T, ...]`` as one."""
    if len(parts) == 1:
        return parts[0]
    return pytree.tree_map(lambda *leaves: torch.cat(leaves, dim=1), *parts)


class Pipelined:
    """The forward of a stack whose layers stand on several devices, cut in time.

    Input and arguments go to the first device, the results come back to the device of the input. On CUDA devices all is
    launched by one thread in the order of :func:`wavefront`, each device works off its own queue, and autograd's thread
    of each device does the same backward; on CPU devices it runs one after the other, in that order.

    Args:
        stack: whose.
        devices: one for each group of neighbouring layers (:func:`groups_of`).
        chunks: pieces of time, at most one a step; one where the stack cannot be cut.
    """

    def __init__(self, stack: Stack, devices: Sequence[torch.device], chunks: int) -> None:
        self.stack, self.devices, self.chunks = stack, list(devices), chunks
        self.groups = groups_of(stack.depth, len(self.devices))

    def __call__(
        self,
        x: Any,
        state: Nest | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
    ) -> RNNOutput:
        """As :meth:`RecurrentLayer.forward`."""
        module = self.stack.module
        if is_ragged(x):  # it pads, and calls this
            ragged: RNNOutput = type(module).forward(
                module, x, state, lengths=lengths, mask=mask, reset_mask=reset_mask
            )
            return ragged
        home, there = first_tensor(x).device, moves(self.devices[0])
        given = Arguments(*(there(value) for value in (state, lengths, mask, reset_mask)))
        call = begin(self.stack, there(x), given, self.chunks)
        output: RNNOutput = moves(home)(end(self.stack, call, *self._run(call)))
        return output

    def step(self, x_t: Tensor, state: Nest | None = None) -> tuple[Tensor, Nest]:
        """One step ``[B, D]``, as :meth:`RecurrentLayer.step`."""
        output = self(x_t.unsqueeze(1), state)
        return output.sequence.squeeze(1), output.state

    def _run(self, call: Call) -> tuple[Nest, Nest | None]:
        """All pieces through all groups: the last group's outputs; of a lone piece that of the last step processed."""
        for group, device in zip(self.groups, self.devices, strict=True):
            for place in group:
                call.states[place], call.fresh[place] = moves(device)((call.states[place], call.fresh[place]))
        waiting = {(0, i): x for i, x in enumerate(call.cut(call.x))}
        outputs: list[Nest] = []
        for rank, i in wavefront(len(self.groups), len(call.pieces)):
            piece = call.pieces[i].to(self.devices[rank])
            x, last = call.run(self.groups[rank], waiting.pop((rank, i)), piece)
            if rank + 1 == len(self.groups):
                outputs.append(x)
            else:  # at once: a copy waits for what its two devices were given before
                waiting[rank + 1, i] = moves(self.devices[rank + 1])(x)
        call.valid = valid_on(call.valid, self.devices[-1])
        return joined(outputs), last if len(outputs) == 1 else None

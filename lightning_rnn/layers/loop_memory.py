"""The memory of the loop with a backward by hand: what forward keeps, the weights in its order, gradients under way."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnn.layers.gates import KINDS
from lightning_rnn.layers.replay import Operands, Plan
from lightning_rnn.layers.tape import Tape, known


class Buffers(NamedTuple):
    """What forward writes and backward reads, time first, see :class:`Tape`; a state has one entry more than steps.

    ``hs [T + 1, B, P]`` and ``cs``: states; ``h_seen`` and ``c_seen``: with episode starts in them, else None.
    """

    gates: Tensor
    hs: Tensor
    cs: Tensor | None
    h_seen: Tensor | None
    c_seen: Tensor | None
    inner: Tensor | None
    fresh: Tensor | None
    keep: Tensor | None
    skip: Tensor | None

    def tape(self, plan: Plan, row: Operands, emitted: Tensor | None) -> Tape:
        """As the steps see them."""
        fresh = self.hs[1:] if self.fresh is None else self.fresh
        cs = (None, None) if self.cs is None else (self.cs[:-1], self.cs[1:])
        states = self.hs.unbind(0)
        return Tape(
            plan.options,
            plan.zone,
            row.weight_hr is not None,
            row.weight_ch,
            self.gates,
            self.inner,
            fresh if emitted is None else emitted,
            fresh,
            self.hs[:-1] if self.h_seen is None else self.h_seen,
            self.hs[1:],
            cs[0] if self.c_seen is None else self.c_seen,
            cs[1],
            self.keep,
            self.skip,
            states[:-1] if self.h_seen is None else self.h_seen.unbind(0),
            states[1:],
        )


def allocate(plan: Plan, row: Operands, keep: bool, length: int) -> Buffers:
    """Memory for a run; what backward does not need has room for one step, or for one stretch of ``length`` steps."""
    batch, steps = row.x.shape[:2]
    size, width = row.weight_hh.shape[0], row.h.shape[1]
    hidden = size // KINDS[plan.kind].gates
    phi = known(plan.options.activation)

    def room(full: bool, features: int, count: int = steps) -> Tensor:
        one = row.x.new_empty(count if full else 1, batch, features)
        return one if full else one.expand(count, batch, features)

    def states(start: Tensor, full: bool) -> Tensor:
        every = room(full, start.shape[1], steps + 1)
        every[0].copy_(start)
        return every

    skip = None if row.valid is None else ~row.valid.t().unsqueeze(2)
    kept = skip
    if row.zoned is not None:
        zoned = row.zoned.transpose(0, 1)
        kept = zoned if skip is None else zoned | skip
    carries = kept is not None or bool(plan.zone)
    hs = states(row.h, True)
    cs = None if row.c is None else states(row.c, keep or plan.all_states)
    reset = row.starts is not None
    if plan.kind == "simple_rnn" and phi.of_output:
        gates = room(True, size) if carries else hs[1:]
        fresh = gates if carries else None
    else:
        gates = room(True, size, steps if keep else length)
        fresh = room(keep and row.weight_hr is not None, width) if carries else None
    inner = None if plan.kind == "simple_rnn" else room(keep and (plan.kind == "gru" or phi.of_output), hidden)
    return Buffers(
        gates,
        hs,
        cs,
        room(keep, width) if reset else None,
        room(keep, hidden) if reset and cs is not None else None,
        inner,
        fresh,
        kept,
        skip,
    )


class Matrices(NamedTuple):
    """Weights in the order of :class:`Tape`: LSTM's o comes first."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor | None
    bias_n: Tensor | None  # GRU: of the state's share of the candidate
    dropped: Tensor | None  # [T, B, G, P]

    def part(self, start: int, stop: int) -> Matrices:
        """Steps ``start`` to ``stop``."""
        return self._replace(dropped=None if self.dropped is None else self.dropped[start:stop])


def turned(tensor: Tensor, gates: int, dim: int = 0) -> Tensor:
    """The last of ``gates`` blocks goes to the front."""
    return tensor.roll(tensor.shape[dim] // gates, dim)


def matrices(plan: Plan, row: Operands) -> Matrices:
    """The weights of a call as the loop uses them."""
    ih, hh, a, b, dropped = row.weight_ih, row.weight_hh, row.bias_ih, row.bias_hh, row.dropped
    if dropped is not None:
        steps = row.x.shape[1]
        dropped = dropped.transpose(0, 1) if dropped.ndim > 3 else dropped.unsqueeze(0).expand(steps, -1, -1, -1)
    bias = None if a is None or b is None else a + b
    if plan.kind == "lstm":
        first = None if dropped is None else turned(dropped, 4, 2)
        return Matrices(turned(ih, 4), turned(hh, 4), None if bias is None else turned(bias, 4), None, first)
    if plan.kind == "gru" and plan.options.reset_after:
        cut = 2 * hh.shape[1]
        if bias is None or a is None or b is None:
            return Matrices(ih, hh, None, hh.new_zeros(hh.shape[1]), dropped)
        return Matrices(ih, hh, torch.cat([bias[:cut], a[cut:]]), b[cut:], dropped)
    return Matrices(ih, hh, bias, None, dropped)


class Work(NamedTuple):
    """Gradients on their way back; time first."""

    gates: Tensor  # of the sums, as in Grads
    hs: Tensor  # [T + 1, B, P]
    memory: Tensor | None  # [B, H]
    every_c: Tensor | None  # [T, B, H], given
    emitted: Tensor | None  # LSTM with a projection: [T, B, H], one step's
    projected: Tensor | None  # the same: [T, B, P]
    inner: Tensor | None  # GRU with the reset gate before the product: [B, H]
    starts: Tensor | None  # [T, B, 1], 1 where an episode starts
    seen: Tensor | None  # [B, P], of the state with episode starts in it
    fresh_h: Tensor | None
    fresh_c: Tensor | None

    def part(self, start: int, stop: int) -> Work:
        """Steps ``start`` to ``stop``."""
        timed = {name: getattr(self, name) for name in ("gates", "every_c", "emitted", "projected", "starts")}
        parts = {name: value[start:stop] for name, value in timed.items() if value is not None}
        return self._replace(hs=self.hs[start : stop + 1], **parts)


def start_work(plan: Plan, row: Operands, buffers: Buffers, given: tuple[Tensor | None, ...]) -> Work:
    """Gradients of the results ``(outputs, h, c, every c)``, where backward starts."""
    steps, batch, width = buffers.hs[1:].shape
    outputs, h, c, every_c = (*given, None, None)[:4]
    hidden = row.weight_hh.shape[0] // KINDS[plan.kind].gates
    hs = buffers.hs.new_empty(buffers.hs.shape)
    hs[0].zero_()
    if outputs is None:
        hs[1:].zero_()
    else:
        hs[1:].copy_(outputs.transpose(0, 1))
    if h is not None:
        hs[-1].add_(h)
    memory = None
    if row.c is not None:
        memory = hs.new_zeros(batch, hidden) if c is None else c.clone(memory_format=torch.contiguous_format)
    four = plan.kind == "gru" and plan.options.reset_after
    reset = row.starts is not None
    return Work(
        hs[1:]
        if plan.kind == "simple_rnn"
        else hs.new_empty(steps, batch, (3 + (plan.kind == "lstm" or four)) * hidden),
        hs,
        memory,
        None if every_c is None else every_c.transpose(0, 1),
        None if row.weight_hr is None else hs.new_empty(1, batch, hidden).expand(steps, -1, -1),
        None if row.weight_hr is None else hs.new_empty(steps, batch, width),
        hs.new_empty(batch, hidden) if plan.kind == "gru" and not four else None,
        None if row.starts is None else row.starts.t().unsqueeze(2).to(hs.dtype),
        hs.new_empty(batch, width) if reset else None,
        torch.zeros_like(row.h) if reset else None,
        torch.zeros_like(row.c) if reset and row.c is not None else None,
    )

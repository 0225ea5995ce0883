"""What the steps of a run read and write, and the gradients of a stretch of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightning_rnn.functional import StepOptions
from lightning_rnn.functional.options import Activation, Derivative, derivative

Step = Callable[[int], object]
Steps = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Tape:
    """What the steps of a run read and write, time first; a tensor that is not kept is one step's, seen at each.

    Attributes:
        options: variants of the step.
        zone: share of the old output that is kept, in eval mode.
        projected: whether a projection stands between ``emitted`` and ``fresh``.
        peephole: ``[3, H]`` for i, f, o.
        gates: sums of both shares, replaced by their activation where the derivative follows from that,
            ``[T, B, G*H]``; SimpleRNN: one; GRU: r, z, n; LSTM: o, i, f, g.
        inner: ``[T, B, H]``. LSTM: the memory after its activation; GRU: the state's share of n; with the reset gate
            before the product: ``r * h``.
        emitted: what the equation gives as output, before a projection or anything kept, ``[T, B, H]``.
        fresh: the output before anything is kept, ``[T, B, P]``.
        h_old: the state that a step sees, ``[T, B, P]``.
        h_new: the state that it leaves, ``[T, B, P]``.
        c_old: LSTM: the memory that a step sees, ``[T, B, H]``.
        c_new: LSTM: the memory that it leaves, ``[T, B, H]``.
        keep: where the output keeps its old value, bool ``[T, B, 1 or P]``; None: nowhere.
        skip: masked steps, bool ``[T, B, 1]``; None: none.
        olds: ``h_old``, step by step: ``[B, P]`` each.
        news: ``h_new``, step by step.
    """

    options: StepOptions
    zone: float
    projected: bool
    peephole: Tensor | None
    gates: Tensor
    inner: Tensor | None
    emitted: Tensor
    fresh: Tensor
    h_old: Tensor
    h_new: Tensor
    c_old: Tensor | None = None
    c_new: Tensor | None = None
    keep: Tensor | None = None
    skip: Tensor | None = None
    olds: Steps = ()
    news: Steps = ()

    def part(self, start: int, stop: int) -> Self:
        """Steps ``start`` to ``stop``."""
        return replace(
            self, **{name: value[start:stop] for name in TIMED if (value := getattr(self, name)) is not None}
        )


TIMED = tuple(f.name for f in fields(Tape) if f.name not in ("options", "zone", "projected", "peephole"))


@dataclass(frozen=True, eq=False)
class Grads:
    """Gradients of a stretch of steps.

    Attributes:
        gates: out, of the sums ``[K, B, G*H]``; GRU: of the state's share of n, of r, z, and the input's share of n.
        emitted: in, ``[K, B, H]``.
        d: the same, step by step: ``[B, H]`` each.
        into: what is added to: of the state that each step saw, ``[B, P]`` each.
        memory: LSTM: in and out, of the memory, ``[B, H]``.
        inner: GRU with the reset gate before the product: in, of ``r * h``, ``[B, H]``.
    """

    gates: Tensor
    emitted: Tensor
    d: Steps
    into: Steps
    memory: Tensor | None = None
    inner: Tensor | None = None


class Pair(NamedTuple):
    """One step's pointwise work and its gradient."""

    forward: Callable[[Tape], Step]
    backward: Callable[[Tape, Grads], Step]


def known(name: Activation) -> Derivative:
    """The activation with its derivative; that there is one was checked when the engine was chosen."""
    found = derivative(name)
    if found is None:
        raise ValueError(f"the activation {name!r} has no derivative by hand; engine='scan' runs it")
    return found


def there(tensor: Tensor | None) -> Tensor:
    """A tensor that a cell of this kind has."""
    if tensor is None:
        raise TypeError("a cell of this kind needs the tensor")
    return tensor


def blocks(tensor: Tensor, count: int) -> Tensor:
    """``[..., n * H]`` as ``[..., n, H]``."""
    return tensor.view(*tensor.shape[:-1], count, -1)


def value(kept: Tensor, how: Derivative) -> Tensor:
    """The activation, from what was kept of it."""
    return kept if how.of_output else how.write(kept, torch.empty_like(kept))


def share_kept(tape: Tape) -> Tensor | None:
    """Share of the old output in the new one, ``[K, B or 1, P or 1]``; None where there is none."""
    steps = tape.h_new.shape[0]
    if tape.keep is None:
        return tape.h_new.new_full((1, 1, 1), tape.zone).expand(steps, 1, 1) if tape.zone else None
    share = tape.keep.to(tape.h_new.dtype)
    return share + tape.zone * (1 - share) if tape.zone else share


def carry(tape: Tape) -> Step | None:
    """Units and rows that keep their output; None where all are new, and ``fresh`` is ``h_new`` itself."""
    old, new, zone = tape.olds, tape.news, tape.zone
    if tape.keep is None and not zone:
        return None
    fresh = tape.fresh.unbind(0)
    if tape.keep is None:
        return lambda j: torch.lerp(fresh[j], old[j], zone, out=new[j])
    keep = tape.keep.unbind(0)
    if not zone:
        return lambda j: torch.where(keep[j], old[j], fresh[j], out=new[j])
    return lambda j: torch.where(keep[j], old[j], torch.lerp(fresh[j], old[j], zone), out=new[j])


def made(tape: Tape) -> Steps:
    """``emitted``, step by step."""
    return tape.news if tape.emitted.data_ptr() == tape.h_new.data_ptr() else tape.emitted.unbind(0)

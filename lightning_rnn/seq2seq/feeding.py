"""Inputs of a step of which one part is known for all steps beforehand and another is fed back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.gates import Gates
from lightning_rnn.types import Nest


class Feeder(Protocol):
    """What a cell is given for ``[x; fed]``, in two parts."""

    def project(self, x: Nest) -> Nest:
        """The part of x, for one step ``[B, D]`` or all of them ``[B, T, D]``."""
        ...

    def join(self, projected: Nest, fed: Tensor) -> Nest:
        """What the cell's ``step`` takes."""
        ...


@dataclass(frozen=True, eq=False)
class Alone:
    """A cell that sees x alone."""

    inner: Stepper

    def project(self, x: Nest) -> Nest:
        return self.inner.project(x)

    def join(self, projected: Nest, fed: Tensor) -> Nest:
        return projected


@dataclass(frozen=True, eq=False)
class Made:
    """A cell that sees a function of both."""

    inner: Stepper
    function: Callable[[Tensor, Tensor], Tensor]

    def project(self, x: Nest) -> Nest:
        return x

    def join(self, projected: Nest, fed: Tensor) -> Nest:
        return self.inner.project(self.function(projected, fed))


@dataclass(frozen=True, eq=False)
class Joined:
    """Any cell: x and what is fed are joined at each step."""

    inner: Stepper

    def project(self, x: Nest) -> Nest:
        return x

    def join(self, projected: Nest, fed: Tensor) -> Nest:
        return self.inner.project(torch.cat([projected, fed], -1))


@dataclass(frozen=True, eq=False)
class Split:
    """Gates that are linear in their input: the product with x is taken for all steps at once.

    Attributes:
        gates: the cell.
        known: columns of ``weight_ih`` for x.
        fed: those for what is fed, turned; cut once a call, so that their gradient is gathered once.
    """

    gates: Gates
    known: Tensor
    fed: Tensor

    def project(self, x: Tensor) -> Nest:
        projected = F.linear(x, self.known, self.gates.weights.bias_ih)
        return self.gates.accompany(projected, self.gates.draw(x))

    def join(self, projected: Nest, fed: Tensor) -> Nest:
        if isinstance(projected, dict):
            return {**projected, "x": torch.addmm(projected["x"], fed, self.fed)}
        return torch.addmm(projected, fed, self.fed)


def feeder(first: Stepper, size: int) -> Feeder:
    """The faster of the two that fits a cell made ready for a call; ``size`` are the features of x."""
    if not isinstance(first, Gates) or first.options.layer_norm != "none":
        return Joined(first)
    noisy = first.dropped_input is not None or first.drop_input_each
    if noisy:
        return Joined(first)
    weight = first.weights.weight_ih
    return Split(first, weight[:, :size], weight[:, size:].t())

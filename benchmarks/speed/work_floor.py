"""The floor: a layer's own matrix products and nothing else, into memory that is there already."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from speed.cases import GATES, Case


@dataclass
class _Layer:
    """Operands and results of one layer, time first: a step's rows lie together."""

    x: Tensor  # [T, B, D]
    h: Tensor  # [T, B, H]
    gates: Tensor  # [T, B, G*H]
    weight_ih: Tensor  # [G*H, D]
    weight_hh: Tensor  # [G*H, H]
    recurrent: Tensor  # [B, G*H]
    dh: Tensor  # [B, H]
    dx: Tensor  # [T*B, D]
    grad_ih: Tensor
    grad_hh: Tensor

    def forward(self) -> None:
        """All inputs at once, then one product a step."""
        torch.mm(self.x.flatten(0, 1), self.weight_ih.t(), out=self.gates.flatten(0, 1))
        for h in self.h:
            torch.mm(h, self.weight_hh.t(), out=self.recurrent)

    def backward(self, below: bool) -> None:
        """One product a step, the weights' gradients as one product each; the input's where a layer lies below."""
        for dg in self.gates:
            torch.mm(dg, self.weight_hh, out=self.dh)
        flat = self.gates.flatten(0, 1)
        torch.mm(flat.t(), self.x.flatten(0, 1), out=self.grad_ih)
        torch.mm(flat.t(), self.h.flatten(0, 1), out=self.grad_hh)
        if below:
            torch.mm(flat, self.weight_ih, out=self.dx)


class Floor:
    """The products of a plain layer at a case's shape."""

    engine = "torch.mm"

    def __init__(self, case: Case) -> None:
        if case.option != "plain":
            raise ValueError(f"the floor is that of a plain layer, not of {case.option}")
        torch.manual_seed(0)
        self.training = case.mode == "training"
        dtype = torch.bfloat16 if case.dtype != "float32" else torch.float32
        size = case.shape
        widths = [size.inputs, *[size.hidden] * (size.layers - 1)]
        self.layers = [self._layer(case, width, dtype) for width in widths]

    @staticmethod
    def _layer(case: Case, width: int, dtype: torch.dtype) -> _Layer:
        size, rows = case.shape, GATES[case.cell] * case.shape.hidden
        steps, batch, hidden = size.steps, size.batch, size.hidden

        def filled(*shape: int) -> Tensor:
            return torch.randn(*shape).to(dtype)

        return _Layer(
            x=filled(steps, batch, width),
            h=filled(steps, batch, hidden),
            gates=filled(steps, batch, rows),
            weight_ih=filled(rows, width),
            weight_hh=filled(rows, hidden),
            recurrent=filled(batch, rows),
            dh=filled(batch, hidden),
            dx=filled(steps * batch, width),
            grad_ih=filled(rows, width),
            grad_hh=filled(rows, hidden),
        )

    @torch.inference_mode()
    def step(self) -> None:
        """The timed part."""
        for layer in self.layers:
            layer.forward()
        if self.training:
            for i, layer in reversed(list(enumerate(self.layers))):
                layer.backward(below=i > 0)

    def save(self, path: str) -> None:
        """There is nothing to compare."""

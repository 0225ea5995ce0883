"""Our layers, ``torch.nn`` and the floor, as work for a worker process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from speed.arrays import MASKED, inputs, lengths, valid
from speed.cases import Case
from speed.worker import Work

TORCH = {"lstm": nn.LSTM, "gru": nn.GRU, "simple_rnn": nn.RNN}


def builder(name: str) -> Callable[[Case], Work]:
    """How the worker of that name makes a case ready; the process gets its settings here."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if name != "torch":
        from lightning_rnn.runtime import tune_cpu

        print(tune_cpu())
    if name == "floor":
        from speed.work_floor import Floor

        return Floor
    if name == "ours":
        from speed.work_ours import Ours

        return Ours
    return Torch


def tensors(case: Case) -> tuple[Tensor, Tensor]:
    """``x`` and the gradient of the outputs, in the dtype of the weights."""
    dtype = torch.bfloat16 if case.dtype == "bfloat16" else torch.float32
    x, v = inputs(case)
    return torch.from_numpy(x).to(dtype), torch.from_numpy(v).to(dtype)


def torch_layer(case: Case) -> nn.RNNBase:
    """The ``torch.nn`` module of a case: the same weights in every process."""
    torch.manual_seed(0)
    size = case.shape
    both = case.option == "bidirectional"
    layer = TORCH[case.cell](size.inputs, size.hidden, size.layers, batch_first=True, bidirectional=both)
    assert isinstance(layer, nn.RNNBase)
    return layer.train(case.mode == "training")


class LayerWork:
    """Forward, and backward where the case asks; a subclass gives ``run``."""

    engine = "torch.nn"

    def __init__(self, case: Case, layer: nn.Module) -> None:
        self.case, self.layer = case, layer
        self.x, self.v = tensors(case)

    def run(self) -> Tensor:
        """Outputs ``[B, T, H]``."""
        raise NotImplementedError

    def step(self) -> None:
        """The timed part."""
        self._step()

    def _step(self) -> Tensor:
        narrow = self.case.dtype == "autocast"
        cast = torch.autocast("cpu", torch.bfloat16) if narrow else contextlib.nullcontext()
        if self.case.mode == "inference":
            with torch.inference_mode(), cast:
                return self.run()
        for parameter in self.layer.parameters():
            parameter.grad = None
        with cast:
            y = self.run()
        torch.autograd.backward(y, self.v.to(y.dtype))
        return y

    def numbers(self) -> dict[str, Any]:
        """Outputs where they count, and gradients by the parameter's name."""
        y = self._step().detach().float()
        if self.case.option in MASKED:
            y = y * torch.from_numpy(valid(self.case))[:, :, None]
        grads = {name: p.grad.float().numpy() for name, p in self.layer.named_parameters() if p.grad is not None}
        return {"output": y.numpy(), **grads}

    def save(self, path: str) -> None:
        """The numbers, as a file."""
        np.savez(path, **self.numbers())


class Torch(LayerWork):
    """``torch.nn`` as a user has it; with lengths: packed."""

    def __init__(self, case: Case) -> None:
        if case.option not in ("plain", "bidirectional", "lengths"):
            raise ValueError(f"torch.nn has no {case.option}")
        super().__init__(case, torch_layer(case))
        self.lengths = torch.from_numpy(lengths(case)) if case.option == "lengths" else None

    def run(self) -> Tensor:
        """Outputs ``[B, T, H]``."""
        if self.lengths is None:
            output: Tensor = self.layer(self.x)[0]
            return output
        packed = pack_padded_sequence(self.x, self.lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.layer(packed)[0], batch_first=True, total_length=self.x.shape[1])[0]

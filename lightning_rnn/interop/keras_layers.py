"""What stands around recurrent layers in Keras models, with Keras' semantics: sizes from the first input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from lightning_rnn.functional.options import activation
from lightning_rnn.types import RNNOutput


class Sized(nn.Module, ABC):
    """Parameters are made when the size of the input, its last axis, is known."""

    def build(self, size: int) -> None:
        """Make the parameters, once."""
        if not list(self.parameters()):
            self.create(size)

    @abstractmethod
    def create(self, size: int) -> None:
        """Register the parameters."""


class Dense(Sized):
    """``activation(x W + b)`` over the last axis."""

    def __init__(self, units: int, bias: bool, name: str) -> None:
        super().__init__()
        self.units, self.use_bias, self.activation = units, bias, activation(name)

    def create(self, size: int) -> None:
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.units, size)))
        self.bias = nn.Parameter(torch.zeros(self.units)) if self.use_bias else None

    def forward(self, x: Tensor) -> Tensor:
        self.build(x.shape[-1])
        return self.activation(F.linear(x, self.weight, self.bias))


class Activate(nn.Module):
    """An activation by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = activation(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Normalize(Sized):
    """What the two normalizations over the last axis share: a gain and an offset, each if wanted."""

    def __init__(self, eps: float, scale: bool, center: bool) -> None:
        super().__init__()
        self.eps, self.scale, self.center, self.size = eps, scale, center, 0

    def build(self, size: int) -> None:
        if not self.size:
            self.size = size
            self.create(size)

    def create(self, size: int) -> None:
        self.weight = nn.Parameter(torch.ones(size)) if self.scale else None
        self.bias = nn.Parameter(torch.zeros(size)) if self.center else None


class BatchNorm(Normalize):
    """Batch normalization over the last axis; Keras' momentum is the share kept, its variance the biased one."""

    def __init__(self, eps: float, momentum: float, scale: bool, center: bool) -> None:
        super().__init__(eps, scale, center)
        self.momentum = momentum

    def create(self, size: int) -> None:
        super().create(size)
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Masked steps do not count in the moments."""
        self.build(x.shape[-1])
        mean, var = self.running_mean, self.running_var
        assert isinstance(mean, Tensor) and isinstance(var, Tensor)
        if self.training:
            rows = x.flatten(0, -2) if mask is None else x[mask]
            batch_mean, batch_var = rows.mean(0), rows.var(0, unbiased=False)
            with torch.no_grad():
                mean.lerp_(batch_mean.to(mean), 1 - self.momentum)
                var.lerp_(batch_var.to(var), 1 - self.momentum)
            mean, var = batch_mean, batch_var
        x = (x - mean) * torch.rsqrt(var + self.eps)
        x = x if self.weight is None else x * self.weight
        return x if self.bias is None else x + self.bias


class LayerNorm(Normalize):
    """Layer normalization over the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        self.build(x.shape[-1])
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class Repeat(nn.Module):
    """``[B, D]`` → ``[B, n, D]``."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1).expand(-1, self.n, -1)


class ChannelsLast(nn.Module):
    """A convolutional recurrent layer whose inputs, outputs and states have their channels last, Keras' default."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: Any = None, **options: Any) -> RNNOutput:
        """As the layer's own, ``x [B, T, *spatial, C]``."""
        if state is not None:
            state = pytree.tree_map(lambda leaf: leaf.movedim(-1, 1), state)
        ran = self.layer(x.movedim(-1, 2), state, **options)
        outputs = pytree.tree_map(lambda leaf: leaf.movedim(2, -1), ran.sequence)
        final, last = pytree.tree_map(lambda leaf: leaf.movedim(1, -1), (ran.state, ran.last))
        return RNNOutput(outputs, final, last)


class Output(nn.Module):
    """What a Keras layer gives of a recurrent layer's output: that of all steps, or the last."""

    def __init__(self, layer: nn.Module, sequences: bool) -> None:
        super().__init__()
        self.layer, self.sequences = layer, sequences

    def forward(self, x: Tensor) -> Tensor:
        ran: RNNOutput = self.layer(x)
        return ran.sequence if self.sequences else ran.last

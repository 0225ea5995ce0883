"""The winner's network, and his published weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn import RNN
from lightning_rnn.data.arrays import read_arrays
from lightning_rnn.errors import DataError
from lightning_rnn.functional import sequence_mask
from lightning_rnn.functional.masks import masked_mean
from lightning_rnn.layers import Bidirectional
from lightning_rnn.layers.gated_cells import MatrixCell
from lightning_rnn.types import Nest

SLOPE = 0.15  # of the leaky rectifiers
CLIP = 1.0  # of the gradient within the recurrence
ENDS = (38, 64)  # arrays of version 2 and of version 1
PER_STACK = 12


class _ClipGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        return grad.clamp(-CLIP, CLIP)


def clip_gradient(x: Tensor) -> Tensor:
    """``x`` as it is, whose gradient is cut to ±1 where it comes back through here.

    Example:
        >>> x = torch.zeros(3, requires_grad=True)
        >>> (clip_gradient(x) * torch.tensor([0.5, 7.0, -7.0])).sum().backward()
        >>> x.grad
        tensor([ 0.5000,  1.0000, -1.0000])
    """
    clipped: Tensor = _ClipGradient.apply(x)  # type: ignore[no-untyped-call]  # torch's is not typed
    return clipped


def leaky(x: Tensor) -> Tensor:
    """The winner's unit: ``x`` where positive, else 0.15 x."""
    return F.leaky_relu(x, SLOPE)


class LeakyCell(MatrixCell):
    r"""The winner's recurrence, :math:`h' = \mathrm{leaky}(W x + b + U h)`, from a learned :math:`h_0`.

    The gradient of the sum is clipped to ±1 at every step, as Lasagne's ``grad_clipping`` does.

    Args:
        input_size: features of the input.
        hidden_size: units.

    Example:
        >>> output, h = LeakyCell(3, 5)(torch.zeros(2, 3))
        >>> h.shape
        torch.Size([2, 5])
    """

    gates = 1
    h0: nn.Parameter

    def __init__(self, input_size: int | None, hidden_size: int) -> None:
        super().__init__(hidden_size, bias=True)
        self.build(input_size)

    def parameter_shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        return super().parameter_shapes(input_size) | {"h0": (self.hidden_size,)}

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights anew; the initial state starts at 0."""
        super().reset_parameters()
        nn.init.zeros_(self.h0)

    def initial_state(self, batch: int) -> Nest:
        return self.h0.expand(batch, -1)

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, Tensor]:
        h = leaky(clip_gradient(projected + F.linear(state, self.weight_hh)))
        return h, h


class BidirectionalStack(nn.Module):
    """Two directions of :class:`LeakyCell`, each followed by a dense layer of its own, summed.

    Args:
        input_size: features of the input.
        hidden_size: units of each recurrence and each dense layer.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.rnn = Bidirectional(RNN(LeakyCell(input_size, hidden_size)), merge_mode=None)
        self.dense = nn.ModuleList([nn.Linear(hidden_size, hidden_size) for _ in range(2)])

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x [B, T, D]`` → ``[B, T, H]``."""
        forward, backward = self.rnn(x, lengths=lengths).sequence
        return leaky(self.dense[0](forward)) + leaky(self.dense[1](backward))


class Winner(nn.Module):
    """Aaron Sim's network, first place of "How Much Did It Rain? II": both directions stacked, a unit per step, mean.

    Version 1 has sizes 64, 128, 256, 128, 64 after a linear layer to 12 features, version 2 three times 120.

    Args:
        input_size: features of the input.
        sizes: units of each stack.
        projection: features of a linear layer before them; 0: none.

    Example:
        >>> v1 = Winner(22, [64, 128, 256, 128, 64], projection=12)
        >>> sum(parameter.numel() for parameter in v1.parameters())
        595541
    """

    def __init__(self, input_size: int, sizes: Sequence[int], projection: int = 0) -> None:
        super().__init__()
        self.projection = nn.Linear(input_size, projection) if projection else nn.Identity()
        widths = [projection or input_size, *sizes]
        self.stacks = nn.ModuleList(BidirectionalStack(a, b) for a, b in zip(widths, sizes, strict=False))
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x [B, T, D]`` → ``[B]``."""
        x = self.projection(x)
        for stack in self.stacks:
            x = stack(x, lengths)
        mask = None if lengths is None else sequence_mask(lengths, x.shape[1])
        return masked_mean(leaky(self.head(x)), mask).squeeze(1)


def load_winner(path: Path) -> Winner:
    """The network of a file of weights, as Lasagne orders them: ``p00``, ``p01`` ...

    First, in version 1, the linear layer's matrix and bias; then for each stack, forward and backward, ``h0``, input
    matrix, bias, recurrent matrix, dense matrix and bias; last the output unit's matrix and bias. Matrices are
    ``[in, out]``. The scans go in as they are: not scaled, 0 for NaN, stretched to 19 steps by
    :func:`tasks.rainfall.augment.drop_in`.

    Args:
        path: of the ``.npz`` file.

    Raises:
        DataError: the file cannot be read, or holds other arrays.
    """
    arrays = _arrays(path)
    first = 0 if arrays[0].shape[0] == 1 else 2
    sizes = [len(array) for array in arrays[first + 2 : -2 : PER_STACK]]
    width = arrays[0].shape[0] if first else arrays[1].shape[0]
    network = Winner(width, sizes, projection=len(arrays[1]) if first else 0)
    with torch.no_grad():
        for (name, parameter), array in zip(_in_order(network), arrays, strict=True):
            value = torch.from_numpy(array)
            value = value.T if parameter.ndim == 2 else value.reshape(-1)
            if value.shape != parameter.shape:
                raise DataError(f"{path}: the weights of {name} are {list(array.shape)}: give the winner's file whole")
            parameter.copy_(value)
    return network


def _arrays(path: Path) -> list[npt.NDArray[np.float32]]:
    found = read_arrays(path, ["p00"], [f"p{i:02d}" for i in range(1, max(ENDS) + 1)])
    arrays = [found[name] for name in sorted(found)]
    if len(arrays) not in ENDS:
        raise DataError(f"{path} holds {len(arrays)} arrays of weights, not 64 (v1) or 38 (v2): give the winner's file")
    return arrays


def _in_order(network: Winner) -> Iterator[tuple[str, Tensor]]:
    """The parameters in Lasagne's order."""
    if isinstance(network.projection, nn.Linear):
        yield from _linear("the linear layer", network.projection)
    for number, stack in enumerate(network.stacks, 1):
        assert isinstance(stack, BidirectionalStack)
        for layer, dense in zip((stack.rnn.layer, stack.rnn.backward_layer), stack.dense, strict=True):
            cell, name = layer.cell, f"stack {number}"
            assert isinstance(cell, LeakyCell) and cell.bias_ih is not None and isinstance(dense, nn.Linear)
            yield from ((name, p) for p in (cell.h0, cell.weight_ih, cell.bias_ih, cell.weight_hh))
            yield from _linear(name, dense)
    yield from _linear("the output unit", network.head)


def _linear(name: str, layer: nn.Linear) -> Iterator[tuple[str, Tensor]]:
    yield name, layer.weight
    yield name, layer.bias

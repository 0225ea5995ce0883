"""How many floating-point operations a forward pass takes, and how many a second a device does in matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lightning_rnn.functional import Weights
from lightning_rnn.layers.cells import GateCell
from lightning_rnn.layers.gates import collect
from lightning_rnn.layers.recurrent import RecurrentLayer
from lightning_rnn.layers.rnn import RNN

TRAINING = 3  # forward, the gradient of the inputs and the gradient of the weights: each as many as the forward pass
SIZES = {"cuda": 4096}  # of the matrices multiplied for a device's speed; 512 elsewhere


def recurrent_flops(weights: Weights, places: int) -> int:
    """Operations of one layer and direction, forward: ``2 B T (G H D + G H P + P H)``.

    A multiplication and an addition for each element of ``weight_ih [GH, D]``, ``weight_hh [GH, P]`` and, with a
    projection, ``weight_hr [P, H]``, at each of the ``B T`` places; ``G`` gates, ``P = H`` without a projection. What
    is done to single elements is not counted, as elsewhere.

    Example:
        >>> from lightning_rnn import LSTM
        >>> recurrent_flops(collect(LSTM(3, 5), "_l0"), places=10)  # 2 * 10 * (20 * 3 + 20 * 5)
        3200
    """
    matrices = (weights.weight_ih, weights.weight_hh, weights.weight_hr)
    return 2 * places * sum(matrix.numel() for matrix in matrices if matrix is not None)


def layer_flops(layer: nn.Module, places: int) -> int | None:
    """Operations of SimpleRNN, LSTM, GRU or an :class:`RNN` of one of their cells; None for any other layer.

    These are the layers that kernels run which no counter of operations sees into.

    Args:
        layer: built, its parameters are there.
        places: ``B T``, padding included.
    """
    if isinstance(layer, RecurrentLayer):
        ends = ("", "_reverse") if layer.bidirectional else ("",)
        each = [collect(layer, f"_l{i}{end}") for i in range(layer.num_layers) for end in ends]
    elif isinstance(layer, RNN) and isinstance(layer.cell, GateCell):
        each = [collect(layer.cell)]
    else:
        return None
    return sum(recurrent_flops(weights, places) for weights in each)


def places_of(x: Any) -> int:
    """``B T`` of a layer's input ``[B, T, ...]``; the valid steps alone where it is packed or a nested tensor."""
    if isinstance(x, PackedSequence):
        return x.data.shape[0]
    first, second = (x.values().shape[0], 1) if x.is_nested else x.shape[:2]
    return int(first * second)


class FlopCount(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts the operations of products and convolutions as they run; ``total`` so far."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total, self.paused = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        count: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if count is not None and not self.paused:
            self.total += count(*args, **(kwargs or {}), out_val=output)
        return output

    def enter_layer(self, layer: nn.Module, args: Any) -> None:
        """Before a recurrent layer: from here on nothing is counted by operation."""
        self.paused += 1

    def leave_layer(self, layer: nn.Module, args: Any, output: Any) -> None:
        """After it: its operations by formula."""
        self.paused -= 1
        if not self.paused:
            self.total += layer_flops(layer, places_of(args[0])) or 0


@contextmanager
def counting(network: nn.Module) -> Iterator[FlopCount]:
    """Count the operations of what runs inside, recurrent layers of ``network`` by formula.

    As :class:`torch.utils.flop_counter.FlopCounterMode`, but that sees nothing of fused kernels. What is computed does
    not change.

    Example:
        >>> from lightning_rnn import GRU
        >>> network = nn.Sequential(GRU(3, 5))
        >>> with counting(network) as count:
        ...     _ = network(torch.zeros(2, 7, 3))
        >>> count.total == 2 * 14 * (15 * 3 + 15 * 5)
        True
    """
    count = FlopCount()
    with ExitStack() as stack:
        for layer in network.modules():
            if isinstance(layer, RecurrentLayer) or (isinstance(layer, RNN) and isinstance(layer.cell, GateCell)):
                stack.enter_context(_handle(layer.register_forward_pre_hook(count.enter_layer)))
                stack.enter_context(_handle(layer.register_forward_hook(count.leave_layer)))
        yield stack.enter_context(count)


@contextmanager
def _handle(handle: Any) -> Iterator[None]:
    """A hook that is removed at the end (torch's own handles may be entered, but that does not remove them)."""
    try:
        yield
    finally:
        handle.remove()


def product_speed(device: torch.device, dtype: torch.dtype, seconds: float = 0.05) -> float:
    """Operations a second of products of square matrices on a device, the best of several turns.

    4096 x 4096 on a CUDA device, 512 x 512 elsewhere; in the precision of products that is set (TF32 or not), on as
    many threads as torch has. Draws from no global generator.

    Args:
        device: where.
        dtype: of the matrices.
        seconds: how long; at least three turns are made.

    Returns:
        FLOP/s, two operations for each multiplication and addition.

    Example:
        >>> product_speed(torch.device("cpu"), torch.float32, seconds=0.001) > 1e6
        True
    """
    size = SIZES.get(device.type, 512)
    generator = torch.Generator(device).manual_seed(0)
    a = torch.randn(size, size, generator=generator, device=device).to(dtype)
    best, turns, until = float("inf"), 0, time.perf_counter() + seconds
    with torch.no_grad():
        while turns < 3 or time.perf_counter() < until:
            best, turns = min(best, _product_seconds(a)), turns + 1
    return 2 * size**3 / best


def _product_seconds(a: Tensor) -> float:
    start = time.perf_counter()
    float((a @ a)[0, 0])  # waits for the device
    return time.perf_counter() - start

"""Layers of a network on a list of devices: what is placed where, how, and back again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_rnn.distributed.pipeline import Pipelined, groups_of
from lightning_rnn.distributed.stacks import Stack, stack_of
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.layers.bidirectional import Bidirectional
from lightning_rnn.layers.cell import Cell, ConditionalCell
from lightning_rnn.layers.recurrent import RecurrentLayer
from lightning_rnn.layers.rnn import RNN
from lightning_rnn.layers.wrapper import Around
from lightning_rnn.layers.wrappers import moves
from lightning_rnn.types import Nest

KEY = "trainer.strategy.devices"
WHOLE = "its owner runs the layers one after the other"
STEPWISE = "its owner runs all layers step by step"
CALLED: dict[type[nn.Module], tuple[str, ...]] = {  # what stands in a list of layers, and what is called of it
    RecurrentLayer: ("forward", "step", "explain", "initial_state"),
    RNN: ("forward", "explain", "initial_state"),
    Bidirectional: ("forward", "explain", "initial_state"),
    Cell: ("forward", "initial_state"),  # and bind
}


@dataclass(frozen=True)
class Placed:
    """One layer's place.

    Attributes:
        layer: its name in the network, or its stack's and its number there.
        device: where its parameters are and it runs.
        chunks: pieces of time at most, where they are cut.
        why: why time is not cut; empty where it is, or where one piece was asked for.
    """

    layer: str
    device: torch.device
    chunks: int
    why: str = ""

    def __str__(self) -> str:
        how = f"{self.chunks} pieces of time" if self.chunks > 1 else "whole" + (f": {self.why}" if self.why else "")
        return f"{self.layer} on {self.device}, {how}"


class Placement:
    """What was placed where; :meth:`undo` gives the network its own ``forward`` again.

    Attributes:
        layers: each layer's place.
    """

    def __init__(self) -> None:
        self.layers: list[Placed] = []
        self._replaced: list[tuple[nn.Module, str]] = []

    def __str__(self) -> str:
        return "\n".join(map(str, self.layers))

    def replace(self, module: nn.Module, method: str, by: Any) -> None:
        """Give one module another method, until :meth:`undo`; its class, names and ``state_dict`` stay."""
        module.__dict__[method] = by
        self._replaced.append((module, method))

    def undo(self) -> None:
        """Take back what was replaced. Parameters stay on their devices: ``network.to(device)`` gathers them."""
        for module, method in self._replaced:
            del module.__dict__[method]
        self._replaced, self.layers = [], []


class Away:
    """A method of a module on another device: arguments go there, results come back to where the first tensor was.

    Args:
        module: whose.
        method: its name.
        device: where it runs.
        home: where results go when no argument is a tensor.
    """

    def __init__(self, module: nn.Module, method: str, device: torch.device, home: torch.device) -> None:
        self.module, self.method, self.there, self.home = module, method, moves(device), home

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arguments = [*args, *kwargs.values()]
        tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(arguments) if isinstance(leaf, Tensor)]
        args, kwargs = self.there((args, kwargs))
        result = getattr(type(self.module), self.method)(self.module, *args, **kwargs)
        return moves(tensors[0].device if tensors else self.home)(result)


class AwayBind:
    """A cell's ``bind`` on another device, as :class:`~lightning_rnn.layers.DeviceWrapper` has it."""

    def __init__(self, cell: Cell, device: torch.device) -> None:
        self.cell, self.there = cell, moves(device)

    def __call__(self, x: Nest, batch: int) -> Around:
        first = next(leaf for leaf in torch.utils._pytree.tree_leaves(x) if isinstance(leaf, Tensor))
        back = moves(first.device)
        inner = type(self.cell).bind(self.cell, self.there(x), batch)
        return Around(inner, enter=self.there, leave=lambda output, _: back(output), take=self.there, keep=back)


def device_of(name: str, key: str = KEY) -> torch.device:
    """A device that is there, by its name.

    Raises:
        ConfigError: it is not, or nothing is called so.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
        >>> device_of("gpu0")
        Traceback (most recent call last):
        lightning_rnn.errors.ConfigError: trainer.strategy.devices: no device is called 'gpu0': give such as cuda:0
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{key}: no device is called {name!r}: give such as cuda:0") from error
    try:
        return torch.empty(0, device=device).device  # with the number of the one that is meant
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        count = torch.cuda.device_count()
        raise ConfigError(
            f"{key}: the device {name} is not there (this machine has {count} CUDA device{'' if count == 1 else 's'}): "
            "name others, or cpu"
        ) from error


def check(devices: Sequence[torch.device | str], chunks: int) -> list[torch.device]:
    """The devices, all of them there.

    Raises:
        ConfigError: one is not, there are none, or fewer than one piece of time.
    """
    require(bool(devices), f"{KEY} is empty: name one device for each group of layers, such as [cuda:0, cuda:1]")
    require(chunks >= 1, f"trainer.strategy.chunks must be at least 1, got {chunks}")
    return [device_of(str(device)) for device in devices]


def place(network: nn.Module, devices: Sequence[torch.device | str], chunks: int = 8) -> Placement:
    """Put the layers of every stack in a network on devices, the first layers on the first, in groups of neighbours.

    Everything else stays where it is; results come back to the device of the input. Names and shapes of the parameters
    stay, so that checkpoints load with and without. Call it before the optimizer is made.

    A SimpleRNN, LSTM or GRU of several layers and ``RNN([cell, ...])`` are cut in time (:class:`Pipelined`), unless
    they read from the end. Layers that their owner calls one after the other, such as a translator's, run whole, each
    on its device; cells that attend at each step run step by step. A stack of fewer layers than devices takes the first
    ones.

    Args:
        network: with at least one stack.
        devices: from the first layers' to the last's; one may come more than once.
        chunks: pieces of time, at most one a step.

    Raises:
        ConfigError: a device is not there, there are none or more than the longest stack has layers, fewer than one
            chunk, no stack at all, or one whose parameters are not yet made.

    Example:
        >>> from lightning_rnn import LSTM
        >>> network = LSTM(3, 5, num_layers=2)
        >>> print(place(network, ["cpu", "cpu"], chunks=4))
        layer 1 of 2 on cpu, 4 pieces of time
        layer 2 of 2 on cpu, 4 pieces of time
        >>> network(torch.zeros(2, 7, 3)).sequence.shape
        torch.Size([2, 7, 5])
    """
    there = check(devices, chunks)
    found = list(_stacks(network))
    require(bool(found), f"{KEY}: the network has no recurrent layers on top of each other to place: leave it out")
    name, longest = max(((name, _depth(one)) for name, one in found), key=lambda pair: pair[1])
    require(
        len(there) <= longest,
        f"{KEY} names {len(there)} devices, but the longest stack{f' ({name})' if name else ''} has {longest} layers: "
        f"name at most {longest}",
    )
    placement = Placement()
    for name, stack in found:
        own = there[: _depth(stack)]
        if isinstance(stack, Stack):
            _place_stack(placement, name, stack, own, chunks)
        else:
            _place_list(placement, name, stack, own)
    return placement


def _depth(stack: Stack | nn.ModuleList) -> int:
    return stack.depth if isinstance(stack, Stack) else len(stack)


def _stacks(module: nn.Module, name: str = "") -> Iterator[tuple[str, Stack | nn.ModuleList]]:
    """The stacks in a module with their names, none within another."""
    stack = stack_of(module)
    if stack is not None:
        yield name, stack
    elif isinstance(module, nn.ModuleList) and len(module) > 1 and all(map(_placeable, module)):
        yield name, module
    else:
        for child, one in module.named_children():
            yield from _stacks(one, f"{name}.{child}" if name else child)


def _placeable(module: nn.Module) -> bool:
    return isinstance(module, tuple(CALLED)) and not isinstance(module, ConditionalCell)


def _place_stack(placement: Placement, name: str, stack: Stack, devices: list[torch.device], chunks: int) -> None:
    """Layers of one module."""
    against = stack.against_chunks()
    for i, device in enumerate(_of_layers(stack.depth, devices)):
        require(bool(stack.weights(i)), f"{name}: its parameters are not made yet: give the layer its input_size")
        stack.move(i, device)
        label = f"{name} layer {i + 1} of {stack.depth}".lstrip()
        placement.layers.append(Placed(label, device, 1 if against else chunks, "; ".join(against)))
    pipelined = Pipelined(stack, devices, chunks)
    placement.replace(stack.module, "forward", pipelined)
    if isinstance(stack.module, RecurrentLayer):
        placement.replace(stack.module, "step", pipelined.step)
    for method in ("explain", "initial_state"):
        placement.replace(stack.module, method, Away(stack.module, method, devices[0], devices[0]))


def _of_layers(count: int, devices: list[torch.device]) -> list[torch.device]:
    """The device of each layer."""
    groups = groups_of(count, len(devices))
    return [device for group, device in zip(groups, devices, strict=True) for _ in group]


def _place_list(placement: Placement, name: str, layers: nn.ModuleList, devices: list[torch.device]) -> None:
    """Layers or cells that their owner calls."""
    home = devices[0]
    for i, (layer, device) in enumerate(zip(layers, _of_layers(len(layers), devices), strict=True)):
        layer.to(device)
        _send_away(placement, layer, device, home)
        if isinstance(layer, RNN) and isinstance(layer.cell, Cell):  # decoders step it by itself
            placement.replace(layer.cell, "forward", Away(layer.cell, "forward", device, home))
        why = STEPWISE if isinstance(layer, Cell) else WHOLE
        placement.layers.append(Placed(f"{name}.{i}".lstrip("."), device, 1, why))


def _send_away(placement: Placement, module: nn.Module, device: torch.device, home: torch.device) -> None:
    """Every way in which a layer's or a cell's owner calls it."""
    methods = next(names for kind, names in CALLED.items() if isinstance(module, kind))
    for method in methods:
        placement.replace(module, method, Away(module, method, device, home))
    if isinstance(module, Cell):
        placement.replace(module, "bind", AwayBind(module, device))

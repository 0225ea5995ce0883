"""From the encoder's final state to the decoder's first one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError
from lightning_rnn.functional.masks import masked_mean, sequence_mask
from lightning_rnn.seq2seq.states import by_layer, parts_of, with_parts
from lightning_rnn.types import Nest

BridgeKind = Literal["zero", "copy", "last", "mean", "dense"]


class Encoded(NamedTuple):
    """What an encoder hands on.

    Attributes:
        sequence: its outputs, ``[B, S, M]``.
        state: its final state: a tuple in layer order, of one layer the state itself; each the state of the layer or,
            where bidirectional, the pair ``(forward, backward)``. The bridges ``zero`` and ``mean`` do not look at it.
        lengths: integers ``[B]``, real steps of each row; None: all are.
    """

    sequence: Tensor
    state: Nest
    lengths: Tensor | None = None


@dataclass(frozen=True)
class EncoderSizes:
    """What a decoder must know of its encoder.

    Attributes:
        hidden_size: features of a layer's state in one direction.
        num_layers: layers whose states are handed on.
        bidirectional: whether each layer has two directions, side by side in its outputs.
    """

    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False

    @property
    def width(self) -> int:
        """Features of the outputs, and of a layer's state with its directions side by side."""
        return self.hidden_size * (2 if self.bidirectional else 1)


class Bridge(nn.Module, ABC):
    """Makes the decoder's first state.

    Args:
        sizes: of the encoder.
        template: states of the decoder's layers, of one row: shapes and structure count.
    """

    def __init__(self, sizes: EncoderSizes, template: tuple[Nest, ...]) -> None:
        super().__init__()
        self.sizes = sizes

    @abstractmethod
    def forward(self, encoded: Encoded, initial: tuple[Nest, ...]) -> tuple[Nest, ...]:
        """The states of the decoder's layers, of those that they would start with, leaves ``[B, ...]``."""


class ZeroBridge(Bridge):
    """The decoder starts with its cells' own state: zeros."""

    def forward(self, encoded: Encoded, initial: tuple[Nest, ...]) -> tuple[Nest, ...]:
        return initial


class CopyBridge(Bridge):
    """Each layer of the decoder starts where the encoder's ended, directions side by side.

    Raises:
        ConfigError: numbers of layers or features differ.
    """

    def __init__(self, sizes: EncoderSizes, template: tuple[Nest, ...]) -> None:
        super().__init__(sizes, template)
        if sizes.num_layers != len(template):
            raise ConfigError(
                f"the bridge copy needs as many layers in the encoder as in the decoder, got {sizes.num_layers} and "
                f"{len(template)}: use last or dense, or make them equal"
            )
        _need_width("copy", sizes, template)

    def forward(self, encoded: Encoded, initial: tuple[Nest, ...]) -> tuple[Nest, ...]:
        layers = by_layer(encoded.state, self.sizes.num_layers, self.sizes.bidirectional)
        return tuple(_put(state, layer) for state, layer in zip(initial, layers, strict=True))


class LastBridge(Bridge):
    """Every layer of the decoder starts where the encoder's top layer ended, directions side by side.

    Raises:
        ConfigError: numbers of features differ.
    """

    def __init__(self, sizes: EncoderSizes, template: tuple[Nest, ...]) -> None:
        super().__init__(sizes, template)
        _need_width("last", sizes, template)

    def forward(self, encoded: Encoded, initial: tuple[Nest, ...]) -> tuple[Nest, ...]:
        top = by_layer(encoded.state, self.sizes.num_layers, self.sizes.bidirectional)[-1]
        return tuple(_put(state, top) for state in initial)


class DenseBridge(Bridge):
    r""":math:`\tanh(W s + b)` for the output h and the memory c of each of the decoder's layers.

    s is the same part of the encoder's layer of that number, or of its top one where there are fewer; where it has no
    c, its h. Other parts of a state (sLSTM's normalizer) start as the cell has them.
    """

    def __init__(self, sizes: EncoderSizes, template: tuple[Nest, ...]) -> None:
        super().__init__(sizes, template)
        self.maps = _maps(sizes.width, template)

    def forward(self, encoded: Encoded, initial: tuple[Nest, ...]) -> tuple[Nest, ...]:
        layers = by_layer(encoded.state, self.sizes.num_layers, self.sizes.bidirectional)
        below = (layers[min(i, len(layers) - 1)] for i in range(len(initial)))
        sources = [{"h": parts["h"], "c": parts.get("c", parts["h"])} for parts in below]
        return _mapped(self.maps, sources, initial)


class MeanBridge(Bridge):
    r""":math:`\tanh(W \bar m + b)` for the h and the c of each of the decoder's layers, as Nematus has it.

    :math:`\bar m` is the mean of the encoder's outputs over the real steps.
    """

    def __init__(self, sizes: EncoderSizes, template: tuple[Nest, ...]) -> None:
        super().__init__(sizes, template)
        self.maps = _maps(sizes.width, template)

    def forward(self, encoded: Encoded, initial: tuple[Nest, ...]) -> tuple[Nest, ...]:
        lengths, sequence = encoded.lengths, encoded.sequence
        mean = masked_mean(sequence, None if lengths is None else sequence_mask(lengths, sequence.shape[1]))
        return _mapped(self.maps, [{"h": mean, "c": mean}] * len(initial), initial)


BRIDGES: dict[BridgeKind, type[Bridge]] = {
    "zero": ZeroBridge,
    "copy": CopyBridge,
    "last": LastBridge,
    "mean": MeanBridge,
    "dense": DenseBridge,
}


def build_bridge(kind: BridgeKind, sizes: EncoderSizes, template: tuple[Nest, ...]) -> Bridge:
    """A bridge of a kind: see the classes of :data:`BRIDGES`.

    Raises:
        ConfigError: there is no such kind, or it does not fit the sizes.

    Example:
        >>> h = torch.ones(2, 3)
        >>> bridge = build_bridge("last", EncoderSizes(3, num_layers=2), (torch.zeros(1, 3),))
        >>> bridge(Encoded(torch.zeros(2, 7, 3), (0 * h, h)), (torch.zeros(2, 3),))[0].tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    if kind not in BRIDGES:
        raise ConfigError(f"no bridge is called {kind!r}: use {', '.join(BRIDGES)}")
    return BRIDGES[kind](sizes, template)


def _need_width(kind: str, sizes: EncoderSizes, template: tuple[Nest, ...]) -> None:
    wanted = {part.shape[1] for state in template for part in parts_of(state).values()}
    if wanted != {sizes.width}:
        told = f"{sizes.width} features" + (" (two directions side by side)" if sizes.bidirectional else "")
        raise ConfigError(
            f"the bridge {kind} needs states of one size, the encoder's have {told}, the decoder's "
            f"{', '.join(str(size) for size in sorted(wanted))}: use dense, or make them equal"
        )


def _put(state: Nest, parts: dict[str, Tensor]) -> Nest:
    """A state with all of its parts taken from those of another."""
    missing = [name for name in parts_of(state) if name not in parts]
    if missing:
        raise ValueError(
            f"the decoder's state has {', '.join(missing)}, which the encoder's lacks: use the same cell in both, or "
            "the bridge dense"
        )
    return with_parts(state, {name: parts[name] for name in parts_of(state)})


def _maps(width: int, template: tuple[Nest, ...]) -> nn.ModuleList:
    """One affine map for each h and c."""
    sizes = (
        {name: part.shape[1] for name, part in parts_of(state).items() if name in ("h", "c")} for state in template
    )
    return nn.ModuleList(nn.ModuleDict({name: nn.Linear(width, size) for name, size in one.items()}) for one in sizes)


def _mapped(maps: nn.ModuleList, sources: list[dict[str, Tensor]], initial: tuple[Nest, ...]) -> tuple[Nest, ...]:
    states = []
    for layer, parts, state in zip(maps, sources, initial, strict=True):
        named = layer.items()  # type: ignore[operator]
        states.append(with_parts(state, {name: torch.tanh(linear(parts[name])) for name, linear in named}))
    return tuple(states)

"""States of recurrent layers, whatever the cell: their output, their parts by name, directions side by side."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_rnn.types import Nest


def parts_of(state: Nest) -> dict[str, Tensor]:
    """The tensors of one layer's state by their names; a lone tensor is ``h``.

    Raises:
        TypeError: it is not the state of one layer in one direction.

    Example:
        >>> from lightning_rnn.types import LSTMState
        >>> list(parts_of(LSTMState(torch.zeros(2, 3), torch.zeros(2, 3)))), list(parts_of(torch.zeros(2, 3)))
        (['h', 'c'], ['h'])
    """
    if isinstance(state, Tensor):
        return {"h": state}
    names: Any = getattr(state, "_fields", ())
    if isinstance(state, tuple) and "h" in names:
        return dict(zip(names, state, strict=True))
    raise TypeError(f"expected the state of one layer, a tensor or a named tuple with h, got {type(state).__name__}")


def with_parts(state: Nest, parts: dict[str, Tensor]) -> Nest:
    """A layer's state with some of its tensors replaced."""
    return parts["h"] if isinstance(state, Tensor) else state._replace(**parts)


def output_of(state: Nest) -> Tensor:
    """The last output ``[B, H]`` that a state holds: of layers in a tuple, the top one's.

    Example:
        >>> from lightning_rnn.types import LSTMState
        >>> low, high = torch.zeros(1, 1), torch.ones(1, 1)
        >>> output_of((low, LSTMState(high, low))).item()
        1.0
    """
    if type(state) is tuple:
        return output_of(state[-1])
    return parts_of(state)["h"]


def by_layer(state: Nest, num_layers: int, bidirectional: bool) -> list[dict[str, Tensor]]:
    """An encoder's state as the parts of each layer, features of both directions side by side.

    Args:
        state: a tuple in layer order, of one layer the state itself; each the state of the layer, or its pair
            ``(forward, backward)``.
        num_layers: how many layers.
        bidirectional: whether each has a pair.

    Raises:
        ValueError: the state is not nested so.

    Example:
        >>> h = torch.zeros(2, 3)
        >>> [{name: part.shape for name, part in layer.items()} for layer in by_layer((h, h), 1, True)]
        [{'h': torch.Size([2, 6])}]
    """
    layers = (state,) if num_layers == 1 else state
    if type(layers) is not tuple or len(layers) != num_layers:
        raise ValueError(f"the encoder's state must be a tuple of {num_layers} layers, got {_told(state)}")
    if not bidirectional:
        return [parts_of(layer) for layer in layers]
    for layer in layers:
        if type(layer) is not tuple or len(layer) != 2:
            raise ValueError(f"a bidirectional layer's state must be a pair (forward, backward), got {_told(layer)}")
    pairs = [(parts_of(forward), parts_of(backward)) for forward, backward in layers]
    return [{name: torch.cat([one[name], other[name]], 1) for name in one} for one, other in pairs]


def _told(state: Nest) -> str:
    return f"a {type(state).__name__}" + (f" of {len(state)}" if isinstance(state, tuple) else "")

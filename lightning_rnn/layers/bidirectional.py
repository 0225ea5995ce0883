"""Any layer over time, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.layers.config import Configurable
from lightning_rnn.layers.engines import EngineChoice
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.types import LSTMState, Nest, RNNOutput

Merge = Literal["concat", "sum", "mul", "ave"]
MergeMode = Merge | Callable[[Tensor, Tensor], Tensor] | None

MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
}


class Bidirectional(Configurable, nn.Module):
    """A layer from start to end beside one from end to start, merged (Schuster and Paliwal 1997; Keras' wrapper).

    The backward outputs are turned to their own time before they are merged. ``Bidirectional(LSTM(3, 5))`` computes
    what ``LSTM(3, 5, bidirectional=True)`` does; with several layers it does not, as here each direction is stacked
    for itself.

    Args:
        layer: SimpleRNN, LSTM, GRU, :class:`RNN` or any other :class:`SequenceLayer`.
        merge_mode: ``concat`` (features side by side), ``sum``, ``mul``, ``ave``, a function of the two tensors, or
            None: ``sequence`` and ``last`` are tuples ``(forward, backward)``.
        backward_layer: the layer of the other direction; None: one like ``layer`` with ``reverse=True`` and weights of
            its own.

    Raises:
        ValueError: the merge mode is unknown; ``layer`` is reversed and there is no ``backward_layer``; both run in one
            direction, or differ in ``stateful`` or ``time_major``.
        TypeError: not a layer over time; ``layer`` has no config from which to make the other.

    Example:
        >>> from lightning_rnn import GRU
        >>> output = Bidirectional(GRU(3, 5))(torch.zeros(2, 7, 3))
        >>> output.sequence.shape, output.last.shape, len(output.state)
        (torch.Size([2, 7, 10]), torch.Size([2, 10]), 2)
    """

    def __init__(
        self, layer: SequenceLayer, merge_mode: MergeMode = "concat", backward_layer: SequenceLayer | None = None
    ) -> None:
        super().__init__()
        for one in (layer, *(() if backward_layer is None else (backward_layer,))):
            if not isinstance(one, SequenceLayer):
                raise TypeError(f"Bidirectional: expected a layer over time, such as LSTM, got {type(one).__name__}")
        if merge_mode is not None and not callable(merge_mode) and merge_mode not in get_args(Merge):
            known = ", ".join(get_args(Merge))
            raise ValueError(f"Bidirectional: merge_mode must be {known}, a function or None, got {merge_mode!r}")
        self.layer, self.merge_mode, self._copied = layer, merge_mode, backward_layer is None
        self.backward_layer = _turned(layer) if backward_layer is None else backward_layer
        if self.layer.reverse == self.backward_layer.reverse:
            raise ValueError("Bidirectional: layer and backward_layer run in one direction; one must have reverse=True")
        if self.layer.stateful != self.backward_layer.stateful:
            raise ValueError("Bidirectional: layer and backward_layer must agree on stateful")
        if self.layer.time_options.time_major != self.backward_layer.time_options.time_major:
            raise ValueError("Bidirectional: layer and backward_layer must agree on time_major")

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return config | {"backward_layer": None} if self._copied else config

    @property
    def _layers(self) -> tuple[Any, Any]:
        return self.layer, self.backward_layer

    @property
    def stateful(self) -> bool:
        """Whether the final states are where the next call starts."""
        return self.layer.stateful

    @property
    def states(self) -> tuple[Nest, Nest] | None:
        """The states kept by ``stateful`` layers, ``(forward, backward)``; None before the first call."""
        forward, backward = (layer.states for layer in self._layers)
        return None if forward is None or backward is None else (forward, backward)

    @property
    def output_size(self) -> Any:
        """Features of the output, where the layers tell: their sum for ``concat``, a pair for None."""
        forward, backward = (getattr(layer, "output_size", None) for layer in self._layers)
        if self.merge_mode is None:
            return forward, backward
        if self.merge_mode != "concat":
            return forward
        return forward + backward if isinstance(forward, int) and isinstance(backward, int) else None

    def initial_state(self, batch: int) -> tuple[Nest, Nest]:
        """``(forward, backward)``, each as its layer has it."""
        return self.layer.initial_state(batch), self.backward_layer.initial_state(batch)

    def build(self, input_size: Any) -> Bidirectional:
        """Make the parameters of both layers for this size of input, once."""
        for layer in self._layers:
            layer.build(input_size)
        return self

    def reset_states(self, values: Nest | None = None, rows: Any = None) -> None:
        """Forget the kept states, or set them.

        Args:
            values: the forward state and the backward one, as a pair or flat: the first half goes to ``layer``.
            rows: indices or a bool mask of the rows to reset; None: all.

        Raises:
            ValueError: the layers are not ``stateful``, or the values do not fit.
        """
        halves: tuple[Nest, Nest] = (None, None)
        if values is not None:
            leaves = pytree.tree_leaves(values)
            if len(leaves) % 2:
                raise ValueError(f"Bidirectional: expected as many arrays for each direction, got {len(leaves)}")
            halves = leaves[: len(leaves) // 2], leaves[len(leaves) // 2 :]
        for layer, half in zip(self._layers, halves, strict=True):
            layer.reset_states(half, rows)

    def explain(
        self,
        x: Nest,
        state: tuple[Nest, Nest] | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
    ) -> EngineChoice:
        """The engine that the forward layer runs on, and why; arguments as those of ``forward``.

        Example:
            >>> from lightning_rnn import GRU
            >>> Bidirectional(GRU(3, 5, engine="scan")).explain(torch.zeros(2, 7, 3))
            EngineChoice(engine='scan', reasons=("engine='scan' was asked for",))
        """
        masks = {"lengths": lengths, "mask": mask, "reset_mask": reset_mask}
        choice: EngineChoice = self._layers[0].explain(x, _pair(state)[0], **masks)
        return choice

    def forward(
        self,
        x: Nest,
        state: tuple[Nest, Nest] | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
    ) -> RNNOutput:
        """Run over a batch; arguments and errors are the layers' own.

        Args:
            x: ``[B, T, ...]`` or a nest of such tensors, as the layers take it.
            state: ``(forward, backward)``, each as its layer has it.
            lengths: integers ``[B]``, valid steps of each row, padding on the right.
            mask: bool ``[B, T]``, True where a step is valid. Not with ``lengths``.
            reset_mask: bool ``[B, T]``, True where an episode starts.

        Returns:
            ``sequence`` merged at each time; ``last`` merged from the forward end and the backward end, which is at
            ``t = 0``; ``state`` and ``all_states`` as ``(forward, backward)``.

        Raises:
            ValueError: the state is not a pair.
        """
        forward, backward = (
            layer(x, start, lengths=lengths, mask=mask, reset_mask=reset_mask)
            for layer, start in zip(self._layers, _pair(state), strict=True)
        )
        sequences = _in_time(self.layer, forward.sequence), _in_time(self.backward_layer, backward.sequence)
        kept = None
        if forward.all_states is not None or backward.all_states is not None:
            kept = _in_time(self.layer, forward.all_states), _in_time(self.backward_layer, backward.all_states)
        return RNNOutput(
            self._merge(*sequences, axis=2),
            (forward.state, backward.state),
            self._merge(forward.last, backward.last, axis=1),
            kept,
        )

    def _merge(self, forward: Nest, backward: Nest, axis: int) -> Nest:
        """``axis`` is that of the features: the first after batch and time."""
        if self.merge_mode is None:
            return forward, backward
        if callable(self.merge_mode):
            function = self.merge_mode
        elif self.merge_mode == "concat":
            return pytree.tree_map(lambda *pair: torch.cat(pair, dim=axis), forward, backward)
        else:
            function = MERGES[self.merge_mode]
        return pytree.tree_map(function, forward, backward)


def _turned(layer: SequenceLayer) -> SequenceLayer:
    """A layer like this one in the other direction, with new weights of the same dtype on the same device."""
    if layer.reverse:
        raise ValueError("Bidirectional: layer is reversed; give the forward one, or a backward_layer beside it")
    try:
        config = layer.get_config()
    except TypeError as error:
        raise TypeError(f"Bidirectional: give a backward_layer, as {error}") from error
    other = type(layer).from_config(config | {"reverse": True})
    weight = next(layer.parameters(), None)
    if weight is not None:
        other.to(weight.device, weight.dtype)
    return other.train(layer.training)


def _in_time(layer: SequenceLayer, nest: Nest) -> Nest:
    """Outputs of a layer at their own time."""
    if not layer.reverse or layer.time_options.keep_order:
        return nest
    axis = 0 if layer.time_options.time_major else 1
    return pytree.tree_map_only(Tensor, lambda leaf: leaf.flip(axis), nest)


def _pair(state: Any) -> tuple[Nest, Nest]:
    if state is None:
        return None, None
    if isinstance(state, (Tensor, LSTMState)) or len(state) != 2:
        raise ValueError("Bidirectional: expected a pair of states (forward, backward)")
    return tuple(state)

"""A layer captured in a CUDA graph: for short sequences on a GPU, where launching kernels takes longer than they do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.types import RNNOutput


class _Flat(nn.Module):
    """A layer whose outputs are a tuple of tensors, as a graph has them."""

    def __init__(self, layer: SequenceLayer, what: str | None) -> None:
        super().__init__()
        self.layer, self.what = layer, what
        self.spec: Any = None

    def forward(self, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, ...]:
        output = self.layer(x) if self.what is None else self.layer(x, **{self.what: given})
        leaves, self.spec = pytree.tree_flatten((output.sequence, output.state, output.last))
        return tuple(leaves)


class Graphed:
    """What :func:`graphed` returns: called with tensors of the captured shapes, it replays the graph."""

    def __init__(self, flat: _Flat, run: Any, shapes: list[torch.Size]) -> None:
        self._flat, self._run, self._shapes = flat, run, shapes

    def __call__(self, x: Tensor, given: Tensor | None = None) -> RNNOutput:
        """Run over a batch; ``given`` are the lengths or the mask, whichever were captured."""
        inputs = [t for t in (x, given) if t is not None]
        shapes = [t.shape for t in inputs]
        if shapes != self._shapes:
            raise ValueError(
                f"graphed: captured for {[list(s) for s in self._shapes]}, got {[list(s) for s in shapes]}; "
                "capture another graph for another shape"
            )
        sequence, state, last = pytree.tree_unflatten(list(self._run(*inputs)), self._flat.spec)
        return RNNOutput(sequence, state, last)


def graphed(
    layer: SequenceLayer, x: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None, warmup: int = 3
) -> Graphed:
    """Capture forward and backward of a layer at fixed shapes (``torch.cuda.make_graphed_callables``).

    One launch then runs all kernels of all steps. What a call returns lies in the graph's own memory: the next call
    writes over it. A layer in training mode draws new noise at each call.

    Args:
        layer: on a GPU, not ``stateful``; its mode, training or eval, is captured too.
        x: a batch of the shape that will be used, ``[B, T, D]``; it requires a gradient if later ones do.
        lengths: integers ``[B]``, or
        mask: bool ``[B, T]``, where later calls have them too.
        warmup: calls before the capture.

    Raises:
        RuntimeError: there is no GPU.
        ValueError: the layer is stateful or ``x`` is not on a GPU, or both lengths and a mask.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("graphed: a CUDA graph needs a GPU, and torch sees none here; use the layer as it is")
    if not x.is_cuda:
        raise ValueError(f"graphed: x is on {x.device}; move the layer and x to a GPU first")
    if layer.stateful:
        raise ValueError("graphed: the layer is stateful, and a graph keeps no state between calls")
    if lengths is not None and mask is not None:
        raise ValueError("graphed: give lengths or mask, not both")
    given = mask if lengths is None else lengths
    what = None if given is None else "mask" if lengths is None else "lengths"
    samples = tuple(t.detach().clone() for t in (x, given) if t is not None)
    samples[0].requires_grad_(x.requires_grad)
    flat = _Flat(layer, what)
    capture: Any = torch.cuda.make_graphed_callables
    run = capture(flat, samples, num_warmup_iters=warmup, allow_unused_input=True)
    return Graphed(flat, run, [t.shape for t in samples])

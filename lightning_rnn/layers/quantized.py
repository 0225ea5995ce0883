r"""SimpleRNN, LSTM and GRU with int8 weights, for inference on a CPU: a quarter of the memory.

Dynamic quantization: :math:`W \approx s_W\,\hat W` with one scale for each output, fixed beforehand, and
:math:`x \approx s_x\,\hat x` with one scale for each row, taken at every product;
:math:`W x \approx s_W s_x\,(\hat W \hat x)` with the inner product in integers. Both are symmetric,
:math:`s = \max|\cdot| / 127` (Jacob et al. 2018, arXiv 1712.05877, section 2; a scale of its own for each row keeps
rows independent of each other). Gates, memory and biases stay float32.

Tensors are plain int8 and the product is ``torch._int_mm`` (oneDNN), as torchao's are: PyTorch's own quantized dtypes,
and with them ``torch.ao.quantization``, are deprecated (pytorch/pytorch#184982).
"""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from lightning_rnn.layers.engines import EngineChoice
from lightning_rnn.layers.packing import is_ragged, run_padded
from lightning_rnn.layers.quantized_cell import Equation
from lightning_rnn.layers.quantized_cell import QuantizedCell as QuantizedCell
from lightning_rnn.layers.quantized_cell import int8_linear as int8_linear
from lightning_rnn.layers.quantized_cell import quantize_rows as quantize_rows
from lightning_rnn.layers.recurrent_checks import members
from lightning_rnn.layers.recurrent_layer import RecurrentLayer
from lightning_rnn.layers.rnn import RNN
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.types import RNNOutput, State

M = TypeVar("M", bound=nn.Module)
_Equation = Equation  # its name in modules that were pickled whole


class QuantizedRNN(SequenceLayer):
    """A SimpleRNN, LSTM or GRU with int8 weights: called like it, returns what it returns.

    For inference on a CPU, in float32: there are no parameters and no gradients. Its ``state_dict`` holds plain
    tensors; it is loaded into what :func:`quantize_dynamic` makes of a layer with the same arguments.

    Args:
        layer: whose weights are rounded; it is left as it is.

    Raises:
        ValueError: the layer has an option that is not there in int8, or no weights yet.
    """

    engine = "scan"
    stateful = False

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__()
        _refuse(layer)
        self.name = f"Quantized{type(layer).__name__}"
        self.input_size, self.hidden_size, self.num_layers = layer.input_size, layer.hidden_size, layer.num_layers
        self.bidirectional, self.reverse, self.output_size = layer.bidirectional, layer.reverse, layer.output_size
        self.zero_output_for_mask, self.time_options = layer.zero_output_for_mask, layer.time_options
        time = replace(layer.time_options, keep_order=True, checkpoint=None, offload=False)
        self.layers = nn.ModuleList()
        for index in range(layer.num_layers):
            directions = nn.ModuleList()
            for side, suffix in enumerate(layer._suffixes(index)):
                equation = Equation(
                    layer.kind, layer.step_options, layer.regularization.zoneout, _skip(layer, index, side)
                )
                cell = QuantizedCell(layer, index, suffix, equation)
                backwards = layer.reverse or bool(side)
                directions.append(
                    RNN(cell, reverse=backwards, zero_output_for_mask=layer.zero_output_for_mask, time_options=time)
                )
            self.layers.append(directions)

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"{self.name} is made of a layer, not of a config: keep that of the layer, and the state_dict")

    def initial_state(self, batch: int) -> State:
        """The state of ``batch`` rows before the first step."""
        layers = [tuple(one.initial_state(batch) for one in directions) for directions in self._directions()]
        members = layers if self.bidirectional else [one for (one,) in layers]
        return tuple(members) if self.num_layers > 1 else members[0]

    def explain(
        self,
        x: Tensor | PackedSequence,
        state: State | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
    ) -> EngineChoice:
        """The engine that ``forward`` with these arguments runs on, and why."""
        if not is_ragged(x):
            self._check(x, state)  # type: ignore[arg-type]
        return EngineChoice("scan", ("int8 weights: the loop in Python over products in integers (torch._int_mm)",))

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: State | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
    ) -> RNNOutput:
        """Run over a batch; arguments and result are those of :meth:`RecurrentLayer.forward`.

        Raises:
            ValueError: a shape does not fit, a length is outside 0..T, both ``lengths`` and ``mask``; a gradient is
                wanted; ``x`` is not on the CPU.
            TypeError: ``x`` is not float32, or the wrong dtype of ``state``, ``lengths`` or ``mask``.
        """
        if is_ragged(x):
            return run_padded(self, x, state, lengths, mask, reset_mask)
        rows: Tensor = x  # type: ignore[assignment]
        self._check(rows, state)
        starts = self._starts(state)
        finals, kept = [], []
        with torch.autocast("cpu", enabled=False):
            for directions, start in zip(self._directions(), starts, strict=True):
                outputs = [
                    rnn(rows, one, lengths=lengths, mask=mask, reset_mask=reset_mask)
                    for rnn, one in zip(directions, start, strict=True)
                ]
                rows = (
                    torch.cat([one.sequence for one in outputs], dim=-1) if self.bidirectional else outputs[0].sequence
                )
                finals.append(tuple(one.state for one in outputs) if self.bidirectional else outputs[0].state)
                kept.append(tuple(one.all_states for one in outputs) if self.bidirectional else outputs[0].all_states)
        last = torch.cat([one.last for one in outputs], dim=-1)
        final, every = (tuple(one) if self.num_layers > 1 else one[0] for one in (finals, kept))
        if not self.time_options.return_all_states:
            every = None
        turned = (self._turn(self._order(self._turn(one))) for one in (rows, every))
        return RNNOutput(next(turned), final, last, next(turned))

    def _directions(self) -> list[Any]:
        return list(self.layers)

    def _check(self, x: Tensor, state: State | None) -> None:
        if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[2] != self.input_size:
            got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{self.name}: expected x of shape [B, T, {self.input_size}], got {got}")
        scale = next(self.buffers())
        if x.device.type != "cpu" or scale.device.type != "cpu":
            raise ValueError(
                f"{self.name}: int8 layers run on the CPU, x is on {x.device}, the weights on {scale.device}"
            )
        floats = {buffer.dtype for buffer in self.buffers() if buffer.is_floating_point()}
        if x.dtype != torch.float32 or floats != {torch.float32}:
            raise TypeError(
                f"{self.name}: x is {x.dtype} and scales are {floats.pop()}; both must be float32: use .float()"
            )
        leaves = [x, *(leaf for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor))]
        if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves):
            raise ValueError(f"{self.name} has no gradients: call it under torch.no_grad() or torch.inference_mode()")

    def _starts(self, state: State | None) -> list[list[State | None]]:
        """A state as ``[layer][direction]``."""
        sides = 2 if self.bidirectional else 1
        if state is None:
            return [[None] * sides for _ in range(self.num_layers)]
        layers = members(self, state, self.num_layers, "layers") if self.num_layers > 1 else (state,)
        return [list(members(self, one, sides, "directions")) if sides > 1 else [one] for one in layers]

    def _get_name(self) -> str:
        return self.name

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, int8"


def quantize_dynamic(module: M) -> M | QuantizedRNN:
    """A copy with int8 weights, for inference: of a SimpleRNN, LSTM or GRU, or of a module with all of these inside it.

    Other members (embeddings, linear layers) are copied as they are. To save and load::

        torch.save(quantize_dynamic(model).state_dict(), "int8.pt")
        model = quantize_dynamic(Model(...))  # the same arguments
        model.load_state_dict(torch.load("int8.pt"))

    Raises:
        ValueError: a layer has an option that is not there in int8 (each named), or no weights yet; there is no
            recurrent layer.

    Example:
        >>> from lightning_rnn import LSTM
        >>> layer, x = LSTM(3, 5), torch.randn(2, 7, 3)
        >>> with torch.inference_mode():
        ...     error = (quantize_dynamic(layer)(x).sequence - layer(x).sequence).abs().max()
        >>> bool(error < 0.02)
        True
    """
    if isinstance(module, RecurrentLayer):
        return QuantizedRNN(module)
    found = {layer: QuantizedRNN(layer) for layer in module.modules() if isinstance(layer, RecurrentLayer)}
    if not found:
        raise ValueError(f"quantize_dynamic: {type(module).__name__} has no SimpleRNN, LSTM or GRU inside")
    return copy.deepcopy(module, {id(layer): quantized for layer, quantized in found.items()})


def _skip(layer: RecurrentLayer, index: int, direction: int) -> slice | None:
    """The features that a residual layer adds to the outputs of one direction."""
    width = layer.output_size
    if not layer.residual or (index == 0 and layer.input_size != width):
        return None
    half = width // layer._directions
    return slice(direction * half, (direction + 1) * half)


def _refuse(layer: RecurrentLayer) -> None:
    """Name what int8 layers have not.

    Raises:
        ValueError: there is such an option, or there are no weights yet.
    """
    if layer.input_size is None:
        raise ValueError(
            f"quantize_dynamic: {type(layer).__name__} has no weights yet: call build(input_size), or it once, before"
        )
    there = [
        f"{field.name}={getattr(layer.step_options, field.name)!r}"
        for field in fields(layer.step_options)
        if field.name not in ("activation", "recurrent_activation", "layer_norm_eps")
        and getattr(layer.step_options, field.name) != field.default
    ]
    there += ["proj_size"] * bool(layer.proj_size) + ["stateful=True"] * layer.stateful
    if there:
        raise ValueError(f"quantize_dynamic: {type(layer).__name__} in int8 has no {', '.join(there)}")

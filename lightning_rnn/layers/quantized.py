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
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from lightning_rnn.functional import StepOptions
from lightning_rnn.functional.options import activation
from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cell import Cell
from lightning_rnn.layers.engines import EngineChoice
from lightning_rnn.layers.gates import collect
from lightning_rnn.layers.packing import is_ragged, unpack
from lightning_rnn.layers.recurrent import RecurrentLayer, members
from lightning_rnn.layers.rnn import RNN
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.types import LSTMState, Nest, RNNOutput, State

_LEVELS = 127
_TINY = 1e-30  # the scale of a row of zeros
M = TypeVar("M", bound=nn.Module)


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(rounded, scale)`` with ``x ≈ rounded * scale``: int8 ``[N, K]`` and ``[N, 1]``, symmetric, row by row.

    Example:
        >>> rounded, scale = quantize_rows(torch.tensor([[127.0, -25.4], [0.0, 0.0]]))
        >>> rounded.tolist(), scale[0].item()
        ([[127, -25], [0, 0]], 1.0)
    """
    scale = x.abs().amax(-1, keepdim=True).div_(_LEVELS).clamp_(min=_TINY)
    return (x / scale).round_().to(torch.int8), scale


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear(x, weight * scale, bias)`` with the product in integers.

    Args:
        x: float32 ``[N, K]``, quantized here.
        weight: int8 ``[G, K]``.
        scale: float32 ``[G]``.
        bias: float32 ``[G]``, or ``[N, G]`` to be added to.

    Example:
        >>> weight, scale = quantize_rows(torch.eye(2))
        >>> int8_linear(torch.tensor([[127.0, 3.0]]), weight, scale.squeeze(1))
        tensor([[127.,   3.]])
    """
    rounded, row = quantize_rows(x)
    product = torch._int_mm(rounded, weight.t()).float().mul_(scale)
    return product.mul_(row) if bias is None else torch.addcmul(bias, product, row)


@dataclass(frozen=True)
class _Equation:
    """What of a cell is kept in float.

    Attributes:
        kind: ``simple_rnn``, ``lstm`` or ``gru``.
        options: activations.
        zoneout: share of the old output in the new one.
        skip: features of the input that are added to the output.
    """

    kind: str
    options: StepOptions
    zoneout: float
    skip: slice | None


@dataclass(frozen=True, eq=False)
class _Int8Step:
    """A cell made ready for one call.

    Attributes:
        equation: what is kept in float.
        enters: int8 weight, scale and bias of the input's product.
        stays: those of the state's.
        phi: activation of the candidate and of the output.
        sigma: activation of the gates.
    """

    equation: _Equation
    enters: tuple[Tensor, Tensor, Tensor | None]
    stays: tuple[Tensor, Tensor, Tensor | None]
    phi: Callable[[Tensor], Tensor]
    sigma: Callable[[Tensor], Tensor]

    def project(self, x: Nest) -> Nest:
        gates = int8_linear(x.flatten(0, -2), *self.enters).reshape(*x.shape[:-1], self.enters[0].shape[0])
        return gates if self.equation.skip is None else (gates, x[..., self.equation.skip])

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        x_t, skipped = projected if isinstance(projected, tuple) else (projected, None)
        old, memory = (state, None) if isinstance(state, Tensor) else state
        if memory is not None:
            h, memory = self._lstm(x_t, old, memory)
        else:
            h = self._gru(x_t, old) if self.equation.kind == "gru" else self.phi(self._sum(x_t, old))
        if self.equation.zoneout:
            h = self.equation.zoneout * old + (1 - self.equation.zoneout) * h
        return h if skipped is None else h + skipped, h if memory is None else LSTMState(h, memory)

    def _sum(self, x_t: Tensor, h: Tensor) -> Tensor:
        weight, scale, _ = self.stays
        return int8_linear(h, weight, scale, x_t)

    def _lstm(self, x_t: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = self._sum(x_t, h).chunk(4, dim=-1)
        c = torch.addcmul(self.sigma(f) * c, self.sigma(i), self.phi(g))
        return self.sigma(o) * self.phi(c), c

    def _gru(self, x_t: Tensor, h: Tensor) -> Tensor:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = x_t.chunk(3, dim=-1), int8_linear(h, *self.stays).chunk(3, dim=-1)
        n = self.phi(torch.addcmul(x_n, self.sigma(x_r + h_r), h_n))
        return torch.lerp(n, h, self.sigma(x_z + h_z))


class QuantizedCell(Cell):
    """One step with int8 weights; made by :func:`quantize_dynamic`.

    Buffers: ``weight_ih [G*H, D]``, ``weight_hh [G*H, H]`` in int8, ``scale_ih``, ``scale_hh [G*H]`` and, where the
    layer has them, ``bias_ih``, ``bias_hh [G*H]``, ``h0``, ``c0 [H]`` in float32.
    """

    def __init__(self, layer: RecurrentLayer, index: int, suffix: str, equation: _Equation) -> None:
        super().__init__()
        self.equation, self.output_size = equation, layer.sizes[index]
        weights = collect(layer, suffix)
        self.build(weights.weight_ih.shape[1])
        with torch.no_grad():
            for side, weight in (("ih", weights.weight_ih), ("hh", weights.weight_hh)):
                rounded, scale = quantize_rows(weight.float())
                self.register_buffer(f"weight_{side}", rounded)
                self.register_buffer(f"scale_{side}", scale.squeeze(1))
            for name in ("bias_ih", "bias_hh"):
                self.register_buffer(name, _copied(getattr(weights, name)))
            for name in ("h0", "c0"):
                self.register_buffer(name, _copied(getattr(layer, f"{name}{suffix}", None)))

    weight_ih: Tensor
    weight_hh: Tensor
    scale_ih: Tensor
    scale_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    h0: Tensor | None
    c0: Tensor | None

    def bind(self, x: Nest, batch: int) -> Stepper:
        """Ready for one call: everything looked up once."""
        kind, options = self.equation.kind, self.equation.options
        enters, stays = self.bias_ih, self.bias_hh
        if kind != "gru" and enters is not None and stays is not None:
            enters, stays = enters + stays, None
        return _Int8Step(
            self.equation,
            (self.weight_ih, self.scale_ih, enters),
            (self.weight_hh, self.scale_hh, stays),
            activation(options.activation),
            activation(options.recurrent_activation),
        )

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        return self.bind(None, 0).step(projected, state)

    def project(self, x: Nest) -> Nest:
        return self.bind(None, 0).project(x)

    def initial_state(self, batch: int) -> State:
        zeros = self.scale_hh.new_zeros(self.output_size)
        h = (zeros if self.h0 is None else self.h0).expand(batch, -1)
        if self.equation.kind != "lstm":
            return h
        return LSTMState(h, (zeros if self.c0 is None else self.c0).expand(batch, -1))

    def extra_repr(self) -> str:
        return f"{self.equation.kind}, {self.input_size}, {self.output_size}"


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
                equation = _Equation(
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
            if lengths is not None or mask is not None or reset_mask is not None:
                raise ValueError(f"{self.name}: packed or nested rows have their lengths; give no others")
            padded, lengths, pack = unpack(x)
            output = self.forward(self._turn(padded), state, lengths=lengths)
            return replace(output, sequence=pack(self._turn(output.sequence)))  # type: ignore[arg-type]
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


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().float().clone()


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

"""SimpleRNN, LSTM and GRU as one table, and their parameters: what the layers and the cells share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.functional import StepOptions, Weights, gru_step, lstm_step, project, simple_rnn_step
from lightning_rnn.functional.options import NORMS
from lightning_rnn.layers.initializers import Initializer, initialize
from lightning_rnn.layers.options import Regularization
from lightning_rnn.types import LSTMState, State


@dataclass(frozen=True)
class CellKind:
    """One row of the table of cells: everything in which SimpleRNN, LSTM and GRU differ."""

    name: str
    gates: int
    states: int
    step: Callable[..., tuple[Tensor, ...]]
    options: frozenset[str]  # of StepOptions that the cell knows beside the activation


KINDS: dict[str, CellKind] = {
    kind.name: kind
    for kind in (
        CellKind("simple_rnn", 1, 1, simple_rnn_step, frozenset()),
        CellKind("lstm", 4, 2, lstm_step, frozenset({"recurrent_activation", "peephole", "cell_clip", "proj_clip"})),
        CellKind("gru", 3, 1, gru_step, frozenset({"recurrent_activation", "reset_after"})),
    )
}


def check_options(name: str, kind: CellKind, options: StepOptions, proj_size: int) -> None:
    """Refuse what the cell does not know."""
    known = kind.options | {"activation", "layer_norm", "layer_norm_eps"}
    for field in fields(options):
        if field.name not in known and getattr(options, field.name) != field.default:
            raise ValueError(f"{name} has no option {field.name}")
    if options.layer_norm != "none" and (kind.name, options.layer_norm) not in NORMS:
        there = [variant for cell, variant in NORMS if cell == kind.name]
        raise ValueError(f"{name}: layer_norm must be one of none, {', '.join(there)}, got {options.layer_norm!r}")
    if options.layer_norm != "none" and not options.reset_after:
        raise ValueError(f"{name}: layer_norm needs reset_after=True")
    if proj_size and kind.name != "lstm":
        raise ValueError(f"{name} has no projection: proj_size must be 0, got {proj_size}")
    if options.proj_clip is not None and not proj_size:
        raise ValueError(f"{name}: proj_clip needs proj_size")


def parameter_shapes(
    kind: CellKind, input_size: int, hidden_size: int, proj_size: int, bias: bool, options: StepOptions
) -> dict[str, tuple[int, ...]]:
    """Names, as in :class:`Weights`, and shapes of the parameters of one layer and direction."""
    rows, output = kind.gates * hidden_size, proj_size or hidden_size
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, input_size), "weight_hh": (rows, output)}
    if bias:
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    if proj_size:
        shapes["weight_hr"] = (proj_size, hidden_size)
    if options.peephole:
        shapes["weight_ch"] = (3, hidden_size)
    form = NORMS.get((kind.name, options.layer_norm))
    if form is not None:
        for side in ("ih", "hh") if form.apart else ("hh",):
            shapes[f"norm_{side}_weight"] = (rows,)
            if form.shift:
                shapes[f"norm_{side}_bias"] = (rows,)
        if form.memory != "none":
            shapes |= {"norm_c_weight": (hidden_size,), "norm_c_bias": (hidden_size,)}
    return shapes


def create(module: nn.Module, shapes: dict[str, tuple[int, ...]], suffix: str = "") -> None:
    """Register empty parameters."""
    for name, shape in shapes.items():
        module.register_parameter(f"{name}{suffix}", nn.Parameter(torch.empty(shape)))


def collect(module: nn.Module, suffix: str = "") -> Weights:
    """The parameters of one layer and direction, also where they are parametrized or given by ``functional_call``."""

    def find(name: str) -> Tensor | None:  # asking a module for what it lacks is slow
        found = module._parameters.get(name)
        return found if found is not None else getattr(type(module), name, None) and getattr(module, name)

    return Weights(*[find(f"{name}{suffix}") for name in Weights._fields])  # type: ignore[arg-type]


@torch.no_grad()
def reset(kind: CellKind, weights: Weights, initializer: Initializer, unit_forget_bias: bool | None) -> None:
    """Draw the parameters of one layer and direction anew; gains start at 1, offsets at 0."""
    rest = [p for p in (weights.weight_hr, weights.weight_ch) if p is not None]
    biases = [p for p in (weights.bias_ih, weights.bias_hh) if p is not None]
    initialize(initializer, kind.name, weights.weight_ih, weights.weight_hh, biases)
    for parameter in rest:
        bound = weights.weight_hh.shape[0] / kind.gates
        nn.init.uniform_(parameter, -(bound**-0.5), bound**-0.5)
    for name, parameter in weights._asdict().items():
        if name.startswith("norm") and parameter is not None:
            nn.init.constant_(parameter, float(name.endswith("weight")))
    if unit_forget_bias is not None and kind.name == "lstm" and biases:
        for i, bias in enumerate(biases):
            bias.chunk(4)[1].fill_(float(unit_forget_bias and i == 0))


def chances(steps: int, wanted: list[tuple[float, tuple[int, ...]]], device: torch.device) -> list[Tensor]:
    """For each ``(share, shape)`` a bool ``[steps, *shape]``, each True with chance ``share`` (to 1/65,536).

    Drawn in the order of the steps. Four take one number of the generator: ``torch.rand`` would take as long as the
    network's own step.
    """
    counts = [math.prod(shape) for _, shape in wanted]
    numbers = torch.empty(steps, -(-sum(counts) // 4), dtype=torch.int64, device=device).random_(-(2**63), None)
    parts = torch.split(numbers.view(torch.int16)[:, : sum(counts)], counts, dim=1)
    limits = [max(1, round(65536 * share)) - 32769 for share, _ in wanted]
    return [
        (part <= limit).reshape(steps, *shape) for part, limit, (_, shape) in zip(parts, limits, wanted, strict=True)
    ]


class Noise(NamedTuple):
    """What was drawn for every step of a run, before its first; ``[B, ...]`` without ``T`` for one step alone.

    Attributes:
        dropped: recurrent dropout drawn anew at each step, ``[B, T, G, P]``, 0 or ``1 / (1 - p)``; None where not.
        zoned: units that keep their value, bool ``[B, T, P]``; None where none is drawn.
    """

    dropped: Tensor | None = None
    zoned: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Gates:
    """One layer and direction made ready for one call: weights, options, the noise drawn.

    Attributes:
        kind: its row of the table.
        weights: parameters.
        options: variants of the step.
        dropped_input: input dropout, ``[B, D]``, the same at every step.
        drop_input_each: input dropout drawn anew at each step.
        dropped: recurrent dropout, ``[B, G, P]``, the same at every step.
        drop_each: recurrent dropout drawn anew at each step.
        zoneout: chance that a unit keeps its value.
        training: draw zoneout, rather than take its expectation.
    """

    kind: CellKind
    weights: Weights
    options: StepOptions
    dropped_input: Tensor | None = None
    drop_input_each: float = 0.0
    dropped: Tensor | None = None
    drop_each: float = 0.0
    zoneout: float = 0.0
    training: bool = False

    @property
    def output_size(self) -> int:
        """``P``: features of the output."""
        return self.weights.weight_hh.shape[1]

    @property
    def draws(self) -> bool:
        """Whether a run draws random numbers."""
        return bool(self.drop_input_each or self.drop_each or (self.zoneout and self.training))

    def tensors(self) -> list[Tensor]:
        """All that the step depends on beside input and state."""
        return [t for t in (*self.weights, self.dropped_input, self.dropped) if t is not None]

    def enter(self, x: Tensor) -> Tensor:
        """Input dropout of one step ``[B, D]`` or of all ``[B, T, D]``."""
        if self.dropped_input is not None:
            return x * (self.dropped_input.unsqueeze(1) if x.ndim > 2 else self.dropped_input)
        return F.dropout(x, self.drop_input_each) if self.drop_input_each else x

    def draw(self, x: Tensor) -> Noise:
        """The noise of all steps of ``x [B, T, D]``, or of the one step ``[B, D]``.

        Numbers are drawn in the order of the steps, so that a run in chunks draws what a run at once does. Memory is
        time first: the noise of a step lies in one piece.
        """
        like, batch = self.weights.weight_hh, x.shape[0]
        steps = x.shape[1] if x.ndim > 2 else 1
        wanted: list[tuple[float, tuple[int, ...]]] = []
        if self.drop_each:
            wanted.append((self.drop_each, (batch, self.kind.gates, self.output_size)))
        if self.zoneout and self.training:
            wanted.append((self.zoneout, (batch, self.output_size)))
        if not wanted:
            return Noise()
        drawn = [part.transpose(0, 1) if x.ndim > 2 else part[0] for part in chances(steps, wanted, like.device)]
        dropped = None
        if self.drop_each:
            scale = 1 / (1 - self.drop_each) if self.drop_each < 1 else 0.0
            dropped = (~drawn.pop(0)).to(like.dtype).mul_(scale)
        return Noise(dropped, drawn.pop() if drawn else None)

    def project(self, x: Any) -> Any:
        entered = self.enter(x)
        return self.accompany(project(self.kind.name, entered, self.weights, self.options), self.draw(x))

    def accompany(self, projected: Tensor, noise: Noise) -> Any:
        """What :meth:`step` takes: the projected input, in a dict with the noise where there is some."""
        drawn = {name: values for name, values in noise._asdict().items() if values is not None}
        return {"x": projected, **drawn} if drawn else projected

    def step(self, projected: Any, state: Any) -> tuple[Any, Any]:
        dropped, zoned = self.dropped, None
        if isinstance(projected, dict):
            dropped, zoned = projected.get("dropped", dropped), projected.get("zoned")
            projected = projected["x"]
        old = (state,) if self.kind.states == 1 else tuple(state)
        h, *rest = self.kind.step(projected, old, self.weights, self.options, dropped)
        if self.zoneout:
            h = self._zone(old[0], h, zoned)
        return h, LSTMState(h, *rest) if rest else h

    def _zone(self, old: Tensor, new: Tensor, zoned: Tensor | None) -> Tensor:
        if zoned is not None:
            return torch.where(zoned, old.to(new.dtype), new)
        return self.zoneout * old + (1 - self.zoneout) * new


def bind(
    kind: CellKind, weights: Weights, options: StepOptions, noise: Regularization, batch: int, training: bool
) -> Gates:
    """Make a cell ready for a call on ``batch`` rows: draws what is drawn once a call."""
    if not training:
        return Gates(kind, weights, options, zoneout=noise.zoneout)

    def ones(*shape: int) -> Tensor:
        return weights.weight_hh.new_ones(batch, *shape)

    if noise.weight_dropout:
        weights = weights._replace(weight_hh=F.dropout(weights.weight_hh, noise.weight_dropout))
    gates = Gates(kind, weights, options, zoneout=noise.zoneout, training=True)
    if not noise.variational:
        return replace(gates, drop_input_each=noise.dropout, drop_each=noise.recurrent_dropout)
    if noise.dropout:
        gates = replace(gates, dropped_input=F.dropout(ones(weights.weight_ih.shape[1]), noise.dropout))
    if noise.recurrent_dropout:
        mask = F.dropout(ones(kind.gates, weights.weight_hh.shape[1]), noise.recurrent_dropout)
        gates = replace(gates, dropped=mask)
    return gates


def zero_state(kind: CellKind, batch: int, hidden_size: int, proj_size: int, like: Tensor) -> State:
    """Zeros: ``h [B, P]`` or :class:`LSTMState`."""
    h = like.new_zeros(batch, proj_size or hidden_size)
    return LSTMState(h, like.new_zeros(batch, hidden_size)) if kind.states > 1 else h


def drop(x: Tensor, share: float, training: bool, locked: bool) -> Tensor:
    """Dropout of ``[B, T, D]``; ``locked`` drops the same features at every step of a row."""
    if not share or not training:
        return x
    if not locked:
        return F.dropout(x, share)
    return x * F.dropout(x.new_ones(x.shape[0], 1, *x.shape[2:]), share)

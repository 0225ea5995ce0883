"""Networks from a window to a forecast: what all decoders share, and the two that forecast all steps at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.table import CellName, recurrent

from .head import Head
from .heads import HeadOptions, build_head
from .scaling import Scaled, WindowScaling
from .spec import ForecastSpec
from .stack import DilatedStack

Decode = Literal["segment", "direct", "recursive"]


@dataclass(frozen=True)
class NetworkOptions:
    """The forecaster's arguments that shape the network; see :class:`tasks.forecasting.Forecaster` for each."""

    decode: Decode
    cell: CellName
    hidden_size: int
    num_layers: int
    dilations: list[int] | None
    residual: bool
    initializer: Initializer | None
    activation: str | None
    segment: int | None
    skip: bool
    lags: list[int] | None
    scale: str
    log: bool
    dropout: float
    static_size: int
    samples: int
    head: str
    head_options: HeadOptions


class Window(NamedTuple):
    """A batch of windows with their histories on the right, see :class:`ForecastSpec` for the channels.

    Attributes:
        y: ``[B, L]``, 0 where missing.
        valid: bool ``[B, L]``.
        past: ``[B, L, P]``.
        known: ``[B, L + H, F]``, F 0 where nothing is known.
        static: ``[B, K]``.
        codes: int64 ``[B, M]``, names' numbers.
        lengths: int64 ``[B]``, steps of history within the L, from the first value that is there.
    """

    y: Tensor
    valid: Tensor
    past: Tensor
    known: Tensor
    static: Tensor
    codes: Tensor
    lengths: Tensor


def window_of(inputs: Tensor, lengths: Tensor, spec: ForecastSpec, lookback: int) -> Window:
    """Rows ``[B, T, C]`` with padding on the right as windows of ``lookback`` steps, those too short begin with zeros.

    Example:
        >>> rows = torch.tensor([[[5.0, 1.0], [6.0, 1.0]], [[7.0, 1.0], [0.0, 0.0]]])
        >>> window_of(rows, torch.tensor([2, 1]), ForecastSpec(), 3).y
        tensor([[0., 5., 6.],
                [0., 0., 7.]])
    """
    place = torch.arange(lookback + spec.ahead, device=inputs.device) - (lookback + spec.ahead) + lengths.unsqueeze(1)
    inside = (place >= 0).unsqueeze(2)
    index = place.clamp(min=0).unsqueeze(2).expand(-1, -1, inputs.shape[2])
    rows = torch.where(inside, inputs.gather(1, index), 0)
    value, past, known, static, codes = torch.split(rows, spec.sizes, 2)
    history = value[:, :lookback]
    return Window(
        history[..., 0],
        history[..., 1] > 0,
        past[:, :lookback],
        known,
        static[:, -1],
        codes[:, -1].long(),
        _since_first(history[..., 1] > 0, (lengths - spec.ahead).clamp(max=lookback)),
    )


def _since_first(valid: Tensor, lengths: Tensor) -> Tensor:
    """Steps from the first value that is there, as missing ones before it are padding; of none: ``lengths``."""
    return torch.where(valid.any(1), valid.shape[1] - valid.int().argmax(1), lengths)


class StaticContext(nn.Module):
    """Static numbers and embedded names as one vector ``[B, size]``; nothing of them: 0.

    Args:
        spec: of the data.
        size: of the result.
        embedding_size: of each name.
    """

    def __init__(self, spec: ForecastSpec, size: int, embedding_size: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(len(names), embedding_size) for names in spec.categories.values())
        width = len(spec.static) + embedding_size * len(self.tables)
        self.linear = nn.Linear(width, size) if width else None

    def forward(self, window: Window) -> Tensor:
        """``[B, size]``, or ``[1]``, 0."""
        if self.linear is None:
            return window.y.new_zeros(1)
        names = [table(window.codes[:, place]) for place, table in enumerate(self.tables)]
        context: Tensor = self.linear(torch.cat([window.static, *names], 1))
        return context


class Learned(NamedTuple):
    """What a training pass gives.

    Attributes:
        raw: the head's numbers at the supervised steps, ``[B, N, size]``.
        target: t(y) there, NaN where missing, ``[B, N]``.
        scaled: the window.
        loc: of the supervised steps, ``[B, 1]`` or ``[B, N]``.
        mean: the point forecast of the horizon in units of y, ``[B, H]``; one step ahead each for recursive networks.
    """

    raw: Tensor
    target: Tensor
    scaled: Scaled
    loc: Tensor
    mean: Tensor


class Member(nn.Module, ABC):
    """One network from windows to forecasts.

    Args:
        spec: of the data.
        options: its shape.
        lookback: steps that it looks back.
    """

    head: Head

    def __init__(self, spec: ForecastSpec, options: NetworkOptions, lookback: int) -> None:
        super().__init__()
        self.spec, self.options, self.lookback = spec, options, lookback
        self.head = build_head(options.head, options.head_options)
        self.scaling = WindowScaling(options.scale, options.log, spec.season, spec.horizon)

    def window(self, inputs: Tensor, lengths: Tensor) -> tuple[Window, Scaled]:
        """The windows of a batch, and these scaled."""
        window = window_of(inputs, lengths, self.spec, self.lookback)
        return window, self.scaling(window.y, window.valid)

    @abstractmethod
    def learn(self, inputs: Tensor, lengths: Tensor, target: Tensor) -> Learned:
        """A training pass; ``target [B, H]`` in units of y, NaN where missing."""

    @abstractmethod
    def forward(self, inputs: Tensor, lengths: Tensor, levels: Tensor) -> tuple[Tensor, Scaled]:
        """Forecasts.

        Args:
            inputs: ``[B, T, C]``, see :class:`ForecastSpec`.
            lengths: int64 ``[B]``.
            levels: of quantiles, ``[Q]``.

        Returns:
            ``[B, H, 1 + Q]``, the point and the quantiles in units of y; and the windows, scaled.
        """

    def loss(self, learned: Learned) -> Tensor:
        """The head's loss, a scalar."""
        return self.head.loss(learned.raw, learned.target, None, learned.scaled.scale, learned.loc)

    def forecasts(self, raw: Tensor, scaled: Scaled, levels: Tensor) -> Tensor:
        """Point and quantiles ``[B, H, 1 + Q]`` of the head's numbers ``[B, H, size]``."""
        parts = [self.head.mean(raw, scaled.scale, scaled.ahead).unsqueeze(2)]
        if len(levels):
            parts.append(self.head.quantiles(raw, levels, scaled.scale, scaled.ahead))
        return self.scaling.restore(torch.cat(parts, 2), scaled.near)


class WindowNetwork(Member):
    """Forecasts all steps at once: segments of the window → linear, ReLU → recurrent layers → decoder, beside a skip.

    ``segment`` decodes the horizon's segments in parallel, each by one step of the same recurrent layers from the state
    at the window's end, fed a learned vector of its position (Lin et al. 2023, SegRNN, arXiv 2308.11200); ``direct`` by
    one linear layer on the last output. The skip is linear from the scaled window to the horizon and starts at zero.
    """

    def __init__(self, spec: ForecastSpec, options: NetworkOptions, lookback: int) -> None:
        super().__init__(spec, options, lookback)
        width, hidden = options.segment or default_segment(spec, options.decode), options.hidden_size
        self.width, self.pieces = width, -(-spec.horizon // width)
        self.embed = nn.Linear(width * (2 + len(spec.past) + spec.known), hidden)
        self.context = StaticContext(spec, hidden, options.static_size)
        self.dropout = nn.Dropout(options.dropout)
        self.rnn = stack_of(options)
        parallel = options.decode == "segment"
        self.positions = nn.Parameter(torch.randn(self.pieces, hidden)) if parallel else None
        self.ahead = nn.Linear(width * spec.known, hidden, bias=False) if spec.known else None
        self.output = nn.Linear(hidden, (width if parallel else spec.horizon) * self.head.size)
        self.skip = nn.Linear(lookback, spec.horizon * self.head.size) if options.skip else None
        if self.skip is not None:
            nn.init.zeros_(self.skip.weight)
            nn.init.zeros_(self.skip.bias)

    def raw(self, window: Window, z: Tensor) -> Tensor:
        """The head's numbers, ``[B, H, size]``."""
        context = self.context(window)
        steps = torch.cat([z.unsqueeze(2), window.valid.unsqueeze(2).to(z.dtype), window.past], 2)
        if self.spec.known:
            steps = torch.cat([steps, window.known[:, : self.lookback]], 2)
        segments = F.relu(self.embed(self._segments(steps, front=True)) + context.unsqueeze(-2))
        output = self.rnn(self.dropout(segments))
        raw = self._decode(output.last, output.state, window, context)
        if self.skip is not None:
            raw = raw + self.skip(z).reshape(raw.shape)
        return raw

    def _segments(self, steps: Tensor, front: bool) -> Tensor:
        """``[B, T, C]`` as ``[B, pieces, width * C]``, zeros before (``front``) or after."""
        missing = -steps.shape[1] % self.width
        steps = F.pad(steps, (0, 0, missing, 0) if front else (0, 0, 0, missing))
        return steps.reshape(len(steps), -1, self.width * steps.shape[2])

    def _decode(self, last: Tensor, state: object, window: Window, context: Tensor) -> Tensor:
        b, horizon, size = len(last), self.spec.horizon, self.head.size
        future = 0 if self.ahead is None else self.ahead(self._segments(window.known[:, self.lookback :], front=False))
        if self.positions is None:
            extra = future if isinstance(future, int) else future.sum(1)
            direct: Tensor = self.output(self.dropout(last + extra))
            return direct.reshape(b, horizon, size)
        positions = (self.positions + context.unsqueeze(-2) + future).expand(b, -1, -1)
        repeated = pytree.tree_map(lambda one: one.repeat_interleave(self.pieces, 0), state)
        output = self.rnn(positions.reshape(b * self.pieces, 1, -1), repeated).last
        raw: Tensor = self.output(self.dropout(output))
        return raw.reshape(b, self.pieces * self.width, size)[:, :horizon]

    def learn(self, inputs: Tensor, lengths: Tensor, target: Tensor) -> Learned:
        window, scaled = self.window(inputs, lengths)
        raw = self.raw(window, scaled.z)
        mean = self.forecasts(raw, scaled, target.new_zeros(0))[..., 0]
        return Learned(raw, self.scaling.transform(target), scaled, scaled.ahead, mean)

    def forward(self, inputs: Tensor, lengths: Tensor, levels: Tensor) -> tuple[Tensor, Scaled]:
        window, scaled = self.window(inputs, lengths)
        return self.forecasts(self.raw(window, scaled.z), scaled, levels), scaled


def stack_of(options: NetworkOptions) -> nn.Module:
    """Recurrent layers from ``hidden_size`` to ``hidden_size`` features."""
    cell, size, initializer, activation = options.cell, options.hidden_size, options.initializer, options.activation
    if options.dilations is None and not options.residual:
        return recurrent(cell, size, size, options.num_layers, initializer=initializer, activation=activation)
    dilations = options.dilations or [1] * options.num_layers
    return DilatedStack(cell, size, dilations, options.residual, initializer, activation)


def default_segment(spec: ForecastSpec, decode: Decode) -> int:
    """Steps of a segment: a season, or the horizon where there is none; 1 for ``direct``.

    Example:
        >>> default_segment(ForecastSpec(horizon=13, season=1), "segment")
        13
    """
    if decode == "direct":
        return 1
    return spec.season if spec.season > 1 else spec.horizon

"""Windows over a panel: a stretch of history, what is known of the future, and the steps to forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data import Ragged
from lightning_rnn.data.dataset import SplitData
from lightning_rnn.data.windows import spans
from lightning_rnn.types import SequenceBatch

from .spec import ForecastSpec


@dataclass(frozen=True)
class Series:
    """Series with all that goes into batches, in float32.

    Attributes:
        ids: names.
        y: values ``[S]``, NaN where one is missing.
        past: ``[S, P]``, no NaN, or None.
        known: ``[S', F]``, no NaN, rows at least a horizon longer than those of ``y`` where they are forecast from
            their end; None where nothing is known of the future.
        static: ``[N, K]``: static numbers, then names' numbers.
        center: ``[N]``, and
        unit: ``[N]``: errors are those of ``(y - center) / unit``.
        scale: of MASE, ``[N]``.
        square_scale: of RMSSE, ``[N]``.
    """

    ids: list[str]
    y: Ragged
    past: Ragged | None
    known: Ragged | None
    static: Tensor
    center: Tensor
    unit: Tensor
    scale: Tensor
    square_scale: Tensor


@dataclass(frozen=True)
class Origins:
    """Where windows end: of series i the ends ``first[i] + k * stride``, k from 0 to ``counts[i] - 1``.

    Attributes:
        first: steps before the first end, int64 ``[N]``.
        counts: windows of each series, int64 ``[N]``.
        stride: steps between two ends.
        drawn: windows of an epoch, each at a random end of a series whose turn it is; None: all windows, in order.
        seed: of these.
    """

    first: Tensor
    counts: Tensor
    stride: int = 1
    drawn: int | None = None
    seed: int = 0

    def __len__(self) -> int:
        return int(self.counts.sum()) if self.drawn is None else self.drawn

    def of_epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Series and end of every row: int64 ``[R]`` each."""
        if self.drawn is None:
            series = torch.arange(len(self.counts)).repeat_interleave(self.counts)
            number = torch.arange(len(series)) - (self.counts.cumsum(0) - self.counts)[series]
            return series, self.first[series] + number * self.stride
        rng = np.random.default_rng((self.seed, epoch))
        usable = self.counts.nonzero()[:, 0].numpy()
        rounds = -(-self.drawn // len(usable))
        series = torch.from_numpy(np.concatenate([rng.permutation(usable) for _ in range(rounds)])[: self.drawn])
        number = torch.from_numpy(rng.random(self.drawn) * self.counts[series].numpy()).long()
        return series, self.first[series] + number * self.stride


class PanelWindows(SplitData):
    """Windows as a split; the keys are row numbers.

    Args:
        series: what they are cut from.
        spec: lookback, horizon, layout.
        origins: where they end.
        targets: whether the steps after a window are its targets; not for predictions.
        naive2: forecasts ``[R, H]`` of the rows, for OWA; None: not a number.
        others: where further windows end, one of each of these behind every row: batches are so many times longer, and
            ``targets["group"]``, int64 ``[B]``, is 0 for a row's own window, 1 for the next. All are drawn.

    Example:
        >>> from .frames import from_arrays
        >>> from .prepare import to_series
        >>> panel, spec = from_arrays([[1, 2, 3, 4, 5]]), ForecastSpec(horizon=2, lookback=3)
        >>> windows = PanelWindows(to_series(panel, spec), spec, Origins(torch.tensor([1]), torch.tensor([3])))
        >>> batch = windows.__getitems__([0, 2])
        >>> batch.inputs[..., 0], batch.lengths, batch.targets["y"]
        (tensor([[1., 0., 0.],
                [1., 2., 3.]]), tensor([1, 3]), tensor([[2., 3.],
                [4., 5.]]))
    """

    def __init__(
        self,
        series: Series,
        spec: ForecastSpec,
        origins: Origins,
        targets: bool = True,
        naive2: Tensor | None = None,
        others: Sequence[Origins] = (),
    ) -> None:
        self.series, self.spec, self.origins, self.others = series, spec, origins, others
        self.inputs, self.targets, self.naive2 = series.y, targets, naive2
        self.ids = series.ids
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.origins)

    @property
    def lengths(self) -> Tensor:
        """Steps of history: rows of one length, as far as the order of batches is concerned, where they are drawn."""
        if self.origins.drawn is not None:
            return torch.full((len(self),), self.spec.lookback)
        return self.rows[1].clamp(max=self.spec.lookback)

    def set_epoch(self, epoch: int) -> None:
        """Draw the windows of an epoch, where there is a choice."""
        self.groups = [origins.of_epoch(epoch) for origins in (self.origins, *self.others)]
        self.rows = self.groups[0]

    def row_id(self, row: int) -> str:
        """The series' name; with the window's end behind it where a series has several windows."""
        series, end = (int(numbers[row]) for numbers in self.rows)
        name = self.series.ids[series]
        return name if int(self.origins.counts.max()) <= 1 and self.origins.drawn is None else f"{name}:{end}"

    def __getitem__(self, row: int) -> SequenceBatch:
        return self.__getitems__([row])

    def __getitems__(self, keys: list[Any]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))
        series, end = (torch.cat([rows[part][index] for rows in self.groups]) for part in (0, 1))
        inputs, lengths = self._inputs(series, end)
        rows = index.repeat(len(self.groups))
        targets = self._targets(rows, series, end) if self.targets else None
        if targets is not None and self.others:
            targets["group"] = torch.arange(len(self.groups)).repeat_interleave(len(index))
        return SequenceBatch(inputs, targets, lengths=lengths, ids=rows)

    def _inputs(self, series: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, C]``, see :class:`ForecastSpec`; nothing of the values lies at or beyond ``end``."""
        rows, spec = self.series, self.spec
        low = rows.y.offsets[series]
        history = end.clamp(max=spec.lookback)
        lengths = history + spec.ahead
        first, width = end - history, int(lengths.max())
        y, inside = spans(rows.y.values, low + first, low, low + end, width)
        present = inside & ~y.isnan()
        channels = [torch.where(present, y, 0).unsqueeze(2), present.unsqueeze(2).to(y.dtype)]
        if rows.past is not None:
            low = rows.past.offsets[series]
            channels.append(spans(rows.past.values, low + first, low, low + end, width)[0])
        if rows.known is not None:
            low = rows.known.offsets[series]
            channels.append(spans(rows.known.values, low + first, low, low + end + spec.ahead, width)[0])
        if rows.static.shape[1]:
            channels.append(rows.static[series].unsqueeze(1).expand(-1, width, -1))
        return torch.cat(channels, 2), lengths

    def _targets(self, index: Tensor, series: Tensor, end: Tensor) -> dict[str, Tensor]:
        rows, low = self.series, self.series.y.offsets[series]
        y, inside = spans(rows.y.values, low + end, low, rows.y.offsets[series + 1], self.spec.horizon)
        y = torch.where(inside, y, torch.nan)
        return {
            "y": y,
            "scale": rows.scale[series],
            "square_scale": rows.square_scale[series],
            "naive2": torch.full_like(y, torch.nan) if self.naive2 is None else self.naive2[index],
            "center": rows.center[series],
            "unit": rows.unit[series],
        }

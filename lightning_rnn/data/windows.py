"""Windows over series: a stretch of history and the steps after it, gathered by the batch, never copied out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data.dataset import SplitData
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.types import SequenceBatch

log = logging.getLogger(__name__)


def spans(values: Tensor, first: Tensor, low: Tensor, high: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Stretches of equal width out of one long tensor, by one gather.

    Args:
        values: ``[S, ...]``.
        first: int64 ``[B]``, where each stretch begins.
        low: int64 ``[B]``, the stretch has no values before this index,
        high: int64 ``[B]``, nor from this index on.
        width: steps of each.

    Returns:
        ``[B, width, ...]``, 0 where there is no value (integers come as int64, whatever they are stored as), and bool
        ``[B, width]``, True where there is one.

    Example:
        >>> first, low, high = torch.tensor([1, 4]), torch.tensor([2, 0]), torch.tensor([9, 6])
        >>> spans(torch.arange(9), first, low, high, 3)[0]
        tensor([[0, 2, 3],
                [4, 5, 0]])
    """
    index = first.numpy()[:, None] + np.arange(width)
    outside = (index < low.numpy()[:, None]) | (index >= high.numpy()[:, None])
    batch = values.numpy().take(index, axis=0, mode="clip")
    if batch.dtype.kind in "iu":
        batch = batch.astype(np.int64, copy=False)
    if outside.any():
        batch[outside] = 0
    return torch.from_numpy(batch), torch.from_numpy(~outside)


class Windows(SplitData):
    """Windows over many series, as one split: ``lookback`` steps of input, then ``horizon`` steps of target.

    A window is a series and the number of its steps that lie before the window's end: the input is
    ``x[end - lookback : end]``, the target ``x[end + gap : end + gap + horizon]``. Ends are ``stride`` apart, from the
    first possible one on. Only a few numbers per series are kept, however many windows there are.

    A window longer than the history there is has zeros on the left and a batch ``mask`` (None where every window of
    the batch is full).

    Args:
        series: ``[S, D]`` (or ``[S]``) float.
        lookback: steps of input.
        horizon: steps of target; 0 gives no targets, and windows that may end where the series ends (prediction).
        stride: steps between the ends of neighbouring windows.
        gap: steps between input and target that are neither.
        min_lookback: least steps of history; None is ``lookback``: no padding.
        last_only: one window per series, the last (validation, test, prediction).
        target_columns: columns of ``D`` that are targets; None is all.
        ids: names of the series; None stands for 0, 1, 2 ...

    Attributes:
        inputs: the series.
        skipped: int64, series that are too short for a window.

    Raises:
        ConfigError: an option is out of range, or every series is too short.

    Example:
        >>> series = Ragged.from_list([torch.arange(6.0).unsqueeze(1), torch.arange(10.0, 13).unsqueeze(1)])
        >>> windows = Windows(series, lookback=3, horizon=1, min_lookback=2)
        >>> len(windows), windows.row_id(4)
        (5, '1:2')
        >>> batch = windows.__getitems__([1, 4])
        >>> batch.inputs.squeeze(2), batch.targets.flatten()
        (tensor([[ 0.,  1.,  2.],
                [ 0., 10., 11.]]), tensor([ 3., 12.]))
        >>> batch.mask
        tensor([[ True,  True,  True],
                [False,  True,  True]])
    """

    def __init__(
        self,
        series: Ragged,
        lookback: int,
        horizon: int = 0,
        *,
        stride: int = 1,
        gap: int = 0,
        min_lookback: int | None = None,
        last_only: bool = False,
        target_columns: Sequence[int] | None = None,
        ids: Sequence[str | int] | None = None,
    ) -> None:
        for name, value, least in (("lookback", lookback, 1), ("horizon", horizon, 0), ("gap", gap, 0)):
            require(value >= least, f"windows: {name} must be at least {least}, got {value}")
        require(stride >= 1, f"windows: stride must be at least 1, got {stride}")
        self.least = lookback if min_lookback is None else min_lookback
        require(1 <= self.least <= lookback, f"windows: min_lookback must be 1 to {lookback}, got {min_lookback}")
        self.inputs, self.lookback, self.horizon, self.stride, self.gap = series, lookback, horizon, stride, gap
        self.ids, self.target_columns = ids, self._columns(target_columns)
        spare = series.lengths - (self.least + self._ahead)
        self.skipped = (spare < 0).nonzero().flatten()
        counts = (spare // stride + 1).clamp(min=0, max=1 if last_only else None)
        self._first = spare + self.least if last_only else torch.full_like(spare, self.least)
        self._offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self._report_skipped()

    @property
    def _ahead(self) -> int:
        """Steps that a window needs after its end."""
        return self.gap + self.horizon if self.horizon else 0

    def _columns(self, wanted: Sequence[int] | None) -> Tensor | None:
        if wanted is None:
            return None
        width = self.inputs.values.shape[1] if self.inputs.values.ndim > 1 else 0
        wrong = [column for column in wanted if not 0 <= column < width]
        require(
            not wrong, f"windows: target_columns {wrong} are not among the series' {width} columns, 0 to {width - 1}"
        )
        return torch.tensor(wanted, dtype=torch.int64)

    def _report_skipped(self) -> None:
        """Raise where no window is left, name the series that give none."""
        if not len(self.skipped):
            return
        named = ", ".join(f"{self._name(i)} ({len(self.inputs[i])})" for i in self.skipped[:5].tolist())
        named += ", ..." if len(self.skipped) > 5 else ""
        need = f"{self.least + self._ahead} steps that a window needs"
        if not len(self):
            raise ConfigError(f"every series is shorter than the {need}: {named}; use a shorter lookback or horizon")
        log.warning("%d of %d series are shorter than the %s: %s", len(self.skipped), len(self.inputs), need, named)

    def _name(self, series: int) -> str | int:
        return series if self.ids is None else self.ids[series]

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def position(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Of windows int64 ``[M]``: their series ``[M]``, and how many of its steps lie before the end ``[M]``."""
        series = torch.searchsorted(self._offsets, rows, right=True) - 1
        return series, self._first[series] + (rows - self._offsets[series]) * self.stride

    def row_id(self, row: int) -> str:
        """``series:end``, where ``end`` counts the steps up to the window's end."""
        series, end = self.position(torch.tensor([row]))
        return f"{self._name(int(series))}:{int(end)}"

    @property
    def lengths(self) -> Tensor:
        """Int64 ``[N]``: steps of each window's input that are not padding."""
        if self.least == self.lookback:
            return torch.tensor([self.lookback]).expand(len(self))
        return self.position(torch.arange(len(self)))[1].clamp(max=self.lookback)

    def __getitem__(self, row: int) -> SequenceBatch:
        return self.__getitems__([row])

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))
        series, end = self.position(index)
        low, high = self.inputs.offsets[series], self.inputs.offsets[series + 1]
        inputs, mask = spans(self.inputs.values, low + end - self.lookback, low, high, self.lookback)
        targets = self._targets(low + end + self.gap, low, high) if self.horizon else None
        # what is known of the future at prediction time (calendar, prices) would be a second gather at `targets`' place
        return SequenceBatch(inputs, targets, mask=None if bool(mask.all()) else mask, ids=index)

    def _targets(self, first: Tensor, low: Tensor, high: Tensor) -> Tensor:
        targets, _ = spans(self.inputs.values, first, low, high, self.horizon)
        return targets if self.target_columns is None else targets[..., self.target_columns]

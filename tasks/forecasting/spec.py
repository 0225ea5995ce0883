"""What a forecaster has to know of its series."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from lightning_rnn.data import DataSpec
from lightning_rnn.errors import DataError
from lightning_rnn.types import SequenceBatch


@dataclass(frozen=True)
class ForecastSpec(DataSpec):
    """What a forecaster is built from, and how its inputs are laid out.

    Inputs are float ``[B, T, C]``: a row's history, then, where there are known features, its horizon, then padding.
    The channels are the value (0 where missing), whether it is there, past columns, known features (future columns and
    the calendar), static numbers and static names' numbers, the last two alike at every step.

    Attributes:
        horizon: steps of a forecast.
        lookback: steps of history, at most.
        season: steps of a season.
        frequency: of the steps, see :meth:`Frequency.parse`; None: plain numbers.
        past: columns known as long as the values are.
        future: columns known beyond.
        calendar: features of the stamps.
        calendar_size: numbers that these are.
        static: columns of numbers that a series has once.
        categories: static columns of names, and the names of each.
        moments: mean and deviation of each past, future and static column in the training part.
        positive: whether all training values are.
        reference: sMAPE and MASE of Naive2 at the end of the training part, for the OWA loss.
        rolling: whether validation and test have windows at many origins.
        standardized: whether errors are in units of each training series' deviation.
    """

    horizon: int = 1
    lookback: int = 1
    season: int = 1
    frequency: str | None = None
    past: list[str] = field(default_factory=list)
    future: list[str] = field(default_factory=list)
    calendar: list[str] = field(default_factory=list)
    calendar_size: int = 0
    static: list[str] = field(default_factory=list)
    categories: dict[str, list[str]] = field(default_factory=dict)
    moments: dict[str, list[float]] = field(default_factory=dict)
    positive: bool = False
    reference: list[float] = field(default_factory=lambda: [1.0, 1.0])
    rolling: bool = False
    standardized: bool = False

    @property
    def known(self) -> int:
        """Channels known beyond the end of the values."""
        return len(self.future) + self.calendar_size

    @property
    def ahead(self) -> int:
        """Steps of a row's input that lie in the future."""
        return self.horizon if self.known else 0

    @property
    def sizes(self) -> list[int]:
        """Channels of each kind: value and mask, past, known, static numbers, static names."""
        return [2, len(self.past), self.known, len(self.static), len(self.categories)]

    def check(self, batch: SequenceBatch) -> None:
        inputs = batch.inputs
        if not isinstance(inputs, Tensor) or inputs.ndim != 3 or inputs.shape[2] != sum(self.sizes):
            raise DataError(
                f"batches of {list(inputs.shape)}, the forecaster takes [rows, steps, {sum(self.sizes)}]: use its data"
            )

"""Where series come from: what a source is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from lightning_rnn.errors import require

from .checks import check_panel
from .panel import Panel


class SeriesSource(ABC):
    """Many series of one frequency, and what follows them, where that is known.

    Paths are found by :func:`lightning_rnn.paths.data_path`.
    """

    @property
    def val_steps(self) -> int | None:
        """The last steps of :meth:`read` that are the official validation part; None where there is none."""
        return None

    def prepare(self) -> None:
        """Download what is absent. Called on one process per machine, before the other methods."""
        return

    @abstractmethod
    def load(self) -> tuple[Panel, Panel | None]:
        """The series, and their true continuation: the test part, None where there is none.

        The series of both are the same, in the same order, and the second begins one step after the first.

        Raises:
            DataError: a file is missing, broken, or not of the right kind; it says which, where and what to do.
        """

    def new(self) -> Panel | None:
        """The series to forecast in place of those of :meth:`load`; None: these. Raises as :meth:`load`."""
        return None

    def read(self) -> Panel:
        """The series without their test part; see :meth:`load`."""
        return self.load()[0]

    def test(self) -> Panel | None:
        """The test part; see :meth:`load`."""
        return self.load()[1]


class GivenSeries(SeriesSource):
    """Panels that are there already, of a data frame or of arrays.

    Args:
        panel: the series, see :func:`from_frame` and :func:`from_arrays`.
        test: their true continuation.
        new: series to forecast in place of these, which the forecaster need not have seen.

    Raises:
        ConfigError: one is no panel.
    """

    def __init__(self, panel: Panel, test: Panel | None = None, new: Panel | None = None) -> None:
        for one in (panel, test, new):
            if one is not None:
                check_panel(one)
        self.parts, self.others = (panel, None if test is None else panel.following(test)), new

    def load(self) -> tuple[Panel, Panel | None]:
        """See :meth:`SeriesSource.load`."""
        return self.parts

    def new(self) -> Panel | None:
        """See :meth:`SeriesSource.new`."""
        return self.others


def held_out(panel: Panel, steps: int) -> tuple[Panel, Panel | None]:
    """The panel with its last ``steps`` apart; whole where there are to be none.

    Raises:
        ConfigError: a negative number of steps.
        DataError: a series has no more than so many.
    """
    require(steps >= 0, f"test_steps must be 0 or more, got {steps}")
    return panel.split(steps) if steps else (panel, None)

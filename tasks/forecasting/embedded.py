"""Series written here as numbers: the sources that need no file."""

from __future__ import annotations

import numpy as np

from lightning_rnn.errors import require

from .frames import from_arrays
from .panel import Panel
from .source import SeriesSource, held_out

# fmt: off
SUNSPOTS = (  # yearly mean sunspot numbers 1700-2008, SILSO, Royal Observatory of Belgium (version 1): public domain
    5, 11, 16, 23, 36, 58, 29, 20, 10, 8, 3, 0, 0, 2, 11, 27, 47, 63, 60, 39, 28, 26, 22, 11, 21, 40, 78, 122, 103,
    73, 47, 35, 11, 5, 16, 34, 70, 81, 111, 101, 73, 40, 20, 16, 5, 11, 22, 40, 60, 80.9, 83.4, 47.7, 47.8, 30.7,
    12.2, 9.6, 10.2, 32.4, 47.6, 54, 62.9, 85.9, 61.2, 45.1, 36.4, 20.9, 11.4, 37.8, 69.8, 106.1, 100.8, 81.6, 66.5,
    34.8, 30.6, 7, 19.8, 92.5, 154.4, 125.9, 84.8, 68.1, 38.5, 22.8, 10.2, 24.1, 82.9, 132, 130.9, 118.1, 89.9, 66.6,
    60, 46.9, 41, 21.3, 16, 6.4, 4.1, 6.8, 14.5, 34, 45, 43.1, 47.5, 42.2, 28.1, 10.1, 8.1, 2.5, 0, 1.4, 5, 12.2,
    13.9, 35.4, 45.8, 41.1, 30.1, 23.9, 15.6, 6.6, 4, 1.8, 8.5, 16.6, 36.3, 49.6, 64.2, 67, 70.9, 47.8, 27.5, 8.5,
    13.2, 56.9, 121.5, 138.3, 103.2, 85.7, 64.6, 36.7, 24.2, 10.7, 15, 40.1, 61.5, 98.5, 124.7, 96.3, 66.6, 64.5,
    54.1, 39, 20.6, 6.7, 4.3, 22.7, 54.8, 93.8, 95.8, 77.2, 59.1, 44, 47, 30.5, 16.3, 7.3, 37.6, 74, 139, 111.2,
    101.6, 66.2, 44.7, 17, 11.3, 12.4, 3.4, 6, 32.3, 54.3, 59.7, 63.7, 63.5, 52.2, 25.4, 13.1, 6.8, 6.3, 7.1, 35.6,
    73, 85.1, 78, 64, 41.8, 26.2, 26.7, 12.1, 9.5, 2.7, 5, 24.4, 42, 63.5, 53.8, 62, 48.5, 43.9, 18.6, 5.7, 3.6, 1.4,
    9.6, 47.4, 57.1, 103.9, 80.6, 63.6, 37.6, 26.1, 14.2, 5.8, 16.7, 44.3, 63.9, 69, 77.8, 64.9, 35.7, 21.2, 11.1,
    5.7, 8.7, 36.1, 79.7, 114.4, 109.6, 88.8, 67.8, 47.5, 30.6, 16.3, 9.6, 33.2, 92.6, 151.6, 136.3, 134.7, 83.9,
    69.4, 31.5, 13.9, 4.4, 38, 141.7, 190.2, 184.8, 159, 112.3, 53.9, 37.6, 27.9, 10.2, 15.1, 47, 93.8, 105.9, 105.5,
    104.5, 66.6, 68.9, 38, 34.5, 15.5, 12.6, 27.5, 92.5, 155.4, 154.6, 140.4, 115.9, 66.6, 45.9, 17.9, 13.4, 29.4,
    100.2, 157.6, 142.6, 145.7, 94.3, 54.6, 29.9, 17.5, 8.6, 21.5, 64.3, 93.3, 119.6, 111, 104, 63.7, 40.4, 29.8,
    15.2, 7.5, 2.9,
)
AIRLINE = (  # thousands of international airline passengers, 1949-1960: Box and Jenkins (1976), series G
    112, 118, 132, 129, 121, 135, 148, 148, 136, 119, 104, 118, 115, 126, 141, 135, 125, 149, 170, 170, 158, 133, 114,
    140, 145, 150, 178, 163, 172, 178, 199, 199, 184, 162, 146, 166, 171, 180, 193, 181, 183, 218, 230, 242, 209, 191,
    172, 194, 196, 196, 236, 235, 229, 243, 264, 272, 237, 211, 180, 201, 204, 188, 235, 227, 234, 264, 302, 293, 259,
    229, 203, 229, 242, 233, 267, 269, 270, 315, 364, 347, 312, 274, 237, 278, 284, 277, 317, 313, 318, 374, 413, 405,
    355, 306, 271, 306, 315, 301, 356, 348, 355, 422, 465, 467, 404, 347, 305, 336, 340, 318, 362, 348, 363, 435, 491,
    505, 404, 359, 310, 337, 360, 342, 406, 396, 420, 472, 548, 559, 463, 407, 362, 405, 417, 391, 419, 461, 472, 535,
    622, 606, 508, 461, 390, 432,
)
# fmt: on


class Embedded(SeriesSource):
    """Yearly mean sunspot numbers, 1700 to 2008: 309 values of one series, written in the package.

    Source: SILSO, Royal Observatory of Belgium, Brussels (the numbers before their revision of 2015).

    Args:
        test_steps: last steps that are the test part; 0 is none.
        season: steps of a season; None takes 1, as M4 does for years (the cycle of the sun is of about 11).

    Example:
        >>> panel, test = Embedded().load()
        >>> panel.lengths.item(), test.stamps(0, 1, 0), test.y.values[0].item()
        (287, array(['1987-01-01T00:00:00.000000'], dtype='datetime64[us]'), 29.4)
    """

    def __init__(self, test_steps: int = 22, season: int | None = None) -> None:
        self.test_steps, self.season = test_steps, season

    def load(self) -> tuple[Panel, Panel | None]:
        """See :meth:`SeriesSource.load`."""
        panel = from_arrays([np.array(SUNSPOTS)], ["sunspots"], "1700-01-01", "y", self.season)
        return held_out(panel, self.test_steps)


class Airline(SeriesSource):
    """Passengers of international airlines by month, 1949 to 1960: 144 values (Box and Jenkins 1976, series G).

    Args:
        test_steps: last steps that are the test part; 0 is none.
        season: steps of a season; None takes 12.

    Example:
        >>> Airline().read().lengths.item(), Airline().test().y.values[:3].tolist()
        (120, [360.0, 342.0, 406.0])
    """

    def __init__(self, test_steps: int = 24, season: int | None = None) -> None:
        self.test_steps, self.season = test_steps, season

    def load(self) -> tuple[Panel, Panel | None]:
        """See :meth:`SeriesSource.load`."""
        panel = from_arrays([np.array(AIRLINE)], ["airline"], "1949-01-01", "m", self.season)
        return held_out(panel, self.test_steps)


class BookSeries(SeriesSource):
    """t sin(t) / 3 + 2 sin(5 t): the generated series of Geron, Hands-On Machine Learning, chapter on recurrent nets.

    Args:
        t_min: where t begins.
        t_max: where it ends, itself left out.
        resolution: of t, between two steps.
        test_steps: last steps that are the test part; 0 is none.

    Example:
        >>> panel = BookSeries(test_steps=0).read()
        >>> panel.lengths.item(), round(panel.y.values[1].item(), 6)
        (300, 0.962179)
    """

    def __init__(self, t_min: float = 0.0, t_max: float = 30.0, resolution: float = 0.1, test_steps: int = 20) -> None:
        require(t_max > t_min and resolution > 0, f"t must rise: t_max {t_max}, t_min {t_min}, resolution {resolution}")
        self.t_min, self.t_max, self.resolution, self.test_steps = t_min, t_max, resolution, test_steps

    def load(self) -> tuple[Panel, Panel | None]:
        """See :meth:`SeriesSource.load`."""
        steps = max(round((self.t_max - self.t_min) / self.resolution), 1)
        t = self.t_min + np.arange(steps) * self.resolution
        return held_out(from_arrays(t * np.sin(t) / 3 + 2 * np.sin(5 * t), ["book"]), self.test_steps)

"""What was measured of the engines on a CPU: the table from which ``engine="auto"`` chooses.

``lightning-rnn bench --save`` writes this machine's table into the cache folder, where it is found from then on; until
then the one that comes with the package is used.
"""

from __future__ import annotations

import json
import math
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lightning_rnn.paths import cache_path

SHIPPED = Path(__file__).with_name("measured.json")


class Shape(NamedTuple):
    """One layer and direction at one shape, float32 on a CPU.

    Attributes:
        cell: a key of ``KINDS``.
        training: forward and backward; else forward alone.
        masked: rows have lengths.
        batch: rows, ``B``.
        steps: steps, ``T``.
        inputs: features of the input, ``D``.
        hidden: features of the output, ``H``.
    """

    cell: str
    training: bool
    masked: bool
    batch: int
    steps: int
    inputs: int
    hidden: int

    def __str__(self) -> str:
        sizes = f"{self.batch}×{self.steps}×{self.inputs}→{self.hidden}"
        return f"{self.cell} {sizes} {'training' if self.training else 'inference'}{' with lengths' * self.masked}"


class Measured(NamedTuple):
    """One row of the table: median seconds by engine."""

    shape: Shape
    seconds: dict[str, float]

    @property
    def order(self) -> tuple[str, ...]:
        """Engines, the fastest first."""
        return tuple(sorted(self.seconds, key=lambda name: self.seconds[name]))

    def __str__(self) -> str:
        times = ", ".join(f"{name} {1e3 * self.seconds[name]:.3g} ms" for name in self.order)
        return f"measured at {self.shape}: {times}"


def saved() -> Path:
    """Where this machine's own table is."""
    return cache_path("engines.json")


def save(rows: list[Measured], path: Path) -> None:
    """Write a table, one row a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps([*row.shape, {name: float(f"{s:.3g}") for name, s in row.seconds.items()}]) for row in rows]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


@cache
def table() -> tuple[Measured, ...]:
    """This machine's table, else the one of the package."""
    path = saved() if saved().is_file() else SHIPPED
    rows: list[list[Any]] = json.loads(path.read_text())
    return tuple(Measured(Shape(*row[:-1]), row[-1]) for row in rows)


@lru_cache(maxsize=1024)
def nearest(shape: Shape) -> Measured:
    """The row of the same cell and use whose sizes are nearest, by the logarithms of their ratios."""

    def distance(row: Measured) -> tuple[int, float]:
        apart = sum(abs(math.log(max(a, 1) / b)) for a, b in zip(shape[3:], row.shape[3:], strict=True))
        return sum(a != b for a, b in zip(shape[:3], row.shape[:3], strict=True)), apart

    return min(table(), key=distance)

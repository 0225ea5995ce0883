"""What is timed: shapes, options, and who stands beside whom. No torch here: the peers' Python reads this too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Sizes of one layer's work: ``x [batch, steps, inputs]`` to ``[batch, steps, hidden]``."""

    name: str
    batch: int
    steps: int
    inputs: int
    hidden: int
    layers: int = 1


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("géron", 150, 28, 28, 150),
        Shape("keras", 64, 28, 28, 64),
        Shape("mid", 32, 100, 64, 256),
        Shape("zaremba", 20, 35, 200, 200, layers=2),
        Shape("pixel", 64, 784, 1, 128),
    )
}
PACKED = (Shape("packed 25", 32, 25, 64, 128), Shape("packed 400", 32, 400, 64, 128))
CELLS = ("lstm", "gru", "simple_rnn")
GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1}
MODES = ("training", "inference")

OPTIONS: dict[str, tuple[str, ...]] = {  # which cells have it
    "recurrent dropout": CELLS,
    "recurrent dropout each step": CELLS,
    "zoneout": CELLS,
    "peephole": ("lstm",),
    "cell_clip": ("lstm",),
    "projection": ("lstm",),
    "layer_norm addons": ("lstm", "simple_rnn"),
    "layer_norm haste": ("lstm", "gru"),
    "layer_norm basic": ("lstm",),
    "reset_after=False": ("gru",),
    "relu": CELLS,
    "hard_sigmoid": ("lstm", "gru"),
    "mask with holes": CELLS,
    "left padding": CELLS,
    "lengths": CELLS,
    "reset_mask": CELLS,
    "return_all_states": CELLS,
    "reverse": CELLS,
}
KERAS_OPTIONS: dict[str, tuple[str, ...]] = {
    "recurrent dropout": CELLS,
    "mask with holes": CELLS,
    "peephole": ("lstm",),
    "layer_norm addons": ("lstm",),
    "reset_after=False": ("gru",),
}
KERAS = ("keras torch", "keras jax", "keras tensorflow", "keras xla")


@dataclass(frozen=True)
class Case:
    """One computation, whoever does it.

    Attributes:
        cell: ``lstm``, ``gru`` or ``simple_rnn``.
        shape: the sizes.
        mode: ``training`` (forward, and backward from a random gradient of all outputs) or ``inference``.
        option: ``plain``, ``bidirectional`` or a name in ``OPTIONS``.
        dtype: ``float32``, ``bfloat16`` or ``autocast`` (float32 weights, bfloat16 products).
        engine: of our layer.
    """

    cell: str
    shape: Shape
    mode: str = "training"
    option: str = "plain"
    dtype: str = "float32"
    engine: str = "auto"

    @property
    def keras_weights(self) -> bool:
        """Whether Keras is given our weights, for its numbers to be compared."""
        small = self.shape.layers == 1 and self.shape.steps < 200 and self.dtype == "float32"
        return small and self.option in ("plain", "mask with holes", "reset_after=False")

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Case:
        """The inverse of :meth:`to_json`."""
        return cls(**{**values, "shape": Shape(**values["shape"])})


@dataclass(frozen=True)
class Contender:
    """One row of a comparison: a name, the worker process that computes it, and what."""

    name: str
    worker: str
    case: Case
    alike: str = ""  # same or near: its numbers must be those of the first such contender before anything is timed


@dataclass(frozen=True)
class Comparison:
    """Contenders that are timed turn by turn."""

    group: str
    case: Case
    contenders: tuple[Contender, ...] = field(default=())

    @property
    def name(self) -> str:
        """For example ``torch lstm géron training plain``."""
        return f"{self.group} {self.case.cell} {self.case.shape.name} {self.case.mode} {self.case.option}"


@dataclass(frozen=True)
class Choice:
    """What of all is measured."""

    groups: tuple[str, ...]
    cells: tuple[str, ...] = CELLS
    shapes: tuple[str, ...] = tuple(SHAPES)
    engine: str = "auto"
    quick: bool = False


def _torch(choice: Choice) -> Iterator[Comparison]:
    for mode in MODES:
        for case in _grid(choice, choice.shapes, mode):
            ours = replace(case, engine=choice.engine)
            yield Comparison(
                "torch",
                case,
                (
                    Contender("ours", "ours", ours, "same"),
                    Contender("torch", "torch", case, "same"),
                    Contender("torch+settings", "torch+settings", case, "same"),
                    Contender("floor", "floor", case),
                ),
            )


def _packed(choice: Choice) -> Iterator[Comparison]:
    for shape in PACKED[:1] if choice.quick else PACKED:
        for cell in choice.cells:
            case = Case(cell, shape, option="lengths")
            yield Comparison(
                "packed",
                case,
                (
                    Contender("ours", "ours", replace(case, engine=choice.engine), "same"),
                    Contender("torch packed", "torch", case, "same"),
                    Contender("torch packed+settings", "torch+settings", case, "same"),
                ),
            )


def _bidirectional(choice: Choice) -> Iterator[Comparison]:
    for case in _grid(choice, _few(choice, "keras", "mid"), "training"):
        both = replace(case, option="bidirectional")
        yield Comparison(
            "bidirectional",
            both,
            (
                Contender("ours", "ours", replace(both, engine=choice.engine), "same"),
                Contender("torch", "torch", both, "same"),
                Contender("torch+settings", "torch+settings", both, "same"),
                Contender("ours one direction", "ours", replace(case, engine=choice.engine)),
            ),
        )


def _options(choice: Choice) -> Iterator[Comparison]:
    for case in _grid(choice, _few(choice, "keras", "mid"), "training"):
        plain = replace(case, engine=choice.engine)
        rest = tuple(
            Contender(name, "ours", replace(plain, option=name))
            for name, cells in OPTIONS.items()
            if case.cell in cells
        )
        yield Comparison("options", case, (Contender("plain", "ours", plain), *rest))


def _keras(choice: Choice) -> Iterator[Comparison]:
    for case in _grid(choice, choice.shapes, "training"):
        yield _beside_keras("keras", case, choice.engine)


def _keras_options(choice: Choice) -> Iterator[Comparison]:
    for name, cells in KERAS_OPTIONS.items():
        for case in _grid(choice, _few(choice, "keras"), "training"):
            if case.cell in cells:
                yield _beside_keras("keras_options", replace(case, option=name), choice.engine)


def _beside_keras(group: str, case: Case, engine: str) -> Comparison:
    alike = "same" if case.keras_weights else ""  # others draw noise, have weights of their own or take minutes
    ours = Contender("ours", "ours", replace(case, engine=engine), alike)
    return Comparison(group, case, (ours, *(Contender(name, name, case, alike) for name in KERAS)))


def _bf16(choice: Choice) -> Iterator[Comparison]:
    for mode in MODES:
        for case in _grid(choice, choice.shapes, mode):
            ours, narrow = replace(case, engine=choice.engine), replace(case, dtype="bfloat16")
            contenders = (
                Contender("float32", "ours", ours, "near"),
                Contender("bfloat16", "ours", replace(ours, dtype="bfloat16"), "near"),
                Contender("autocast", "ours", replace(ours, dtype="autocast"), "near"),
                Contender("torch autocast", "torch+settings", replace(case, dtype="autocast"), "near"),
                Contender("torch float32", "torch+settings", case, "near"),
                Contender("floor bfloat16", "floor", narrow),
            )
            yield Comparison("bf16", case, contenders)


def _grid(choice: Choice, shapes: tuple[str, ...], mode: str) -> Iterator[Case]:
    for shape in shapes:
        for cell in choice.cells:
            yield Case(cell, SHAPES[shape], mode)


def _few(choice: Choice, *names: str) -> tuple[str, ...]:
    """Of these shapes those that were chosen; with ``quick`` the first."""
    found = tuple(name for name in names if name in choice.shapes)
    return found[:1] if choice.quick else found


GROUPS = {
    "torch": _torch,
    "packed": _packed,
    "bidirectional": _bidirectional,
    "options": _options,
    "keras": _keras,
    "keras_options": _keras_options,
    "bf16": _bf16,
}


def comparisons(choice: Choice) -> list[Comparison]:
    """All comparisons of the chosen groups, in the order of ``GROUPS``."""
    return [one for group, make in GROUPS.items() if group in choice.groups for one in make(choice)]

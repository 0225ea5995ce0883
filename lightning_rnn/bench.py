"""``lightning-rnn bench``: the time of every engine on this machine, and whether ``auto`` takes the fastest."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from lightning_rnn.errors import require
from lightning_rnn.layers import GRU, LSTM, RecurrentLayer, SimpleRNN, measured
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.measured import Measured, Shape
from lightning_rnn.runtime import may_tune, tune_cpu

CELLS: dict[str, type[RecurrentLayer]] = {"simple_rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}
ENGINES: tuple[Engine, ...] = ("native", "fused", "loop", "scan")  # those of a CPU that know the three cells
GRID = [(b, t, h, h) for b, t, h in product((1, 16, 128), (4, 40), (32, 128, 320))]
SIZES = ("batch", "steps", "inputs", "hidden")
SLOWER = 1.1  # a choice up to this many times the fastest engine's time is as good as it
SOME, MOST = 3, 100  # steps of one turn


@dataclass(frozen=True)
class Row:
    """What was measured of a case.

    Attributes:
        case: it.
        seconds: by engine, the median of a forward pass, or of forward and backward.
        refused: by engine, why it does not run this case.
        chosen: the engine that ``auto`` takes.
    """

    case: Shape
    seconds: dict[str, float]
    refused: dict[str, str]
    chosen: str

    @property
    def fastest(self) -> str:
        """The engine that took the least time."""
        return min(self.seconds, key=lambda name: self.seconds[name])

    @property
    def cost(self) -> float | None:
        """The chosen engine's time over the fastest one's, at least 1; None where the chosen one was not timed."""
        return self.seconds[self.chosen] / self.seconds[self.fastest] if self.chosen in self.seconds else None


def measure(
    cases: Iterable[Shape], engines: Sequence[Engine] = ENGINES, *, rounds: int = 5, turn: float = 0.05
) -> list[Row]:
    """Time every engine on every case, by turns.

    Args:
        cases: what to time.
        engines: which; one that does not run a case is in its row's ``refused``.
        rounds: turns of each engine; its time is the median over them of the median of a turn.
        turn: seconds of a turn, about.

    Example:
        >>> (row,) = measure([Shape("gru", True, False, 2, 3, 4, 5)], ["fused", "scan"], rounds=1, turn=0)
        >>> list(row.seconds), row.chosen in ENGINES
        (['fused', 'scan'], True)
    """
    return list(_measure(cases, engines, rounds, turn))


def _measure(cases: Iterable[Shape], engines: Sequence[Engine], rounds: int, turn: float) -> Iterator[Row]:
    for case in cases:
        x = torch.randn(case.batch, case.steps, case.inputs)
        lengths = torch.arange(case.batch) % case.steps + 1 if case.masked else None
        refused: dict[str, str] = {}
        steps: dict[str, Callable[[], None]] = {}
        for engine in engines:
            layer = _layer(case, engine)
            try:
                layer.explain(x, lengths=lengths)
            except ValueError as error:  # an engine that does not run this says so
                refused[engine] = str(error)
            else:
                steps[engine] = _training(layer, x, lengths) if case.training else _inference(layer, x, lengths)
        seconds = by_turns(steps, rounds, turn)
        yield Row(case, seconds, refused, _chosen(case, x, lengths))


def _chosen(case: Shape, x: Tensor, lengths: Tensor | None) -> str:
    with torch.set_grad_enabled(case.training):
        return _layer(case, "auto").explain(x, lengths=lengths).engine


def _layer(case: Shape, engine: Engine) -> RecurrentLayer:
    return CELLS[case.cell](case.inputs, case.hidden, engine=engine).train(case.training)


def _training(layer: RecurrentLayer, x: Tensor, lengths: Tensor | None) -> Callable[[], None]:
    gradient = torch.randn(x.shape[0], x.shape[1], layer.output_size)

    def step() -> None:
        layer.zero_grad()
        torch.autograd.backward(layer(x, lengths=lengths).sequence, gradient)

    return step


def _inference(layer: RecurrentLayer, x: Tensor, lengths: Tensor | None) -> Callable[[], None]:
    @torch.inference_mode()
    def step() -> None:
        layer(x, lengths=lengths)

    return step


def by_turns(steps: dict[str, Callable[[], None]], rounds: int, turn: float) -> dict[str, float]:
    """Median seconds of each function: a few runs of one, then of the next, round after round.

    Example:
        >>> list(by_turns({"nothing": lambda: None}, rounds=1, turn=0))
        ['nothing']
    """
    for step in steps.values():
        step()  # builds, allocates, fills caches
    repeats = {name: max(SOME, min(MOST, round(turn / timed(step)))) for name, step in steps.items()}
    turns: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            found = [timed(step) for _ in range(repeats[name])]
            turns[name].append(statistics.median(found[1:]))  # the first finds caches that others have filled
    return {name: statistics.median(found) for name, found in turns.items()}


def timed(step: Callable[[], None]) -> float:
    """Seconds of one run, more than 0."""
    start = time.perf_counter_ns()
    step()
    return max(time.perf_counter_ns() - start, 1) / 1e9


def table(rows: list[Row], engines: Sequence[str] = ENGINES) -> list[str]:
    """Lines of a table in milliseconds: ``*`` at the engine that ``auto`` takes, a word where another is faster.

    Example:
        >>> row = Row(Shape("gru", True, False, 2, 3, 4, 5), {"fused": 0.002, "scan": 0.001}, {}, "fused")
        >>> print(table([row], ["fused", "scan"])[1])
        gru           2     3     4     5  training              2.000*    1.000   2.0 times the time of scan
    """
    head = f"{'cell':10}{'B':>5}{'T':>6}{'D':>6}{'H':>6}  {'':18}" + "".join(f"{name:>9} " for name in engines)
    return [head.rstrip(), *(_line(row, engines) for row in rows)]


def _line(row: Row, engines: Sequence[str]) -> str:
    case = row.case
    sizes = f"{case.cell:10}{case.batch:5}{case.steps:6}{case.inputs:6}{case.hidden:6}"
    times = "".join(
        f"{1e3 * row.seconds[name]:9.3f}{'*' if name == row.chosen else ' '}" if name in row.seconds else f"{'–':>9} "
        for name in engines
    )
    said = ""
    if row.cost is None:
        said = f"  auto takes {row.chosen}, which was not timed"
    elif row.cost > SLOWER:
        said = f"  {row.cost:.1f} times the time of {row.fastest}"
    use = ("training" if case.training else "inference") + " lengths" * case.masked
    return f"{sizes}  {use:18}{times}{said}".rstrip()


def main(argv: list[str]) -> int:
    """``lightning-rnn bench``: print the table for this machine. Returns the exit code."""
    options = _arguments(argv)
    cases = _cases(options)
    if options.tune_cpu == "true":
        print(tune_cpu(threads=options.threads))
    elif options.threads:
        torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, threads: {torch.get_num_threads()}, float32; milliseconds; * is what auto takes")
    rows: list[Row] = []
    for row in _measure(cases, options.engines, options.rounds, options.turn):
        lines = table([row], options.engines)
        print("\n".join(lines if not rows else lines[1:]), flush=True)
        rows.append(row)
    for engine, reason in {name: why for row in rows for name, why in row.refused.items()}.items():
        if not any(engine in row.seconds for row in rows):
            print(f"not timed: {engine}: {reason}")
    if options.save:
        measured.save([Measured(row.case, row.seconds) for row in rows], options.save)
        print(f"saved to {options.save}; auto reads {measured.saved()}, else the table that comes with the package")
    best = sum(row.cost is not None and row.cost <= SLOWER for row in rows)
    print(f"auto takes the fastest engine, or one within {SLOWER - 1:.0%} of it, in {best} of {len(rows)} cases")
    return 0


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("lightning-rnn bench", description=__doc__)
    tune = "true" if may_tune() else "false"
    for name in SIZES:
        parser.add_argument(
            f"--{name}", type=_sizes, help="a size, or several with commas; else a small grid of shapes"
        )
    parser.add_argument("--cells", type=_words(CELLS), default=list(CELLS), help=f"of {','.join(CELLS)}")
    parser.add_argument("--engines", type=_words(ENGINES), default=list(ENGINES), help=f"of {','.join(ENGINES)}")
    parser.add_argument("--mode", choices=("both", "training", "inference"), default="both")
    parser.add_argument("--lengths", choices=("both", "no", "yes"), default="no", help="whether rows have lengths")
    parser.add_argument(
        "--save", nargs="?", type=Path, const=measured.saved(), help="write the table from which auto chooses"
    )
    parser.add_argument("--threads", type=_size, help="threads of torch")
    parser.add_argument("--rounds", type=_size, default=5, help="turns of each engine")
    parser.add_argument("--turn", type=float, default=0.05, help="seconds of a turn")
    parser.add_argument(
        "--tune_cpu", choices=("true", "false"), default=tune, help="as for fit: keep freed memory, flush denormals"
    )
    return parser.parse_args(argv)


def _cases(options: argparse.Namespace) -> list[Shape]:
    given = {f"--{name}": getattr(options, name) for name in SIZES}
    missing = [name for name, sizes in given.items() if not sizes]
    require(len(missing) in (0, 4), f"give {', '.join(missing)} too: a shape has four sizes")
    shapes = GRID if missing else list(product(options.batch, options.steps, options.inputs, options.hidden))
    modes = {"both": (True, False), "training": (True,), "inference": (False,)}[options.mode]
    masks = {"both": (False, True), "no": (False,), "yes": (True,)}[options.lengths]
    return [
        Shape(cell, training, masked, *shape)
        for training, masked, cell in product(modes, masks, options.cells)
        for shape in shapes
    ]


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _sizes(text: str) -> list[int]:
    return [_size(part) for part in text.split(",")]


def _words(known: Iterable[str]) -> Callable[[str], list[str]]:
    def words(text: str) -> list[str]:
        found = text.split(",")
        unknown = [word for word in found if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}; there are {', '.join(known)}")
        return found

    return words

"""Which engine runs a call, and why.

An engine runs one layer in one direction, from the first step to the last, over a whole batch:
``run(stepper, x, state, valid, resets, all_states) -> Ran``. All follow one specification
(:func:`lightning_rnn.functional.scan`); the choice changes speed only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from lightning_rnn.functional.linear_scan import LinearStepper, run_linear
from lightning_rnn.functional.scan import Ran, scan
from lightning_rnn.layers.fused import KERNELS, run_fused
from lightning_rnn.layers.gates import Gates
from lightning_rnn.layers.loop import against_loop, run_loop
from lightning_rnn.layers.measured import Measured, Shape, nearest
from lightning_rnn.layers.native import against_native, run_native
from lightning_rnn.layers.replay import against_transforms
from lightning_rnn.layers.triton_steps import against_triton, run_triton

Engine = Literal["auto", "native", "fused", "triton", "loop", "parallel", "scan"]


class EngineChoice(NamedTuple):
    """The engine that runs a call, and the reasons for it."""

    engine: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """What a call asks for beside the cell's own equation.

    Attributes:
        resets: episodes start inside the sequence.
        unroll: the loop in Python was asked for.
        all_states: the state after every step is wanted.
        sizes: ``(B, T)`` of an input on a CPU, None of another.
        masked: some steps are not real.
    """

    resets: bool = False
    unroll: bool = False
    all_states: bool = False
    sizes: tuple[int, int] | None = None
    masked: bool = False


def against_fused(stepper: object, call: Call) -> list[str]:
    """Why no fused kernel runs this; empty where one does."""
    if not isinstance(stepper, Gates):
        return [f"no fused kernel computes {type(stepper).__name__}"]
    options, w = stepper.options, stepper.weights
    found = {
        f"the activation {options.activation!r}": (stepper.kind.name, options.activation) not in KERNELS,
        f"the recurrent activation {options.recurrent_activation!r}": options.recurrent_activation != "sigmoid",
        "reset_after=False": not options.reset_after,
        "peepholes": options.peephole,
        "layer normalization inside the step": options.layer_norm != "none",
        "cell_clip": options.cell_clip is not None,
        "proj_clip": options.proj_clip is not None,
        "a projection of at least the hidden size": w.weight_hr is not None
        and w.weight_hr.shape[0] >= w.weight_hr.shape[1],
        "recurrent dropout": stepper.dropped is not None or bool(stepper.drop_each),
        "zoneout": bool(stepper.zoneout),
        "reset_mask": call.resets,
        "the states of all steps": call.all_states,
    }
    against = [f"no fused kernel has {what}" for what, there in found.items() if there]
    return against + against_transforms("the fused kernels", call)


def against_parallel(stepper: object, call: Call) -> list[str]:
    """Why no parallel scan runs this."""
    if not isinstance(stepper, LinearStepper):
        return [f"the step of {type(stepper).__name__} is not linear in its state"]
    return ["unroll=True asks for the loop"] if call.unroll else []


class EngineEntry(NamedTuple):
    """One row of the table of engines.

    Attributes:
        name: as in ``engine=``.
        run: runs a call.
        against: why it does not run one.
        why: the reason for it where it does.
        whole: whether it turns time (``reverse``) and fills masked outputs (``fill``) itself.
    """

    name: str
    run: Callable[..., Ran]
    against: Callable[[object, Call], list[str]]
    why: str
    whole: bool = False


ENGINES = (  # the first that has nothing against a call runs it
    EngineEntry("native", run_native, against_native, "our own kernels for the CPU, with every option", whole=True),
    EngineEntry(
        "fused",
        run_fused,
        against_fused,
        "one fused kernel: cuDNN on a GPU; on a CPU oneDNN for LSTM without projection, else torch's own loop",
    ),
    EngineEntry("triton", run_triton, against_triton, "Triton's kernels between cuBLAS' products, with every option"),
    EngineEntry("loop", run_loop, against_loop, "the loop in Python with a backward by hand"),
    EngineEntry("parallel", run_linear, against_parallel, "one parallel scan: the step is linear in the state"),
    EngineEntry("scan", scan, lambda stepper, call: [], "the loop in Python"),
)
BY_NAME = {entry.name: entry for entry in ENGINES}


def choose(engine: Engine, stepper: object, call: Call) -> EngineChoice:
    """The engine for a call. Anything but ``auto`` raises with the reasons rather than fall back.

    Raises:
        ValueError: the engine asked for does not do what is asked.
    """
    if engine != "auto":
        against = BY_NAME[engine].against(stepper, call)
        if against:
            raise ValueError(
                f"engine={engine!r} cannot run this call: {'; '.join(against)}. Use engine='auto' or 'scan'."
            )
        return EngineChoice(engine, (f"engine={engine!r} was asked for",))
    row = _measured(stepper, call)
    reasons: list[str] = []
    for entry in ENGINES if row is None else sorted(ENGINES, key=lambda entry: _place(row, entry.name)):
        against = entry.against(stepper, call)
        if not against:
            known = () if row is None or entry.name not in row.seconds else (str(row),)
            return EngineChoice(entry.name, (*reasons, *known) or (entry.why,))
        reasons += against
    raise AssertionError("the loop runs everything")


def _measured(stepper: object, call: Call) -> Measured | None:
    """What was measured of such a call: of the three cells on a CPU."""
    if not isinstance(stepper, Gates) or call.sizes is None or torch.compiler.is_compiling():
        return None
    rows, inputs = stepper.weights.weight_ih.shape
    sizes = (*call.sizes, inputs, rows // stepper.kind.gates)
    return nearest(Shape(stepper.kind.name, torch.is_grad_enabled(), call.masked, *sizes))


def _place(row: Measured, name: str) -> int:
    """Engines that were measured, the fastest first, then the others in their order."""
    return row.order.index(name) if name in row.seconds else len(row.order)


def entry_of(choice: EngineChoice) -> EngineEntry:
    """The row of the engine chosen."""
    return BY_NAME[choice.engine]

"""Which engine runs a call, and why.

An engine runs one layer in one direction, from the first step to the last, over a whole batch:
``run(stepper, x, state, valid, resets, all_states) -> Ran``. All follow one specification
(:func:`lightning_rnn.functional.scan`); the choice changes speed only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from lightning_rnn.functional.linear_scan import LinearStepper, run_linear
from lightning_rnn.functional.scan import Ran, scan
from lightning_rnn.layers.fused import KERNELS, run_fused
from lightning_rnn.layers.gates import Gates

Engine = Literal["auto", "fused", "parallel", "scan"]


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
    """

    resets: bool = False
    unroll: bool = False
    all_states: bool = False


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
    if call.unroll:
        against.append("unroll=True asks for the loop")
    if torch._C._are_functorch_transforms_active():
        against.append("the fused kernels have no rule for torch.func transforms such as vmap")
    return against


def against_parallel(stepper: object, call: Call) -> list[str]:
    """Why no parallel scan runs this."""
    if not isinstance(stepper, LinearStepper):
        return [f"the step of {type(stepper).__name__} is not linear in its state"]
    return ["unroll=True asks for the loop"] if call.unroll else []


class EngineEntry(NamedTuple):
    """One row of the table of engines."""

    name: str
    run: Callable[..., Ran]
    against: Callable[[object, Call], list[str]]
    why: str


ENGINES = (  # the first that has nothing against a call runs it
    EngineEntry(
        "fused",
        run_fused,
        against_fused,
        "one fused kernel: cuDNN on a GPU; on a CPU oneDNN for LSTM without projection, else torch's own loop",
    ),
    EngineEntry("parallel", run_linear, against_parallel, "one parallel scan: the step is linear in the state"),
    EngineEntry("scan", scan, lambda stepper, call: [], "the loop in Python"),
)


def choose(engine: Engine, stepper: object, call: Call) -> EngineChoice:
    """The engine for a call. Anything but ``auto`` raises with the reasons rather than fall back.

    Raises:
        ValueError: the engine asked for does not do what is asked.
    """
    reasons: list[str] = []
    for entry in ENGINES:
        if engine not in ("auto", entry.name):
            continue
        against = entry.against(stepper, call)
        if not against:
            asked = () if engine == "auto" else (f"engine={engine!r} was asked for",)
            return EngineChoice(entry.name, (*asked, *reasons) or (entry.why,))
        if engine != "auto":
            raise ValueError(
                f"engine={engine!r} cannot run this call: {'; '.join(against)}. Use engine='auto' or 'scan'."
            )
        reasons += against
    raise AssertionError("the loop runs everything")


def runner(choice: EngineChoice) -> Callable[..., Any]:
    """The function of an engine."""
    return next(entry.run for entry in ENGINES if entry.name == choice.engine)

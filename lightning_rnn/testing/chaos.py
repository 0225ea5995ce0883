"""Runs of the command line that are killed at random moments and resumed, and what must not differ afterwards.

Every attempt is a fork of this process, which has imported everything: it starts in a fraction of a second. Import
nothing that starts threads before :func:`survive` is called, and keep torch on one thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils import _pytree as pytree

from lightning_rnn.cli import main
from lightning_rnn.errors import CheckpointError
from lightning_rnn.training.checkpoints import LAST, read_checkpoint
from lightning_rnn.training.preemption import SIGNALS
from lightning_rnn.types import SequenceBatch

LOG, OUTPUT = "batches.jsonl", "output.txt"
COMPARED = ("epoch", "global_step", "state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "loops")
RECORDER = "--trainer.callbacks+=lightning_rnn.testing.chaos.BatchLog"


class BatchLog(pl.Callback):
    """Appends each training batch to ``batches.jsonl``: epoch, batch, process, its rows, learning rate, loss."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: SequenceBatch, batch_idx: int
    ) -> None:
        rows = [] if batch.ids is None else batch.ids.tolist()
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        line = [trainer.current_epoch, batch_idx, trainer.global_rank, rows, float(rate), float(outputs["loss"])]
        with (Path(trainer.default_root_dir) / LOG).open("a") as file:
            file.write(json.dumps(line) + "\n")


@dataclass
class Survival:
    """What happened to a run that was killed again and again.

    Attributes:
        kills: how often.
        seconds: of the run that was never killed.
        differences: what differs from it, in words; empty where all is well.
    """

    kills: int
    seconds: float
    differences: list[str]


def attempt(
    argv: Sequence[str],
    root: Path,
    after: float | None = None,
    sabotage: Callable[[], object] | None = None,
    strike: Callable[[int], object] | None = None,
) -> int:
    """One run of the command line in a process group of its own.

    Args:
        argv: the command line.
        root: its run folder; what it prints is appended to ``output.txt`` there.
        after: seconds after which it is struck; None lets it end.
        sabotage: called in the new process before anything else.
        strike: called with the group's number; None sends SIGKILL to all of the group.

    Returns:
        Its exit code, negative for a signal.
    """
    root.mkdir(parents=True, exist_ok=True)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}  # a new process has no handlers
    child = os.fork()
    if child == 0:
        _be_the_run(list(argv), root, sabotage)
    for number, handler in before.items():
        signal.signal(number, handler or signal.SIG_DFL)
    until = None if after is None else time.monotonic() + after
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            kill_all(child)  # the other processes of a run whose first one has ended
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() >= until:
            (strike or kill_all)(child)
            until = None
        time.sleep(0.005)


def _be_the_run(argv: list[str], root: Path, sabotage: Callable[[], object] | None) -> None:
    """What the forked process does; it never returns."""
    code = 1
    try:
        os.setsid()
        output = os.open(root / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(output, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        for handler in logging.getLogger().handlers:
            logging.getLogger().removeHandler(handler)
        if sabotage is not None:
            sabotage()
        code = main(argv)
    except BaseException:  # nobody is above to print it
        traceback.print_exc()
    finally:
        os._exit(code)


def kill_all(group: int) -> None:
    """SIGKILL to a process group; one that has ended already is left in peace."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def kill_one(group: int) -> None:
    """SIGKILL to one process of a group, by chance."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(random.choice(members(group)), signal.SIGKILL)


def members(group: int) -> list[int]:
    """The processes of a group, as ``/proc`` lists them.

    Example:
        >>> os.getpid() in members(os.getpgrp())
        True
    """
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                found.append(int(path.parent.name))
    return found


def survive(
    argv: Sequence[str],
    folder: Path,
    kills: int,
    seed: int = 0,
    longest: float | None = None,
    strike: Callable[[int], object] = kill_all,
) -> Survival:
    """Run a command line once in peace, and once killed at random moments and resumed each time; compare.

    Args:
        argv: ``fit --config ...`` without a run folder; deterministic.
        folder: for both runs' folders.
        kills: at least so many; where the run ends before, it is run anew.
        seed: of the moments.
        longest: seconds that an attempt may last before it is struck; None is what the run takes.
        strike: what is done to it then, see :func:`attempt`.

    Returns:
        How often it was killed, and what differs.
    """
    dice, peace = random.Random(seed), folder / "peace"
    argv = [*argv, "--ckpt_path", "last", RECORDER, "--trainer.default_root_dir"]
    began = time.monotonic()
    code = attempt([*argv, str(peace)], peace)
    result = Survival(0, time.monotonic() - began, [])
    if code != 0:
        result.differences.append(f"the run that was left in peace ended with {code}: see {peace / OUTPUT}")
    turn = 0
    while not result.differences and result.kills < kills:
        root = folder / f"killed_{turn}"
        turn += 1
        kills_here, code = _until_done([*argv, str(root)], root, strike, dice, longest or result.seconds)
        result.kills += kills_here
        if code != 0:
            result.differences.append(f"an attempt ended with {code}: see {root / OUTPUT}")
        else:
            result.differences += differences(peace, root)
    return result


def _until_done(
    argv: Sequence[str], root: Path, strike: Callable[[int], object], dice: random.Random, longest: float
) -> tuple[int, int]:
    """Strike a run and start it again, until one comes to its end: number of strikes that told, and its exit code."""
    kills = 0
    while True:
        struck = list[int]()

        def note(group: int, struck: list[int] = struck) -> None:
            struck.append(group)
            strike(group)

        code = attempt(argv, root, dice.uniform(0.0, longest), strike=note)
        if code == 0 or not struck:
            return kills, code
        kills += 1


def differences(peace: Path, killed: Path) -> list[str]:
    """What differs between two finished run folders: weights, optimizer, schedule, progress, metrics, batches.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> differences(folder, folder)[0].partition(" is not")[0].endswith("last.ckpt")
        True
    """
    try:
        one, two = (read_checkpoint(root / "checkpoints" / LAST) for root in (peace, killed))
    except CheckpointError as error:
        return [str(error)]
    found = [f"{killed}: the {key} differs" for key in COMPARED if _unlike(one, two, key)]
    if (peace / "metrics.csv").read_bytes() != (killed / "metrics.csv").read_bytes():
        found.append(f"{killed}: metrics.csv differs")
    return found + _other_batches(peace, killed)


def _unlike(one: dict[str, Any], two: dict[str, Any], key: str) -> bool:
    leaves, spec = pytree.tree_flatten(one.get(key))
    others, other_spec = pytree.tree_flatten(two.get(key))
    same = spec == other_spec and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(leaves, others, strict=True)
    )
    return not same


def _other_batches(peace: Path, killed: Path) -> list[str]:
    """Batches that were lost, or that were not the same each time they were trained on."""
    expected, seen = ({tuple(line[:3]): line[3:] for line in _lines(root)} for root in (peace, killed))
    found = [f"{killed}: batch {key} was never trained on" for key in expected if key not in seen]
    found += [f"{killed}: batch {key} is not one of the run" for key in seen if key not in expected]
    for line in _lines(killed):
        if expected.get(tuple(line[:3]), line[3:]) != line[3:]:
            found.append(f"{killed}: batch {line[:3]} is {line[3:]}, not {expected[tuple(line[:3])]}")
    return found[:5]


def _lines(root: Path) -> list[list[Any]]:
    """The log's lines; one that a kill has torn was trained on again later."""
    lines = []
    for text in (root / LOG).read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines

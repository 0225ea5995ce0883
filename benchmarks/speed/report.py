"""Records to tables: what was aimed at, what was found, and all medians."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from speed.cases import KERAS, SHAPES

Record = dict[str, Any]
LARGE = tuple(name for name, shape in SHAPES.items() if shape.hidden >= 150)
LABELS = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "SimpleRNN"}
OWN = ("options", "bf16")  # groups whose ratios are to our own plain layer
QUIET = 0.3  # cores of other load that are not worth a word


@dataclass(frozen=True)
class Target:
    """One line of the table of targets: a ratio of two contenders over the records of a group.

    Attributes:
        text: what it says.
        group: whose records.
        limit: the ratio may not be larger.
        over: the ``median`` over the records, or their ``largest``.
        ours: whose time; empty: each contender but those named in ``theirs``.
        theirs: over whose; several: the fastest of them.
        cells: of these cells; empty: all.
        shapes: of these shapes; empty: all.
        mode: of this mode.
    """

    text: str
    group: str
    limit: float
    over: Literal["median", "largest"] = "largest"
    ours: str = "ours"
    theirs: tuple[str, ...] = ("torch",)
    cells: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    mode: str = "training"


def _each(text: str, limits: dict[str, float], **rest: Any) -> list[Target]:
    return [Target(f"{text}, {LABELS[cell]}", limit=limit, cells=(cell,), **rest) for cell, limit in limits.items()]


SETTINGS: dict[str, Any] = {"group": "torch", "theirs": ("torch+settings",)}
TARGETS = (
    *_each(
        "torch.nn as a user gets it, training, median over the shapes",
        {"lstm": 0.65, "gru": 0.55, "simple_rnn": 0.6},
        group="torch",
        over="median",
    ),
    Target("torch.nn as a user gets it, training, every shape", "torch", 0.9),
    *_each("torch.nn with our settings, training", {"lstm": 1.0, "gru": 0.6, "simple_rnn": 0.65}, **SETTINGS),
    *_each(
        "torch.nn with our settings, inference",
        {"lstm": 1.05, "gru": 0.9, "simple_rnn": 0.75},
        mode="inference",
        **SETTINGS,
    ),
    Target("torch.nn packed, T = 25, training", "packed", 0.5, theirs=("torch packed",), shapes=("packed 25",)),
    Target("torch.nn packed, T = 400, training", "packed", 1 / 15, theirs=("torch packed",), shapes=("packed 400",)),
    Target("Keras 3 on torch, training", "keras", 0.25, theirs=("keras torch",)),
    Target("Keras 3, the fastest backend, training", "keras", 1.0, theirs=KERAS),
    Target("our plain layer, every option and mask, training", "options", 1.5, ours="", theirs=("plain",)),
    Target("Keras 3 on torch with an option, training", "keras_options", 0.25, theirs=("keras torch",)),
    Target("Keras 3 with an option, the fastest backend, training", "keras_options", 1.0, theirs=KERAS),
    *_each(
        "our float32 by our bfloat16, H ≥ 150, training",
        {"lstm": 0.5, "gru": 0.6},
        group="bf16",
        ours="bfloat16",
        theirs=("float32",),
        shapes=LARGE,
    ),
    Target("the floor, H ≥ 150, training", "torch", 1 / 0.7, theirs=("floor",), shapes=LARGE),
    *_each(
        "torch.nn bidirectional with our settings, training",
        {"lstm": 1.0, "gru": 0.6, "simple_rnn": 0.65},
        group="bidirectional",
        theirs=("torch+settings",),
    ),
)


def medians(record: Record) -> dict[str, float]:
    """Seconds of each contender: the median over its turns."""
    return {name: statistics.median(found) for name, found in record["seconds"].items() if found}


def ratios(target: Target, records: list[Record]) -> Iterator[tuple[float, str]]:
    """The target's ratio in each record that it speaks of, with what it belongs to."""
    for record in spoken_of(target, records):
        case, times = record["case"], medians(record)
        theirs = [times[name] for name in target.theirs if name in times]
        for name in [target.ours] if target.ours else [one for one in times if one not in target.theirs]:
            if name in times and theirs:
                option = f" {case['option']}" if case["option"] != "plain" else ""
                where = f"{LABELS[case['cell']]} {case['shape']['name']}{option}"
                yield times[name] / min(theirs), where if target.ours else f"{where} {name}"


def spoken_of(target: Target, records: list[Record]) -> list[Record]:
    """The records that a target is about."""
    return [
        record
        for record in records
        if (record["group"], record["case"]["mode"]) == (target.group, target.mode)
        and (not target.cells or record["case"]["cell"] in target.cells)
        and (not target.shapes or record["case"]["shape"]["name"] in target.shapes)
    ]


def verdict(target: Target, records: list[Record]) -> tuple[str, str]:
    """``(figure, met)`` as the table shows them; nothing is met beside other load."""
    found = list(ratios(target, records))
    if not found:
        return "not measured", "–"
    if target.over == "median":
        figure = statistics.median(ratio for ratio, _ in found)
        text = f"{figure:.2f}"
    else:
        figure, where = max(found)
        above = sum(ratio > target.limit for ratio, _ in found)
        text = f"{figure:.2f} ({where}){f'; {above} of {len(found)} above' if above else ''}"
    if any(record["busy"] > QUIET for record in spoken_of(target, records)):
        return f"{text}, beside other load", "–"
    return text, "yes" if figure <= target.limit else "no"


def summary(records: list[Record]) -> list[str]:
    """The table of targets, in Markdown."""
    rows = ["| our time over that of | target | figure | met |", "|---|---|---|---|"]
    for target in TARGETS:
        figure, met = verdict(target, records)
        rows.append(f"| {target.text} | ≤ {target.limit:.3g} | {figure} | {met} |")
    return rows


def detail(group: str, records: list[Record]) -> list[str]:
    """All medians of a group in milliseconds, with ratios, in Markdown; a record taken beside other load says so."""
    mine = [record for record in records if record["group"] == group]
    names = list(dict.fromkeys(name for record in mine for name in (*record["seconds"], *record["errors"])))
    columns = {label(record): texts(record, group in OWN) for record in mine}
    table = [["", *names], *([name, *(found.get(one, "") for one in names)] for name, found in columns.items())]
    if group == "options":
        table = [list(row) for row in zip(*table, strict=True)]
    said = "that time over the first one's" if group in OWN else "the first one's time over that one"
    rows = [f"| {' | '.join(row)} |" for row in table]
    return [f"Milliseconds, in brackets {said}.", "", rows[0], "|" + "---|" * len(table[0]), *rows[1:]]


def label(record: Record) -> str:
    """What a record measured, in words."""
    case = record["case"]
    option = "" if case["option"] in ("plain", "lengths") else f", {case['option']}"
    loud = f" (beside {record['busy']:.1f} cores of other load)" if record["busy"] > QUIET else ""
    return f"{LABELS[case['cell']]} {case['shape']['name']} {case['mode']}{option}{loud}"


def texts(record: Record, own: bool) -> dict[str, str]:
    """Each contender's median and its ratio with the first one."""
    times = medians(record)
    found = {name: f"{1e3 * time:.2f}" for name, time in times.items()}
    first = times.get(record["first"])
    if first is None:
        return found
    for name in found.keys() - {record["first"]}:
        found[name] += f" ({times[name] / first if own else first / times[name]:.2f})"
    return found


def document(runs: dict[int, list[Record]]) -> str:
    """The whole page, from the records by number of threads."""
    lines = [
        "# Recurrent layers: time against others",
        "",
        "Made by `python benchmarks/layers.py`, which says how it is measured; raw turns stand beside this file. "
        "Every ratio is of medians of one run in which the contenders took turns.",
    ]
    for threads, records in sorted(runs.items()):
        machine = records[-1]["machine"]
        lines += ["", f"## {threads} thread{'s' if threads > 1 else ''}", ""]
        lines += [f"{machine['cpu']} ({', '.join(machine['flags'])}), torch {machine['torch']}, {machine['date']}.", ""]
        lines += summary(records)
        for group in dict.fromkeys(record["group"] for record in records):
            lines += ["", f"### {group}, {threads} thread{'s' if threads > 1 else ''}", "", *detail(group, records)]
    return "\n".join(lines) + "\n"


def read(path: Path) -> list[Record]:
    """The records of a ``.jsonl`` file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def merge(old: list[Record], new: list[Record]) -> list[Record]:
    """Records by name, the newer in place of the older."""
    return list({record["name"]: record for record in (*old, *new)}.values())

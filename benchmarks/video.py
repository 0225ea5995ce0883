"""Video classification: each configuration with several seeds, its test part read once; and the controls of motion.

    python benchmarks/video.py moving controls digits jhmdb spoken speakers [--seeds 0 1 2] [--out runs/video] [--write]

Every verb is a process of its own. A run whose log is there is read, not run again, so the command can be stopped and
given again. ``--write`` writes benchmarks/results/video.md from the runs that are there, and runs nothing.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from speed.verbs import Ran, run

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
RESULTS = Path(__file__).parent / "results" / "video.md"


@dataclass(frozen=True)
class Row:
    """One line of a stage: a config with options.

    Attributes:
        name: what the line is called.
        config: of the runs.
        rows: of the test part.
        options: beside the config's.
        checkpoint: that is tested.
    """

    name: str
    config: str
    rows: int
    options: tuple[str, ...] = ()
    checkpoint: str = "best"


STAGES: dict[str, list[Row]] = {
    "moving": [Row("moving MNIST, all frames in order", "moving_mnist", 4000)],
    "controls": [
        Row("one frame of each clip", "moving_mnist", 4000, ("data.frames=one",)),
        Row("all frames, shuffled", "moving_mnist", 4000, ("data.frames=shuffled",)),
    ],
    "digits": [Row("moving digits (embedded)", "moving_digits", 1000)],
    "jhmdb": [Row("J-HMDB-14 skeletons, split 1", "jhmdb", 176, checkpoint="last")],
    "spoken": [Row("spoken digits, official split", "spoken_digits", 300)],
    "speakers": [
        Row(f"spoken digits, {name} left out", "spoken_digits", 500,
            ("data.source.split=speaker", f"data.source.speaker={name}", "data.val_fraction=0.2"))
        for name in SPEAKERS
    ],
}  # fmt: skip


def folder_of(row: Row, seed: int, out: Path) -> Path:
    ends = [option.rpartition("=")[2] for option in row.options]
    return out / "-".join([row.config, *ends, str(seed)])


def log_of(folder: Path, verb: str) -> Path:
    return folder.with_name(f"{folder.name}.{verb}.json")


def one(row: Row, seed: int, out: Path) -> Ran:
    """Train and test, where that was not done before; what training took."""
    folder = folder_of(row, seed, out)
    shared = ["--config", f"configs/video_classification/{row.config}.yaml"]
    shared += ["--trainer.default_root_dir", str(folder), f"--seed_everything={seed}", f"--data.seed={seed}"]
    shared += [f"--{option}" for option in row.options]
    ran = run(["fit", *shared, "--ckpt_path=last"], log_of(folder, "fit"))
    run(["test", *shared, f"--ckpt_path={row.checkpoint}"], log_of(folder, "test"))
    return ran


def accuracy_of(folder: Path) -> float:
    with (folder / "metrics.csv").open() as file:
        return [float(row["test_accuracy"]) for row in csv.DictReader(file) if row.get("test_accuracy")][-1]


def interval(share: float, rows: int) -> tuple[float, float]:
    """Wilson's interval of a share, 95 %.

    Example:
        >>> [round(end, 3) for end in interval(0.125, 4000)]
        [0.115, 0.136]
    """
    z = 1.959964
    center = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return center - half, center + half


def found(row: Row, out: Path) -> Iterator[tuple[int, float, Ran]]:
    """Seed, accuracy and what training took, of the runs that are there."""
    for seed in range(20):
        folder = folder_of(row, seed, out)
        if log_of(folder, "test").exists():
            yield seed, accuracy_of(folder), run([], log_of(folder, "fit"))


def line(row: Row, out: Path) -> str:
    """A row of the table, from the runs that are there."""
    runs = list(found(row, out))
    if not runs:
        return ""
    values = [accuracy for _, accuracy, _ in runs]
    mean = sum(values) / len(values)
    low, high = interval(mean, row.rows * len(runs))
    seeds = " ".join(str(seed) for seed, _, _ in runs)
    seconds = max(ran.cpu for _, _, ran in runs)
    shown = [row.name, f"{mean:.4f}", f"{min(values):.4f}-{max(values):.4f}", f"{low:.4f}-{high:.4f}"]
    return f"| {' | '.join([*shown, str(row.rows), seeds, f'{seconds:.0f}'])} |"


def report(out: Path) -> str:
    lines = [
        "# Video classification",
        "",
        "Test accuracy, by `python benchmarks/video.py moving controls digits jhmdb spoken speakers`. The interval is",
        "Wilson's, 95 %, of all seeds' rows together. CPU seconds are those of the longest training, one thread. The",
        "controls' classes are balanced, so chance is .1250.",
        "",
        "| | mean | over seeds | 95 % | test rows | seeds | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [line(row, out) for stage in STAGES.values() for row in stage]
    return "\n".join([*lines, *filter(None, rows)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], metavar="stage")  # none: only --write
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/video"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    for stage in given.stages:
        for row in STAGES[stage]:
            for seed in given.seeds:
                ran = one(row, seed, given.out)
                value = accuracy_of(folder_of(row, seed, given.out))
                print(f"{row.name}, seed {seed}: {value:.4f}, {ran.wall:.0f} s, {ran.cpu:.0f} CPU-s", flush=True)
    if given.write:
        RESULTS.write_text(report(given.out))


if __name__ == "__main__":
    main()

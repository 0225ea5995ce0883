"""Forecasting: each configuration with several seeds, trained on all of the training part, its test part read once.

    python benchmarks/forecasting.py m4_weekly m4_hourly [--seeds 0 1 2] [--out runs/forecasting] [--option ...]

Every verb is a process of its own. A run whose log is there is read, not run again, so the command can be stopped and
given again. ``--option data.horizon=192`` is handed on; ``--validate`` trains without the validation steps and reports
the validation part instead: what choices are made by.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from speed.verbs import Ran, run

HELD_OUT = ("etth1",)  # their validation part is the source's, and is never trained on


def last_row(path: Path, prefix: str) -> dict[str, float]:
    """The last value of every metric of a run whose name begins so."""
    lines = [line.split(",") for line in path.read_text().splitlines()]
    found: dict[str, float] = {}
    for row in lines[1:]:
        pairs = zip(lines[0], row, strict=True)
        found |= {name: float(value) for name, value in pairs if name.startswith(prefix) and value}
    return found


def one(config: str, seed: int, out: Path, options: list[str], validate: bool) -> tuple[dict[str, float], Ran]:
    name = "-".join([config, *(option.replace("/", "_") for option in options), *(["val"] if validate else [])])
    folder = out / f"{name}-{seed}"
    shared = ["--config", f"configs/forecasting/{config}.yaml", "--trainer.default_root_dir", str(folder)]
    shared += [f"--{option}" for option in options] + [f"--data.seed={seed}"]
    refit = [] if validate or config in HELD_OUT else ["--data.refit=true"]
    ran = run(["fit", *shared, f"--seed_everything={seed}", *refit], folder.with_name(f"{folder.name}.fit.json"))
    if validate:
        return last_row(folder / "metrics.csv", "val_"), ran
    which = "best" if config in HELD_OUT else "last"
    tested = run(["test", *shared, f"--ckpt_path={which}"], folder.with_name(f"{folder.name}.test.json"))
    found = last_row(folder / "metrics.csv", "test_")
    for line in tested.text.splitlines():
        if line.endswith("this model") and (apart := re.search(r"series: OWA (\S+)", line)):
            found["test_owa without overlapping series"] = float(apart[1])
        elif seed == 0 and ("OWA" in line or line.startswith("  test segments")):
            print(f"    {line.strip()}")
    return found, ran


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/forecasting/benchmark"))
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--validate", action="store_true")
    given = parser.parse_args()
    for config in given.configs:
        print(f"{config} {' '.join(given.option)}", flush=True)
        found: dict[str, list[float]] = {}
        for seed in given.seeds:
            errors, ran = one(config, seed, given.out, given.option, given.validate)
            for name, value in errors.items():
                found.setdefault(name, []).append(value)
            print(f"  seed {seed}: trained in {ran.wall:.0f} s, {ran.cpu:.0f} CPU-s", flush=True)
        for name, values in found.items():
            print(f"  {name}: {sum(values) / len(values):.4f} ({min(values):.4f}-{max(values):.4f})", flush=True)


if __name__ == "__main__":
    main()

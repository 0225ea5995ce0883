"""One config over many sets of the UCR archive: test accuracy of each, and their mean beside published ones.

    python benchmarks/ucr.py --config configs/sequence_classification/ucr.yaml [--seed 0] [--sets GunPoint Trace]

Every set is a run of ``lightning-rnn fit`` and ``test`` in its own folder under ``--out``; a set whose run is complete
is read, not run again, so the command can be stopped and given again.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import time
from pathlib import Path

from lightning_rnn.cli import main

PUBLISHED = {"FCN": "fcn", "ResNet": "resnet", "Time-CNN": "cnn", "MLP": "mlp"}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="*", help="names; default all in the folder")
    parser.add_argument("--folder", default="ucr/UCR2018", help="under LIGHTNING_RNN_DATA")
    parser.add_argument("--out", type=Path, default=Path("runs/ucr"))
    return parser.parse_args()


def last(path: Path, column: str) -> float | None:
    """The last value of a column of metrics.csv, if there is one."""
    if not path.exists():
        return None
    with path.open() as file:
        values = [row[column] for row in csv.DictReader(file) if row.get(column)]
    return float(values[-1]) if values else None


def accuracy(config: Path, name: str, folder: str, seed: int, out: Path) -> tuple[float, float]:
    """Test accuracy of one set and the seconds it took now."""
    root, start = out / config.stem / f"seed{seed}" / name, time.perf_counter()
    found = last(root / "metrics.csv", "test_accuracy")
    if found is None:
        shared = ["--config", str(config), "--trainer.default_root_dir", str(root), "--seed_everything", str(seed)]
        shared += ["--data.source.name", name, "--data.source.folder", folder, "--data.seed", str(seed)]
        for verb, more in (("fit", ["--ckpt_path", "last"]), ("test", [])):
            with contextlib.redirect_stdout(io.StringIO()):
                code = main([verb, *shared, *more])
            if code:
                raise SystemExit(f"{verb} of {name} ended with {code}")
        found = last(root / "metrics.csv", "test_accuracy")
    assert found is not None
    return found, time.perf_counter() - start


def published(folder: Path, names: list[str]) -> dict[str, float]:
    """Mean published accuracy over the sets (hfawaz/dl-4-tsc, five runs each), where its table is at hand."""
    path = folder.parent / "published" / "dl4tsc_results-ucr-128.csv"
    if not path.exists():
        return {}
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["dataset_name"] in names]
    means = {}
    for label, key in PUBLISHED.items():
        per_set = [
            [float(row["accuracy"]) for row in rows if row["classifier_name"] == key and row["dataset_name"] == name]
            for name in names
        ]
        if all(per_set):
            means[label] = sum(sum(runs) / len(runs) for runs in per_set) / len(names)
    return means


def run() -> None:
    args = options()
    folder = Path(os.environ.get("LIGHTNING_RNN_DATA", "data")) / args.folder
    names = args.sets or sorted(path.name for path in folder.iterdir() if path.is_dir())
    results, seconds = [], 0.0
    for name in names:
        found, took = accuracy(args.config, name, args.folder, args.seed, args.out)
        results.append(found)
        seconds += took
        print(f"{name:28}{found:.4f}  {took:6.1f} s", flush=True)
    print(f"{'mean':28}{sum(results) / len(results):.4f}  {seconds:6.1f} s  {len(names)} sets, seed {args.seed}")
    for label, mean in published(folder, names).items():
        print(f"{label + ' (published)':28}{mean:.4f}")


if __name__ == "__main__":
    run()

"""Synthetic rainfall: train on 100,000 hours, test on held-out ones of another seed, predict, write the submission.

    python benchmarks/rainfall.py [--seeds 0 1 2] [--out runs/rainfall] > benchmarks/results/rainfall.md

Every verb is a process of its own, whose memory is looked at while it runs. A run whose log is there is read, not run
again, so the command can be stopped and given again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from speed.verbs import MAIN

CONFIGS = {
    "two-layer LSTM": "synthetic_lstm2",
    "winner-style stack, mean of 21 copies": "synthetic_winner",
    "bidirectional GRU (ours)": "synthetic_gru",
}
HOURS = (50_000, 100_000, 400_000)
VERBS = ("fit", "test", "predict")


@dataclass
class Ran:
    """A process that ended: wall-clock seconds, most MB of memory of its own and with mapped files, what it printed."""

    seconds: float
    own: float
    all: float
    text: str


def memory(pid: int) -> tuple[float, float]:
    """MB of a process' own memory, and with the files that it maps; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    own, whole = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("RssAnon", "VmRSS"))
    return (int(own[1]) / 1024, int(whole[1]) / 1024) if own and whole else (0, 0)


def run(args: list[str], log: Path) -> Ran:
    if log.exists():
        return Ran(**json.loads(log.read_text()))
    log.parent.mkdir(parents=True, exist_ok=True)
    start, most = time.perf_counter(), (0.0, 0.0)
    with log.with_suffix(".txt").open("w+") as text:
        process = subprocess.Popen([sys.executable, "-c", MAIN, *args], stdout=text, stderr=subprocess.STDOUT)
        while process.poll() is None:
            most = max(most[0], memory(process.pid)[0]), max(most[1], memory(process.pid)[1])
            time.sleep(0.1)
        text.seek(0)
        ran = Ran(time.perf_counter() - start, *most, text.read())
    if process.returncode:
        raise SystemExit(f"{' '.join(args)} ended with {process.returncode}:\n{ran.text[-2000:]}")
    log.write_text(json.dumps(asdict(ran)))
    return ran


def errors(text: str) -> dict[str, tuple[float, float]]:
    """MAE and MAE under 73 mm by name, as ``test`` prints them."""
    found = re.findall(r"test MAE\s+([\d.]+)\s+under 73 mm\s+([\d.]+)\s+(.+)", text)
    return {name.strip(): (float(mae), float(under)) for mae, under, name in found}


def row(name: str, runs: list[tuple[float, float]], more: str) -> str:
    under = [value for _, value in runs]
    spread = f" ({min(under):.4f}–{max(under):.4f})" if len(under) > 1 else ""
    return (
        f"| {name} | {sum(mae for mae, _ in runs) / len(runs):.4f} | {sum(under) / len(under):.4f}{spread} | {more} |"
    )


def report(seeds: list[int], out: Path) -> list[str]:
    lines, baselines = [], dict[str, tuple[float, float]]()
    for name, config in CONFIGS.items():
        own, single, verbs = [], [], []
        for seed in seeds:
            root = out / config / f"seed{seed}"
            shared = ["--config", f"configs/rainfall/{config}.yaml", "--trainer.default_root_dir", str(root)]
            shared += ["--seed_everything", str(seed), "--data.seed", str(seed)]
            ran = [run([verb, *shared], root / "logs" / f"{verb}.json") for verb in VERBS]
            found = errors(ran[1].text)
            own.append(found.pop("this model"))
            baselines = found
            verbs.append(ran)
            if "winner" in config:
                log = root / "logs" / "one_copy.json"
                single.append(errors(run(["test", *shared, "--model.copies", "1"], log).text)["this model"])
        seconds = " + ".join(f"{sum(ran[i].seconds for ran in verbs) / len(verbs):.0f}" for i in range(len(VERBS)))
        most = [max(one.own for ran in verbs for one in ran), max(one.all for ran in verbs for one in ran)]
        lines.append(row(name, own, f"{seconds} | {most[0]:.0f} / {most[1]:.0f}"))
        if single:
            lines.append(row(f"{name.partition(',')[0]}, one copy", single, " | "))
    return [row(name, [found], " | ") for name, found in baselines.items()] + lines


def memory_by_hours(out: Path) -> list[str]:
    """One epoch of the two-layer LSTM on so many training hours, made and written to the cache before where absent."""
    lines = []
    for hours in HOURS:
        root = out / f"hours{hours}"
        args = ["fit", "--config", "configs/rainfall/synthetic_lstm2.yaml", "--trainer.default_root_dir", str(root)]
        args += ["--trainer.max_epochs", "1", "--data.source.train_hours", str(hours)]
        ran = run(args, root / "fit.json")
        lines.append(f"| {hours:,} | {ran.seconds:.0f} | {ran.own:.0f} | {ran.all:.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/rainfall"))
    args = parser.parse_args()
    lines = report(args.seeds, args.out)
    given = " ".join(map(str, args.seeds))
    print("# Rainfall, synthetic hours\n")
    print(f"`python benchmarks/rainfall.py --seeds {given}`. Trained on 100,000 hours (generator seed 0), measured on")
    print(
        "the scored ones of 40,000 held-out hours (generator seed 1), which are predicted too. Mean over the seeds of"
    )
    print("weights and batches, range in brackets. The generator was fixed before any of these was trained.\n")
    print("| | MAE, mm | MAE under 73 mm | fit + test + predict, s | most memory, own / with mapped files, MB |")
    print("|---|---|---|---|---|")
    print("\n".join(lines))
    print("\nMemory by the number of training hours, one epoch of the two-layer LSTM:\n")
    print("| hours | s | most own memory, MB | with mapped files, MB |\n|---|---|---|---|")
    print("\n".join(memory_by_hours(args.out)))


if __name__ == "__main__":
    main()

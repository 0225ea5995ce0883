"""Trainings killed at random moments, resumed, and compared with the training that was never killed.

    python benchmarks/chaos.py [--kills 220] [--only digits] [--write]

Weights, optimizer, schedule, progress, metrics.csv and the rows and loss of every batch must be equal to the last bit.
Each case is killed in data preparation, training, validation and checkpoint writing alike: the moment is drawn anew
after every start, from the time that a whole run takes. `--write` keeps the table in benchmarks/results/chaos.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ.update(OMP_NUM_THREADS="1", LIGHTNING_RNN_TUNE="0", JSONARGPARSE_DEPRECATION_WARNINGS="off")
sys.path[:0] = [str(ROOT / "tests/helpers")]  # the streamed model

import torch

import lightning_rnn.training.command  # noqa: F401  # here, not in every attempt
import tasks.sequence_classification.baselines  # noqa: F401
from lightning_rnn.testing.chaos import Survival, kill_all, kill_one, survive

CONFIGS = ROOT / "configs/sequence_classification"
RESULTS = ROOT / "benchmarks/results/chaos.md"
TWO = ["--trainer.strategy", "ddp_fork", "--trainer.devices", "2"]
DIGITS = [*("--config", str(CONFIGS / "digits.yaml"), "--trainer.max_epochs", "5", "--model.dropout", "0.2")]
TEXT = [
    *("--config", str(CONFIGS / "sst2.yaml"), "--data.source", "lightning_rnn.data.TextPerClass"),
    *("--data.source.encoding", "latin-1", "--data.tokenizer", "bpe", "--data.sampling", "0.1"),
    *("--data.vocab_size", "500", "--model.hidden_size", "16", "--model.embedding_size", "16"),
    *("--trainer.limit_train_batches", "24", "--trainer.limit_val_batches", "2", "--trainer.max_epochs", "3"),
]
VOWELS = [
    *("--config", str(CONFIGS / "japanese_vowels.yaml"), "--trainer.max_epochs", "6", "--data.val_fraction", "0.1"),
    *("--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "0.5", "--data.num_workers", "1"),
]
STREAMS = [
    *("--model", "streamed.StreamedModule", "--data", "streamed.StreamedData"),
    *("--trainer.max_epochs", "5", "--trainer.accelerator", "cpu", "--trainer.val_check_interval", "0.4"),
]
Case = tuple[list[str], Callable[[int], object], str]
CASES: dict[str, Case] = {
    "digits": (DIGITS, kill_all, "dropout"),
    "digits, 2 processes": ([*DIGITS, *TWO], kill_all, "dropout"),
    "text": (TEXT, kill_all, "sentences, shortened: BPE-dropout, buckets, averaged weights, one-cycle"),
    "text, 2 processes": ([*TEXT, *TWO], kill_one, "the same; one of the processes is killed"),
    "vowels": (VOWELS, kill_all, "unequal lengths: accumulation, averaged weights, a worker, validation in mid-epoch"),
    "vowels, 2 processes": ([*VOWELS, *TWO], kill_all, "the same"),
    "streams": (STREAMS, kill_all, "carried state, random chunk lengths, validation in mid-epoch"),
    "streams, 2 processes": ([*STREAMS, *TWO], kill_one, "the same; one of the processes is killed"),
}


def run(name: str, kills: int, folder: Path) -> Survival:
    """One case."""
    argv, strike, _ = CASES[name]
    return survive(["fit", *argv, "--last.every_n_steps", "5"], folder / name.replace(", ", "_"), kills, strike=strike)


def report(results: dict[str, Survival], seconds: float) -> str:
    """The table in Markdown."""
    lines = ["| run | what is in it | kills | run without a kill | differences |", "|---|---|---|---|---|"]
    for name, result in results.items():
        found = "; ".join(result.differences) or "none"
        lines.append(f"| {name} | {CASES[name][2]} | {result.kills} | {result.seconds:.1f} s | {found} |")
    kills = sum(result.kills for result in results.values())
    broken = sum(bool(result.differences) for result in results.values())
    return "\n".join([*lines, "", f"{kills} kills in {seconds / 60:.0f} minutes, {broken} runs that differ."])


def main(argv: Sequence[str] | None = None) -> int:
    """Print, and keep where asked to, what the kills did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=220)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = [options.only] if options.only else list(CASES)
    began, results = time.monotonic(), dict[str, Survival]()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name in names:
            results[name] = run(name, -(-options.kills // len(names)), Path(folder))
            print(
                f"{name}: {results[name].kills} kills, differences: {results[name].differences or 'none'}", flush=True
            )
    table = report(results, time.monotonic() - began)
    print(table)
    if options.write:
        command = " ".join(["python", "benchmarks/chaos.py", *sys.argv[1:]])
        RESULTS.write_text(f"# Runs that were killed\n\n    {command}\n\n{table}\n")
    return int(any(result.differences for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())

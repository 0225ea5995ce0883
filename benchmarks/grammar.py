"""What networks of tasks.grammar_acceptance reach: the acceptor on every string, over seeds.

    python benchmarks/grammar.py acceptor [--seeds 5] [--write]

Each run is ``lightning-rnn fit`` of a configuration with another seed, in a folder of its own; then the network is
checked. ``--write`` keeps the tables in benchmarks/results/grammar.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_rnn.cli import main as lightning_rnn
from tasks.grammar_acceptance import GrammarModel
from tasks.grammar_acceptance.definitions import grammar
from tasks.grammar_acceptance.rigor import RANGES, rigorous

CONFIGS = Path(__file__).resolve().parents[1] / "configs/grammar_acceptance"


def fit(config: str, seed: int, folder: Path, *options: str) -> tuple[GrammarModel, float]:
    """Train a configuration with a seed; the last weights, and the seconds it took."""
    began = time.monotonic()
    seeds = ["--seed_everything", str(seed), "--data.seed", str(seed), "--data.source.seed", str(seed)]
    run = ["fit", "--config", str(CONFIGS / f"{config}.yaml"), *seeds, "--trainer.default_root_dir", str(folder)]
    if code := lightning_rnn([*run, *options]):
        sys.exit(code)
    seconds = time.monotonic() - began
    return GrammarModel.load_from_checkpoint(folder / "checkpoints/last.ckpt", weights_only=True), seconds


def acceptor(seeds: int, folder: Path) -> list[str]:
    """The acceptor of the embedded Reber grammar against every string."""
    language, lines = grammar("embedded_reber"), list[str]()
    for seed in range(seeds):
        model, seconds = fit("embedded_reber", seed, folder / f"acceptor-{seed}")
        checks = rigorous(
            lambda strings, m=model: m.accept(list(strings))["accepted"], language, ranges=[*RANGES, (2000, 3000)]
        )
        if not lines:
            lines += [
                "| seed | s | " + " | ".join(check.what for check in checks) + " |",
                "|---" * (len(checks) + 2) + "|",
            ]
        lines.append(f"| {seed} | {seconds:.0f} | " + " | ".join(f"{c.right:,} of {c.of:,}" for c in checks) + " |")
    return lines


PARTS: dict[str, Callable[[int, Path], list[str]]] = {"acceptor": acceptor}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/grammar"))
    options = parser.parse_args(argv)
    print("\n".join(PARTS[options.part](options.seeds, options.folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

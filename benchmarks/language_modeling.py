"""Language models on the Penn Treebank, tiny-shakespeare, and the embedded text, beside counted 5-grams.

    python benchmarks/language_modeling.py [hour forty shakespeare embedded] [--seeds 0]
        [--out runs/language_modeling/benchmark] [--write]

``hour`` is ``ptb_small`` as it is, ``forty`` the same network with the 40 epochs of pytorch/examples' word language
model, whose README gives 87.17 for two tied layers of 200 units. Every verb is a process of its own. A run whose log is
there is read, not run again, and one that was stopped goes on where it was, so the command can be stopped and given
again. ``--write`` puts the tables into ``benchmarks/results/language_modeling.md``, each in the place of its last.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from speed.sections import document
from speed.verbs import Ran, run

RESULTS = Path(__file__).parent / "results" / "language_modeling.md"
NGRAMS = re.compile(r"^ +test perplexity +(\S+) +bits per character +(\S+) +(.*\S)", re.MULTILINE)
EPOCHS = re.compile(r"^epoch \d+/\d+ +([\d.]+) s", re.MULTILINE)


@dataclass(frozen=True)
class Bench:
    """Where runs are, which seeds, and the lines of the report."""

    out: Path
    seeds: list[int]
    lines: list[str]

    def say(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)


@dataclass(frozen=True)
class Found:
    """Of one run: perplexity and bits per character of the test part by model, and what it cost."""

    scores: dict[str, tuple[float, float]]
    fit: Ran

    @property
    def minutes(self) -> float:
        """Of all epochs by their lines, validation included: a run that was stopped has them all only there."""
        return sum(map(float, EPOCHS.findall(self.fit.text))) / 60


def trained(bench: Bench, name: str, config: str, seed: int, options: Sequence[str] = ()) -> Found:
    """A run that is trained, and its best checkpoint tested."""
    folder = bench.out / f"{name}-{seed}"
    where = ["--trainer.default_root_dir", str(folder)]
    args = ["fit", "--config", f"configs/language_modeling/{config}.yaml", *where, f"--seed_everything={seed}"]
    fit = run([*args, f"--data.seed={seed}", "--ckpt_path=last", *options], folder.with_name(f"{folder.name}.fit.json"))
    args = ["test", "--config", str(folder / "config.yaml"), *where, "--ckpt_path=best", "--data.eval_lanes=1"]
    text = run(args, folder.with_name(f"{folder.name}.test.json")).text
    return Found({name: (float(words), float(bits)) for words, bits, name in NGRAMS.findall(text)}, fit)


def told(values: Sequence[float], digits: int) -> str:
    """A value, or mean and range of several."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def table(bench: Bench, found: Sequence[Found], others: Sequence[tuple[str, str, str]] = ()) -> None:
    """A row for each model: counted ones, the published ones, this one."""
    bench.say("| | test perplexity | bits per character |")
    bench.say("|---|---|---|")
    for name in found[0].scores:
        both = list(zip(*(one.scores[name] for one in found), strict=True))
        bench.say(f"| {name} | {told(both[0], 1)} | {told(both[1], 3)} |")
    for name, words, bits in others:
        bench.say(f"| {name} | {words} | {bits} |")


def treebank(bench: Bench, name: str, options: Sequence[str] = ()) -> None:
    """The Penn Treebank, two tied layers of 200 units."""
    found = [trained(bench, name, "ptb_small", seed, options) for seed in bench.seeds]
    minutes = mean(one.minutes for one in found)
    epochs = len(EPOCHS.findall(found[0].fit.text))
    bench.say(f"\nPenn Treebank, `ptb_small`, {epochs} epochs, seeds {bench.seeds}, {minutes:.0f} minutes each\n")
    others = [("pytorch/examples, 2×200 tied, 40 epochs (published)", "87.2", ""), ("Zaremba 2014, small", "115", "")]
    table(bench, found, others)


def hour(bench: Bench) -> None:
    treebank(bench, "hour")


def forty(bench: Bench) -> None:
    treebank(bench, "forty", ["--trainer.max_epochs=40"])


def shakespeare(bench: Bench) -> None:
    """Characters, the text cut 90/5/5."""
    found = [trained(bench, "tinyshakespeare", "tinyshakespeare", seed) for seed in bench.seeds]
    bench.say(f"\ntiny-shakespeare, the text cut 90/5/5, seeds {bench.seeds}, {found[0].minutes:.0f} minutes each\n")
    table(bench, found)


def embedded(bench: Bench) -> None:
    """The embedded text, by words and by pieces."""
    for config in ("manual", "manual_pieces"):
        found = [trained(bench, config, config, seed) for seed in bench.seeds]
        bench.say(f"\nPython's manual, `{config}`, seeds {bench.seeds}, {found[0].minutes:.0f} minutes each\n")
        table(bench, found)


STAGES: dict[str, Callable[[Bench], None]] = {stage.__name__: stage for stage in (hour, forty, shakespeare, embedded)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/language_modeling/benchmark"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    for stage in given.stages or STAGES:
        bench = Bench(given.out, given.seeds, [])
        STAGES[stage](bench)
        if given.write:
            old = RESULTS.read_text() if RESULTS.exists() else ""
            RESULTS.write_text(document(old, "Language models", {stage: bench.lines}))


if __name__ == "__main__":
    main()

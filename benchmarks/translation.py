"""Translation: seeds on Multi30k, a second pair, a larger set, attention or none, its kinds, ensembles, averages.

    python benchmarks/translation.py [seeds german tatoeba three kinds ensemble average] [--seeds 0 1 2]
        [--config multi30k_en_fr] [--out runs/translation/benchmark] [--write]

Every verb is a process of its own. A run whose log is there is read, not run again, and one that was stopped goes on
where it was, so the command can be stopped and given again. ``--write`` puts the tables into
``benchmarks/results/translation.md``, each in the place of its last. BLEU is given twice: ``13a``, cased, of text as it
is, and ``lc-tok``, of lower-cased Moses tokens, the protocol of the published results on Multi30k. ``--config`` is what
seeds, ensemble and average are of: ``with_attention`` takes a third of the time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from speed.sections import document
from speed.verbs import Ran, run

from tasks.translation.judging import Judge
from tasks.translation.multi30k import Multi30k

RESULTS = Path(__file__).parent / "results" / "translation.md"
TESTS = ("test_2016_flickr", "test_2017_flickr", "test_2017_mscoco")
SHORT = {name: name.removeprefix("test_").replace("_flickr", "").replace("2017_mscoco", "mscoco") for name in TESTS}
THREE = ("without_attention", "without_attention_reversed", "with_attention")
KINDS = ("scaled_dot", "general", "bahdanau", "normed_bahdanau", "location", "coverage", "luong_monotonic")
METRICS = {"bleu": "13a", "bleu_lium": "lc-tok", "chrf": "chrF"}
KEPT = 5  # checkpoints that are averaged
Scores = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """Where runs are, which seeds of which configuration, and the lines of the report."""

    out: Path
    seeds: list[int]
    config: str
    lines: list[str]

    def say(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)


def fit(bench: Bench, name: str, config: str, seed: int, options: Sequence[str] = ()) -> tuple[Path, Ran]:
    """The folder of a run that is trained."""
    folder = bench.out / f"{name}-{seed}"
    args = ["fit", "--config", f"configs/translation/{config}.yaml", "--trainer.default_root_dir", str(folder)]
    args += [f"--seed_everything={seed}", f"--data.seed={seed}", "--ckpt_path=last", *options]
    return folder, run(args, folder.with_name(f"{folder.name}.fit.json"))


def scores_of(folder: Path, part: str | None) -> Scores:
    """The scores of a run's best checkpoint, on a test set of Multi30k or on the only one there is."""
    args = [
        "test",
        "--config",
        str(folder / "config.yaml"),
        "--trainer.default_root_dir",
        str(folder),
        "--ckpt_path=best",
    ]
    args += [] if part is None else [f"--data.source.test={part}"]
    text = run(args, folder.with_name(f"{folder.name}.{part or 'test'}.json")).text
    line = next(line for line in text.splitlines() if line.startswith("test  "))
    pairs = (pair.split() for pair in line.removeprefix("test  ").split("  "))
    return {name.removeprefix("test_"): float(value) for name, value in pairs}


def translated(checkpoints: Sequence[Path], part: str, log: Path) -> Scores:
    """The scores of an ensemble on a test set."""
    pairs = Multi30k(test=part).read("test")  # type: ignore[arg-type]  # one of TESTS
    assert pairs is not None and pairs.target is not None and pairs.tokenized is not None
    source, output = log.with_suffix(".en"), log.with_suffix(".out")
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("".join(f"{line}\n" for line in pairs.source))
    run(["translate", "--ckpt_path", *map(str, checkpoints), "--input", str(source), "--output", str(output)], log)
    judge = Judge(["bleu", "chrf"])
    judge.add_lium("fr")
    judge.update(output.read_text().split("\n")[:-1], pairs.target, pairs.tokenized)
    return {name: float(value) for name, value in judge.compute().items()}


def table(bench: Bench, rows: Sequence[tuple[str, dict[str, list[Scores]]]]) -> None:
    """A row for each model; of several seeds mean and range."""
    parts = list(rows[0][1])
    columns = [(part, name) for part in parts for name in METRICS if all(name in s for _, r in rows for s in r[part])]
    bench.say("| | " + " | ".join(f"{SHORT.get(part, part)} {METRICS[name]}" for part, name in columns) + " |")
    bench.say("|---|" + "---|" * len(columns))
    for title, scores in rows:
        cells = [told([one[name] for one in scores[part]]) for part, name in columns]
        bench.say(f"| {title} | " + " | ".join(cells) + " |")


def told(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{mean(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def on_all(folders: Sequence[Path]) -> dict[str, list[Scores]]:
    return {part: [scores_of(folder, part) for folder in folders] for part in TESTS}


def cost(rans: Sequence[Ran]) -> str:
    return f"{mean(ran.wall for ran in rans) / 60:.0f} minutes, {mean(ran.cpu for ran in rans) / 60:.0f} CPU-minutes"


def trained(bench: Bench, seed: int) -> tuple[Path, Ran]:
    """English to French, a seed, with the checkpoints that :func:`average` needs."""
    return fit(bench, bench.config, bench.config, seed, keeping(bench, seed))


def seeds(bench: Bench) -> None:
    """English to French, several seeds."""
    found = [trained(bench, seed) for seed in bench.seeds]
    time = cost([ran for _, ran in found])
    bench.say(f"\nMulti30k English to French, seeds {bench.seeds}; each trained in {time}.\n")
    table(bench, [("one model", on_all([folder for folder, _ in found]))])


def kept(bench: Bench, seed: int) -> Path:
    return bench.out / f"kept-{bench.config}-{seed}"


def keeping(bench: Bench, seed: int) -> list[str]:
    """Options that keep the best checkpoints by chrF too, for :func:`average`."""
    name = "--trainer.callbacks"
    folder = kept(bench, seed)
    return [
        f"{name}+=pytorch_lightning.callbacks.ModelCheckpoint",
        f"{name}.dirpath={folder}",
        f"{name}.monitor=val_chrf",
        f"{name}.mode=max",
        f"{name}.save_top_k={KEPT}",
        f"{name}.save_weights_only=true",  # those of training, not their moving average
    ]


def german(bench: Bench) -> None:
    """English to German, the same configuration."""
    folder, ran = fit(bench, "en_de", "multi30k_en_de", bench.seeds[0])
    bench.say(f"\nMulti30k English to German, seed {bench.seeds[0]}, trained in {cost([ran])}\n")
    scores = {part: [scores_of(folder, part)] for part in TESTS}
    table(bench, [("one model", scores)])


def tatoeba(bench: Bench) -> None:
    """The larger set, split by distinct sentences."""
    folder, ran = fit(bench, "tatoeba", "tatoeba_en_fr", bench.seeds[0])
    bench.say(f"\nTatoeba English to French, seed {bench.seeds[0]}, trained in {cost([ran])}\n")
    table(bench, [("one model", {"test": [scores_of(folder, None)]})])


def three(bench: Bench) -> None:
    """No attention, no attention and a reversed source, attention: the same budget."""
    found = [(name, *trained(replace(bench, config=name), bench.seeds[0])) for name in THREE]
    bench.say(f"\nAttention or none, seed {bench.seeds[0]}, 12 epochs each\n")
    rows = [(f"{name.replace('_', ' ')} ({cost([ran])})", on_all([folder])) for name, folder, ran in found]
    table(bench, rows)


def kinds(bench: Bench) -> None:
    """Kinds of attention, the same budget."""
    seed, rows = bench.seeds[0], []
    for kind in KINDS:
        folder, ran = fit(bench, f"kind_{kind}", "with_attention", seed, [f"--model.attention={kind}"])
        rows.append(
            (
                f"{kind} ({cost([ran])})",
                {TESTS[0]: [scores_of(folder, TESTS[0])], TESTS[1]: [scores_of(folder, TESTS[1])]},
            )
        )
    bench.say(f"\nKinds of attention, seed {seed}, 12 epochs each\n")
    table(bench, rows)


def ensemble(bench: Bench) -> None:
    """All seeds together."""
    best = [trained(bench, seed)[0] for seed in bench.seeds]
    paths = [folder / "checkpoints" / "best.ckpt" for folder in best]
    scores = {
        part: [translated(paths, part, bench.out / f"ensemble-{bench.config}-{len(paths)}.{part}.json")]
        for part in TESTS
    }
    bench.say(f"\nEnsemble of seeds {bench.seeds} of `{bench.config}`\n")
    table(bench, [("one model", on_all(best)), (f"{len(paths)} models", scores)])


def average(bench: Bench) -> None:
    """The best checkpoints of one run, their weights averaged."""
    seed, name = bench.seeds[0], f"average-{bench.config}-{bench.seeds[0]}"
    folder, _ = trained(bench, seed)
    paths = sorted(map(str, kept(bench, seed).glob("*.ckpt")))
    output = bench.out / f"{name}.ckpt"
    run(["average", "--ckpt_path", *paths, "--output", str(output)], bench.out / f"{name}.json")
    scores = {part: [translated([output], part, bench.out / f"{name}.{part}.json")] for part in TESTS}
    bench.say(
        f"\nAverage of the {len(paths)} checkpoints of `{bench.config}`, seed {seed}, with the best chrF on the "
        "validation part\n"
    )
    table(bench, [("best checkpoint", on_all([folder])), ("their average", scores)])


STAGES: dict[str, Callable[[Bench], None]] = {
    stage.__name__: stage for stage in (seeds, german, tatoeba, three, kinds, ensemble, average)
}


OF_CONFIG = ("seeds", "ensemble", "average")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", default="multi30k_en_fr", choices=["multi30k_en_fr", "with_attention"])
    parser.add_argument("--out", type=Path, default=Path("runs/translation/benchmark"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    for stage in given.stages or STAGES:
        title = f"{stage} of {given.config}" if stage in OF_CONFIG else stage
        bench = Bench(given.out, given.seeds, given.config, [])
        STAGES[stage](bench)
        if given.write:
            old = RESULTS.read_text() if RESULTS.exists() else ""
            RESULTS.write_text(document(old, "Translation", {title: bench.lines}))


if __name__ == "__main__":
    main()

"""Generation: seeds of each configuration, the best of them on validation, and all of them as an ensemble.

    python benchmarks/generation.py [restaurant hotel laptop tv names sheep digits] [--seeds 0 1 2 3 4]
        [--out runs/generation/benchmark] [--write]

Every verb is a process of its own. A run whose log is there is read, not run again, and one that was stopped goes on
where it was, so the command can be stopped and given again. ``--write`` puts the tables into
``benchmarks/results/generation.md``, each in the place of its last. The seed that counts is chosen on the validation
part, decoded as the test part is; nothing is chosen on the test part.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from speed.sections import document
from speed.verbs import Ran, run

from lightning_rnn.data.module import Split
from tasks.generation import GenerationData, Generator
from tasks.generation.judging import Judge
from tasks.generation.realized import counted, realized
from tasks.generation.rnnlg import Domain, Rnnlg
from tasks.generation.rows import GenerationRows

RESULTS = Path(__file__).parent / "results" / "generation.md"
Scores = dict[str, float]
ACTS = {
    "bleu": "BLEU",
    "slot_error": "slot error",
    "bleu_best": "BLEU, best text",
    "slot_error_best": "slot error, best text",
    "sacrebleu": "sacreBLEU, best text",
}
SPELLED = {"exact": "exactly right", "loss": "loss, nats per letter"}


@dataclass(frozen=True)
class Stage:
    """A configuration and what is said of it.

    Attributes:
        config: its name.
        about: what the table is of.
        columns: test scores by name, and their headings.
        chosen_by: the score on validation that chooses a seed.
        highest: whether a higher one is better.
        judged: options of ``validate``, so that validation is decoded as the test part is.
        beside: rows of published or other figures, as they stand in the table.
        domain: of RNNLG, for an ensemble; None: there is none.
        notes: whether what ``test`` prints of baselines stands below the table, of the first seed.
    """

    config: str
    about: str
    columns: dict[str, str]
    chosen_by: str = "loss"
    highest: bool = False
    judged: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    domain: Domain | None = None
    notes: bool = False


@dataclass(frozen=True)
class Bench:
    """Where runs are, which seeds, and the lines of the report."""

    out: Path
    seeds: list[int]
    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)


def rnnlg(domain: Domain, published: str) -> Stage:
    """One of the benchmark's domains: scores of the five best texts of each row, as its own program has it."""
    return Stage(
        config=f"rnnlg_{domain}",
        about=f"RNNLG, {domain}: the five best texts of each test row by the benchmark's own BLEU and slot error",
        columns=ACTS,
        chosen_by="bleu",
        highest=True,
        judged=("--model.val_beam_size=20", "--model.val_rows=10000"),
        beside=(published,),
        domain=domain,
    )


STAGES: dict[str, Stage] = {
    "restaurant": rnnlg("restaurant", "| SC-LSTM, published, best of 5 seeds | .7525 | .38 % | | | | |"),
    "hotel": rnnlg("hotel", "| SC-LSTM, published, best of 5 seeds | .8482 | 3.07 % | | | | |"),
    "laptop": rnnlg("laptop", "| SC-LSTM, published, best of 5 seeds | .5116 | .79 % | | | | |"),
    "tv": rnnlg("tv", "| SC-LSTM, published, best of 5 seeds | .5265 | 2.31 % | | | | |"),
    "digits": Stage("digit_names", "scikit-learn's digits: names of test images spelled right", SPELLED),
    "mnist": Stage("mnist_names", "MNIST: names of test images spelled right", SPELLED),
    "names": Stage("names", "Names by nationality: nats per character of test names", {"loss": "loss"}, notes=True),
    "sheep": Stage(
        "sheep", "Sheep: nats of scaled moves and pen per step of test drawings", {"loss": "loss"}, notes=True
    ),
    "kanji": Stage(
        "kanji", "Kanji: nats of scaled moves and pen per step of test drawings", {"loss": "loss"}, notes=True
    ),
}


def fit(bench: Bench, name: str, stage: Stage, seed: int) -> tuple[Path, Ran]:
    """The folder of a run that is trained."""
    folder = bench.out / f"{name}-{seed}"
    args = ["fit", "--config", f"configs/generation/{stage.config}.yaml", "--trainer.default_root_dir", str(folder)]
    args += [f"--seed_everything={seed}", f"--data.seed={seed}", "--ckpt_path=last"]
    return folder, run(args, folder.with_name(f"{folder.name}.fit.json"))


def scores_of(folder: Path, stage: Stage, verb: str, options: Sequence[str] = ()) -> Scores:
    """The scores of a run's best checkpoint by ``validate`` or ``test``, decoded as the configuration says now."""
    args = [verb, "--config", f"configs/generation/{stage.config}.yaml", "--trainer.default_root_dir", str(folder)]
    text = run([*args, "--ckpt_path=best", *options], folder.with_name(f"{folder.name}.{verb}.json")).text
    line = next(line for line in text.splitlines() if line.startswith(f"{verb}  "))
    pairs = (pair.split() for pair in line.removeprefix(f"{verb}  ").split("  "))
    return {name.partition("_")[2]: float(value) for name, value in pairs}


def told(name: str, value: float) -> str:
    if name.startswith(("slot_error", "exact")):
        return f"{100 * value:.2f} %"
    return f"{value:.1f}" if name == "sacrebleu" else f"{value:.4f}"


def row(bench: Bench, stage: Stage, title: str, scores: Scores, judged: float | None) -> None:
    """A line of the table: the test scores, and what a seed is chosen by."""
    cells = [told(name, scores[name]) for name in stage.columns]
    bench.say(f"| {title} | " + " | ".join([*cells, "" if judged is None else told(stage.chosen_by, judged)]) + " |")


def together(folders: Sequence[Path], domain: Domain, part: Split) -> Scores:
    """The scores of an ensemble of all seeds."""
    models = [Generator.load_from_checkpoint(folder / "checkpoints" / "best.ckpt") for folder in folders]
    data = GenerationData(Rnnlg(domain=domain))
    first, data.spec = models[0].eval(), models[0].spec
    data.setup("test" if part == "test" else "validate")
    rows = data.split(part)
    assert isinstance(rows, GenerationRows) and first.spec is not None and rows.references is not None
    judge, references = Judge(first.spec, full=True), rows.references
    networks = [model.eval().network for model in models]
    for start in range(0, len(rows), 500):
        batch = rows.__getitems__(list(range(start, min(start + 500, len(rows)))))
        assert batch.ids is not None
        for number, kept in zip(
            batch.ids.tolist(), first.written(batch.inputs[:, 0], batch.ids, networks=networks), strict=True
        ):
            act = rows.items.given[number]
            texts = realized(first.spec, act, [one.text for one in kept])
            judge.update([texts], [references[number]], [counted(first.spec, act, texts)])
    return {name: float(value) for name, value in judge.compute().items()}


def measure(bench: Bench, name: str, stage: Stage) -> None:
    """All seeds, the one that validation chooses, and their ensemble."""
    runs = [fit(bench, name, stage, seed) for seed in bench.seeds]
    judged = [scores_of(folder, stage, "validate", stage.judged)[stage.chosen_by] for folder, _ in runs]
    tested = [scores_of(folder, stage, "test") for folder, _ in runs]
    minutes = mean(ran.cpu for _, ran in runs) / 60
    bench.say(f"\n{stage.about}. A training takes {minutes:.1f} CPU-minutes.\n")
    headings = [*stage.columns.values(), f"validation {stage.columns.get(stage.chosen_by, stage.chosen_by)}"]
    bench.say(f"| `{stage.config}` | " + " | ".join(headings) + " |")
    bench.say("|---|" + "---|" * len(headings))
    for seed, scores, value in zip(bench.seeds, tested, judged, strict=True):
        row(bench, stage, f"seed {seed}", scores, value)
    if len(runs) > 1:
        row(bench, stage, "mean", {key: mean(one[key] for one in tested) for key in stage.columns}, mean(judged))
        best = (max if stage.highest else min)(range(len(runs)), key=judged.__getitem__)
        row(bench, stage, f"best on validation (seed {bench.seeds[best]})", tested[best], judged[best])
    if len(runs) > 1 and stage.domain is not None:
        folders = [folder for folder, _ in runs]
        on_validation = together(folders, stage.domain, "val")[stage.chosen_by]
        row(bench, stage, f"ensemble of {len(runs)}", together(folders, stage.domain, "test"), on_validation)
    for line in stage.beside:
        bench.say(line)
    for line in notes(runs[0][0]) if stage.notes else ():
        bench.say(line)


def notes(folder: Path) -> list[str]:
    """What ``test`` said of baselines, as a list; of a run that was tested."""
    text = run([], folder.with_name(f"{folder.name}.test.json")).text  # its log is there
    return ["", *(f"- {line.strip()}" for line in text.splitlines() if line.startswith(("  test loss", "  of ")))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("runs/generation/benchmark"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    for name in given.stages or STAGES:
        bench = Bench(given.out, given.seeds)
        measure(bench, name, STAGES[name])
        if given.write:
            old = RESULTS.read_text() if RESULTS.exists() else ""
            RESULTS.write_text(document(old, "Generation", {name: bench.lines}))


if __name__ == "__main__":
    main()

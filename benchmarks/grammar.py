"""What networks of tasks.grammar_acceptance reach, over seeds, beside what their papers print.

    python benchmarks/grammar.py acceptor --seeds 5 --write
    python benchmarks/grammar.py hochreiter --seeds 30 --write
    python benchmarks/grammar.py continual --seeds 20 --write
    python benchmarks/grammar.py nested --seeds 3 --write
    python benchmarks/grammar.py problems --seeds 3 --write
    python benchmarks/grammar.py cells --seeds 0 --write  # here the seed itself

Each run is ``lightning-rnn fit`` of a configuration with another seed, in a folder of its own; a run that is there
already is not trained again. ``--write`` keeps the table in benchmarks/results/grammar_<part>.md.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from lightning_rnn.cli import main as lightning_rnn
from lightning_rnn.training.checkpoints import read_checkpoint
from tasks.grammar_acceptance import GrammarData, GrammarModel
from tasks.grammar_acceptance.grammars.definitions import grammar
from tasks.grammar_acceptance.problems import CopyMemory
from tasks.grammar_acceptance.rigor import RANGES, rigorous
from tasks.grammar_acceptance.sources import ContinualStreams

CONFIGS = Path(__file__).resolve().parents[1] / "configs/grammar_acceptance"
RESULTS = Path(__file__).resolve().parent / "results"
Lines = list[str]


def fit(config: str, seed: int, folder: Path, *options: str, source_seed: int | None = None) -> float:
    """Train a configuration with a seed, unless that was done; the seconds it took."""
    done = folder / "seconds.txt"
    if not done.exists():
        began = time.monotonic()
        data = seed if source_seed is None else source_seed
        seeds = ["--seed_everything", str(seed), "--data.seed", str(seed), "--data.source.seed", str(data)]
        run = ["fit", "--config", str(CONFIGS / f"{config}.yaml"), "--trainer.default_root_dir", str(folder)]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = lightning_rnn([*run, *seeds, "--ckpt_path", "last", *options])
        if code:
            sys.exit(f"{said.getvalue()}\n{config}, seed {seed}: ended with {code}")
        done.write_text(f"{time.monotonic() - began:.1f}")
    return float(done.read_text())


def trained(folder: Path) -> GrammarModel:
    """The network as it was at the end of a run; averaged weights where the run has them."""
    path = folder / "checkpoints/last.ckpt"
    return GrammarModel.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Lines:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return [
        "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) + " |" for row in lines
    ]


def weights(model: GrammarModel) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in model.network.parameters() if parameter.requires_grad)


def acceptor(seeds: int, folder: Path) -> Lines:
    """The acceptor of the embedded Reber grammar against every string to length 14, and against long twins."""
    return checked("embedded_reber", "embedded_reber", seeds, folder / "acceptor", [*RANGES, (2000, 3000)])


def nested(seeds: int, folder: Path) -> Lines:
    """Nested Reber of depth 2 and 3: two and three agreements, one within the other."""
    lines = Lines()
    for depth in (2, 3):
        options = ["--data.source.grammar", f"nested_reber_{depth}"]
        ranges = [(50, 75), (100, 150), (200, 300)]
        found = checked("nested_reber", f"nested_reber_{depth}", seeds, folder / f"nested-{depth}", ranges, *options)
        lines += ["", f"Depth {depth}:", "", *found]
    return lines[1:]


def checked(
    config: str, name: str, seeds: int, folder: Path, ranges: Sequence[tuple[int, int]], *options: str
) -> Lines:
    """Rigorous checks of each seed's network."""
    language, rows, head = grammar(name), [], Lines()
    shortest = next(length for length in range(100) if language.count(length))
    for seed in range(seeds):
        seconds = fit(config, seed, folder / str(seed), *options)
        model = trained(folder / str(seed))
        found = rigorous(
            lambda strings, m=model: m.accept(strings)["accepted"], language, longest=shortest + 5, ranges=ranges
        )
        head = ["seed", "s", *(check.what for check in found)]
        rows.append([seed, f"{seconds:.0f}", *(f"{check.right:,} of {check.of:,}" for check in found)])
        print(rows[-1], flush=True)
    return table(head, rows)


def hochreiter(trials: int, folder: Path) -> Lines:
    """Hochreiter and Schmidhuber's experiment 1: 3 pairs of training and test strings, 10 networks each."""
    rows = []
    for trial in range(trials):
        pair, run = 3 * trial // trials, folder / "hochreiter" / str(trial)
        seconds = fit("hochreiter_schmidhuber", 100 + trial, run, source_seed=1000 + pair)
        values = last_row(run / "metrics.csv", "val_strings_right")
        solved = float(values["val_strings_right"]) == 1
        rows.append((pair, int(values["step"]) + 1, solved, seconds))
        print(rows[-1], flush=True)
    shown = [presented for _, presented, solved, _ in rows if solved]
    lines = table(
        ["pair", "presentations of each trial", "solved"],
        [
            [pair, ", ".join(f"{n:,}" for p, n, _, _ in rows if p == pair), sum(s for p, _, s, _ in rows if p == pair)]
            for pair in range(3)
        ],
    )
    here, mean = f"{len(shown)} of {trials}", f"{np.mean(shown):,.0f}"
    own = f"{here}, mean {mean}, median {np.median(shown):,.0f}, most {max(shown):,}"
    paper = [
        ["RTRL (Smith and Zipser 1989), 3 / 12 units", "170 / 494", "some", "173,000 / 25,000"],
        ["Elman net (Cleeremans et al. 1989), 15", "435", "0 %", "more than 200,000"],
        ["Recurrent cascade correlation (Fahlman 1991), 7 to 9", "119 to 198", "50 %", "182,000"],
        ["LSTM, 4 blocks of 1 (1997)", "264", "100 % / 97 %", "39,740 / 9,500"],
        ["LSTM, 3 blocks of 2 (1997)", "276", "100 % / 97 % / 100 %", "21,730 / 14,060 / 8,440"],
        ["LSTM(8) here", weights(trained(folder / "hochreiter/0")), here, mean],
    ]
    return [
        f"Solved: {own}; {np.mean([row[3] for row in rows]):.0f} s a trial.",
        "",
        *lines,
        "",
        *table(["network", "weights", "solved", "presentations"], paper),
    ]


def last_row(path: Path, column: str) -> dict[str, str]:
    """The last line of a CSV file that has a value in a column."""
    with path.open() as file:
        return [row for row in csv.DictReader(file) if row[column]][-1]


def solved_at(run: Path) -> int | None:
    """Sequences presented when a problem was solved; None where it was not, or has no such rule."""
    callbacks = read_checkpoint(run / "checkpoints/last.ckpt")["callbacks"]
    return next((state["solved_at"] for name, state in callbacks.items() if "WhenSolved" in name), None)


def continual(nets: int, folder: Path) -> Lines:
    """Continual embedded Reber: 10 streams of 100,000 symbols, never reset; the source's own law, another seed."""
    language, rows = ContinualStreams(eval_steps=100_000, seed=987_654), []
    streams = language.split("test")
    for net in range(nets):
        run = folder / "continual" / str(net)
        seconds = fit("continual_embedded_reber", 100 + net, run)
        model = trained(run)
        data = GrammarData(language, eval_batch_size=10)
        state, wrong, first = None, 0, None
        with torch.no_grad():
            for number, keys in enumerate(data.order("test", streams)):  # type: ignore[arg-type]
                batch = streams.__getitems__(keys)  # type: ignore[union-attr]
                scores, state = model.network(batch.inputs, batch.lengths, state)
                error = (scores.sigmoid() - batch.targets["legal"].float()).abs().amax(2)  # type: ignore[index]
                inside = torch.arange(error.shape[1]) < batch.lengths.unsqueeze(1)  # type: ignore[union-attr]
                bad = (error >= 0.49) & inside
                wrong += int(bad.sum())
                first = (
                    number * error.shape[1] + int(bad.any(0).int().argmax()) if first is None and bad.any() else first
                )
        rows.append([net, f"{seconds:.0f}", wrong, "none" if first is None else f"{first:,}"])
        print(rows[-1], weights(model), flush=True)
    perfect, steps = sum(row[2] == 0 for row in rows), int(streams.lengths.sum())  # type: ignore[union-attr]
    told = [
        f"Perfect: {perfect} of {nets} networks, each over {steps:,} predictions ({weights(model)} weights).",
        "Gers et al. (2000), 424 weights: 18 % with forget gates, 62 % with a decaying learning rate as well.",
    ]
    return [*told, "", *table(["net", "s", "wrong predictions", "first at step"], rows)]


def problems(seeds: int, folder: Path) -> Lines:
    """Adding, temporal order and copy memory by the criteria of their papers; test rows were never trained on."""
    rows = []
    for config, what in (("adding", "853,000"), ("temporal_order", "571,100"), ("copy_memory", ".0204 without memory")):
        for seed in range(seeds):
            run = folder / config / str(seed)
            seconds = fit(config, seed, run)
            where = ["--config", str(CONFIGS / f"{config}.yaml"), "--trainer.default_root_dir", str(run)]
            if lightning_rnn(["test", *where, "--ckpt_path", str(run / "checkpoints/last.ckpt")]):
                sys.exit(f"{config}, seed {seed}: cannot be tested")
            found = last_row(run / "metrics.csv", "test_loss")
            model = trained(run)
            problem = model.spec.problem  # type: ignore[union-attr]  # it is trained
            presented, count = solved_at(run) or problem["rows"], problem["eval_rows"]
            wrong = round((1 - float(found["test_right"])) * count)
            rows.append(
                [
                    config,
                    seed,
                    f"{seconds:.0f}",
                    weights(model),
                    presented,
                    f"{float(found['test_loss']):.2g}",
                    f"{wrong} of {count:,}",
                    what,
                ]
            )
            print(rows[-1], flush=True)
    return table(["problem", "seed", "s", "weights", "sequences", "test loss", "wrong", "published"], rows)


CELLS: dict[str, list[str]] = {
    "LSTM": ["lstm", "null"],
    "LSTM, chrono": ["lstm", "chrono"],
    "GRU": ["gru", "null"],
    "GRU, chrono": ["gru", "chrono"],
    "SimpleRNN": ["simple_rnn", "null"],
    "UGRNN": ["ugrnn", "null"],
    "minGRU": ["min_gru", "null"],
    "minLSTM": ["min_lstm", "null"],
    "IndRNN": ["ind_rnn", "null"],
}
PLAIN = ["--model.activation", "null", "--model.bias", "true", "--model.freeze_recurrent", "false"]
SHORT: dict[str, list[str]] = {  # problem: configuration and what is shorter there
    "embedded Reber": ["embedded_reber", "--data.source.rows", "8000", "--trainer.max_epochs", "20"],
    "temporal order 6b": ["temporal_order", "--data.source.rows", "20000"],
    "adding, T = 200": ["adding", "--data.source.steps", "200", "--data.source.rows", "20000"],
    "copy, T = 200": [
        "copy_memory",
        *("--data.source.steps", "200", "--data.source.rows", "5000", "--model.head_size", "0", *PLAIN),
    ],
}


def cells(seed: int, folder: Path) -> Lines:
    """Cells by problems: 32 units, one seed, the same few sequences for all, else the configurations."""
    rows = []
    for cell, (name, initializer) in CELLS.items():
        row: list[object] = [cell]
        for problem, (config, *shorter) in SHORT.items():
            run = folder / "cells" / f"{cell}-{problem}".replace(" ", "_")
            options = ["--model.cell", name, "--model.initializer", initializer, "--model.hidden_size", "32", *shorter]
            seconds = fit(config, seed, run, *options)
            row.append(f"{reached(problem, run)}, {seconds:.0f} s")
        rows.append(row)
        print(row, flush=True)
    memoryless = CopyMemory(steps=200).baselines()["memoryless_cross_entropy"]
    told = [
        "Embedded Reber: validation accuracy, and pairs right of 100 twins of 100 to 150 symbols, after 20 epochs of",
        "8,000 strings. Temporal order and adding: sequences until solved by the paper's criterion, of 20,000, else",
        "the share of validation rows that are right (0 and .154 for a network that always says the same). Copy:",
        f"cross-entropy after 5,000 sequences; without memory {memoryless:.4f}. The configurations' own rates,",
        "not tuned for each cell.",
    ]
    return [*told, "", *table(["cell", *SHORT], rows)]


def reached(problem: str, run: Path) -> str:
    """What a short run reached, in the terms of its problem."""
    if problem == "embedded Reber":
        right = float(last_row(run / "metrics.csv", "val_accuracy")["val_accuracy"])
        judge = trained(run)
        found = rigorous(
            lambda strings: judge.accept(strings)["accepted"], grammar("embedded_reber"), 9, ranges=[(100, 150)]
        )
        return f"{right:.3f}, {found[-1].right}"
    if problem.startswith("copy"):
        return f"{float(last_row(run / 'metrics.csv', 'val_loss')['val_loss']):.4f}"
    solved = solved_at(run)
    return f"{solved:,}" if solved else f"no ({float(last_row(run / 'metrics.csv', 'val_right')['val_right']):.3f})"


PARTS: dict[str, Callable[[int, Path], Lines]] = {
    "acceptor": acceptor,
    "hochreiter": hochreiter,
    "continual": continual,
    "nested": nested,
    "problems": problems,
    "cells": cells,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/grammar"))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    part = PARTS[options.part]
    lines = part(options.seeds, options.folder)
    command = f"python benchmarks/grammar.py {options.part} --seeds {options.seeds} --write"
    text = "\n".join([f"# {part.__doc__}", "", f"    {command}", "", *lines]) + "\n"
    print(text)
    if options.write:
        (RESULTS / f"grammar_{options.part}.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

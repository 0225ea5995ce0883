"""Output layers for a large vocabulary: time of a step, memory, and what a cheaper one costs in perplexity.

    OMP_NUM_THREADS=1 python benchmarks/softmax.py --write

- ``times``: forward and backward of the loss of 1,700 states of 256 features, and Adam's step for the layer, by turns
  within one process; medians. CPU time counts the threads of this process alone, so other work on the machine hardly
  changes it; wall time it does.
- ``memory``: three such steps in a process of their own, above what was there after the layer was made.
- ``perplexity``: the same GRU language model on WikiText-2 (``--data``, a folder with ``wiki.train.tokens`` and
  ``wiki.valid.tokens``), words in order of frequency, each head for the same CPU time. The plain softmax is first; the
  others are also evaluated after as many steps as it made. Always over the full vocabulary.

``torch`` is ``F.cross_entropy(F.linear(...))``, ``full`` is ours. Sections of ``benchmarks/results/softmax.md`` that
were not measured (``--parts``) stay as they are.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from softmax_model import LANES, SIZE, WINDOW, corpus, train
from speed.machine import describe
from speed.sections import document
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.runtime import tune_cpu
from lightning_rnn.seq2seq.heads import build_head
from lightning_rnn.seq2seq.output import LinearHead, OutputHead

RESULTS = Path(__file__).parent / "results" / "softmax.md"
ROWS, HIDDEN = 1700, 256


class TorchHead(LinearHead):
    """What one writes without this package."""

    def loss(self, hidden: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        logits = F.linear(self.projection(hidden), self.weight, self.bias)
        return F.cross_entropy(
            logits.flatten(0, -2), targets.flatten(), ignore_index=self.ignore_index, label_smoothing=label_smoothing
        )


HEADS: dict[str, Callable[[int, int], OutputHead]] = {
    "torch": TorchHead,
    "full": lambda size, words: build_head("full", size, words),
    "adaptive": lambda size, words: build_head("adaptive", size, words),
    "sampled 2048": lambda size, words: build_head("sampled", size, words, candidates=2048),
    "sampled 512": lambda size, words: build_head("sampled", size, words, candidates=512),
    "nce 2048": lambda size, words: build_head("nce", size, words, candidates=2048),
    "nce 512": lambda size, words: build_head("nce", size, words, candidates=512),
}
SMOOTHED = {f"{name}, label smoothing": HEADS[name] for name in ("torch", "full")}
SMALL = {name: HEADS[name] for name in ("torch", "full")} | SMOOTHED
LARGE = HEADS | SMOOTHED
Clock = dict[str, list[tuple[float, float]]]


def zipf(words: int, count: int) -> Tensor:
    """Targets as they are in a text, none of them pad."""
    return (torch.rand(count, generator=torch.Generator().manual_seed(0)) * math.log(words)).exp().long().clamp(1)


class Step:
    """One training step of a head alone."""

    def __init__(self, head: OutputHead, words: int, bf16: bool = False, smoothing: float = 0.0) -> None:
        self.head, self.bf16, self.smoothing = head, bf16, smoothing
        self.hidden = torch.randn(ROWS, HIDDEN, requires_grad=True)
        self.targets = zipf(words, ROWS)
        self.optimizer = torch.optim.Adam(head.parameters(), fused=True)

    def gradients(self) -> None:
        self.hidden.grad = None
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.head.loss(self.hidden, self.targets, label_smoothing=self.smoothing)
        loss.backward()

    def update(self) -> None:
        self.optimizer.step()


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Milliseconds of wall and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def median(pairs: list[tuple[float, float]], which: int) -> float:
    return sorted(pair[which] for pair in pairs)[len(pairs) // 2]


def times(words: int, threads: int, bf16: bool, rounds: int, every: bool) -> list[str]:
    """Rows of a table: each head's medians over the rounds."""
    tune_cpu(threads=threads)
    steps = {
        name: Step(build(HIDDEN, words), words, bf16, 0.1 * (name in SMOOTHED))
        for name, build in (LARGE if every else SMALL).items()
    }
    gradients: Clock = {name: [] for name in steps}
    updates: Clock = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            first, second = timed(step.gradients), timed(step.update)
            if turn:
                gradients[name].append(first)
                updates[name].append(second)
    lines, start = [], f"| {words:,} | {threads} | {'bf16' if bf16 else 'float32'} |"
    for name in steps:
        wall, cpu = (median(gradients[name], which) for which in (0, 1))
        same = "torch, label smoothing" if name in SMOOTHED else "torch"
        faster = median(gradients[same], 1) / cpu
        lines.append(f"{start} {name} | {cpu:,.0f} | {median(updates[name], 1):,.0f} | {faster:.2f} | {wall:,.0f} |")
    return lines


def time_section(options: argparse.Namespace) -> list[str]:
    lines = [
        "| words | threads | products | head | forward + backward, CPU ms | Adam, CPU ms | times torch's speed | "
        "forward + backward, wall ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for threads in options.threads:
        for words in options.words:
            for bf16 in (False, True):
                every = words == max(options.words)
                lines += apart(times, words, threads, bf16, options.rounds if every else 2 * options.rounds, every)
                print("\n".join(lines[-len(LARGE if every else SMALL) :]), flush=True)
    return lines


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a new process, for its own number of threads and its own peak of memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(work, arguments)
        pool.close()
        pool.join()
    return found


def memory(name: str, words: int) -> float:
    """MiB at the peak of three steps, above what there was before."""
    torch.set_num_threads(1)
    step = Step(HEADS[name](HIDDEN, words), words)
    status = Path("/proc/self/status").read_text()
    before = int(status.split("VmRSS:")[1].split()[0])
    for _ in range(3):
        step.gradients()
        step.update()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def memory_section(options: argparse.Namespace) -> list[str]:
    words = max(options.words)
    parameters = words * HIDDEN * 4 / 2**20
    lines = [
        f"{words:,} words, float32. Of each figure {3 * parameters:,.0f} MiB are the gradient of the vectors and "
        "Adam's two moments (fewer for adaptive).",
        "",
        "| head | MiB above the layer itself |",
        "|---|---|",
    ]
    return lines + [f"| {name} | {apart(memory, name, words):,.0f} |" for name in HEADS]


def perplexity_section(options: argparse.Namespace) -> list[str]:
    tune_cpu(threads=1)
    data = corpus(options.data, max(options.words))
    names = [name for name in HEADS if name != "torch"]
    lines = [
        f"{data[2]:,} words; embedding and GRU of {SIZE}, {LANES * WINDOW} tokens a step, Adam 0.002, "
        f"{options.seconds:.0f} CPU-seconds of training each, one thread, one seed; perplexity of the first "
        f"{data[1].numel() - LANES:,} validation tokens.",
        "",
    ]
    stop: int | None = None
    for name in names:
        found = train(HEADS[name], data, options.seconds, stop)
        if stop is None:
            stop, found["after"] = int(found["steps"]), found["end"]
            lines += [
                f"| head | CPU ms a step, whole model | perplexity after {stop} steps | steps in the same time | "
                "perplexity then |",
                "|---|---|---|---|---|",
            ]
        lines.append(
            f"| {name} | {found['ms']:,.0f} | {found['after']:,.0f} | {found['steps']:,.0f} | {found['end']:,.0f} |"
        )
        print(lines[-1], flush=True)
    return lines


PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], list[str]]]] = {
    "times": ("Time of a step", time_section),
    "memory": ("Memory of a step", memory_section),
    "perplexity": ("What it costs in perplexity", perplexity_section),
}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--words", nargs="+", type=int, default=[2500, 8000, 32_000], help="all heads at the largest")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of the times")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each head")
    parser.add_argument("--seconds", type=float, default=60, help="CPU time of each language model")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/wikitext2"), help="folder of WikiText-2")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    command = f"python benchmarks/softmax.py {' '.join(sys.argv[1:] if argv is None else argv)}"
    sections = {}
    for part in options.parts:
        about = describe(1)
        title, measure = PARTS[part]
        made = f"Made by `{command}`: {about['cpu']}, {about['cores']} cores ({', '.join(about['flags'])}), torch "
        made += f"{about['torch']}, {about['date']}, load {about['load']} at the start."
        sections[title] = [made, "", *measure(options)]
        print("\n".join(sections[title]), flush=True)
        if options.write:
            old, order = RESULTS.read_text() if RESULTS.exists() else "", [title for title, _ in PARTS.values()]
            RESULTS.write_text(document(old, "Output layers for a large vocabulary", sections, order))
    return 0


if __name__ == "__main__":
    sys.exit(main())

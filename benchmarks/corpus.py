"""A corpus larger than one wants in memory: its tokens prepared once, found again, and trained on.

    OMP_NUM_THREADS=1 python benchmarks/corpus.py --lines 20000000

Each phase is a process of its own, so its peak of memory is its own: anonymous memory, and pages of mapped files, which
the system takes back where it needs them. Both are sampled every 50 ms from ``/proc/self/smaps_rollup``. The lines are
drawn from a made-up vocabulary with Zipf's frequencies and lengths like those of captions; the same every time.
Figures go to ``benchmarks/results/corpus.md``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from lightning_rnn import LSTM
from lightning_rnn.data import BucketBatchSampler
from lightning_rnn.data.dataset import SequenceDataset
from lightning_rnn.data.store import MappedRagged, prepare_tokenizer, prepare_tokens
from lightning_rnn.data.tokenizer import Kind

RESULTS = Path(__file__).parent / "results" / "corpus.md"
WORDS, CHUNK = 50_000, 100_000
Figures = dict[str, Any]


def generate(path: Path, lines: int) -> None:
    """A deterministic text of this many lines."""
    rng = np.random.default_rng(0)
    syllables = np.array([c + v for c in "bdfgklmnprstvz" for v in "aeiou"])
    parts = rng.integers(len(syllables), size=(WORDS, 4))
    words = np.array(["".join(syllables[p[: 1 + i % 4]]) for i, p in enumerate(parts)])
    chances = 1 / np.arange(1, WORDS + 1)
    cumulative = np.cumsum(chances / chances.sum())
    with path.open("w") as stream:
        for start in range(0, lines, CHUNK):
            lengths = np.clip(rng.lognormal(2.4, 0.4, min(CHUNK, lines - start)), 1, 60).astype(int)
            drawn = iter(words[cumulative.searchsorted(rng.random(lengths.sum()))])
            stream.writelines(" ".join([next(drawn) for _ in range(n)]) + "\n" for n in lengths)


def texts_of(path: Path) -> Callable[[], Iterator[str]]:
    """The lines, each time it is called."""

    def texts() -> Iterator[str]:
        with path.open() as stream:
            yield from (line.rstrip("\n") for line in stream)

    return texts


def tokenize(path: Path, kind: Kind, vocab_size: int) -> Figures:
    """The tokenizer, from the cache where it is there."""
    return {"pieces": prepare_tokenizer([path], texts_of(path), kind, vocab_size).vocab_size}


def prepare(path: Path, kind: Kind, vocab_size: int) -> Figures:
    """The tokens, from the cache where they are there."""
    tokenizer = prepare_tokenizer([path], texts_of(path), kind, vocab_size)
    tokens = prepare_tokens([path], texts_of(path), tokenizer, bos=True, eos=True)
    return {"rows": len(tokens), "folder": str(tokens.folder)}


def order(folder: str) -> Figures:
    """What the sampler costs: one epoch's order of batches."""
    start = time.perf_counter()
    sampler = BucketBatchSampler(MappedRagged.open(Path(folder)).lengths, 64, shuffle=True)
    next(iter(sampler))
    return {"first batch s": time.perf_counter() - start, "batches": len(sampler)}


def fetch(folder: str, batches: int) -> Figures:
    """Batches of rows of like length from all over the corpus, not trained on; without the sampler's memory."""
    data = SequenceDataset(MappedRagged.open(Path(folder)))
    rows = np.random.default_rng(0).integers(len(data), size=(batches, 64))
    start = time.perf_counter()
    tokens = sum(int(data.inputs.pad(torch.from_numpy(batch))[1].sum()) for batch in rows)
    seconds = time.perf_counter() - start
    return {"batches": batches, "µs a batch": 1e6 * seconds / batches, "tokens a second": tokens / seconds}


def train(folder: str, steps: int, vocab_size: int) -> Figures:
    """Steps of a small language model on bucketed batches."""
    data = SequenceDataset(MappedRagged.open(Path(folder)))
    sampler = BucketBatchSampler(data.inputs.lengths, 64, shuffle=True)
    embedding, layer, head = (
        torch.nn.Embedding(vocab_size, 32),
        LSTM(32, 64, engine="fused"),
        torch.nn.Linear(64, vocab_size),
    )
    parameters = [*embedding.parameters(), *layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, 3e-3)
    losses, waited, start = [], 0.0, 0.0
    batches = iter(sampler)
    for step in range(steps):
        begun = time.perf_counter()
        rows = next(batches)
        if step == 1:  # the first one makes the order
            start, waited = begun, 0.0
        batch = data.__getitems__(rows)
        waited += time.perf_counter() - begun
        scores = head(layer(embedding(batch.inputs[:, :-1])).sequence)
        loss = F.cross_entropy(scores.flatten(0, 1), batch.inputs[:, 1:].flatten(), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    seconds = time.perf_counter() - start
    return {
        "steps a second": (steps - 1) / seconds,
        "waiting for data %": 100 * waited / seconds,
        "first loss": losses[0],
        "last loss": sum(losses[-20:]) / 20,
    }


class Memory(threading.Thread):
    """Peaks of this process' memory, MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = {"anonymous": 0, "file": 0}
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.05):
            self.look()

    def look(self) -> None:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
        sizes = {name: int(rest.split()[0]) // 1024 for name, rest in (line.split(":") for line in lines)}
        self.peak["anonymous"] = max(self.peak["anonymous"], sizes["Anonymous"])
        self.peak["file"] = max(self.peak["file"], sizes["Rss"] - sizes["Anonymous"])


def _measured(queue: Any, work: Callable[..., Figures | None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    memory = Memory()
    memory.look()
    before = dict(memory.peak)
    memory.start()
    start = time.perf_counter()
    figures = work(*arguments) or {}
    seconds = time.perf_counter() - start
    memory.done.set()
    memory.look()
    queue.put({"seconds": seconds, "before": before, "peak": memory.peak, "figures": figures})


def phase(name: str, work: Callable[..., Figures | None], *arguments: Any) -> Figures:
    """Run it in a process of its own; print and return what it took."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=_measured, args=(queue, work, arguments))
    child.start()
    child.join()
    if child.exitcode:
        sys.exit(f"{name}: exit status {child.exitcode}")
    found: Figures = queue.get()
    print(row(name, found), flush=True)
    return found


def row(name: str, found: Figures) -> str:
    """One line of the table."""
    said = ", ".join(
        f"{value:,.1f} {key}" if isinstance(value, float) else f"{value:,} {key}"
        for key, value in found["figures"].items()
        if key != "folder"
    )
    sizes = [f"{found[when][part]:,}" for part in ("anonymous", "file") for when in ("before", "peak")]
    return f"| {name} | {found['seconds']:,.1f} | {' | '.join(sizes)} | {said} |"


HEAD = """| phase | s | anonymous MiB, at the start | at the peak | file MiB, at the start | at the peak | figures |
|---|---|---|---|---|---|---|"""


def measure(options: argparse.Namespace, folder: Path) -> list[str]:
    """All phases, as lines of a table."""
    os.environ["LIGHTNING_RNN_CACHE"] = str(folder / "cache")
    path = folder / "corpus.txt"
    lines = [row("write the corpus", phase("write the corpus", generate, path, options.lines))]
    arguments = (path, options.kind, options.vocab_size)
    lines.append(row("train the tokenizer", phase("train the tokenizer", tokenize, *arguments)))
    first = phase("first run: prepare the tokens", prepare, *arguments)
    second = phase("second run: find them", prepare, *arguments)
    tokens = first["figures"]["folder"]
    assert second["figures"]["folder"] == tokens
    lines += [row("first run: prepare the tokens", first), row("second run: find them", second)]
    for name, work, *rest in (
        ("order of an epoch", order),
        ("fetch random rows", fetch, options.batches),
        ("train", train, options.steps, options.vocab_size),
    ):
        lines.append(row(name, phase(name, work, tokens, *rest)))
    sizes = f"{path.stat().st_size / 1e6:,.0f} MB of text, "
    sizes += " and ".join(f"{file.stat().st_size / 1e6:,.0f} MB of {file.name}" for file in Path(tokens).glob("*.npy"))
    return [HEAD, *lines, "", f"{options.lines:,} lines: {sizes}."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000_000)
    parser.add_argument("--kind", default="bpe")
    parser.add_argument("--vocab_size", type=int, default=4000)
    parser.add_argument("--batches", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        lines = measure(options, folder)
    finally:
        shutil.rmtree(folder)
    about = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    command = (
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '1')} python benchmarks/corpus.py {' '.join(sys.argv[1:])}"
    )
    heading = f"# A corpus of {options.lines:,} lines\n\nMade by `{command}`, {about}, {datetime.now(UTC):%Y-%m-%d}.\n"
    text = "\n".join([heading, *lines]) + "\n"
    print(text)
    if options.write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()

"""Beam search over batches of sentences against one sentence at a time: the same outputs, and how much faster.

    python benchmarks/beam.py [--sentences 1000] [--batch 100 250] [--write]

The decoder is a GRU with dot attention and random weights whose outputs end near the length of their source; the
lengths are drawn so that they look like those of captions (3 to 40, mean 16). Batches are of similar length. One turn
of every contender after another, best of the rounds, in seconds of the processor; ``search`` is what a turn takes
beyond the decoder's steps.
``--write`` keeps the table in benchmarks/results/beam.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnn.seq2seq.beam import beam_search
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.hypotheses import Hypothesis, near_ties
from lightning_rnn.seq2seq.request import Request, length_limits
from lightning_rnn.seq2seq.step import StepOutput

RESULTS = Path(__file__).parent / "results/beam.md"


class Memory(NamedTuple):
    """Source states ``[B, S, H]`` and how many of them are real, ``[B]``."""

    values: Tensor
    lengths: Tensor


class Decoder(nn.Module):
    """Embedding, GRU cell, dot attention, output; the state counts the words."""

    def __init__(self, vocab: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding, self.cell = nn.Embedding(vocab, embedding), nn.GRUCell(embedding, hidden)
        self.attend, self.output = nn.Linear(2 * hidden, hidden), nn.Linear(hidden, vocab)
        nn.init.normal_(self.output.weight, std=0.5)
        self.seconds = 0.0

    def forward(self, tokens: Tensor, state: tuple[Tensor, Tensor], constants: Memory) -> StepOutput:
        """One step."""
        began = time.process_time()
        h, count = self.cell(self.embedding(tokens), state[0]), state[1] + 1
        sentences, positions = constants.values.shape[:2]
        outside = torch.arange(positions) >= constants.lengths[:, None, None]
        scores = h.view(sentences, -1, h.shape[1]) @ constants.values.transpose(1, 2)
        weights = scores.masked_fill(outside, float("-inf")).softmax(-1)
        context = (weights @ constants.values).view_as(h)
        logits = self.output(torch.tanh(self.attend(torch.cat([h, context], 1))))
        logits[:, 3] += 2 * (count.view(sentences, -1) - constants.lengths[:, None]).flatten() + 8
        out = StepOutput(logits.log_softmax(1), (h, count), weights.view(tokens.shape[0], positions))
        self.seconds += time.process_time() - began
        return out


@dataclass
class Turn:
    """The search of all sentences in batches of ``size``."""

    size: int
    seconds: float = float("inf")
    search: float = float("inf")
    found: list[list[Hypothesis]] = field(default_factory=list)

    def take(self, decoder: Decoder, sources: Sequence[Tensor], options: BeamOptions) -> None:
        """Once more."""
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        found: dict[int, list[Hypothesis]] = {}
        decoder.seconds, began = 0.0, time.process_time()
        for start in range(0, len(order), self.size):
            rows = order[start : start + self.size]
            found |= zip(rows, translate(decoder, [sources[i] for i in rows], options), strict=True)
        seconds = time.process_time() - began
        if seconds < self.seconds:
            self.seconds, self.search = seconds, seconds - decoder.seconds
        self.found = [found[i] for i in range(len(sources))]


def translate(decoder: Decoder, sources: Sequence[Tensor], options: BeamOptions) -> list[list[Hypothesis]]:
    """Beam search of one batch."""
    lengths = torch.tensor([len(source) for source in sources])
    values = nn.utils.rnn.pad_sequence(list(sources), batch_first=True)
    state = (values[:, 0], torch.zeros(len(sources), dtype=torch.int64))
    return beam_search(
        decoder,
        state,
        Memory(values, lengths),
        options,
        Request(length_limits(lengths, 1.5, 10), source_lengths=lengths),
    )


def compare(one: Turn, other: Turn) -> tuple[int, int, float]:
    """Sentences whose words differ, how many of them are near-ties, and the largest difference of scores elsewhere."""
    differ = [
        i
        for i, (a, b) in enumerate(zip(one.found, other.found, strict=True))
        if [h.tokens.tolist() for h in a] != [h.tokens.tolist() for h in b]
    ]
    close = set(near_ties(one.found, 1e-5))
    same = (pair for i, pair in enumerate(zip(one.found, other.found, strict=True)) if i not in differ)
    apart = [abs(a.score - b.score) for pair in same for a, b in zip(*pair, strict=True)]
    return len(differ), len(close.intersection(differ)), max(apart, default=0.0)


def report(turns: Sequence[Turn], words: int) -> list[str]:
    """The table."""
    alone, count = turns[0], len(turns[0].found)
    lines = [
        "| batch | CPU s | sentences / CPU s | times as fast | of it search, CPU s | outputs that differ | "
        "near-ties of them | largest difference of scores |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for turn in turns:
        differ, close, largest = compare(alone, turn)
        ratio = f"{alone.seconds / turn.seconds:.1f}"
        numbers = [turn.size, f"{turn.seconds:.2f}", f"{count / turn.seconds:.0f}", ratio, f"{turn.search:.2f}"]
        lines.append(f"| {' | '.join(map(str, [*numbers, differ, close, f'{largest:.1e}']))} |")
    return [*lines, "", f"{words / count:.1f} words an output."]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--batch", type=int, nargs="+", default=[100, 250])
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--stop", choices=("exact", "next", "count"), default="exact")
    parser.add_argument("--vocab", type=int, default=4000)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    decoder = Decoder(options.vocab, options.hidden // 2, options.hidden).eval()
    lengths = (torch.randn(options.sentences) * 6 + 16).round().clamp(3, 40).int().tolist()
    sources = [torch.randn(length, options.hidden) for length in lengths]
    turns = [Turn(size) for size in (1, *options.batch)]
    for _ in range(options.rounds):
        for turn in turns:
            turn.take(decoder, sources, BeamOptions(options.beam, stop=options.stop))
    words = sum(len(best[0].tokens) for best in turns[0].found)
    settings = ", ".join(f"{name} {value}" for name, value in vars(options).items() if name not in ("batch", "write"))
    lines = [f"torch {torch.__version__}: {settings}", "", *report(turns, words)]
    print("\n".join(lines))
    if options.write:
        RESULTS.write_text("# Batched beam search\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

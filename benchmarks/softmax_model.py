"""The language model whose perplexity ``softmax.py`` compares output heads by."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_rnn import GRU
from lightning_rnn.data.tokenizer import EOS, train_tokenizer
from lightning_rnn.seq2seq.output import OutputHead

LANES, WINDOW, SIZE, VALIDATION = 20, 20, 128, 10_000


class LanguageModel(nn.Module):
    """Embedding, one GRU, head."""

    def __init__(self, head: OutputHead, words: int) -> None:
        super().__init__()
        self.embedding, self.rnn, self.head = nn.Embedding(words, SIZE), GRU(SIZE, SIZE), head
        nn.init.normal_(self.embedding.weight, std=SIZE**-0.5)

    def forward(self, tokens: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """The loss of each token after the one before, and the state at the end."""
        hidden, state = self.rnn(self.embedding(tokens[:, :-1]), state)
        return self.head.loss(hidden, tokens[:, 1:]), state


def corpus(folder: Path, words: int) -> tuple[Tensor, Tensor, int]:
    """Training and validation tokens in lanes ``[LANES, ...]``, and how many words there are."""
    texts = [
        [line.strip() for line in (folder / f"wiki.{split}.tokens").read_text(encoding="utf-8").split("\n")]
        for split in ("train", "valid")
    ]
    tokenizer = train_tokenizer(texts[0], "words", words)

    def lanes(lines: list[str]) -> Tensor:
        rows = tokenizer.encode([line for line in lines if line])
        tokens = torch.cat([torch.cat((torch.as_tensor(row), torch.tensor([EOS]))) for row in rows])
        return tokens[: len(tokens) // LANES * LANES].view(LANES, -1)

    return lanes(texts[0]), lanes(texts[1])[:, : VALIDATION // LANES + 1], tokenizer.vocab_size


def windows(lanes: Tensor) -> Iterator[Tensor]:
    """One more token than there are targets, each beginning with the last target of the one before."""
    for start in range(0, lanes.shape[1] - WINDOW, WINDOW):
        yield lanes[:, start : start + WINDOW + 1]


@torch.no_grad()
def perplexity(model: LanguageModel, lanes: Tensor) -> float:
    model.eval()
    state, losses = None, []
    for window in windows(lanes):
        loss, state = model(window, state)
        losses.append(loss)
    model.train()
    return float(torch.stack(losses).mean().exp())


def train(
    build: Callable[[int, int], OutputHead], data: tuple[Tensor, Tensor, int], seconds: float, stop: int | None
) -> dict[str, float]:
    """Steps made in ``seconds`` of CPU time, and perplexities after ``stop`` steps and at the end."""
    torch.manual_seed(0)
    lanes, held_out, words = data
    model = LanguageModel(build(SIZE, words), words)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3, fused=True)
    found, steps, used = {"after": math.nan}, 0, 0.0
    while True:
        state = None
        for window in windows(lanes):
            start = time.process_time()
            loss, state = model(window, state)
            state = state.detach()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            steps, used = steps + 1, used + time.process_time() - start
            if steps == stop:
                found["after"] = perplexity(model, held_out)
            if used > seconds:
                return found | {"steps": steps, "end": perplexity(model, held_out), "ms": 1e3 * used / steps}

"""Small decoders of beam searches, and the search itself as plain loops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from lightning_rnn.seq2seq.beam import beam_search
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.hypotheses import Hypothesis
from lightning_rnn.seq2seq.request import Request, length_limits
from lightning_rnn.seq2seq.step import StepOutput

BOS, EOS = 2, 3
Found = list[list[Hypothesis]]


class Memory(NamedTuple):
    values: Tensor
    mask: Tensor | None


class Toy:
    """A recurrent decoder with dot attention and random weights; its state is a nest."""

    def __init__(self, vocab: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64, sharp: float = 3.0) -> None:
        draw = torch.Generator().manual_seed(seed)
        size = 5

        def weights(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

        self.dtype, self.size, self.sharp = dtype, size, sharp
        self.embedding, self.u, self.c, self.out = weights(vocab, size), weights(size, size), weights(size, size), None
        self.w = weights(2 * size, vocab)
        self.calls: list[int] = []

    def start(self, lengths: list[int], pad: int = 0, seed: int = 7) -> tuple[Any, Memory]:
        """State and memory of sentences, each a function of its number and length; ``pad`` more positions."""
        longest = max(lengths, default=0) + pad
        values = torch.full((len(lengths), longest, self.size), 9.0, dtype=self.dtype)
        for i, length in enumerate(lengths):
            draw = torch.Generator().manual_seed(seed + i)
            values[i, :length] = torch.randn(50, self.size, generator=draw, dtype=torch.float64)[:length].to(self.dtype)
        mask = torch.arange(longest) < torch.tensor(lengths, dtype=torch.int64)[:, None]
        h = values[:, :1].sum(1) if longest else values.sum(1)
        return (h.clone(), {"read": torch.zeros(len(lengths), dtype=torch.int64)}), Memory(values, mask)

    def __call__(self, tokens: Tensor, state: Any, constants: Memory) -> StepOutput:
        self.calls.append(tokens.shape[0])
        h, counts = state
        values = constants.values
        h = torch.tanh(self.embedding[tokens] + h @ self.u / 2)
        query = h.view(values.shape[0], -1, self.size)
        scores = query @ values.transpose(1, 2)
        weights = scores.masked_fill(~constants.mask[:, None], float("-inf")).softmax(-1)  # type: ignore[index]
        context = (weights @ values).reshape(h.shape)
        logits = torch.cat([h, context @ self.c / 3], 1) @ self.w * (self.sharp / 3)
        state = (h, {"read": counts["read"] + 1})
        return StepOutput(logits.log_softmax(1), state, weights.reshape(h.shape[0], -1))


class Chain:
    """The next word depends on the last alone."""

    def __init__(self, log_probs: Tensor) -> None:
        self.log_probs = log_probs

    def __call__(self, tokens: Tensor, state: Any, constants: Any) -> StepOutput:
        return StepOutput(self.log_probs[tokens], state)


@dataclass
class Trail:
    """A hypothesis of the reference search."""

    tokens: list[int]
    total: float
    log_prob: float
    state: Any
    coverage: np.ndarray
    alignment: list[np.ndarray]


def one_score(path: Trail, options: BeamOptions) -> float:
    n = len(path.tokens)
    lp = {"none": 1.0, "average": float(max(n, 1)), "wu": ((5 + n) / 6) ** options.alpha}[options.length_penalty]
    cover = 0.0 if not options.coverage_beta or not n else float(np.log(np.clip(path.coverage, 1e-37, 1)).sum())
    return float(path.total / lp + options.coverage_beta * cover)


def allowed_words(path: Trail, log_probs: np.ndarray, request: Request, prefix: list[int]) -> dict[int, float]:
    """What a word adds to the total, for those that are allowed."""
    time, n = len(path.tokens), request.no_repeat_ngram
    if time < len(prefix):
        return {prefix[time]: float(log_probs[prefix[time]])}
    words = {w: float(v) * (request.repetition_penalty if w in path.tokens else 1) for w, v in enumerate(log_probs)}
    if time < int(request.min_length):
        del words[request.eos]
    if n:
        grams = {tuple(path.tokens[i : i + n]) for i in range(time - n + 1)}
        end = tuple(path.tokens[time - n + 1 :]) if n > 1 else ()
        words = {w: v for w, v in words.items() if (*end, w) not in grams}
    return words


def plain_beam(
    step: Any, state: Any, memory: Any, options: BeamOptions, request: Request, prefix: list[int] | None = None
) -> list[tuple[Trail, bool, float]]:
    """Beam search of one sentence with lists and loops, as :func:`beam_search` states it, to the maximum length."""
    source = memory.values.shape[1] if isinstance(memory, Memory) else 0
    beams = [Trail([], 0.0, 0.0, state, np.zeros(source), [])]
    ended: list[Trail] = []
    stopped: list[Trail] = beams if int(request.max_length) == 0 else []
    for time in range(int(request.max_length)):
        found = []
        for number, beam in enumerate(beams):
            out = step(torch.tensor([beam.tokens[-1] if beam.tokens else request.bos]), beam.state, memory)
            weights = np.zeros(source) if out.alignment is None else out.alignment[0].numpy()
            log_probs = out.log_probs[0].double().numpy()
            for word, added in allowed_words(beam, log_probs, request, prefix or []).items():
                if added == -math.inf:
                    continue
                longer = Trail(
                    [*beam.tokens, word],
                    beam.total + added,
                    beam.log_prob + float(log_probs[word]),
                    out.state,
                    beam.coverage + weights,
                    [*beam.alignment, weights],
                )
                found.append(((-longer.total, number, word), longer))
        found.sort(key=lambda pair: pair[0])
        paths = [path for _, path in found]
        ended += [path for path in paths[: options.beam_size] if path.tokens[-1] == request.eos]
        if not paths:
            stopped = beams
            break
        beams = [path for path in paths if path.tokens[-1] != request.eos][: options.beam_size]
        if options.stop == "count" and len(ended) >= options.beam_size:
            break
        if time + 1 == int(request.max_length):
            stopped = beams
        if not beams:
            break
    pairs = [(path, True, one_score(path, options)) for path in ended]
    pairs += [(path, False, one_score(path, options)) for path in stopped]
    return sorted(pairs, key=lambda pair: (not pair[1], -pair[2]))[: options.n_best]


def assert_same(found: list[Hypothesis], wanted: list[tuple[Trail, bool, float]], tolerance: float = 1e-9) -> None:
    assert [(one.tokens.tolist(), one.finished) for one in found] == [(p.tokens, done) for p, done, _ in wanted]
    for one, (path, _, value) in zip(found, wanted, strict=True):
        assert one.score == pytest.approx(value, abs=tolerance)
        assert one.log_prob == pytest.approx(path.log_prob, abs=tolerance)
        if one.alignment is not None:
            np.testing.assert_allclose(one.alignment, np.reshape(path.alignment, one.alignment.shape), atol=tolerance)


@st.composite
def searches(draw: st.DrawFn) -> tuple[Toy, int, BeamOptions, Request, list[int]]:
    vocab, beam = draw(st.integers(4, 8)), draw(st.integers(1, 5))
    toy = Toy(vocab, seed=draw(st.integers(0, 10**6)), sharp=draw(st.sampled_from([0.5, 2.0, 6.0])))
    options = BeamOptions(
        beam_size=beam,
        n_best=draw(st.integers(1, beam)),
        length_penalty=draw(st.sampled_from(["none", "wu", "average"])),
        alpha=draw(st.sampled_from([0.0, 0.6, 1.5])),
        coverage_beta=draw(st.sampled_from([0.0, 0.2, 2.0])),
        stop=draw(st.sampled_from(["exact", "count"])),
    )
    words = st.integers(0, vocab - 1).filter(lambda word: word != EOS)
    request = Request(
        max_length=draw(st.integers(0, 7)),
        min_length=draw(st.integers(0, 4)),
        no_repeat_ngram=draw(st.integers(0, 3)),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
    )
    return toy, draw(st.integers(1, 5)), options, request, draw(st.lists(words, max_size=3))


def search(toy: Toy, lengths: list[int], which: list[int], options: BeamOptions, pad: int = 0) -> Found:
    """The search of some sentences, in this order."""
    (h, counts), memory = toy.start(lengths, pad)
    index = torch.tensor(which)
    longest = max(lengths[i] for i in which) + pad  # a batch is as wide as its own longest
    part = Memory(memory.values[index, :longest], memory.mask[index, :longest])  # type: ignore[index]
    source = torch.tensor(lengths)[index]
    request = Request(length_limits(source, 1.5, 5), 2, source_lengths=source, no_repeat_ngram=4)
    return beam_search(toy, (h[index], {"read": counts["read"][index]}), part, options, request)

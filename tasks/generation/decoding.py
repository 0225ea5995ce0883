"""Conditions in, texts out: one network or several, no trainer and no datamodule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnn.errors import require
from lightning_rnn.seq2seq.beam import beam_search
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.ensemble import EnsembleStep
from lightning_rnn.seq2seq.generate import generate
from lightning_rnn.seq2seq.request import Request
from lightning_rnn.seq2seq.samplers import Sampling
from lightning_rnn.seq2seq.step import DecodeStep
from lightning_rnn.types import Nest

from .network import GeneratorNetwork
from .rerank import reranked
from .spec import GenerationSpec


@dataclass(frozen=True)
class DecodingOptions:
    """How texts are written.

    Attributes:
        beam: how to search; its ``n_best`` texts are ranked anew where conditions are dialogue acts.
        sampling: how to draw tokens instead of a search; None: by search.
        samples: with ``sampling``: how many texts are drawn of each condition, the most probable first.
        max_length: tokens of a text at most, its end among them.
        slot_weight: what a slot too many or too few costs when dialogue acts' texts are ranked, in the scores' unit; 0
            ranks by probability alone.
        binary_weight: the same for the words of a slot of yes and no, which RNNLG does not rank by.
        keep: so many best texts of each condition, of those that are searched (``beam.n_best``) or drawn.

    Raises:
        ConfigError: an option is out of its range.
    """

    beam: BeamOptions = field(default_factory=lambda: BeamOptions(5, 1))
    sampling: Sampling | None = None
    samples: int = 1
    max_length: int = 60
    slot_weight: float = 0.0
    binary_weight: float = 0.0
    keep: int = 1

    def __post_init__(self) -> None:
        for name, value in (("keep", self.keep), ("samples", self.samples), ("max_length", self.max_length)):
            require(value >= 1, f"model.{name} must be at least 1, got {value}")
        for name, weight in (("slot_weight", self.slot_weight), ("binary_weight", self.binary_weight)):
            require(weight >= 0, f"model.{name} must not be negative, got {weight}")
        found = self.beam.n_best if self.sampling is None else self.samples
        require(self.keep <= found, f"model.keep is {self.keep} of {found} texts: keep fewer, or raise "
                f"model.{'candidates or beam_size' if self.sampling is None else 'candidates'}")  # fmt: skip

    def seeded(self, seed: int, rows: Tensor) -> DecodingOptions:
        """The same, the samples of each row (int64 ``[B]``) drawn by its number and ``seed`` alone."""
        if self.sampling is None:
            return self
        drawn = torch.arange(self.samples, device=rows.device)
        seeds = (rows.unsqueeze(1) * self.samples + drawn).flatten() + (seed << 32)
        return replace(self, sampling=replace(self.sampling, seeds=seeds))


class Written(NamedTuple):
    """A text that was written.

    Attributes:
        text: as the vocabulary has it: delexicalised where conditions are dialogue acts.
        score: what texts are ranked by: the log-probability over the length penalty, less what slots cost.
        log_prob: of all tokens.
    """

    text: str
    score: float
    log_prob: float


def join_steps(networks: Sequence[GeneratorNetwork], conditions: Tensor) -> tuple[DecodeStep, Nest, Nest]:
    """The decode step, state and constants of a network, or of several whose probabilities are averaged."""
    begun = [network.begin(conditions) for network in networks]
    if len(networks) == 1:
        return networks[0].decode_step, *begun[0]
    step = EnsembleStep([network.decode_step for network in networks])
    return step, tuple(state for state, _ in begun), tuple(constants for _, constants in begun)


@torch.no_grad()
def write(
    networks: Sequence[GeneratorNetwork], spec: GenerationSpec, conditions: Tensor, options: DecodingOptions
) -> list[list[Written]]:
    """The best texts of each condition, best first; in float32 whatever autocast says.

    Args:
        networks: one, or several for an ensemble; in evaluation mode.
        spec: of their data.
        conditions: float ``[B, C]``.
        options: how.
    """
    with torch.autocast(conditions.device.type, enabled=False):
        found = (_searched if options.sampling is None else _drawn)(networks, spec, conditions, options)
    ranked = reranked(spec, conditions, found, options.slot_weight, options.binary_weight)
    return [texts[: options.keep] for texts in ranked]


def _searched(
    networks: Sequence[GeneratorNetwork], spec: GenerationSpec, conditions: Tensor, options: DecodingOptions
) -> list[list[Written]]:
    different, places = torch.unique(conditions, dim=0, return_inverse=True)  # acts of many rows are alike
    step, state, constants = join_steps(networks, different)
    found = beam_search(step, state, constants, options.beam, Request(max_length=options.max_length))
    texts = [[Written(spec.decode(one.tokens.tolist()), one.score, one.log_prob) for one in row] for row in found]
    return [texts[place] for place in places.tolist()]


def _drawn(
    networks: Sequence[GeneratorNetwork], spec: GenerationSpec, conditions: Tensor, options: DecodingOptions
) -> list[list[Written]]:
    step, state, constants = join_steps(networks, conditions.repeat_interleave(options.samples, 0))
    found = generate(step, state, constants, Request(max_length=options.max_length), options.sampling)
    sums = found.log_probs.double().sum(1)
    texts = [
        Written(spec.decode(ids), total / max(length, 1), total)
        for ids, total, length in zip(found.tokens.tolist(), sums.tolist(), found.lengths.tolist(), strict=True)
    ]
    rows = [texts[start : start + options.samples] for start in range(0, len(texts), options.samples)]
    return [sorted(row, key=lambda one: -one.score) for row in rows]

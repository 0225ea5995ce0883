"""Sentences in, translations out: one network or several, no trainer and no datamodule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnn.data.sampler import BucketBatchSampler
from lightning_rnn.errors import require
from lightning_rnn.seq2seq.beam import beam_search
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.ensemble import EnsembleStep
from lightning_rnn.seq2seq.hypotheses import Hypothesis
from lightning_rnn.seq2seq.penalties import length_penalty
from lightning_rnn.seq2seq.request import Request, length_limits
from lightning_rnn.seq2seq.scoring import Scored, score
from lightning_rnn.seq2seq.step import DecodeStep
from lightning_rnn.types import Nest

from .network import TranslationNetwork
from .text import Codec


@dataclass(frozen=True)
class DecodingOptions:
    """How sentences are translated.

    Attributes:
        beam: how to search.
        length_ratio: a translation has at most ``length_ratio * S + length_constant`` tokens for ``S`` source tokens.
        length_constant: see there.
        min_length: at least so many tokens.
        no_repeat_ngram: no so many tokens in a row stand twice in a translation; 0: they may.

    Raises:
        ConfigError: a limit that allows no token.
    """

    beam: BeamOptions = field(default_factory=lambda: BeamOptions(stop="count"))
    length_ratio: float = 2.0
    length_constant: int = 10
    min_length: int = 0
    no_repeat_ngram: int = 0

    def __post_init__(self) -> None:
        finite = 0 <= self.length_ratio < math.inf
        require(finite, f"length_ratio is {self.length_ratio}: give a finite number, 0 or more")
        require(self.length_constant >= 1, f"length_constant is {self.length_constant}: give 1 or more")

    def request(self, lengths: Tensor) -> Request:
        """What is asked of the search for sources of these lengths ``[B]``."""
        limits = length_limits(lengths, self.length_ratio, self.length_constant)
        return Request(
            max_length=limits,
            min_length=self.min_length,
            source_lengths=lengths,
            no_repeat_ngram=self.no_repeat_ngram,
        )


class Translation(NamedTuple):
    """One translation of a sentence.

    Attributes:
        text: the translation.
        score: what hypotheses are ranked by: the log-probability over the length penalty.
        pieces: its tokens, the end left out.
        source_pieces: the source's tokens in their order, its end among them where the encoder reads one.
        alignment: weights over the source pieces for each piece, ``[T, S]``; None without attention.
        close: the smallest difference in score that decided the search.
    """

    text: str
    score: float
    pieces: list[str]
    source_pieces: list[str]
    alignment: Tensor | None
    close: float


class ScoredPair(NamedTuple):
    """What a model says of a given translation.

    Attributes:
        log_prob: of all tokens, the end among them.
        score: that over the length penalty, which a search for translations would rank it by without coverage.
        tokens: how many, the end counted.
        alignment: weights over the source tokens for each but the end, ``[T, S]``; None without attention.
    """

    log_prob: float
    score: float
    tokens: int
    alignment: Tensor | None


NO_COVERAGE = "coverage_beta is {}: a model without attention covers nothing, give 0"
BLANK = Translation("", 0.0, [], [], torch.zeros(0, 0), float("inf"))  # of a line without a word


def join_steps(
    networks: Sequence[TranslationNetwork], source: Tensor, lengths: Tensor
) -> tuple[DecodeStep, Nest, Nest]:
    """The decode step, state and constants of a network, or of several whose probabilities are averaged."""
    begun = [network.begin(source, lengths) for network in networks]
    if len(networks) == 1:
        return networks[0].decode_step, *begun[0]
    step = EnsembleStep([network.decode_step for network in networks])
    return step, tuple(state for state, _ in begun), tuple(constants for _, constants in begun)


@torch.no_grad()
def search(
    networks: Sequence[TranslationNetwork], source: Tensor, lengths: Tensor, options: DecodingOptions
) -> list[list[Hypothesis]]:
    """The best hypotheses of each sentence, in float32 whatever autocast says.

    Args:
        networks: one, or several for an ensemble; in evaluation mode.
        source: token ids int64 ``[B, S]``.
        lengths: int64 ``[B]``.
        options: how.
    """
    with torch.autocast(source.device.type, enabled=False):
        step, state, constants = join_steps(networks, source, lengths)
        return beam_search(step, state, constants, options.beam, options.request(lengths))


def readable(codec: Codec, source: Sequence[int], found: Hypothesis) -> Translation:
    """A hypothesis as text.

    Args:
        codec: of the model.
        source: the ids that the encoder read, without padding.
        found: what the search found.
    """
    words = found.words.tolist()
    alignment, pieces = found.alignment, [codec.source_pieces[index] for index in source]
    if alignment is not None:
        alignment = alignment[: len(words), : len(pieces)].float().cpu()
    if codec.spec.reverse_source:
        order = in_order(len(pieces), codec.spec.source_eos)
        pieces = [pieces[place] for place in order]
        alignment = None if alignment is None else alignment[:, order]
    target = [codec.target_pieces[index] for index in words]
    return Translation(codec.decode(words), found.score, target, pieces, alignment, found.margin)


def in_order(count: int, end: bool) -> list[int]:
    """Where the tokens of a reversed source are; its end, where it has one, stays last.

    Example:
        >>> in_order(4, end=True)
        [2, 1, 0, 3]
    """
    words = count - int(end)
    return [*range(words - 1, -1, -1), *range(words, count)]


class TextTranslator:
    """Translates texts as they are.

    Args:
        networks: one, or several for an ensemble, all of one vocabulary; put in evaluation mode.
        codec: of their data.
        options: how.
        batch_size: sentences that are translated at once, at most.

    Raises:
        ConfigError: ``batch_size`` is below 1, or there is a coverage penalty and no network has attention.

    Example:
        .. code-block:: python

            model = Translator.load_from_checkpoint("runs/.../checkpoints/best.ckpt")
            model.translator().translate(["twenty-one"])[0][0].text
    """

    def __init__(
        self,
        networks: Sequence[TranslationNetwork],
        codec: Codec,
        options: DecodingOptions | None = None,
        batch_size: int = 64,
    ) -> None:
        require(batch_size >= 1, f"batch_size must be at least 1, got {batch_size}")
        self.networks = [network.eval() for network in networks]
        self.codec, self.options, self.batch_size = codec, options or DecodingOptions(), batch_size
        attends = any(network.attends for network in networks)
        require(attends or not self.options.beam.coverage_beta, NO_COVERAGE.format(self.options.beam.coverage_beta))

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks[0].parameters()).device

    def too_long(self, texts: Sequence[str], *, targets: bool = False) -> list[int]:
        """The sentences, or translations, of more tokens than the codec keeps, by their place."""
        most = self.codec.max_length
        if most is None or not texts:
            return []
        tokenizer = self.codec.target if targets else self.codec.source
        lengths = tokenizer.encode(self.codec.folded(texts)).lengths
        found: list[int] = (lengths > most).nonzero().flatten().tolist()
        return found

    def translate(self, texts: Sequence[str]) -> list[list[Translation]]:
        """The best translations of each text, in the order of the texts; a blank text has one blank translation.

        Texts of like length are translated together. Which texts stand beside each other changes none of them.
        """
        found = [[BLANK] for _ in texts]
        rows = [row for row, text in enumerate(texts) if text.strip()]
        for row, translations in self._batches(rows, [texts[row] for row in rows]):
            found[row] = translations
        return found

    @torch.no_grad()
    def score(self, texts: Sequence[str], targets: Sequence[str]) -> list[ScoredPair]:
        """What the networks say of given translations, in the order of the texts."""
        sources, outputs = self.codec.encode_source(texts), self.codec.encode_target(targets)
        found: dict[int, ScoredPair] = {}
        for batch in BucketBatchSampler(torch.maximum(sources.lengths, outputs.lengths), self.batch_size):
            index = torch.tensor(batch)
            step, state, constants = join_steps(self.networks, *_on(self.device, sources.pad(index)))
            scored = score(step, state, constants, _on(self.device, outputs.pad(index)))
            for place, row in enumerate(batch):
                found[row] = self._scored(scored, place, len(sources[row]), len(outputs[row]))
        return [found[row] for row in range(len(texts))]

    def _scored(self, scored: Scored, place: int, source: int, tokens: int) -> ScoredPair:
        log_prob, beam = float(scored.totals[place]), self.options.beam
        penalty = float(length_penalty(beam.length_penalty, torch.tensor(tokens), beam.alpha))
        alignment = None if scored.alignment is None else scored.alignment[place, : tokens - 1, :source].float().cpu()
        if alignment is not None and self.codec.spec.reverse_source:
            alignment = alignment[:, in_order(source, self.codec.spec.source_eos)]
        return ScoredPair(log_prob, log_prob / penalty, tokens, alignment)

    def _batches(self, rows: Sequence[int], texts: Sequence[str]) -> Iterator[tuple[int, list[Translation]]]:
        if not rows:
            return
        sources = self.codec.encode_source(texts)
        for batch in BucketBatchSampler(sources.lengths, self.batch_size):
            padded, lengths = _on(self.device, sources.pad(torch.tensor(batch)))
            best = search(self.networks, padded, lengths, self.options)
            for place, hypotheses in zip(batch, best, strict=True):
                ids = sources[place].tolist()
                yield rows[place], [readable(self.codec, ids, one) for one in hypotheses]


def _on(device: torch.device, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return pair[0].to(device), pair[1].to(device)

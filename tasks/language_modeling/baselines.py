"""What a language model must beat: counted n-grams."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl

from lightning_rnn.data import NGrams
from lightning_rnn.training.hooks import datamodule_of

from .data import LanguageData, Layout
from .spec import LanguageSpec
from .text import CHARACTERS, TOKEN, WORDS, encode_lines, joined

log = logging.getLogger(__name__)
MOST = 10_000_000  # training tokens that are counted


class Baseline(NamedTuple):
    """How well a text is predicted, as :mod:`.metrics` has it."""

    perplexity: float
    bits_per_character: float


def measure(
    train: Iterable[str], test: Iterable[str], spec: LanguageSpec, order: int = 5, layout: Layout = "stream"
) -> dict[str, Baseline]:
    """Unigrams and longer n-grams, which read what a network reads.

    Args:
        train: lines that are counted.
        test: lines that are predicted.
        spec: how they are cut.
        order: tokens of the longer n-grams.
        layout: ``stream``: each part is one text, of which the first token is not predicted; ``rows``: every line is a
            text.

    Example:
        >>> from lightning_rnn.data.tokenizer import train_tokenizer
        >>> spec = LanguageSpec.of(train_tokenizer(["a rose is"], "words"))
        >>> found = measure(["a rose is"] * 9, ["a rose is", "a rose"], spec, order=3)
        >>> [(name, round(one.perplexity, 2)) for name, one in found.items()]
        [('unigrams', 4.31), ('3-grams', 2.22)]
    """
    known, asked = (encode_lines(lines, spec) for lines in (train, test))
    if layout == "stream":
        known, asked = joined(known), joined(asked)
    counted, lengths = known.values[:, TOKEN].numpy(), known.lengths.numpy()
    predicted, first = asked.values.numpy().astype(np.int64), int(layout == "stream")
    words, characters = predicted[first:, WORDS].sum(), predicted[first:, CHARACTERS].sum()
    found = {}
    for size in (1, order):
        model = NGrams(counted, spec.vocab_size, size, lengths)
        loss = -float(model.log_probs(predicted[:, TOKEN], asked.lengths.numpy())[first:].sum())
        name = "unigrams" if size == 1 else f"{size}-grams"
        found[name] = Baseline(math.exp(min(loss / words, 700)), loss / characters / math.log(2))
    return found


class Baselines(pl.Callback):
    """Prints the perplexity and the bits per character of n-grams on the test part beside the model's, and logs them.

    They are counted in the training part, with modified Kneser-Ney smoothing: see :class:`lightning_rnn.data.NGrams`.

    Args:
        order: tokens of the longer n-grams.
    """

    def __init__(self, order: int = 5) -> None:
        self.order = order

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = datamodule_of(trainer)
        if not isinstance(data, LanguageData) or data.spec is None or not trainer.is_global_zero:
            return
        if sum(data.spec.counts) > MOST:
            log.info("baselines: left out, the training part has more than %d tokens", MOST)
            return
        train, test = data.source.texts("train"), data.source.texts("test")
        found = measure(train, test, data.spec, self.order, data.layout)
        names = ("test_perplexity", "test_bits_per_character")
        own = Baseline(*(float(trainer.callback_metrics[name]) for name in names))
        for name, one in (*found.items(), ("this model", own)):
            print(f"  test perplexity {one.perplexity:10.5g}  bits per character {one.bits_per_character:.4f}  {name}")
        rows = {f"baseline_{n}_{key}": value for n, one in found.items() for key, value in one._asdict().items()}
        for logger in trainer.loggers:
            logger.log_metrics(rows, trainer.global_step)

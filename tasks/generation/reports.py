"""After a test: what simple models reach on the same rows, and how many sampled names are new."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import pytorch_lightning as pl
import torch

from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.samplers import Sampling

from .conditions import encode_conditions
from .data import GenerationData
from .decoding import DecodingOptions
from .module import Generator
from .name_baselines import best_ngrams
from .rows import GenerationRows
from .stroke_baselines import constant_losses

SAMPLES = 50  # names of each class
Values = dict[str, float]


def novelty(samples: Sequence[str], train: Sequence[str]) -> Values:
    """Shares of sampled texts that no training text is equal to, and that are different from each other.

    Example:
        >>> novelty(["Ann", "Bo", "Bo", "Cy"], ["Ann"])
        {'new': 0.75, 'different': 0.75}
    """
    known, count = set(train), max(len(samples), 1)
    return {"new": sum(one not in known for one in samples) / count, "different": len(set(samples)) / count}


def sample_classes(module: Generator, count: int) -> list[str]:
    """So many samples of each class, at ``model.temperature``; a function of ``model.sample_seed``.

    Args:
        module: of classes and texts.
        count: of each class.
    """
    assert module.spec is not None
    sampling = module.decoding.sampling or Sampling(module.temperature)
    longest = module.decoding.max_length
    options = DecodingOptions(BeamOptions(1, 1), sampling, samples=count, max_length=longest, keep=count)
    vectors = encode_conditions(module.spec, module.spec.condition_names).to(module.device)
    found = module.written(vectors, torch.arange(len(vectors)), options)
    return [one.text for row in found for one in row]


class Report(pl.Callback):
    """Prints beside the test loss what baselines reach (``baseline_*``), of names and of strokes, and logs it."""

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        if not (isinstance(data, GenerationData) and isinstance(pl_module, Generator) and trainer.is_global_zero):
            return
        assert pl_module.spec is not None
        own = float(trainer.callback_metrics["test_loss"])
        if pl_module.spec.kind == "strokes":
            values = self._print(_stroke_losses(data), own, "nats a step")
        elif pl_module.spec.form == "class" and not pl_module.spec.joiner:
            values = self._names(data, pl_module, own)
        else:
            return
        for logger in trainer.loggers:
            logger.log_metrics(values, trainer.global_step)

    def _print(self, losses: Values, own: float, unit: str) -> Values:
        for name, loss in (*losses.items(), ("this model", own)):
            print(f"  test loss  {loss:.4f} {unit}, {loss / math.log(2):.4f} bits  {name}", flush=True)
        return {f"baseline_{name.replace(',', '').replace(' ', '_')}": loss for name, loss in losses.items()}

    def _names(self, data: GenerationData, module: Generator, own: float) -> Values:
        parts = [data.source.read(part) for part in ("train", "val", "test")]
        train, test = parts[0], parts[2]
        if train is None or test is None or train.texts is None or test.texts is None:
            return {}
        values = self._print(best_ngrams(train, parts[1], test), own, "nats a character")
        name = own * sum(len(text) + 1 for text in test.texts) / len(test)
        print(f"  test loss  {name:.4f} nats a name  this model", flush=True)
        shares = novelty(sample_classes(module, SAMPLES), train.texts)
        shown = ", ".join(f"{100 * share:.1f} % {what}" for what, share in shares.items())
        print(f"  of {SAMPLES} sampled names of each class: {shown}", flush=True)
        return {**values, "test_nats_per_name": name, **{f"samples_{what}": share for what, share in shares.items()}}


def _stroke_losses(data: GenerationData) -> Values:
    data.setup("fit")
    parts = [cast(GenerationRows, data.split(part)).targets for part in ("train", "test")]
    drawings = [[rows[row] for row in range(len(rows))] for rows in parts if rows is not None]
    return constant_losses(drawings[0], drawings[1])

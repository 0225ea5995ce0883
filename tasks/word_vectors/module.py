"""Word → vector: the system."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from lightning_rnn.errors import ConfigError, DataError, require
from lightning_rnn.interop.word2vec import WordTable
from lightning_rnn.training.module import Rows, SequenceModule, Stage, StepResult
from lightning_rnn.types import SequenceBatch

from .data import require_noise
from .functional import Architecture, Loss
from .network import NetworkOptions, WordVectorNetwork
from .pairs import Pairs
from .queries import WordQueries
from .scores import Scorer
from .spec import WordVectorSpec
from .tables import read_table

log = logging.getLogger(__name__)


class WordVectors(SequenceModule):
    """Skip-gram or CBOW (Mikolov et al. 2013), learned as word2vec learns: by small steps through the text.

    A batch is gone through in blocks of some hundred pairs, whose gradients are computed together and taken from the
    rows of their words alone, by plain gradient descent; the learning rate falls from step to step. So there is no
    ``--optimizer``. Losses are means over positive pairs: ``train_loss`` of pairs just before they are learned from,
    ``val_loss`` of pairs and noise that are the same in every epoch. With several processes, their vectors are averaged
    after each batch.

    Args:
        size: numbers of a vector.
        architecture: ``skip_gram``: each word near a centre word says it; ``cbow``: all of them together.
        cbow_mean: whether CBOW takes the mean of the words around; else their sum.
        cbow_exact: whether CBOW's steps are those of the gradient, which wants a higher rate; else word2vec's and
            gensim's, see :func:`.functional.read`.
        loss: ``negative_sampling``, ``nce``, ``hierarchical`` softmax, or ``sampled_softmax``; see
            :func:`.functional.pair_losses`.
        learning_rate: of the first step.
        min_learning_rate: of the last; it falls linearly over the run's steps.
        block_pairs: pairs whose gradients are computed together.
        start_from: vectors file or checkpoint that known words start from; give data.known as well to keep all its
            words. None starts anew.
        similarity: file of word pairs with people's judgments; validation and test give the rank correlation with it.
        analogies: file of analogies; validation and test give the share solved.
        restrict_vocab: analogies are solved among the first so many words.
        neighbors: words that `predict` writes for each word.
        shown: words whose neighbours the figure shows; None chooses frequent ones far from each other.

    Raises:
        ConfigError: an option is out of range.

    Example:
        >>> WordVectors(architecture="cbow").hparams["loss"]
        'negative_sampling'
    """

    spec_class = WordVectorSpec
    spec: WordVectorSpec | None
    network: WordVectorNetwork

    def __init__(
        self,
        size: int = 100,
        architecture: Architecture = "skip_gram",
        cbow_mean: bool = True,
        cbow_exact: bool = False,
        loss: Loss = "negative_sampling",
        learning_rate: float = 0.05,
        min_learning_rate: float = 1e-4,
        block_pairs: int = 500,
        start_from: str | None = None,
        similarity: str | None = None,
        analogies: str | None = None,
        restrict_vocab: int = 30_000,
        neighbors: int = 10,
        shown: list[str] | None = None,
    ) -> None:
        super().__init__()
        least = {"size": size, "block_pairs": block_pairs, "neighbors": neighbors, "restrict_vocab": restrict_vocab}
        for name, value in least.items():
            require(value >= 1, f"model.{name} must be at least 1, got {value}")
        falls = 0 <= min_learning_rate <= learning_rate and learning_rate > 0
        require(falls, f"model.learning_rate {learning_rate} must be above 0 and not below {min_learning_rate}")
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.options = NetworkOptions(size, architecture, loss, cbow_mean, cbow_exact)
        self.rates = learning_rate, min_learning_rate
        self.block_pairs = block_pairs
        self.start_from, self.neighbors, self.shown = start_from, neighbors, shown
        self.scorer = Scorer(similarity, analogies, restrict_vocab)

    def build(self, spec: WordVectorSpec) -> WordVectorNetwork:  # type: ignore[override]  # its own spec
        self._queries: WordQueries | None = None
        return WordVectorNetwork(spec.counts, self.options)

    def build_metrics(self, spec: WordVectorSpec, stage: Stage) -> MetricCollection:  # type: ignore[override]
        return MetricCollection({})

    def run_callbacks(self) -> list[pl.Callback]:
        from .callbacks import NeighborFigure  # late: it needs this module

        return [*super().run_callbacks(), NeighborFigure()]

    # Learning.

    def use_optimizer(self, optimizer: Mapping[str, Any] | None, lr_scheduler: Mapping[str, Any] | None = None) -> None:
        """Raises :class:`ConfigError` where there is one: vectors are learned by word2vec's own steps."""
        require(
            not optimizer and not lr_scheduler,
            "word vectors are learned by word2vec's own gradient descent: leave optimizer and lr_scheduler out, and "
            "set model.learning_rate and model.min_learning_rate",
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Counts the steps, and shows the learning rate; the vectors change in :meth:`step`."""
        return torch.optim.SGD(self.parameters(), lr=self.rates[0])

    def on_fit_start(self) -> None:
        """Log how vectors are learned."""
        super().on_fit_start()
        how, dtype = self.options, str(self.network.inputs.dtype).removeprefix("torch.")
        log.info("%s, %s: blocks of %d pairs, in %s", how.architecture, how.loss, self.block_pairs, dtype)

    def start_from_files(self) -> None:
        """Start from the vectors of ``start_from``."""
        if self.start_from is None:
            return
        path = Path(self.start_from)
        table, outputs = read_table(path)
        assert self.spec is not None
        size = table.vectors.shape[1]
        require(size == self.options.size, f"{path} has vectors of {size} numbers: set model.size={size}")
        place = {word: row for row, word in enumerate(table.words)}
        found = [(row, place[word]) for row, word in enumerate(self.spec.words) if word in place]
        if not found:
            raise DataError(f"{path} has none of the {len(self.spec.words):,} words: give vectors of this language")
        rows, theirs = (torch.tensor(column) for column in zip(*found, strict=True))
        with torch.no_grad():
            self.network.inputs[rows] = table.vectors[theirs].to(self.network.inputs)
            if outputs is not None and self.options.loss != "hierarchical" and len(outputs) == len(table.words):
                self.network.outputs[rows] = outputs[theirs].to(self.network.outputs)
        log.info("%d of %d words start from %s", len(found), len(self.spec.words), path)

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        result = self._update("train", batch)
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.param_groups[0]["lr"] = self._rate(1.0)
        optimizer.step()  # counts; there are no gradients
        if self.trainer.world_size > 1:
            for parameter in self.network.parameters():
                parameter.data.copy_(self.trainer.strategy.reduce(parameter.data, reduce_op="mean"))
        return result.loss

    def _rate(self, share: float) -> float:
        """The learning rate, ``share`` of this batch being done."""
        steps = self.trainer.estimated_stepping_batches
        require(steps != float("inf"), "the learning rate falls to the end of the run: set trainer.max_epochs")
        done = min((self.trainer.global_step + share) / max(steps, 1), 1.0)
        first, last = self.rates
        return first + (last - first) * done

    def step(self, batch: SequenceBatch) -> StepResult:
        """The mean loss of the batch's pairs, and of each row; in training the vectors learn from them as well."""
        pairs = batch.targets
        if pairs is None:
            vectors = self.network.inputs[batch.inputs[:, 0] - 1]
            return StepResult(vectors.new_zeros(()), vectors, None, len(batch))
        assert isinstance(pairs, Pairs)
        require_noise(self.options.loss, pairs.noise.shape[1])
        self._queries = None
        if self.training and self._trainer is not None and self.trainer.training and not batch.stands_in:
            total, count = self._learn(pairs, len(batch))
        else:
            total, count = self.network(pairs, len(batch))
        weight = float(count.sum())
        loss = total.sum() / max(weight, 1)
        return StepResult(loss, total / count.clamp(min=1).to(total.dtype), pairs, weight)

    def _learn(self, pairs: Pairs, rows: int) -> tuple[Tensor, Tensor]:
        """As the network's forward, with a step after each block, in random order."""
        blocks = list(self.network.blocks(pairs, self.block_pairs))
        total = self.network.inputs.new_zeros(2)
        rate = self._rate(0.0)
        fall = (self._rate(1.0) - rate) / max(len(blocks), 1)
        for number in torch.randperm(len(blocks)).tolist():
            losses, there = self.network.score(blocks[number][0], rate)
            total += torch.stack([losses.sum(), there.sum()])
            rate += fall
        if not total[0].isfinite():
            raise DataError(
                f"epoch {self.trainer.current_epoch + 1}, step {self.trainer.global_step + 1}: the loss is not a "
                "finite number: lower model.learning_rate or model.block_pairs"
            )
        return total[0].expand(rows) / rows, total[1].expand(rows) / rows

    # Answers.

    @property
    def table(self) -> WordTable:
        """The words with their vectors and counts.

        Raises:
            ConfigError: there is no network yet: the module has neither been trained nor loaded.
        """
        if "network" not in self._modules or self.spec is None:
            raise ConfigError("there are no vectors yet: load a checkpoint, or train first (fit)")
        return WordTable(self.spec.words, self.network.inputs.detach().float().cpu(), self.spec.counts)

    @property
    def queries(self) -> WordQueries:
        """What answers questions about the vectors as they are now."""
        if self._queries is None:
            self._queries = WordQueries(self.table)
        return self._queries

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """Of words: ``count``, the nearest ``neighbors`` and their ``similarities``; of text: the mean ``loss``."""
        if result.targets is not None:
            return {"loss": result.predictions}
        assert self.spec is not None
        rows = (batch.inputs[:, 0] - 1).tolist()
        found = self.queries.nearest(rows, self.neighbors)
        return {
            "count": [self.spec.counts[row] for row in rows],
            "neighbors": [" ".join(word for word, _ in near) for near in found],
            "similarities": [" ".join(f"{value:.4f}" for _, value in near) for near in found],
        }

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._log_scores("test")

    def _log_scores(self, stage: Stage) -> None:
        self._queries = None
        if self.scorer.asked:
            values = {f"{stage}_{name}": value for name, value in self.scorer(self.queries).items()}
            self.log_dict(values, prog_bar=stage != "test", sync_dist=True)

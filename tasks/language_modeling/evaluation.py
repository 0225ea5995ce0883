"""Test and validation of a network that remembers or goes on learning while it reads."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.errors import ConfigError
from lightning_rnn.training.carry import Carry
from lightning_rnn.training.hooks import datamodule_of, is_validate
from lightning_rnn.types import Nest, SequenceBatch

from .cache import CacheOptions, Memory, cached
from .data import LanguageData
from .dynamic import DynamicOptions, Learner, Rule, learning, mean_loss, mean_squares, segments
from .losses import token_losses
from .module import LanguageModel
from .network import LanguageModelNetwork

log = logging.getLogger(__name__)


class Evaluation:
    """Reads batches in order, with a cache, with dynamic evaluation, or both; the network given stays as it is.

    Args:
        network: in eval mode.
        cache: see there; of size 0 there is none.
        dynamic: see there; with the rate 0 the weights stay.
        squares: mean squared gradients of training, for ``dynamic.rule`` rms.
    """

    def __init__(
        self,
        network: LanguageModelNetwork,
        cache: CacheOptions | None = None,
        dynamic: DynamicOptions | None = None,
        squares: list[Tensor] | None = None,
    ) -> None:
        self.cache, self.dynamic = cache or CacheOptions(), dynamic or DynamicOptions()
        self.network, self.device, self.carry = network, next(network.parameters()).device, Carry()
        self.learner: Learner | None = None
        self.memory: Memory | None = None
        if self.dynamic.rate:
            with learning(self.device):
                self.network = copy.deepcopy(network)
                self.learner = Learner(self.network, self.dynamic, squares)

    def losses(self, batch: SequenceBatch) -> Tensor:
        """Minus the log-probability of each target, ``[B, T]``, 0 at padding; what comes next builds on it."""
        streams = batch.starts is not None
        if self.learner is None:
            return self._read(batch, self.carry.take(batch) if streams else None)
        with learning(self.device):
            return self._read(batch, self.carry.take(batch) if streams else None)

    def _read(self, batch: SequenceBatch, state: Nest) -> Tensor:
        parts: list[Tensor] = []
        begins = batch.starts if batch.starts is not None else torch.ones(len(batch), dtype=torch.bool)
        for inputs, targets, lengths in segments(batch, self.dynamic.steps if self.learner else None):
            output = self.network(inputs, state, lengths)
            losses = token_losses(self.network.head, output.hidden, targets)
            parts.append(self._remembered(losses.detach(), output.hidden.detach(), targets, lengths, begins))
            if self.learner is not None and bool(lengths.any()):
                self.learner.learn(mean_loss(losses, lengths))
            state, begins = pytree.tree_map(Tensor.detach, output.state), torch.zeros_like(begins)
        if batch.starts is not None:
            self.carry.keep(state)
        return torch.cat(parts, 1)

    def _remembered(self, losses: Tensor, hidden: Tensor, targets: Tensor, lengths: Tensor, begins: Tensor) -> Tensor:
        """The losses with the cache."""
        if not self.cache.size:
            return losses
        if self.memory is None or self.memory.tokens.shape[0] != len(losses):
            self.memory = Memory.empty(hidden.float(), self.cache.size)
        memory = self.memory.forget(begins.to(losses.device))
        log_probs, self.memory = cached(-losses, hidden, targets, lengths, memory, self.cache)
        return -log_probs


class AdaptiveTest(pl.Callback):
    """Options of `test` and `validate` for a trained language model; `fit` and its validation do not notice.

    The cache (Grave et al. 2017) mixes in words that stood lately where the network was in a like state. Dynamic
    evaluation (Krause et al. 2018) goes on learning from the text that was read; the module keeps its weights. Both
    need a text in order (data.layout stream), and read best with data.eval_lanes 1. Choose their numbers on validation
    (``lightning-rnn validate``).

    Args:
        cache_size: tokens that are remembered; 0: no cache.
        cache_theta: how much the likeness of states counts.
        cache_weight: of the cache in the mixture.
        dynamic_rate: learning rate of dynamic evaluation; 0: none.
        dynamic_rule: ``sgd``, or ``rms``, which divides each gradient by its usual size in training.
        dynamic_steps: steps of a segment, after which the weights change.
        dynamic_decay: share of the way back to the trained weights at each change.
        dynamic_epsilon: what ``rms`` adds to the usual size.
        dynamic_batches: training batches that ``rms`` looks at for the usual size.

    Raises:
        ConfigError: an option is out of range, or the text is not in order.

    Example:
        .. code-block:: yaml

            trainer:
              callbacks:
                - class_path: tasks.language_modeling.evaluation.AdaptiveTest
                  init_args: {cache_size: 500, cache_theta: 0.3, cache_weight: 0.1}
    """

    def __init__(
        self,
        cache_size: int = 0,
        cache_theta: float = 0.3,
        cache_weight: float = 0.1,
        dynamic_rate: float = 0.0,
        dynamic_rule: Rule = "rms",
        dynamic_steps: int = 5,
        dynamic_decay: float = 0.0,
        dynamic_epsilon: float = 1e-3,
        dynamic_batches: int = 100,
    ) -> None:
        self.cache = CacheOptions(cache_size, cache_theta, cache_weight)
        self.dynamic = DynamicOptions(dynamic_rate, dynamic_rule, dynamic_steps, dynamic_decay, dynamic_epsilon)
        self.batches = dynamic_batches

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not (self.cache.size or self.dynamic.rate):
            return
        data = datamodule_of(trainer)
        assert isinstance(pl_module, LanguageModel) and isinstance(data, LanguageData)
        if data.layout != "stream":
            raise ConfigError("a cache or dynamic evaluation reads a text in order: set data.layout to stream")
        for name, options, used in (
            ("cache", self.cache, self.cache.size),
            ("dynamic", self.dynamic, self.dynamic.rate),
        ):
            if used:
                log.info("%s: %s", name, ", ".join(f"{key} {value}" for key, value in asdict(options).items()))
        squares = None
        if self.dynamic.rate and self.dynamic.rule == "rms":
            squares = mean_squares(pl_module.network, training_batches(data, self.batches), self.dynamic.steps)
        pl_module.evaluation = Evaluation(pl_module.network, self.cache, self.dynamic, squares)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_validate(trainer):
            self.on_test_start(trainer, pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        pl_module.evaluation = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_test_end(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_test_end(trainer, pl_module)


def training_batches(data: LanguageData, count: int) -> Iterator[SequenceBatch]:
    """The first batches of the first training epoch."""
    split = data.load("fit")["train"]
    for keys in islice(iter(data.order("train", split)), count):
        yield split.__getitems__(keys)

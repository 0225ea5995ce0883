"""Text → the next token: the system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from lightning_rnn.data.tokenizer import PAD
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.table import CellName
from lightning_rnn.seq2seq.heads import HeadKind
from lightning_rnn.training.module import Rows, SequenceModule, Stage, StepResult, check_probability
from lightning_rnn.training.vectors import start_embedding
from lightning_rnn.types import SequenceBatch

from .data import LanguageData
from .generation import GenerationOptions, TextGenerator
from .losses import activation_loss, temporal_loss, token_losses
from .metrics import collection
from .network import LanguageModelNetwork, LanguageOutput, NetworkOptions
from .rows import TextRows
from .spec import LanguageSpec
from .text import begun, encode_lines

if TYPE_CHECKING:
    from .evaluation import Evaluation


class LanguageModel(SequenceModule):
    """Says how likely each next word, piece or character is.

    Args:
        cell: of the recurrent layers, see :func:`lightning_rnn.layers.table.recurrent`.
        embedding_size: features of a token.
        hidden_size: units of each layer but the last.
        num_layers: recurrent layers.
        last_size: units of the last layer; None: ``embedding_size`` where vectors are tied, else ``hidden_size``. Tied
            vectors of another size are reached through a projection.
        tied: whether the output layer has the embedding's vectors (Press and Wolf 2017); not with ``adaptive``.
        scale_embedding: whether the recurrent layers read vectors times the root of their size (Vaswani et al. 2017,
            section 3.4): tied vectors are small, and small inputs are learned from slowly at first.
        head: of the output: ``full`` softmax; ``sampled``, ``nce`` and ``adaptive`` for large vocabularies.
        candidates: words that ``sampled`` and ``nce`` draw for a batch; None: 512.
        cutoffs: first ids of the clusters of ``adaptive``, ascending; None: chosen from the vocabulary.
        embedding_dropout: share of the words whose vectors are dropped, wherever they stand in the batch.
        input_dropout: share of the embedded words' features dropped.
        layer_dropout: share dropped between layers.
        output_dropout: share dropped after the last layer.
        weight_dropout: share of the recurrent matrices dropped, drawn once a batch; of ``simple_rnn``, ``lstm`` and
            ``gru``.
        locked: whether the dropouts between layers drop the same features at every step of a row; else anew at each.
        alpha: weight of activation regularization, in the training loss alone (Merity et al. 2018, section 4.6).
        beta: weight of temporal activation regularization.
        rescale: where the lengths of chunks are random (``data.chunk_std``, ``data.half_probability``), the learning
            rate of each step is multiplied by the batch's steps over ``data.chunk`` (section 4.1).
        vectors: file of word vectors (word2vec or GloVe) that the embedding starts from, relative to the data folder.
        initializer: of the recurrent weights, for ``simple_rnn``, ``lstm`` and ``gru``.
        engine: of the recurrent layers: ``auto``, or one that is faster with the precision at hand.

    Raises:
        ConfigError: an option is out of range, or does not go with the others.

    Example:
        >>> LanguageModel(cell="gru").hparams["cell"]
        'gru'
    """

    spec_class = LanguageSpec
    spec: LanguageSpec | None
    network: LanguageModelNetwork

    def __init__(
        self,
        cell: CellName = "lstm",
        embedding_size: int = 200,
        hidden_size: int = 200,
        num_layers: int = 2,
        last_size: int | None = None,
        tied: bool = True,
        scale_embedding: bool = False,
        head: HeadKind = "full",
        candidates: int | None = None,
        cutoffs: list[int] | None = None,
        embedding_dropout: float = 0.0,
        input_dropout: float = 0.0,
        layer_dropout: float = 0.0,
        output_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        locked: bool = True,
        alpha: float = 0.0,
        beta: float = 0.0,
        rescale: bool = True,
        vectors: str | None = None,
        initializer: Initializer | None = None,
        engine: Engine = "auto",
    ) -> None:
        super().__init__()
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, size in {**sizes, "last_size": 1 if last_size is None else last_size}.items():
            require(size >= 1, f"model.{name} must be at least 1, got {size}")
        shares = {"embedding": embedding_dropout, "input": input_dropout, "layer": layer_dropout}
        for name, share in {**shares, "output": output_dropout, "weight": weight_dropout}.items():
            check_probability(f"model.{name}_dropout", share)
        for name, weight in (("alpha", alpha), ("beta", beta)):
            require(weight >= 0, f"model.{name} must not be negative, got {weight}")
        require(not (tied and head == "adaptive"), "model.head adaptive has no tied vectors: set model.tied to false")
        self.save_hyperparameters()
        self.options = NetworkOptions(
            cell=cell,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            last_size=last_size,
            tied=tied,
            scale_embedding=scale_embedding,
            head=head,
            candidates=candidates,
            cutoffs=cutoffs,
            embedding_dropout=embedding_dropout,
            input_dropout=input_dropout,
            layer_dropout=layer_dropout,
            output_dropout=output_dropout,
            weight_dropout=weight_dropout,
            locked=locked,
            initializer=initializer,
            engine=engine,
        )
        self.alpha, self.beta, self.rescale, self.vectors = alpha, beta, rescale, vectors
        self._steps = 0  # of the training batch at hand
        self.evaluation: Evaluation | None = None  # AdaptiveTest's, while it tests

    def build(self, spec: LanguageSpec) -> LanguageModelNetwork:  # type: ignore[override]  # its own spec
        return LanguageModelNetwork(spec, self.options)

    def build_metrics(self, spec: LanguageSpec, stage: Stage) -> MetricCollection:  # type: ignore[override]
        return collection()

    def run_callbacks(self) -> list[pl.Callback]:
        from .baselines import Baselines  # late, as the next
        from .figures import LossByFrequency  # late: it needs this module

        return [*super().run_callbacks(), LossByFrequency(), Baselines()]

    def start_from_files(self) -> None:
        """Start the embedding from the vectors file."""
        if self.vectors is not None:
            assert self.spec is not None
            start_embedding(self.network.embedding, self.vectors, self.spec.load_tokenizer().pieces)

    def step(self, batch: SequenceBatch) -> StepResult:
        assert isinstance(batch.targets, dict)
        if self.evaluation is not None:
            return self._result(self.evaluation.losses(batch), batch)
        streams = batch.starts is not None
        output = self.network(batch.inputs, self.carry.take(batch) if streams else None, batch.lengths)
        if streams:
            self.carry.keep(output.state)
        tokens: Tensor = batch.targets["tokens"]
        valid = tokens != PAD
        count = int(valid.sum())
        if self.training:
            loss = self.network.head.loss(output.hidden, tokens)
            losses = torch.where(valid, loss, 0)  # the head has their mean alone
            return StepResult(loss + self._regularization(output, valid), losses, batch.targets, count)
        return self._result(token_losses(self.network.head, output.hidden, tokens), batch)

    def _result(self, losses: Tensor, batch: SequenceBatch) -> StepResult:
        """Of the losses of each token, 0 at padding."""
        assert isinstance(batch.targets, dict)
        count = int((batch.targets["tokens"] != PAD).sum())
        return StepResult(losses.sum() / count, losses, batch.targets, count)

    def _regularization(self, output: LanguageOutput, valid: Tensor) -> Tensor | float:
        """What is added to the training loss."""
        active = self.alpha * activation_loss(output.hidden, valid) if self.alpha else 0.0
        return active + (self.beta * temporal_loss(output.raw, valid) if self.beta else 0.0)

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """``tokens`` of a row, the ``log_prob`` of all of them, in nats, and its ``perplexity``, for each word."""
        assert isinstance(batch.targets, dict)
        total = result.predictions.sum(1, dtype=torch.float64)
        tokens, words = (batch.targets["tokens"] != PAD).sum(1), batch.targets["words"].sum(1)
        return {"tokens": tokens, "log_prob": -total, "perplexity": (total / words).exp()}

    @torch.no_grad()
    def score(self, lines: Sequence[str]) -> Rows:
        """How likely lines are, each for itself: the columns of :meth:`to_rows`, without datamodule or trainer.

        Raises:
            ConfigError: there is no network yet (the module was neither trained nor loaded), or ``lines`` is one text.

        Example:
            .. code-block:: python

                model = LanguageModel.load_from_checkpoint("runs/.../checkpoints/best.ckpt")
                model.score(["the market fell", "market the fell"])["log_prob"]
        """
        if self.spec is None:
            raise ConfigError("there is no network to score with: load a checkpoint, or train first (fit)")
        require(not isinstance(lines, str), "score takes a list of lines and got one text: give [text]")
        rows = TextRows(begun(encode_lines(lines, self.spec), self.spec.end), lines)
        batch = rows.__getitems__(list(range(len(rows)))).to(self.device)
        self.eval()
        return self.to_rows(batch, self.step(batch))

    def generate(
        self, prompt: str = "", options: GenerationOptions | None = None, samples: int = 1, seed: int = 0
    ) -> list[str]:
        """Texts after a prompt, which is not repeated: see :class:`.generation.TextGenerator`.

        Raises:
            ConfigError: there is no network yet, or an option is out of range.

        Example:
            .. code-block:: python

                model = LanguageModel.load_from_checkpoint("runs/.../checkpoints/best.ckpt")
                model.generate("ROMEO:", GenerationOptions(max_tokens=500, temperature=0.8))[0]
        """
        if self.spec is None:
            raise ConfigError("there is no network to write with: load a checkpoint, or train first (fit)")
        return TextGenerator(self.network, self.spec).generate(prompt, options or GenerationOptions(), samples, seed)

    # The learning rate of chunks of random length.

    def on_train_batch_start(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Remember how long the batch is."""
        self._steps = batch.inputs.shape[1]

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """One step, its learning rate by the length of the batch where that is random."""
        data = self._datamodule
        varies = self.rescale and isinstance(data, LanguageData) and data.varies
        with scaled_rate(optimizer, self._steps / data.chunk if varies else 1.0):  # type: ignore[union-attr]
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


@contextmanager
def scaled_rate(optimizer: Optimizer, factor: float) -> Iterator[None]:
    """Within this context every learning rate is multiplied.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=30.0)
        >>> with scaled_rate(optimizer, 0.5):
        ...     optimizer.param_groups[0]["lr"]
        15.0
        >>> optimizer.param_groups[0]["lr"]
        30.0
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

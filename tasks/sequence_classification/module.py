"""Sequence → label: the system."""

from __future__ import annotations

import logging
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection

from lightning_rnn.errors import ConfigError, require
from lightning_rnn.functional import sequence_mask
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.pooling import Pooling
from lightning_rnn.layers.series import Feature, FramePooling, Scale
from lightning_rnn.training.classification import class_metrics, class_rows
from lightning_rnn.training.classification_figures import ConfusionMatrix, WorstMistakes
from lightning_rnn.training.module import Rows, SequenceModule, Stage, StepResult, check_probability
from lightning_rnn.training.vectors import start_embedding
from lightning_rnn.types import SequenceBatch

from .baselines import Baselines
from .data import ClassificationSpec
from .inputs import encode
from .network import (
    Activation,
    BatchNorm,
    Cell,
    NetworkOptions,
    SequenceClassifierNetwork,
    distort_images,
    shift_images,
    slide_series,
)

log = logging.getLogger(__name__)


class SequenceClassifier(SequenceModule):
    """One label for each sequence, or for each of its steps, on any cell.

    Args:
        cell: ``simple_rnn``, ``lstm`` or ``gru``.
        hidden_size: units of each layer and direction.
        num_layers: recurrent layers.
        bidirectional: a second direction from the end to the start.
        activation: ``tanh`` or ``relu`` in the recurrence.
        initializer: ``torch``, ``keras`` or ``chrono`` start of the recurrent weights.
        pooling: from steps to one vector: ``last``, ``mean``, ``max``, ``attention``, or several side by side; nothing
            is pooled where each step has a label.
        embedding_size: features of a token, for text.
        vectors: file of word vectors (word2vec or GloVe text format) that start the embedding.
        scale: series are scaled by the ``train`` part's moments, by each ``series``' own, or not (``none``).
        features: of series: any of ``value``, ``difference`` and ``residual``, side by side.
        aligned_above: ``residual`` is 0 unless the training mean at each step explains this share of the variance.
        frames: the recurrent layers run over about this many frames of several steps; None: every step.
        frame_window: width of a frame, in distances from one frame to the next.
        frame_pooling: ``concat`` puts a frame's steps side by side, ``mean`` averages them.
        conv_channels: features of the convolutions before the recurrent layers; empty for none.
        conv_kernels: their widths in steps.
        conv_steps: the first convolution is followed by max pooling to about this many steps; None: no pooling.
        conv_skip: whether mean and maximum of the convolutions go to the head beside the recurrent layers' output.
        input_dropout: share of the recurrent stack's input features dropped, the same at every step.
        layer_dropout: share dropped between recurrent layers, and between convolutions.
        dropout: share dropped before the linear head.
        batch_norm: batch normalization of the ``pooled`` vector, or of the recurrent output's steps (``sequence``).
        class_weights: weight of each class in the loss, in the order of the class names, or ``balanced``.
        label_smoothing: share of the target spread over all classes.
        shift: training images move by up to this many rows and columns.
        distort: training images are turned, stretched and sheared: their axes move by up to this share of their length.
        slide: training series slide in time by up to this share of their length, their ends repeated; not those whose
            ``residual`` is in use because they are aligned.
        jitter: standard deviation of the noise that training series' scaled features get.

    Example:
        >>> classifier = SequenceClassifier(cell="gru", hidden_size=16)
        >>> classifier.hparams["cell"]
        'gru'
    """

    spec_class = ClassificationSpec
    spec: ClassificationSpec | None
    network: SequenceClassifierNetwork
    loss_weights: Tensor | None

    def __init__(
        self,
        cell: Cell = "lstm",
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = False,
        activation: Activation = "tanh",
        initializer: Initializer = "torch",
        pooling: Pooling | list[Pooling] = "last",
        embedding_size: int = 128,
        vectors: str | None = None,
        scale: Scale = "none",
        features: list[Feature] | None = None,
        aligned_above: float = 0.0,
        frames: int | None = None,
        frame_window: int = 1,
        frame_pooling: FramePooling = "concat",
        conv_channels: list[int] | None = None,
        conv_kernels: list[int] | None = None,
        conv_steps: int | None = None,
        conv_skip: bool = False,
        input_dropout: float = 0.0,
        layer_dropout: float = 0.0,
        dropout: float = 0.0,
        batch_norm: BatchNorm = "none",
        class_weights: list[float] | Literal["balanced"] | None = None,
        label_smoothing: float = 0.0,
        shift: int = 0,
        distort: float = 0.0,
        slide: float = 0.0,
        jitter: float = 0.0,
    ) -> None:
        super().__init__()
        for name, size in (
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
            ("embedding_size", embedding_size),
            ("frame_window", frame_window),
        ):
            require(size >= 1, f"model.{name} must be at least 1, got {size}")
        for name, share in (
            ("input_dropout", input_dropout),
            ("layer_dropout", layer_dropout),
            ("dropout", dropout),
            ("distort", distort),
            ("slide", slide),
        ):
            check_probability(f"model.{name}", share)
        check_probability("model.label_smoothing", label_smoothing)
        require(shift >= 0, f"model.shift must not be negative, got {shift}")
        require(jitter >= 0, f"model.jitter must not be negative, got {jitter}")
        for name, given in (("frames", frames), ("conv_steps", conv_steps)):
            require(given is None or given >= 1, f"model.{name} must be at least 1, got {given}")
        channels, kernels = conv_channels or [], conv_kernels or []
        for name, sizes in (("conv_channels", channels), ("conv_kernels", kernels)):
            require(min(sizes, default=1) >= 1, f"model.{name} must be at least 1 each, got {sizes}")
        require(
            len(channels) == len(kernels),
            f"model.conv_channels has {len(channels)} entries, model.conv_kernels {len(kernels)}: give one kernel each",
        )
        if isinstance(class_weights, list):
            require(
                min(class_weights, default=0) >= 0 < max(class_weights, default=0),
                f"model.class_weights must not be negative, nor all 0, got {class_weights}",
            )
        self.save_hyperparameters()
        self.options = NetworkOptions(
            cell=cell,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            activation=activation,
            initializer=initializer,
            pooling=[pooling] if isinstance(pooling, str) else list(pooling),
            embedding_size=embedding_size,
            scale=scale,
            features=features or ["value"],
            aligned_above=aligned_above,
            frames=frames,
            frame_window=frame_window,
            frame_pooling=frame_pooling,
            conv_channels=channels,
            conv_kernels=kernels,
            conv_steps=conv_steps,
            conv_skip=conv_skip,
            input_dropout=input_dropout,
            layer_dropout=layer_dropout,
            dropout=dropout,
            batch_norm=batch_norm,
            jitter=jitter,
        )
        self.vectors, self.class_weights, self.label_smoothing = vectors, class_weights, label_smoothing
        self.shift, self.distort, self.slide = shift, distort, slide

    def build(self, spec: ClassificationSpec) -> SequenceClassifierNetwork:  # type: ignore[override]  # its own spec
        self.register_buffer("loss_weights", self._loss_weights(spec), persistent=False)
        return SequenceClassifierNetwork(spec, self.options)

    def _loss_weights(self, spec: ClassificationSpec) -> Tensor | None:
        if self.class_weights is None:
            return None
        if self.class_weights == "balanced":
            counts = torch.tensor(spec.class_counts, dtype=torch.float32)
            return counts.sum() / (len(counts) * counts)
        if len(self.class_weights) != len(spec.class_names):
            raise ConfigError(
                f"model.class_weights has {len(self.class_weights)} entries, the data has {len(spec.class_names)} "
                f"classes ({', '.join(spec.class_names[:10])})"
            )
        return torch.tensor([float(weight) for weight in self.class_weights])

    def build_metrics(self, spec: ClassificationSpec, stage: Stage) -> MetricCollection:  # type: ignore[override]
        return class_metrics(len(spec.class_names), stage)

    def run_callbacks(self) -> list[pl.Callback]:
        return [*super().run_callbacks(), ConfusionMatrix(), WorstMistakes(), Baselines()]

    def start_from_files(self) -> None:
        """Start the embedding from the vectors file."""
        if self.vectors is None:
            return
        assert self.spec is not None
        if self.network.embedding is None:
            raise ConfigError("model.vectors starts an embedding: it needs text, the data are series")
        start_embedding(self.network.embedding, self.vectors, self.spec.load_tokenizer().pieces)

    def step(self, batch: SequenceBatch) -> StepResult:
        inputs = self._augmented(batch) if self.training else batch.inputs
        scores, targets, ids = self.network(inputs, batch.lengths).float(), batch.targets, None
        if self.network.per_step:
            scores, targets, ids = self._steps(batch, scores)
        if targets is None:
            return StepResult(scores.new_zeros(()), scores, None, len(batch), ids)
        weights = None if self.loss_weights is None else self.loss_weights.to(scores.dtype)
        loss = F.cross_entropy(scores, targets, weight=weights, label_smoothing=self.label_smoothing)
        weight = len(targets) if self.loss_weights is None else float(self.loss_weights[targets].sum())
        return StepResult(loss, scores, targets, weight, ids)

    def _steps(self, batch: SequenceBatch, scores: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Scores ``[N, C]`` and targets ``[N]`` of the valid steps of all rows, and the row ``[N]`` of each."""
        assert batch.lengths is not None
        rows = torch.arange(len(batch), device=scores.device) if batch.ids is None else batch.ids
        ids, targets = rows.repeat_interleave(batch.lengths), batch.targets
        valid = scores[sequence_mask(batch.lengths, scores.shape[1])]
        return valid, None if targets is None else targets[sequence_mask(batch.lengths, targets.shape[1])], ids

    def _augmented(self, batch: SequenceBatch) -> Tensor:
        x: Tensor = batch.inputs
        if self.shift:
            x = shift_images(x, self.shift)
        if self.distort:
            x = distort_images(x, self.distort)
        if self.slide and batch.lengths is not None and not self._aligned:
            x = slide_series(x, batch.lengths, self.slide)
        return x

    @property
    def _aligned(self) -> bool:
        features = self.network.features
        return features is not None and "residual" in features.features and features.aligned

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """``prediction``, its ``probability``, the ``label`` where it is known, and ``p_<class>`` for each class.

        Where each step has a label, ``prediction`` and ``label`` are theirs, white space between them, ``probability``
        is the mean over the steps, and there are no columns of classes.
        """
        assert self.spec is not None
        if self.network.per_step:
            return self._rows_of_steps(batch, result.predictions.softmax(-1))
        return class_rows(result.predictions, batch.targets, self.spec.class_names)

    def _rows_of_steps(self, batch: SequenceBatch, probabilities: Tensor) -> Rows:
        assert self.spec is not None and batch.lengths is not None
        names, lengths = self.spec.class_names, batch.lengths.tolist()
        best = probabilities.max(-1)

        def joined(classes: Tensor) -> list[str]:
            return [" ".join(names[i] for i in row.tolist()) for row in torch.split(classes, lengths)]

        means = torch.stack([row.mean() if len(row) else row.sum() for row in torch.split(best.values, lengths)])
        rows: Rows = {"prediction": joined(best.indices), "probability": means}
        if batch.targets is not None:
            rows["label"] = joined(batch.targets[sequence_mask(batch.lengths, batch.targets.shape[1])])
        return rows

    @torch.no_grad()
    def classify(self, inputs: list[str] | list[Tensor]) -> Rows:
        """Labels and probabilities of texts, or of series ``[T, D]``, as they are: no datamodule, no trainer.

        Raises:
            ConfigError: the model is not built yet.
            DataError: an input is not what it was trained on; see :func:`.inputs.encode`.

        Example:
            .. code-block:: python

                model = SequenceClassifier.load_from_checkpoint("runs/.../checkpoints/best.ckpt")
                model.classify(["a film to see twice"])["prediction"]
        """
        if self.spec is None:
            raise ConfigError("this classifier is not built yet: train it, or load its checkpoint")
        rows = encode(inputs, self.spec)
        padded, lengths = rows.pad(torch.arange(len(rows)))
        batch = SequenceBatch(padded, lengths=lengths).to(self.device)
        self.eval()
        return self.to_rows(batch, self.step(batch))

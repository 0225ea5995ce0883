"""Clip → label: the system."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection

from lightning_rnn.data import Ragged
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.layers.pooling import Pooling
from lightning_rnn.layers.table import CellName
from lightning_rnn.training.classification import class_metrics, class_rows
from lightning_rnn.training.classification_figures import ConfusionMatrix, WorstMistakes
from lightning_rnn.training.module import Rows, SequenceModule, Stage, StepResult, check_probability
from lightning_rnn.types import SequenceBatch

from .augmentation import Augmentation, augment
from .cache import Cache, FeatureCache
from .data import VideoData
from .dataset import VideoDataset
from .frame_networks import load_weights
from .joints import Feature
from .network import NetworkOptions, VideoNetwork
from .spec import VideoSpec

log = logging.getLogger(__name__)


class VideoClassifier(SequenceModule):
    """One label for each clip: features of every frame, recurrent layers over them, a linear head.

    Args:
        cell: of the recurrent layers, any of :data:`lightning_rnn.layers.table.CellName`.
        hidden_size: units of each layer and direction.
        num_layers: recurrent layers.
        bidirectional: a second direction from the end to the start.
        pooling: from steps to one vector: ``last``, ``mean``, ``max``, ``attention``, or several side by side.
        frame_network: what makes a vector of each frame, ``{class_path: package.Class, init_args: {...}}``, any
            ``nn.Module`` from ``[N, C, H, W]`` in 0..1 (or ``[N, D]``) to ``[N, features]``; None: our small
            convolutional network for frames, and for vectors a linear layer with ReLU where ``frame_size`` is set.
        frame_weights: file of the frame network's ``state_dict`` to start from.
        freeze: whether the frame network stays as it is: evaluation mode, no gradient.
        cache: of what a frozen frame network makes: computed once per clip and kept in ``memory`` or on ``disk`` (in
            the cache folder, named by weights, frames and a few features); ``none`` computes it in every step.
        conv_channels: of our convolutional network, each convolution of stride 2; None is 8, 16, 32.
        frame_size: features of a frame that our own frame network makes; None is 64 for frames, and for vectors no
            network.
        features: of vectors: any of ``value``, ``motion``, ``fast_motion`` and, of joints, ``distance``.
        normalize: whether joints are centered in each frame and scaled in each clip.
        input_dropout: share of the frames' features dropped, the same at every step.
        layer_dropout: share dropped between recurrent layers, the same at every step.
        dropout: share dropped before the linear head.
        label_smoothing: share of the target spread over all classes.
        noise: standard deviation of the noise that training vectors get.
        shift: training clips of vectors get one number in plus or minus this added: a spectrum's loudness.
        zoom: training clips of vectors are stretched by up to this share: a skeleton's size.
        rotate: training skeletons are turned by up to so many degrees.
        mirror: whether half of the training skeletons are mirrored, left joints taken for right ones.
        warp: of training clips of vectors up to this share is cut away in time, the rest slowed down to the length.
        mask_steps: of training vectors up to so many successive steps are hidden.
        mask_features: of training vectors up to so many successive features are hidden.

    Example:
        >>> VideoClassifier(cell="gru", hidden_size=16).hparams["cell"]
        'gru'
    """

    spec_class = VideoSpec
    spec: VideoSpec | None
    network: VideoNetwork

    def __init__(
        self,
        cell: CellName = "gru",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: Pooling | list[Pooling] = "last",
        frame_network: dict[str, Any] | None = None,
        frame_weights: str | None = None,
        freeze: bool = False,
        cache: Cache = "memory",
        conv_channels: list[int] | None = None,
        frame_size: int | None = None,
        features: list[Feature] | None = None,
        normalize: bool = True,
        input_dropout: float = 0.0,
        layer_dropout: float = 0.0,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        noise: float = 0.0,
        shift: float = 0.0,
        zoom: float = 0.0,
        rotate: float = 0.0,
        mirror: bool = False,
        warp: float = 0.0,
        mask_steps: int = 0,
        mask_features: int = 0,
    ) -> None:
        super().__init__()
        for name, size in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            require(size >= 1, f"model.{name} must be at least 1, got {size}")
        require(frame_size is None or frame_size >= 1, f"model.frame_size must be at least 1, got {frame_size}")
        for name, share in (("input_dropout", input_dropout), ("layer_dropout", layer_dropout), ("dropout", dropout),
                            ("label_smoothing", label_smoothing), ("warp", warp)):  # fmt: skip
            check_probability(f"model.{name}", share)
        require(cache in ("none", "memory", "disk"), f"model.cache must be none, memory or disk, got {cache!r}")
        self.augmentation = Augmentation(noise, shift, zoom, rotate, mirror, warp, mask_steps, mask_features)
        for name in self.augmentation.used:
            value = getattr(self.augmentation, name)
            require(value >= 0, f"model.{name} must not be negative, got {value}")
        self.save_hyperparameters()
        self.options = NetworkOptions(
            cell=cell,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            pooling=[pooling] if isinstance(pooling, str) else list(pooling),
            frame_network=frame_network,
            freeze=freeze,
            conv_channels=[8, 16, 32] if conv_channels is None else conv_channels,
            frame_size=frame_size,
            features=features or ["value"],
            normalize=normalize,
            input_dropout=input_dropout,
            layer_dropout=layer_dropout,
            dropout=dropout,
        )
        self.frame_weights, self.label_smoothing, self.cache = frame_weights, label_smoothing, FeatureCache(cache)

    def build(self, spec: VideoSpec) -> VideoNetwork:  # type: ignore[override]  # its own spec
        self._check(spec)
        network = VideoNetwork(spec, self.options)
        for name, given in (("frame_weights", self.frame_weights is not None), ("freeze", self.options.freeze)):
            if given and network.frames is None:
                raise ConfigError(f"model.{name} is for a frame network, and there is none: give model.frame_network")
        return network

    def _check(self, spec: VideoSpec) -> None:
        """Whether the options fit the data."""
        used, of_joints = self.augmentation.used, self.augmentation.of_joints
        if spec.kind == "frames" and (used or self.options.features != ["value"]):
            name = used[0] if used else "features"
            raise ConfigError(f"model.{name} is for clips of vectors, these are frames {spec.shape}: leave it out")
        if not spec.joints and (of_joints or "distance" in self.options.features):
            name = of_joints[0] if of_joints else "features"
            raise ConfigError(f"model.{name} takes joints, the source gives vectors {spec.shape}: leave it out")

    def configure_model(self) -> None:
        """Build the network, and let the data ask it for the features of frames where it is frozen."""
        super().configure_model()
        data = self._datamodule
        if isinstance(data, VideoData):
            kept = self.options.freeze and self.cache.how != "none" and self.network.is_frames
            data.featurize = self.frame_features if kept else None

    def frame_features(self, split: VideoDataset) -> Ragged:
        """What the frozen frame network makes of a split's clips."""
        assert self.network.frames is not None
        was_training, frames = self.network.training, self.network.frames.to(self.device)
        about = {"frame_network": self.options.frame_network, "conv_channels": self.options.conv_channels}
        found = self.cache.get(frames.eval(), split.inputs, about, self.device)
        frames.train(was_training)
        return found

    def build_metrics(self, spec: VideoSpec, stage: Stage) -> MetricCollection:  # type: ignore[override]
        return class_metrics(len(spec.class_names), stage)

    def run_callbacks(self) -> list[pl.Callback]:
        return [*super().run_callbacks(), ConfusionMatrix(), WorstMistakes()]

    def start_from_files(self) -> None:
        """Start the frame network from the weights file."""
        if self.frame_weights is None:
            return
        assert self.network.frames is not None
        load_weights(self.network.frames.every.layer, self.frame_weights)
        log.info("frame network: starts from %s", self.frame_weights)

    def step(self, batch: SequenceBatch) -> StepResult:
        inputs = self._augmented(batch) if self.training else batch.inputs
        scores = self.network(inputs, batch.lengths).float()
        if batch.targets is None:
            return StepResult(scores.new_zeros(()), scores, None, len(batch))
        loss = F.cross_entropy(scores, batch.targets, label_smoothing=self.label_smoothing)
        return StepResult(loss, scores, batch.targets, len(batch))

    def _augmented(self, batch: SequenceBatch) -> Tensor:
        inputs: Tensor = batch.inputs
        if not self.augmentation.used or batch.lengths is None:
            return inputs
        assert self.spec is not None
        return augment(inputs, batch.lengths, self.augmentation, self.spec.pairs)

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """``prediction``, its ``probability``, the ``label`` where it is known, and ``p_<class>`` for each class."""
        assert self.spec is not None
        return class_rows(result.predictions, batch.targets, self.spec.class_names)

    @torch.no_grad()
    def classify(self, clips: list[Tensor]) -> Rows:
        """Labels and probabilities of clips: no datamodule, no trainer.

        Args:
            clips: frames ``[T, C, H, W]``, uint8 or float in 0..1, or vectors float ``[T, D]``; one step at least.

        Raises:
            DataError: a clip has no step, or steps of another shape than the model is for.

        Example:
            .. code-block:: python

                model = VideoClassifier.load_from_checkpoint("runs/.../checkpoints/best.ckpt")
                model.classify([frames])["prediction"]
        """
        assert self.spec is not None
        for number, clip in enumerate(clips):
            self.spec.check_clip(number, clip)
        padded, lengths = Ragged.from_list(clips).pad(torch.arange(len(clips)), as_stored=True)
        batch = SequenceBatch(padded, lengths=lengths).to(self.device)
        self.eval()
        return self.to_rows(batch, self.step(batch))

"""Radar scans → mm in the gauge: the system."""

from __future__ import annotations

import logging

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MetricCollection

from lightning_rnn.errors import ConfigError, require
from lightning_rnn.paths import existing
from lightning_rnn.training.module import Rows, SequenceModule, Stage, StepResult
from lightning_rnn.types import SequenceBatch

from .augment import drop_in, fixed_draws
from .callbacks import Baselines, SubmissionWriter
from .data import RainfallSpec
from .metrics import LIMIT, MeanAbsoluteErrorUnder
from .network import NETWORKS, Missing, NetworkName, RadarFeatures, RainfallNetwork
from .winner import Winner, load_winner

log = logging.getLogger(__name__)


class RainfallRegressor(SequenceModule):
    """What a gauge shows for an hour, from the radar scans of that hour; the loss is the mean absolute error.

    Args:
        network: ``lstm2`` (second place's two layers), ``winner`` (first place's bidirectional stack) or ``gru``
            (bidirectional, mean of all steps and both ends).
        hidden_sizes: units of each layer; None: the network's own (64 each: two, three, one). The winner had 64, 128,
            256, 128, 64 (version 1, with ``projection`` 12) and three times 120 (version 2).
        projection: features of a linear layer before the recurrent ones; 0: none.
        missing: what stands for NaN: ``zero`` as the winner has it, or zero and a ``mask`` beside the values.
        scale: whether features get the training part's zero mean and unit variance (the winner: not).
        log_target: whether the network predicts log(1 + mm), and the loss is taken there; the median is the same.
        drop_in: steps that sequences are stretched to by steps that come again at random; 0: not. The winner had 19.
        copies: with ``drop_in``, predictions are means over this many stretched copies; the winner had 61.
        weights: file of the winner's published weights that the network starts from.

    Example:
        >>> RainfallRegressor(network="winner", drop_in=19, copies=61).hparams["copies"]
        61
    """

    spec_class = RainfallSpec
    spec: RainfallSpec | None
    network: RainfallNetwork
    draws: Tensor

    def __init__(
        self,
        network: NetworkName = "gru",
        hidden_sizes: list[int] | None = None,
        projection: int = 0,
        missing: Missing = "mask",
        scale: bool = True,
        log_target: bool = True,
        drop_in: int = 0,
        copies: int = 1,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        require(network in NETWORKS, f"model.network must be one of {', '.join(NETWORKS)}, got {network!r}")
        sizes = NETWORKS[network].sizes if hidden_sizes is None else tuple(hidden_sizes)
        require(min(sizes, default=0) >= 1, f"model.hidden_sizes must be at least 1 each, got {hidden_sizes}")
        for name, value, least in (("projection", projection, 0), ("drop_in", drop_in, 0), ("copies", copies, 1)):
            require(value >= least, f"model.{name} must be at least {least}, got {value}")
        require(copies == 1 or drop_in > 0, f"model.copies={copies} are stretched: set model.drop_in, such as 19")
        require(
            weights is None or (network == "winner" and missing == "zero" and not scale and not log_target),
            "model.weights are of the winner's network: set model.network=winner, missing=zero, scale=false and "
            "log_target=false",
        )
        self.save_hyperparameters()
        self.kind, self.sizes, self.projection = NETWORKS[network], sizes, projection
        self.missing, self.scale, self.log_target, self.weights = missing, scale, log_target, weights
        self.steps = drop_in
        self.register_buffer("draws", fixed_draws(copies, drop_in), persistent=False)

    def build(self, spec: RainfallSpec) -> RainfallNetwork:  # type: ignore[override]  # its own spec
        features = RadarFeatures(self.missing, self.scale, mean=spec.mean, std=spec.std)
        return RainfallNetwork(features, self.kind.build(features.output_size, self.sizes, self.projection))

    def build_metrics(self, spec: RainfallSpec, stage: Stage) -> MetricCollection:  # type: ignore[override]
        return MetricCollection({"mae": MeanAbsoluteError(), "mae_under_73": MeanAbsoluteErrorUnder(LIMIT)})

    def run_callbacks(self) -> list[pl.Callback]:
        return [*super().run_callbacks(), SubmissionWriter(), Baselines()]

    def start_from_files(self) -> None:
        """Start from published weights."""
        if self.weights is None:
            return
        loaded = load_winner(existing(self.weights))
        assert isinstance(self.network.body, Winner)
        shapes = [[list(p.shape) for p in one.parameters()] for one in (loaded, self.network.body)]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"{self.weights} is of another network: set model.hidden_sizes=[64,128,256,128,64] and "
                "model.projection=12 for version 1, [120,120,120] and 0 for version 2"
            )
        self.network.body.load_state_dict(loaded.state_dict())
        log.info("network: starts from %s", self.weights)

    def step(self, batch: SequenceBatch) -> StepResult:
        numbers = self._numbers(batch.inputs, batch.lengths).float()
        expected = (numbers.expm1() if self.log_target else numbers).clamp(min=0)
        if batch.targets is None:
            return StepResult(numbers.new_zeros(()), expected, None, len(batch))
        wanted = batch.targets.log1p() if self.log_target else batch.targets
        return StepResult((numbers - wanted).abs().mean(), expected, batch.targets, len(batch))

    def _numbers(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """What the network says, ``[B]``: of one random copy in training, else the mean over the fixed ones."""
        assert lengths is not None
        if not self.steps:
            return self.network(x, lengths)  # type: ignore[no-any-return]  # a module's call is not typed
        if self.training:
            return self._stretched(x, lengths, torch.rand(len(x), self.steps, device=x.device))
        total = torch.zeros(len(x), device=x.device)
        for draw in torch.split(self.draws, 1):
            total += self._stretched(x, lengths, draw)
        return total / len(self.draws)

    def _stretched(self, x: Tensor, lengths: Tensor, uniform: Tensor) -> Tensor:
        rows, longer = drop_in(x, lengths, uniform)
        full = bool((longer == rows.shape[1]).all())  # then nothing is masked, which is faster
        return self.network(rows, None if full else longer)  # type: ignore[no-any-return]

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """``expected`` in mm, and ``gauge`` where it is known."""
        rows: Rows = {"expected": result.predictions}
        return rows if batch.targets is None else {**rows, "gauge": batch.targets}

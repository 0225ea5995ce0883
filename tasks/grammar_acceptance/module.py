"""Networks that accept strings of a grammar, predict their symbols, or solve the long-dependency problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from lightning_rnn.data import BucketBatchSampler, Ragged
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.functional.options import ACTIVATIONS
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.table import CellName
from lightning_rnn.training.module import Rows, SequenceModule, Stage, StepResult
from lightning_rnn.training.predictions import RowNumbers, join, to_columns
from lightning_rnn.training.tables import Columns
from lightning_rnn.types import SequenceBatch

from .baselines import ByKind
from .metrics import collection
from .network import GrammarNetwork, NetworkOptions
from .objectives import Accept, Objective, Predict, Solve, Supervision
from .problems.stress import problem_of
from .spec import GrammarSpec
from .strings import encode

Goal = Literal["accept", "predict"]
OBJECTIVES: dict[Goal, type[Accept] | type[Predict]] = {"accept": Accept, "predict": Predict}
STEPS = 2**15  # of strings that are judged at once, padding counted


class GrammarModel(SequenceModule):
    """A recurrent network that reads strings: an acceptor, or a predictor of the next symbol.

    With a stress problem as the source (adding, temporal order, copy memory) it learns the problem's answer instead,
    and ``objective`` stays ``accept``.

    Args:
        objective: ``accept`` (sequence → accepted or rejected) or ``predict`` (sequence → next symbol at each step).
        supervision: ``legal`` learns all symbols that may follow each prefix, as the grammar has them; ``observed``
            learns what the strings show: the label of each to accept, the next symbol to predict. None: ``legal`` to
            accept, ``observed`` to predict.
        cell: of the recurrent layers, see :func:`lightning_rnn.layers.table.recurrent`.
        hidden_size: units of each layer.
        num_layers: recurrent layers.
        initializer: ``torch``, ``keras`` or ``chrono`` start of the recurrent weights; for SimpleRNN, LSTM and GRU.
        activation: in the recurrence; for SimpleRNN, LSTM and GRU; None: tanh.
        forget_bias: the LSTM's forget gates' bias at the start (Gers et al. 2000, section 2); None: the initializer's.
        bias: whether the recurrent layers have bias vectors.
        freeze_recurrent: the recurrent matrices stay as they start: a reservoir that the input and the head learn to
            use (Jaeger 2001).
        head_size: units of a ReLU layer before the linear head; 0: none.

    Raises:
        ConfigError: an option is out of range, or does not go with the cell or the data.

    Example:
        >>> GrammarModel(objective="predict", cell="gru").hparams["cell"]
        'gru'
    """

    spec_class = GrammarSpec
    spec: GrammarSpec | None
    network: GrammarNetwork
    latest: tuple[Tensor, object] | None = None  # predictions and targets of the batch before, for callbacks

    def __init__(
        self,
        objective: Goal = "accept",
        supervision: Supervision | None = None,
        cell: CellName = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        initializer: Initializer | None = None,
        activation: str | None = None,
        forget_bias: float | None = None,
        bias: bool = True,
        freeze_recurrent: bool = False,
        head_size: int = 0,
    ) -> None:
        super().__init__()
        for name, size in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            require(size >= 1, f"model.{name} must be at least 1, got {size}")
        require(objective in OBJECTIVES, f"model.objective must be accept or predict, got {objective!r}")
        known = activation is None or activation in ACTIVATIONS
        require(known, f"model.activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        require(head_size >= 0, f"model.head_size must not be negative, got {head_size}")
        self.save_hyperparameters()
        self.goal, self.supervision = objective, supervision
        self.options = NetworkOptions(
            cell=cell,
            hidden_size=hidden_size,
            num_layers=num_layers,
            initializer=initializer,
            activation=activation,
            forget_bias=forget_bias,
            bias=bias,
            freeze_recurrent=freeze_recurrent,
            head_size=head_size,
        )

    def objective_for(self, spec: GrammarSpec) -> Objective:
        """What is learned from data of this kind.

        Raises:
            ConfigError: a problem cannot be learned with this objective.
        """
        if spec.problem is None:
            kind = OBJECTIVES[self.goal]
            return kind(spec.alphabet) if self.supervision is None else kind(spec.alphabet, self.supervision)
        if self.goal != "accept" or self.supervision is not None:
            raise ConfigError(f"{spec.name} has an answer of its own: leave model.objective and model.supervision out")
        return Solve(problem_of(spec))

    def build(self, spec: GrammarSpec) -> GrammarNetwork:  # type: ignore[override]  # its own spec
        self.objective = self.objective_for(spec)
        return GrammarNetwork(spec, self.options, self.objective.each_step)

    def build_metrics(self, spec: GrammarSpec, stage: Stage) -> MetricCollection:  # type: ignore[override]
        return collection(self.objective.judges())

    def run_callbacks(self) -> list[pl.Callback]:
        from .figures.callbacks import figures  # late: they need this module

        shown = [ByKind()] if self.goal == "accept" else []
        return [*super().run_callbacks(), *shown, *figures()]

    def step(self, batch: SequenceBatch) -> StepResult:
        streams = batch.starts is not None
        scores, state = self.network(batch.inputs, batch.lengths, self.carry.take(batch) if streams else None)
        if streams:
            self.carry.keep(state)
        result = self.objective.result(scores.float(), batch)
        self.latest = result.predictions.detach(), result.targets
        return result

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        return self.objective.rows(batch, result)

    def accept(self, strings: Sequence[str]) -> Columns:
        """Judge strings as they are, without datamodule or trainer: see :meth:`Accept.rows`.

        Strings of like length are judged together, and the answers put back in order: any number will do.

        Raises:
            DataError: a symbol is not in the alphabet that the network was trained on.
            ConfigError: this is no acceptor.

        Example:
            .. code-block:: python

                model = GrammarModel.load_from_checkpoint("runs/.../checkpoints/best.ckpt")
                model.accept(["BTBTXSETE", "BTBTXSEPE"])["accepted"]
        """
        if self.spec is None or not isinstance(self.objective, Accept):
            raise ConfigError("only a network with model.objective=accept judges strings: train one, or name its file")
        if not strings:
            return {name: [] for name in ("string", "accepted", "probability", "illegal_at")}
        rows = encode(strings, self.spec.alphabet, self.spec.name)
        self.eval()
        batches = BucketBatchSampler(rows.lengths, len(rows), max_tokens=STEPS)
        return join([self._judged(rows, torch.tensor(batch)) for batch in batches])[1]

    @torch.no_grad()
    def _judged(self, rows: Ragged, which: Tensor) -> tuple[RowNumbers, Columns]:
        padded, lengths = rows.pad(which)
        batch = SequenceBatch(padded, lengths=lengths).to(self.device)
        return which.numpy(), to_columns(self.to_rows(batch, self.step(batch)))

"""A module that writes: texts and strokes of conditions, and validation and test by what is really written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_rnn.data.module import Split
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.training.module import SequenceModule, StepResult
from lightning_rnn.types import SequenceBatch

from .conditions import encode_conditions
from .decoding import DecodingOptions, Written, write
from .judging import Judge, WrittenResult
from .network import GeneratorNetwork
from .realized import counted, realized
from .rows import GenerationRows
from .spec import GenerationSpec

Judged = Literal["val", "test"]


class WritingModule(SequenceModule):
    """Base of :class:`.module.Generator`, which builds and trains what writes here.

    Attributes:
        decoding: how ``test``, ``predict`` and :meth:`write` write.
        quick: how validation does.
        val_rows: validation writes of the first so many rows.
        sample_seed: of samples.
        temperature: of samples.
        judges: what validation and test are judged by, of text.
    """

    spec_class = GenerationSpec
    spec: GenerationSpec | None
    network: GeneratorNetwork
    decoding: DecodingOptions
    quick: DecodingOptions
    val_rows: int
    sample_seed: int
    temperature: float

    def __init__(self) -> None:
        super().__init__()
        self.judges = nn.ModuleDict()

    def write(
        self, conditions: Sequence[Any], others: Sequence[WritingModule] = (), keep: int | None = None
    ) -> list[list[str]]:
        """What is written of conditions as a user gives them: no datamodule, no trainer.

        Args:
            conditions: see :func:`.conditions.encode_conditions`.
            others: models of the same data, whose probabilities are averaged with this one's.
            keep: so many best texts of each, at most as many as are searched or drawn; None: as ``model.keep`` says.

        Returns:
            The best texts of each condition, best first; those of dialogue acts with their values.

        Raises:
            ConfigError: there is no network yet, it draws strokes, or another model is of other data.
            DataError: a condition is unknown, or of another size.

        Example:
            .. code-block:: python

                model = Generator.load_from_checkpoint("runs/.../checkpoints/best.ckpt")
                model.write(["inform(name='the eagle';food=thai)"])[0][0]
        """
        if self.spec is None or "network" not in self._modules:
            raise ConfigError("there is no network to write with: load a checkpoint, or train first (fit)")
        for number, other in enumerate(others, 1):
            if other.spec is None or not self.spec.like(other.spec):
                raise ConfigError(f"model {number} of others has other conditions or words: train it on the same data")
        self.eval()
        vectors = encode_conditions(self.spec, conditions).to(self.device)
        networks = [self.network, *(other.eval().network for other in others)]
        options = self.decoding if keep is None else replace(self.decoding, keep=keep)
        found = self.written(vectors, torch.arange(len(vectors)), options, networks)
        return [
            realized(self.spec, one, [text.text for text in row]) for one, row in zip(conditions, found, strict=True)
        ]

    def draw(self, conditions: Sequence[Any], temperature: float | None = None) -> list[Tensor]:
        """Pen strokes of conditions as a user gives them, ``[T, 5]`` each, in the units of the data.

        Args:
            conditions: see :func:`.conditions.encode_conditions`.
            temperature: the smaller, the closer to the mean; None: as ``model.temperature`` says.

        Raises:
            ConfigError: there is no network yet, it writes text, or a temperature of 0 or less.
            DataError: a condition is unknown, or of another size.
        """
        if self.spec is None or "network" not in self._modules:
            raise ConfigError("there is no network to draw with: load a checkpoint, or train first (fit)")
        require(self.spec.kind == "strokes", "this model writes text, it draws no strokes: use write")
        self.eval()
        vectors = encode_conditions(self.spec, conditions).to(self.device)
        chosen = self.temperature if temperature is None else temperature
        return self.drawn(vectors, torch.arange(len(vectors)), chosen)

    def drawn(self, vectors: Tensor, rows: Tensor, temperature: float) -> list[Tensor]:
        """Strokes of conditions that are vectors, ``[T, 5]`` each; those of a row depend on its number and the seed."""
        from .drawing import sketch  # late: of strokes alone

        assert self.spec is not None
        seeds = rows.to(vectors.device) + (self.sample_seed << 32)
        strokes = sketch(self.network, vectors, seeds, self.decoding.max_length, temperature)
        scale = torch.tensor([self.spec.scale, self.spec.scale, 1.0, 1.0, 1.0])
        return [one.cpu() * scale for one in strokes]

    def written(
        self,
        vectors: Tensor,
        rows: Tensor,
        options: DecodingOptions | None = None,
        networks: Sequence[GeneratorNetwork] | None = None,
    ) -> list[list[Written]]:
        """The kept texts of conditions that are vectors, best first; dialogue acts' without values.

        Args:
            vectors: float ``[B, C]``.
            rows: int64 ``[B]``: samples of a row depend on its number and ``sample_seed`` alone.
            options: how; None: as the model's options say.
            networks: an ensemble; None: this model's own.
        """
        assert self.spec is not None
        require(self.spec.kind == "tokens", "this model draws strokes, it writes no text: use draw")
        seeded = (options or self.decoding).seeded(self.sample_seed, rows.to(vectors.device))
        return write(networks or [self.network], self.spec, vectors, seeded)

    def rows_of(self, split: Split) -> GenerationRows | None:
        """The rows of a split, where there is a datamodule."""
        rows = None if self._datamodule is None else self._datamodule.split(split)
        assert rows is None or isinstance(rows, GenerationRows)
        return rows

    # Judged by what is written.

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> StepResult:  # type: ignore[override]
        return self._judged("val", batch, super().validation_step(batch, batch_idx), self.quick)

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> StepResult:  # type: ignore[override]
        return self._judged("test", batch, super().test_step(batch, batch_idx), self.decoding)

    def _judged(self, stage: Judged, batch: SequenceBatch, result: StepResult, options: DecodingOptions) -> StepResult:
        """The result with texts: of all rows in a test, in validation of the first ones."""
        rows = self.rows_of(stage)
        assert self.spec is not None
        if self.spec.kind != "tokens" or rows is None or rows.references is None or batch.ids is None:
            return result
        most = self.val_rows if stage == "val" else len(rows)
        if not most:
            return result
        chosen = (batch.ids < most).nonzero().flatten()
        names = batch.ids[chosen].tolist()
        vectors = batch.inputs[chosen, 0]
        found = self.written(vectors, batch.ids[chosen], options) if len(chosen) else []
        texts = [realized(self.spec, rows.items.given[row], [one.text for one in kept])
                 for row, kept in zip(names, found, strict=True)]  # fmt: skip
        counts = [counted(self.spec, rows.items.given[row], kept) for row, kept in zip(names, texts, strict=True)]
        self.judge(stage).update(texts, [rows.references[row] for row in names], counts)
        return WrittenResult(**vars(result), texts=dict(zip(names, texts, strict=True)))

    def judge(self, stage: Judged) -> Judge:
        """What a stage's texts are judged by."""
        judge = self.judges[f"{stage}_stage"]
        assert isinstance(judge, Judge)
        return judge

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._log_scores("test")

    def _log_scores(self, stage: Judged) -> None:
        if f"{stage}_stage" not in self.judges:
            return
        values = {f"{stage}_{name}": value.float() for name, value in self.judge(stage).compute().items()}
        self.log_dict(values, prog_bar=stage != "test", sync_dist=True)  # equal everywhere already
        self.judge(stage).reset()

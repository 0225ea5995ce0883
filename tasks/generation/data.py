"""Conditions and what is written of them from any source, as batches for the generator."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from matplotlib.axes import Axes

from lightning_rnn.data import SequenceDataModule, SplitData
from lightning_rnn.data.module import PARTS, Split
from lightning_rnn.errors import DataError

from .rows import GenerationRows, rows_of
from .sources import GenerationSource, Items
from .spec import GenerationSpec
from .spelled import SpelledDigits

log = logging.getLogger(__name__)


class GenerationData(SequenceDataModule):
    """Conditions, and the texts or strokes that are written of them.

    A condition is a sequence of one step: a batch has ``inputs [B, 1, C]`` and ``lengths [B]``, all 1; ``targets``,
    token ids ``[B, T]`` ending in ``</s>``, or strokes ``[B, T, 5]``, and their ``target_lengths [B]``; ``ids [B]``,
    the rows, by which ``data.split(name).references`` has the texts.

    Args:
        source: where they come from; None is :class:`.spelled.SpelledDigits`, images of digits and their names.
        predict: file of conditions to write of, one a line, relative to the data folder; None is the test part. A line
            is a class, a dialogue act, or JSON: a list of numbers, or values by column.
        batch_size: rows per batch and process; the last two batches of an epoch share what is left.
        eval_batch_size: the same for validation, test and predict; None is four times ``batch_size``.
        bucketing: whether rows of like length are put together.
        min_batches: a training epoch has at least this many batches: small parts are gone through several times.
        num_workers: processes that fetch batches; 0 is the main one.
        seed: of the order of batches.
        max_tokens: tokens per batch and process, padding counted, at most (four times as many in validation, test and
            predict); None is no bound. Raise ``batch_size`` with it, the lower of both holds.

    Example:
        >>> data = GenerationData(batch_size=8)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader())).inputs.shape
        torch.Size([8, 1, 64])
    """

    spec_class = GenerationSpec
    spec: GenerationSpec | None

    def __init__(
        self,
        source: GenerationSource | None = None,
        predict: str | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        bucketing: bool = True,
        min_batches: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, bucketing, min_batches, num_workers, seed, max_tokens)
        self.source, self.predict = source or SpelledDigits(), predict

    def prepare_data(self) -> None:
        """Download what is absent."""
        self.source.prepare()

    def load(self, stage: str) -> Mapping[Split, SplitData]:
        wanted = PARTS[stage] if self.spec is not None else ("train", *PARTS[stage])
        read = {part: self._read(part) for part in dict.fromkeys(wanted)}
        parts = {part: items.checked() for part, items in read.items() if items is not None}
        if stage == "predict" and "predict" not in parts:
            raise DataError("there is nothing to predict: give data.predict a file of conditions, or a test part")
        if self.spec is None:
            if "train" not in parts:
                raise DataError(f"{type(self.source).__name__} has no training part to learn from: give it one")
            self.spec = self.source.describe(parts["train"])
            log.info("conditions: %d entries (%s)", self.spec.condition_size, self.spec.form)
        rows = {part: rows_of(self.spec, items) for part, items in parts.items()}
        if "train" in rows and (targets := rows["train"].targets) is not None:
            rows["train"] = replace(rows["train"], drawn=self.source.drawn(targets, self.seed))
        return rows

    def _read(self, part: Split) -> Items | None:
        if part != "predict":
            return self.source.read(part)
        if self.predict is None:
            return self.source.read("predict") or self.source.read("test")
        from .reading import read_conditions  # late: only where a file is given

        return read_conditions(self.predict)

    def draw(self, axes: Axes, split: Split, row: int) -> None:
        """The condition of a row: an image, or the height of each entry."""
        rows = self.split(split)
        assert isinstance(rows, GenerationRows) and self.spec is not None
        vector = rows.inputs[row].flatten()
        if self.spec.image is not None:
            axes.imshow(vector.reshape(self.spec.image).numpy(), cmap="gray_r")
        else:
            axes.bar(range(len(vector)), vector.numpy())

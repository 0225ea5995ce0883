"""Labelled sequences from any source, as batches for the classifier."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from matplotlib.axes import Axes
from torch import Tensor

from lightning_rnn.data import (
    DataSpec,
    Digits,
    Examples,
    Ragged,
    SequenceDataModule,
    SequenceDataset,
    Source,
)
from lightning_rnn.data.checks import check_classes, check_token_ids, warn_of_unknowns
from lightning_rnn.data.labels import CUT, Labels, class_numbers, count_classes, last_label
from lightning_rnn.data.module import PARTS, Split
from lightning_rnn.data.sampled import SampledText
from lightning_rnn.data.sentencepiece import SentencePieceTokenizer, check_sampling
from lightning_rnn.data.splitting import stratified_split, warn_of_shared
from lightning_rnn.data.tokenizer import Kind, Tokenizer, train_tokenizer
from lightning_rnn.errors import DataError, require
from lightning_rnn.layers.series import profile_of, spread_of
from lightning_rnn.types import SequenceBatch

log = logging.getLogger(__name__)
ROUNDING = 1e-8  # of a mean: a standard deviation below this share of it is none
MOST_LINES = 7  # features of a step that are still drawn as lines, not as an image


@dataclass(frozen=True)
class ClassificationSpec(DataSpec):
    """What the classifier is built from.

    Attributes:
        kind: ``series`` (float ``[B, T, D]``) or ``text`` (token ids ``[B, T]``).
        features: features of a step, or tokens in the vocabulary.
        class_names: the classes, in the order of the outputs.
        class_counts: training rows of each class.
        longest: steps of the longest training row.
        mean: training mean of each feature; None for text.
        std: the same for the standard deviation.
        profile: training mean at each step, where all training series have one length.
        spread: how far differences and residuals go, see :func:`lightning_rnn.layers.series.spread_of`.
        tokenizer: the whole of it, see :meth:`Tokenizer.to_dict`; None for series.
        labels: whether each row has a label, or each ``step``.
    """

    kind: Literal["series", "text"] = "series"
    features: int = 1
    class_names: list[str] = field(default_factory=list)
    class_counts: list[int] = field(default_factory=list)
    longest: int = 1
    mean: list[float] | None = None
    std: list[float] | None = None
    profile: list[list[float]] = field(default_factory=list)
    spread: list[list[float]] = field(default_factory=list)
    tokenizer: dict[str, Any] | None = None
    labels: Labels = "row"

    def check(self, batch: SequenceBatch) -> None:
        if self.kind == "text":
            check_token_ids(batch, self.features)
        if batch.targets is not None:
            check_classes(batch, self.class_names, self.labels == "step")

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer of a text spec."""
        assert self.tokenizer is not None
        return Tokenizer.from_dict(self.tokenizer)


class ClassificationData(SequenceDataModule):
    """Sequences with one label each, or one for each of their steps.

    Args:
        source: where they come from; None is scikit-learn's handwritten digits, each image a sequence of pixel rows.
        labels: ``row``: a row's label is a class; ``step``: it is the classes of its steps, white space between them,
            aligned sequence to sequence (``DET NOUN VERB`` of ``the cat sat``, with the tokenizer ``words``).
        val_fraction: share of the training part that becomes the validation part, stratified, where the source has
            none of its own; 0 trains on all of it, without validation.
        split_seed: of that share.
        vocab_size: tokens, for text; at most so many with ``word``, ``char``, ``characters`` and ``words``.
        tokenizer: how text is cut, trained on the training part alone: SentencePiece's ``unigram``, ``bpe``, ``word``
            and ``char``, or plain ``characters``, ``words`` (between white space) and ``bytes``.
        lower: whether text is lower-cased.
        min_count: how often a word or a character must be there to become a token (``words``, ``characters``).
        sampling: cuts the training texts anew in each epoch; 0 does not. With ``unigram`` the power of a segmentation's
            probability (0.1 to 0.5: the smaller, the more varied), with ``bpe`` the share of merges left out (0.1).
        max_length: longer rows are cut to this many tokens or steps; None keeps all.
        baselines: whether `test` measures majority and bag of n-grams (text) or nearest neighbor (series) as well.
        batch_size: rows per batch and process; the last two batches of an epoch share what is left.
        eval_batch_size: the same for validation, test and predict; None is four times ``batch_size``.
        bucketing: whether rows of like length are put together.
        min_batches: a training epoch has at least this many batches: small parts are gone through several times.
        num_workers: processes that fetch batches; 0 is the main one.
        seed: of the order of batches.
        max_tokens: tokens or steps per batch and process, padding counted, at most (four times as many in validation,
            test and predict); None is no bound. Raise ``batch_size`` with it, the lower of both holds.

    Example:
        >>> data = ClassificationData(batch_size=8)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader())).inputs.shape
        torch.Size([8, 8, 8])
    """

    spec_class = ClassificationSpec
    spec: ClassificationSpec | None

    def __init__(
        self,
        source: Source | None = None,
        labels: Labels = "row",
        val_fraction: float = 0.1,
        split_seed: int = 0,
        vocab_size: int = 8000,
        tokenizer: Kind = "unigram",
        lower: bool = False,
        min_count: int = 1,
        sampling: float = 0.0,
        max_length: int | None = None,
        baselines: bool = True,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        bucketing: bool = True,
        min_batches: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, bucketing, min_batches, num_workers, seed, max_tokens)
        require(0 <= val_fraction < 1, f"data.val_fraction must be in [0, 1), got {val_fraction}")
        require(vocab_size >= 8, f"data.vocab_size must be at least 8, got {vocab_size}")
        require(max_length is None or max_length >= 1, f"data.max_length must be at least 1, got {max_length}")
        require(labels in CUT, f"data.labels must be {' or '.join(CUT)}, got {labels!r}")
        if sampling:
            check_sampling(tokenizer, sampling)
        require(labels == "row" or not sampling, "data.sampling cuts a row anew, data.labels step needs its steps")
        self.source, self.labels = source or Digits(), labels
        self.val_fraction, self.split_seed = val_fraction, split_seed
        self.vocab_size, self.tokenizer, self.lower, self.max_length = vocab_size, tokenizer, lower, max_length
        self.min_count, self.sampling, self.baselines = min_count, sampling, baselines

    def prepare_data(self) -> None:
        """Download what is absent."""
        self.source.prepare()

    def load(self, stage: str) -> Mapping[Split, SequenceDataset]:
        wanted = PARTS[stage] if self.spec is not None else ("train", *PARTS[stage])
        examples = {name: read for name in dict.fromkeys(wanted) if (read := self.source.read(name)) is not None}
        if "train" in examples:
            self._hold_out(examples)
            if self.spec is None:
                self.spec = self._describe(examples["train"])
        return {name: self._encode(name, part) for name, part in examples.items()}

    def _hold_out(self, examples: dict[Split, Examples]) -> None:
        """Take the validation part out of the training part, unless the source has one."""
        train = examples["train"]
        if "val" in examples:
            warn_of_shared(train, examples["val"])
        if "val" in examples or not self.val_fraction:
            return
        if train.labels is None:
            raise DataError(f"{train.origin}: the training part has no labels")
        strata = [last_label(label, self.labels) for label in train.labels]
        rest, part = stratified_split(strata, self.val_fraction, self.split_seed)
        if not len(part) and len(set(strata)) > 1:
            raise DataError(
                f"{train.origin}: each of the {len(train)} training rows is the only one of its class, so none can be "
                "held out for validation: give more rows, a val part, or data.val_fraction 0"
            )
        examples["train"], examples["val"] = train.select(rest), train.select(part)
        log.info(
            "validation: %d of the %d training rows held out, stratified, seed %d",
            len(part),
            len(train),
            self.split_seed,
        )

    def _describe(self, train: Examples) -> ClassificationSpec:
        names, counts = count_classes(train, self.labels)
        if isinstance(train.inputs, Ragged):
            series = train.inputs if self.max_length is None else train.inputs.cut(self.max_length)
            return replace(_describe_series(series, names, counts), labels=self.labels)
        require(
            self.labels == "row" or self.tokenizer not in ("unigram", "bpe"),
            f"data.labels step is a label for each token, and data.tokenizer {self.tokenizer} cuts words anywhere: set "
            "data.tokenizer words, or characters",
        )
        tokenizer = train_tokenizer(train.inputs, self.tokenizer, self.vocab_size, self.lower, self.min_count)
        log.info("tokenizer: %s, %d tokens, of the training part", self.tokenizer, tokenizer.vocab_size)
        longest = int(tokenizer.encode(train.inputs).lengths.max())
        longest = longest if self.max_length is None else min(longest, self.max_length)
        spec = ClassificationSpec("text", tokenizer.vocab_size, names, counts, longest, tokenizer=tokenizer.to_dict())
        return replace(spec, labels=self.labels)

    def _encode(self, name: Split, part: Examples) -> SequenceDataset:
        """Texts to token ids, labels to class numbers."""
        assert self.spec is not None
        kind = "series" if isinstance(part.inputs, Ragged) else "text"
        if kind != self.spec.kind:
            raise DataError(f"{part.origin}: this is {kind}, the model was trained on {self.spec.kind}")
        inputs = part.inputs if isinstance(part.inputs, Ragged) else self.spec.load_tokenizer().encode(part.inputs)
        width = inputs.values.shape[1] if isinstance(part.inputs, Ragged) else self.spec.features
        if width != self.spec.features:
            raise DataError(f"{part.origin}: series of {width} features, the training part has {self.spec.features}")
        if kind == "text":
            warn_of_unknowns(part.origin, inputs)
        targets = class_numbers(part, self.spec.class_names, self.spec.labels, inputs.lengths)
        if self.max_length is not None:
            longer = int((inputs.lengths > self.max_length).sum())
            if longer:
                log.info("%s: %d of %d rows cut to max_length %d", part.origin, longer, len(part), self.max_length)
            inputs = inputs.cut(self.max_length)
            targets = targets.cut(self.max_length) if isinstance(targets, Ragged) else targets
        drawn = self._sampled(part) if name == "train" else None
        return SequenceDataset(inputs, targets, part.ids, drawn)

    def _sampled(self, part: Examples) -> SampledText | None:
        """The training texts as they are cut in each epoch, where that is asked for."""
        assert self.spec is not None
        if not self.sampling:
            return None
        require(not isinstance(part.inputs, Ragged), "data.sampling is for text, the data are series")
        tokenizer = self.spec.load_tokenizer()
        check_sampling(tokenizer.kind, self.sampling)
        assert isinstance(tokenizer, SentencePieceTokenizer) and isinstance(part.inputs, list)
        return SampledText(part.inputs, tokenizer, self.sampling, self.seed, self.max_length)

    def draw(self, axes: Axes, split: Split, row: int) -> None:
        """An image's rows, a text's words, or a series' lines."""
        assert self.spec is not None
        inputs = self.split(split).inputs[row]
        if self.spec.kind == "text":
            text = self.spec.load_tokenizer().decode(inputs.tolist())
            told = textwrap.fill(text, 40, max_lines=9)
            axes.text(0.5, 1.0, told, fontsize=8, ha="center", va="top", parse_math=False).set_in_layout(False)
            axes.set_axis_off()
        elif inputs.shape[1] > MOST_LINES:
            axes.imshow(inputs.numpy(), cmap="gray_r")
            axes.set_axis_off()
        else:
            axes.plot(inputs.numpy(), linewidth=1)


def _describe_series(series: Ragged, names: list[str], counts: list[int]) -> ClassificationSpec:
    mean, std = _moments(series.values)
    features, longest = series.values.shape[1], int(series.lengths.max())
    profile: list[list[float]] = []
    spread: list[list[float]] = []
    if bool((series.lengths == longest).all()):
        rows = series.values.view(len(series), longest, features)
        profile = profile_of(rows)
        spread = spread_of(rows, profile, std)
    return ClassificationSpec("series", features, names, counts, longest, mean, std, profile, spread)


def _moments(values: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the features ``[S, D]``, over the values that are there; 1 where all are equal."""
    there = ~values.isnan()
    count = there.sum(0).clamp(min=1)
    filled = torch.where(there, values, 0).double()
    mean = filled.sum(0) / count
    std = ((torch.where(there, filled - mean, 0) ** 2).sum(0) / count).sqrt()
    return mean.tolist(), torch.where(std > ROUNDING * mean.abs(), std, 1.0).tolist()

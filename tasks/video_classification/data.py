"""Labelled clips from any source, as batches for the classifier."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from matplotlib.axes import Axes

from lightning_rnn.data import Examples, Ragged, SequenceDataModule, Source
from lightning_rnn.data.labels import class_numbers, count_classes
from lightning_rnn.data.module import PARTS, SequenceLoader, Split
from lightning_rnn.data.splitting import warn_of_shared
from lightning_rnn.errors import DataError, require

from .clips import Clips, Kept, hold_out, keep_frames
from .dataset import VideoDataset
from .drawing import draw_clip
from .moving import MovingDigits
from .spec import VideoSpec

log = logging.getLogger(__name__)
Featurize = Callable[[VideoDataset], Ragged]


class VideoData(SequenceDataModule):
    """Clips with one label each: frames, or vectors such as skeletons and spectra.

    Args:
        source: where they come from; None is scikit-learn's handwritten digits moving over a torus, whose class is the
            direction and the speed. Any source of series works too: each step is a frame.
        val_fraction: share of the training part that becomes the validation part where the source has none of its own:
            whole groups (persons, recordings) where the source knows them, else drawn from each class; 0 trains on all
            of it, without validation.
        split_seed: of that share.
        frames: ``all``; ``one`` at random of each clip or all ``shuffled``, in every part: controls, which show what
            can be told without motion.
        batch_size: rows per batch and process; the last two batches of an epoch share what is left.
        eval_batch_size: the same for validation, test and predict; None is four times ``batch_size``.
        bucketing: whether rows of like length are put together.
        min_batches: a training epoch has at least this many batches: small parts are gone through several times.
        num_workers: processes that fetch batches; 0 is the main one.
        seed: of the order of batches, and of ``frames``.
        max_tokens: frames per batch and process, padding counted, at most (four times as many in validation, test and
            predict); None is no bound. Raise ``batch_size`` with it, the lower of both holds.

    Example:
        >>> data = VideoData(batch_size=8)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader())).inputs.shape
        torch.Size([8, 13, 1, 24, 24])
    """

    spec_class = VideoSpec
    spec: VideoSpec | None

    def __init__(
        self,
        source: Source | None = None,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        frames: Kept = "all",
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
        require(frames in ("all", "one", "shuffled"), f"data.frames must be all, one or shuffled, got {frames!r}")
        self.source = source or MovingDigits()
        self.val_fraction, self.split_seed, self.frames = val_fraction, split_seed, frames
        self.featurize: Featurize | None = None  # what a frozen network makes of clips, where that is kept

    def prepare_data(self) -> None:
        """Download what is absent."""
        self.source.prepare()

    def load(self, stage: str) -> Mapping[Split, VideoDataset]:
        wanted = PARTS[stage] if self.spec is not None else ("train", *PARTS[stage])
        parts = {name: read for name in dict.fromkeys(wanted) if (read := self.source.read(name)) is not None}
        if "train" in parts:
            self._hold_out(parts)
            if self.spec is None:
                self.spec = _describe(parts["train"])
        return {name: self._encode(part) for name, part in parts.items()}

    def _hold_out(self, parts: dict[Split, Examples]) -> None:
        """Take the validation part out of the training part, unless the source has one."""
        if "val" not in parts and self.val_fraction:
            if parts["train"].labels is None:
                raise DataError(f"{parts['train'].origin}: the training part has no labels")
            parts["train"], parts["val"] = hold_out(parts["train"], self.val_fraction, self.split_seed)
        if "val" in parts:
            warn_of_shared(parts["train"], parts["val"])

    def _encode(self, part: Examples) -> VideoDataset:
        """Frames as they are asked for, labels to class numbers."""
        assert self.spec is not None and isinstance(part.inputs, Ragged)
        shape = list(part.inputs.values.shape[1:])
        if shape != self.spec.shape:
            raise DataError(
                f"{part.origin}: frames of {shape}, the model was trained on {self.spec.shape}: give it such"
            )
        if len(empty := (part.inputs.lengths == 0).nonzero()):
            raise DataError(f"{part.where(int(empty[0]))}: the clip has no frame: take it out, or give it some")
        clips = keep_frames(part.inputs, self.frames, self.seed)
        targets = class_numbers(part, self.spec.class_names, "row", clips.lengths)
        assert not isinstance(targets, Ragged)
        return VideoDataset(clips, targets, part.ids)

    def _loader(self, name: Split) -> SequenceLoader:
        split = self.split(name)
        assert isinstance(split, VideoDataset)
        split.features = None if self.featurize is None else self.featurize(split)
        return super()._loader(name)

    def draw(self, axes: Axes, split: Split, row: int) -> None:
        """A strip of frames, joints over time, or a spectrum."""
        assert self.spec is not None
        draw_clip(axes, self.split(split).inputs[row], self.spec.joints)


def _describe(train: Examples) -> VideoSpec:
    if not isinstance(train.inputs, Ragged):
        raise DataError(f"{train.origin}: these are texts, not clips: give data.source a source of clips or series")
    names, counts = count_classes(train, "row")
    shape = list(train.inputs.values.shape[1:])
    joints, pairs = (train.joints, train.pairs) if isinstance(train, Clips) else (0, ())
    kind = "vectors" if len(shape) == 1 else "frames"
    return VideoSpec(
        "frames" if kind == "frames" else "vectors", shape, names, counts, joints, [list(p) for p in pairs]
    )

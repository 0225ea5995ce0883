"""What the sources give: clips with labels, and the group that each is of."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data import Examples, Ragged
from lightning_rnn.data.splitting import group_split, stratified_split
from lightning_rnn.errors import DataError

log = logging.getLogger(__name__)
Kept = Literal["all", "one", "shuffled"]


@dataclass(frozen=True)
class Clips(Examples):
    """One part of a source, with what must not be on both sides of a split.

    Attributes:
        inputs: ``Ragged`` of uint8 frames ``[T, C, H, W]``, or of float32 vectors ``[T, D]``.
        groups: the person, recording or image that each clip is of; None where nothing is known.
        joints: of vectors that are joints ``[x1, y1, x2, y2, ...]``: how many; else 0.
        pairs: of joints: the left and the right one of each pair, which a mirrored clip changes.
    """

    groups: Sequence[str] | None = None
    joints: int = 0
    pairs: Sequence[tuple[int, int]] = ()

    def select(self, rows: Tensor) -> Clips:
        """The clips named (int64 ``[M]``), keeping their names and groups."""
        part = super().select(rows)
        groups = None if self.groups is None else [self.groups[row] for row in rows.tolist()]
        return Clips(part.inputs, part.labels, part.origin, part.ids, groups, self.joints, self.pairs)


def hold_out(clips: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """The clips without a part, and the part: whole groups where there are groups, else drawn from each class."""
    labels, groups = clips.labels or [], clips.groups if isinstance(clips, Clips) else None
    if groups is None:
        rest, part = stratified_split(labels, fraction, seed)
        log.info("%s: %d of %d clips held out, of each class", clips.origin, len(part), len(clips))
    else:
        if len(set(groups)) < 2:
            raise DataError(
                f"{clips.origin}: all {len(clips)} clips are of the group {groups[0]}, and whole groups are held out: "
                "give groups that tell them apart, or data.val_fraction 0 where the validation part is to be held out"
            )
        rest, part = group_split(groups, labels, fraction, seed)
        names = [sorted({groups[row] for row in rows.tolist()}) for rows in (rest, part)]
        log.info(
            "%s: %d of %d clips held out, the groups %s; %d groups stay", clips.origin, len(part), len(clips),
            listed(names[1]), len(names[0]),
        )  # fmt: skip
    return clips.select(rest), clips.select(part)


def listed(names: Sequence[str], most: int = 8) -> str:
    """A few names, and how many more there are.

    Example:
        >>> listed(["ann", "bob", "cem"], 2)
        'ann, bob and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def keep_frames(clips: Ragged, kept: Kept, seed: int) -> Ragged:
    """The clips as they are, or without the order of their frames: what can be told from that is no motion.

    Args:
        clips: of any frames.
        kept: ``one`` takes one frame of each clip at random, ``shuffled`` puts each clip's frames in random order.
        seed: of the choice, which is the same in every epoch.

    Example:
        >>> clips = Ragged.from_list([torch.arange(5), torch.arange(2)])
        >>> keep_frames(clips, "one", 0).lengths.tolist(), sorted(keep_frames(clips, "shuffled", 0)[0].tolist())
        ([1, 1], [0, 1, 2, 3, 4])
    """
    if kept == "all":
        return clips
    random, index = np.random.RandomState(seed), []
    for start, length in zip(clips.offsets[:-1].tolist(), clips.lengths.tolist(), strict=True):
        steps = start + random.permutation(length)
        index.append(torch.from_numpy(steps[:1] if kept == "one" else steps))
    lengths = torch.tensor([len(steps) for steps in index])
    return Ragged(clips.values[torch.cat(index)], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))


def counts_of(labels: Sequence[str], names: Sequence[str]) -> list[int]:
    """Clips of each class."""
    found = Counter(labels)
    return [found[name] for name in names]

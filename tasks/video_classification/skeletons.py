"""Skeletons: joints of a person over time, as arrays of a ``.npz`` file."""

from __future__ import annotations

import numpy as np
import torch

from lightning_rnn.data import Ragged, Source
from lightning_rnn.data.arrays import Array, read_arrays
from lightning_rnn.data.module import Split
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import existing

from .clips import Clips

JHMDB_PAIRS = [[3, 4], [5, 6], [7, 8], [9, 10], [11, 12], [13, 14]]  # right and left shoulders, hips, elbows, ...


class Skeletons(Source):
    """Clips of joints, as the stored J-HMDB has them (Jhuang et al. 2013).

    Of whom or of what recording a clip is the file does not say, and clips of one recording are nearly the same:
    validation clips drawn from each class have a twin among the training clips. With ``clusters`` whole clusters of
    similar clips are held out instead. The test part is the set's own, of other recordings.

    The file has the arrays ``train_pose`` (float ``[N, T, J, 2]``), ``train_len`` (frames of each clip), ``train_y``
    (class numbers), the same for ``test``, and ``classes`` (names). The predict part is the test part.

    Args:
        file: relative to the data folder.
        pairs: the joints that a mirrored clip changes: right and left ones. None is J-HMDB's order (neck, belly, face,
            then right and left shoulder, hip, elbow, knee, wrist, ankle).
        clusters: of each class, that stand for the recordings; 0 makes none.

    Raises:
        ConfigError: ``clusters`` is negative.
    """

    def __init__(
        self, file: str = "action/jhmdb14_split1.npz", pairs: list[list[int]] | None = None, clusters: int = 0
    ) -> None:
        require(clusters >= 0, f"source.clusters must not be negative, got {clusters}")
        self.file, self.pairs, self.clusters = file, JHMDB_PAIRS if pairs is None else pairs, clusters

    def read(self, split: Split) -> Clips | None:
        """The clips of a part; see :meth:`Source.read`."""
        if split == "val":
            return None
        path, part = existing(self.file), "train" if split == "train" else "test"
        names = [f"{part}_{name}" for name in ("pose", "len", "y")] + ["classes"]
        poses, lengths, labels, classes = read_arrays(path, names, []).values()
        self._check(f"{path}, {part}", poses, lengths, labels, len(classes))
        joints = poses.shape[2]
        rows = [
            torch.from_numpy(pose[:n].reshape(n, -1).astype(np.float32)) for pose, n in zip(poses, lengths, strict=True)
        ]
        pairs = [(right, left) for right, left in self.pairs]
        ids = [f"{part} {row}" for row in range(len(rows))]
        clips, names = Ragged.from_list(rows), [str(classes[y]) for y in labels]
        groups = similar(clips, names, self.clusters) if self.clusters and split == "train" else None
        return Clips(clips, names, str(path), ids, groups, joints, pairs)

    def _check(self, where: str, poses: Array, lengths: Array, labels: Array, classes: int) -> None:
        if poses.ndim != 4 or poses.shape[3] != 2:
            raise DataError(f"{where}_pose: {list(poses.shape)} is not [clips, frames, joints, 2]: store it so")
        if not len(poses) == len(lengths) == len(labels):
            raise DataError(f"{where}: {len(poses)} clips, {len(lengths)} lengths, {len(labels)} labels: give each one")
        for row, (steps, label) in enumerate(zip(lengths.tolist(), labels.tolist(), strict=True)):
            if not 1 <= steps <= poses.shape[1]:
                raise DataError(f"{where}_len, row {row}: {steps} frames of {poses.shape[1]}: a clip needs 1 at least")
            if not 0 <= label < classes:
                raise DataError(f"{where}_y, row {row}: the class {label}, of {classes}: number them from 0")
            if not np.isfinite(poses[row, :steps]).all():
                raise DataError(f"{where}_pose, row {row}: a joint is missing (NaN): fill it in, or take the clip out")
        if wrong := [joint for pair in self.pairs for joint in pair if not 0 <= joint < poses.shape[2]]:
            raise DataError(
                f"{where}_pose: {poses.shape[2]} joints, source.pairs names joint {wrong[0]}: mend the pairs"
            )


def similar(clips: Ragged, labels: list[str], clusters: int) -> list[str]:
    """The cluster of each clip in its class: average linkage of the vectors' means and standard deviations over time.

    Example:
        >>> clips = Ragged.from_list([torch.full((2, 2), value) for value in (0.0, 9.0, 0.1, 9.1)])
        >>> found = similar(clips, ["run"] * 4, 2)
        >>> found[0] == found[2] != found[1] == found[3]
        True
    """
    from sklearn.cluster import AgglomerativeClustering  # late: scikit-learn is slow to import

    rows = [clips[row] for row in range(len(clips))]
    about = np.stack([torch.cat([row.mean(0), 2 * row.std(0, correction=0)]).numpy() for row in rows])
    names, found = np.asarray(labels), [""] * len(rows)
    for name in sorted(set(labels)):
        index = np.flatnonzero(names == name)
        model = AgglomerativeClustering(min(clusters, len(index)), linkage="average")
        numbers = model.fit_predict(about[index]) if len(index) > 1 else [0]
        for row, number in zip(index, numbers, strict=True):
            found[row] = f"{name} {number}"
    return found

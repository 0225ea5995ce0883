"""The embedded set: 1,797 handwritten digits that come with scikit-learn."""

from __future__ import annotations

import torch

from lightning_rnn.data.module import Split
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.data.splitting import stratified_split


class Digits(Source):
    """8 x 8 images of digits (UCI, Alpaydin and Kaynak 1998), one row of pixels a step, scaled to 0..1.

    Needs no download. The predict part is the test part; there is no val part. A row's id is its number in
    scikit-learn's set.

    Args:
        test_fraction: of each digit that goes to the test part.
        seed: of the choice of test rows.

    Example:
        >>> part = Digits().read("test")
        >>> len(part), part.inputs[0].shape, sorted(set(part.labels))[:3]
        (359, torch.Size([8, 8]), ['0', '1', '2'])
    """

    def __init__(self, test_fraction: float = 0.2, seed: int = 0) -> None:
        self.test_fraction, self.seed = test_fraction, seed

    def read(self, split: Split) -> Examples | None:
        """The digits of a part; see :meth:`Source.read`."""
        if split == "val":
            return None
        from sklearn.datasets import load_digits

        data = load_digits()
        labels = [str(label) for label in data.target.tolist()]
        rest, part = stratified_split(labels, self.test_fraction, self.seed)
        rows = rest if split == "train" else part
        images = torch.from_numpy(data.images).to(torch.float32)[rows] / 16
        ids = rows.tolist()
        return Examples(Ragged.from_dense(images), [labels[row] for row in ids], "scikit-learn's digits", ids)

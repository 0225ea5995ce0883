"""Calls of a layer with every kind of mask: what tests of engines and of transforms run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_rnn import GRU, LSTM, SimpleRNN
from lightning_rnn.functional import sequence_mask
from lightning_rnn.layers import RecurrentLayer

B, T, D, H = 4, 6, 3, 4
LENGTHS = torch.tensor([6, 2, 0, 5])
HOLES = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1]]).bool()
CALLS: dict[str, dict[str, Tensor]] = {
    "all valid": {},
    "lengths": {"lengths": LENGTHS},
    "holes": {"mask": HOLES},
    "left": {"mask": sequence_mask(LENGTHS, T).flip(1)},
    "nothing": {"mask": torch.zeros(B, T, dtype=torch.bool)},
}
CLASSES: list[type[RecurrentLayer]] = [SimpleRNN, LSTM, GRU]
ours = pytest.mark.parametrize("cls", CLASSES)

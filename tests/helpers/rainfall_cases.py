"""Rainfall networks without data, and hours as a batch of their rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_rnn.data import Ragged
from tasks.rainfall import RainfallRegressor
from tasks.rainfall.data import RainfallSpec
from tasks.rainfall.schema import Hours

COPIES, STEPS = 61, 19
PLAIN = RainfallSpec([0.0] * 22, [1.0] * 22, 1.27, 4.0)


def padded(hours: Hours) -> tuple[Tensor, Tensor]:
    rows = Ragged(torch.from_numpy(hours.values), torch.from_numpy(hours.offsets))
    return rows.pad(torch.arange(len(rows)))


def module(spec: RainfallSpec = PLAIN, **options: Any) -> RainfallRegressor:
    made = RainfallRegressor(**options)
    made.spec = spec
    made.configure_model()
    return made.eval()

"""Conditions in, pen strokes out: one network, no trainer and no datamodule."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_rnn.errors import require
from lightning_rnn.seq2seq.samplers import uniforms

from .mixture import DRAWN, MixtureHead
from .network import GeneratorNetwork
from .spec import UNMOVED


@torch.no_grad()
def sketch(
    network: GeneratorNetwork, conditions: Tensor, seeds: Tensor, max_length: int, temperature: float
) -> list[Tensor]:
    """One drawing of each condition, step by step (Ha and Eck 2017, section 3.2); in float32 whatever autocast says.

    Args:
        network: in evaluation mode; of strokes.
        conditions: float ``[B, C]``.
        seeds: int64 ``[B]``: a row's drawing depends on its seed and condition, not on other rows.
        max_length: steps at most.
        temperature: below 1 surer and neater, see :meth:`.mixture.MixtureHead.sample`.

    Returns:
        strokes ``[T, 5]`` of each in the network's scale, up to the end, which is one of them where it was reached.

    Raises:
        ConfigError: a temperature of 0 or less.
    """
    head = network.head
    assert isinstance(head, MixtureHead)
    require(temperature > 0, f"temperature must be more than 0, got {temperature}")
    with torch.autocast(conditions.device.type, enabled=False):
        state, encoded = network.begin(conditions)
        last = conditions.new_tensor(UNMOVED).expand(len(conditions), -1)
        steps: list[Tensor] = []
        ended = torch.zeros(len(conditions), dtype=torch.bool, device=conditions.device)
        while len(steps) < max_length and not bool(ended.all()):
            hidden, state = network.advance(last, state, encoded)
            last = head.sample(hidden, temperature, _numbers(seeds, len(steps)))
            ended |= last[:, 4] == 1
            steps.append(last)
    return _until_end(torch.stack(steps, 1)) if len(conditions) else []


def _numbers(seeds: Tensor, time: int) -> Tensor:
    """What one step of each row is drawn with, ``[B, 4]``."""
    return torch.stack([uniforms(seeds, DRAWN * time + place) for place in range(DRAWN)], 1)


def _until_end(strokes: Tensor) -> list[Tensor]:
    """Drawings ``[B, T, 5]``, each up to its first end."""
    before = (strokes[:, :, 4] == 1).cumsum(1).roll(1, 1)
    before[:, 0] = 0
    lengths = (before == 0).sum(1).tolist()
    return [one[:length] for one, length in zip(strokes, lengths, strict=True)]

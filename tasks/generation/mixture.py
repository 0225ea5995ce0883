"""The output layer of a model that draws: where the pen moves, and whether it touches the paper."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.errors import require
from lightning_rnn.functional.masks import sequence_mask
from lightning_rnn.seq2seq.mixture import (
    PER_COMPONENT,
    BivariateMixture,
    bivariate_mixture,
    draw_points,
    mixture_log_prob,
    pick,
    tempered,
)

PEN = 3  # states: on the paper, lifted after this move, the drawing has ended
DRAWN = 4  # numbers that one step is drawn with: component, two axes, pen


class MixtureHead(nn.Module):
    r"""From hidden states to strokes (Ha and Eck 2017, arXiv 1704.03477, section 3.2).

    One linear layer gives a mixture of ``M`` bivariate normal distributions for the move, and a categorical one for the
    three states of the pen.

    Args:
        hidden_size: ``H``.
        components: ``M``.
        min_std: lowest standard deviation, in the unit of scaled strokes; see
            :func:`lightning_rnn.seq2seq.mixture.bivariate_mixture`.

    Raises:
        ConfigError: ``components`` is below 1.

    Example:
        >>> head = MixtureHead(16, 5)
        >>> strokes = torch.tensor([[[0.5, 0.0, 1, 0, 0], [0.0, 0.0, 0, 0, 1]]])
        >>> head.loss(torch.zeros(1, 2, 16), strokes, torch.tensor([2])).shape
        torch.Size([])
    """

    def __init__(self, hidden_size: int, components: int = 20, min_std: float = 0.01) -> None:
        super().__init__()
        require(components >= 1, f"model.mixtures must be at least 1, got {components}")
        self.components, self.min_std = components, min_std
        self.projection = nn.Linear(hidden_size, PER_COMPONENT * components + PEN)

    def forward(self, hidden: Tensor) -> tuple[BivariateMixture, Tensor]:
        """The mixture, ``[..., M]``, and ``log q`` of the pen's states, ``[..., 3]``, after ``hidden [..., H]``."""
        raw: Tensor = self.projection(hidden)
        pen = raw[..., -PEN:]
        log_pen = pen.to(torch.promote_types(pen.dtype, torch.float32)).log_softmax(-1)
        return bivariate_mixture(raw[..., :-PEN], self.min_std), log_pen

    def step_losses(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What each step costs, in nats: the move (0 at the end, where there is none), and the pen.

        Args:
            hidden: ``[..., H]``.
            targets: strokes ``[..., 5]``.

        Returns:
            ``[...]`` each.
        """
        mixture, log_pen = self(hidden)
        move = -mixture_log_prob(mixture, targets[..., :2]) * (1 - targets[..., 4])
        return move, -(log_pen * targets[..., 2:]).sum(-1)

    def loss(self, hidden: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        r"""The mean over valid steps of move and pen (Ha and Eck 2017, equation 9), in nats per step.

        The paper divides by a fixed number of steps, and has the pen of padded steps in it; here padding changes
        nothing: a drawing's steps are those up to its end, which counts with the pen alone.

        Args:
            hidden: ``[B, T, H]``.
            targets: strokes ``[B, T, 5]``.
            lengths: int64 ``[B]``, the end counted.

        Returns:
            scalar; 0 where no step is valid.
        """
        valid = sequence_mask(lengths, targets.shape[1])
        move, pen = self.step_losses(hidden[valid], targets[valid])
        return (move + pen).sum() / valid.sum().clamp(min=1)

    def sample(self, hidden: Tensor, temperature: float, uniform: Tensor) -> Tensor:
        """One step of each drawing, a function of numbers drawn before (Ha and Eck 2017, equation 8).

        Args:
            hidden: ``[N, H]``.
            temperature: ``τ``: the logarithms of the weights and of the pen's states are divided by it, and variances
                multiplied.
            uniform: ``[N, 4]`` in ``[0, 1)``.

        Returns:
            strokes ``[N, 5]``; the last step of a drawing does not move.

        Raises:
            ConfigError: a temperature of 0 or less.
        """
        mixture, log_pen = self(hidden)
        moves = draw_points(tempered(mixture, temperature), uniform[:, :3])
        pen = F.one_hot(pick((log_pen / temperature).log_softmax(-1), uniform[:, 3]), PEN).to(moves.dtype)
        return torch.cat([moves.masked_fill(pen[:, 2:] == 1, 0.0), pen], 1)

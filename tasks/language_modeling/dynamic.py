"""Dynamic evaluation: the network goes on learning from the text that it is tested on, segment by segment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.errors import require
from lightning_rnn.training.carry import Carry
from lightning_rnn.types import Nest, SequenceBatch

from .losses import token_losses
from .network import LanguageModelNetwork

Rule = Literal["sgd", "rms"]
Segment = tuple[Tensor, Tensor, Tensor]  # inputs, targets, lengths


@dataclass(frozen=True)
class DynamicOptions:
    """Of dynamic evaluation.

    Attributes:
        rate: of learning; 0: none.
        rule: ``sgd``; or ``rms``, which divides each gradient by its usual size in training.
        steps: of a segment, after which the weights change.
        decay: share of the way back to the trained weights at each change.
        epsilon: what ``rms`` adds to the usual size.

    Raises:
        ConfigError: one is out of range.
    """

    rate: float = 0.0
    rule: Rule = "rms"
    steps: int = 5
    decay: float = 0.0
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        require(self.rate >= 0, f"dynamic_rate is {self.rate}: give 0 (none) or more")
        require(self.rule in get_args(Rule), f"dynamic_rule must be sgd or rms, got {self.rule!r}")
        require(self.steps >= 1, f"dynamic_steps is {self.steps}: give 1 or more")
        require(0 <= self.decay <= 1, f"dynamic_decay is {self.decay}: give 0 to 1")
        require(self.epsilon > 0, f"dynamic_epsilon is {self.epsilon}: give more than 0")


class Learner:
    r"""Changes a network after each segment (Krause et al. 2018, arXiv 1709.07432, sections 3 and 4).

    .. math::
        \theta \leftarrow \theta - \eta \frac{\nabla L}{\sqrt{G} + \epsilon} + \lambda R (\theta_g - \theta),\quad
        R = \min\Big(\frac{\sqrt{G}}{\mathrm{mean} \sqrt{G}}, \frac{1}{\lambda}\Big)

    with the trained weights :math:`\theta_g` and the mean squared gradients ``G`` of training (equations 5 to 7); for
    ``sgd`` the denominator and ``R`` are 1. ``L`` is the mean loss of a segment's tokens; the mean of
    :math:`\sqrt{G}` is over all weights.

    Args:
        network: whose weights change.
        options: see there.
        squares: ``G`` of each parameter, see :func:`mean_squares`; None with ``sgd``.
    """

    def __init__(self, network: nn.Module, options: DynamicOptions, squares: Sequence[Tensor] | None = None) -> None:
        self.parameters, self.options = list(network.parameters()), options
        self.trained = [parameter.detach().clone() for parameter in self.parameters]
        if squares is None:
            self.scale: list[Tensor | float] = [1.0] * len(self.trained)
            self.back: list[Tensor | float] = [options.decay] * len(self.trained)
            return
        roots = [square.sqrt() for square in squares]
        mean = sum(float(root.sum()) for root in roots) / sum(root.numel() for root in roots)
        self.scale = [1 / (root + options.epsilon) for root in roots]
        self.back = [(options.decay * root / max(mean, 1e-30)).clamp(max=1) for root in roots]

    def learn(self, loss: Tensor) -> None:
        """Change the weights by the gradient of a loss."""
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient, scale, back, trained in zip(
                self.parameters, gradients, self.scale, self.back, self.trained, strict=True
            ):
                change = back * (trained - parameter)
                if gradient is not None:
                    change = change - self.options.rate * gradient * scale
                parameter.add_(change)


@contextmanager
def learning(device: torch.device) -> Iterator[None]:
    """Gradients within `test`, in the precision of the weights: autocast would go on with copies of the old ones."""
    native = torch.backends.cudnn.flags(enabled=False) if device.type == "cuda" else nullcontext()  # no cuDNN in eval
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False), native:
        yield


def segments(batch: SequenceBatch, steps: int | None) -> Iterator[Segment]:
    """A batch in segments of so many steps, None: in one: inputs, target tokens and lengths.

    Example:
        >>> batch = SequenceBatch(torch.arange(10).view(2, 5), {"tokens": torch.arange(1, 11).view(2, 5)})
        >>> [(inputs.shape[1], lengths.tolist()) for inputs, _, lengths in segments(batch, 3)]
        [(3, [3, 3]), (2, [2, 2])]
    """
    assert isinstance(batch.targets, dict)
    inputs, targets = batch.inputs.clone(), batch.targets["tokens"].clone()  # what test gave cannot have gradients
    total = inputs.shape[1]
    lengths = torch.full_like(inputs[:, 0], total) if batch.lengths is None else batch.lengths.clone()
    for start in range(0, total, steps or max(total, 1)):
        stop = min(start + steps if steps else total, total)
        yield inputs[:, start:stop], targets[:, start:stop], (lengths - start).clamp(0, stop - start)


def mean_squares(network: LanguageModelNetwork, batches: Iterable[SequenceBatch], steps: int) -> list[Tensor]:
    """The mean squared gradient of each parameter over segments of training batches, in eval mode (equation 4).

    Args:
        network: the trained one.
        batches: of the training stream, as training has them.
        steps: of a segment.
    """
    parameters, carry, count = list(network.parameters()), Carry(), 0
    with learning(parameters[0].device):
        squares = [torch.zeros_like(parameter) for parameter in parameters]
        for batch in batches:
            state: Nest = carry.take(batch)
            for inputs, targets, lengths in segments(batch, steps):
                output = network(inputs, state, lengths)
                losses = token_losses(network.head, output.hidden, targets)
                gradients = torch.autograd.grad(mean_loss(losses, lengths), parameters, allow_unused=True)
                for square, gradient in zip(squares, gradients, strict=True):
                    square += 0 if gradient is None else gradient.square()
                state, count = pytree.tree_map(Tensor.detach, output.state), count + 1
            carry.keep(state)
    return [square / max(count, 1) for square in squares]


def mean_loss(losses: Tensor, lengths: Tensor) -> Tensor:
    """Of ``[B, T]`` over the valid steps; 0 where there is none."""
    return losses.sum() / lengths.sum().clamp(min=1)

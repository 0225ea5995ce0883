"""What a network that draws has to beat: the same distribution at every step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

Values = npt.NDArray[np.float64]


def constant_losses(train: Sequence[Tensor], held_out: Sequence[Tensor], components: int = 20) -> dict[str, float]:
    """Nats per step of held-out drawings, as :meth:`.mixture.MixtureHead.loss` counts them.

    Args:
        train: scaled strokes, ``[T, 5]`` each, that everything is estimated from.
        held_out: the same.
        components: of the mixture.

    Returns:
        ``one Gaussian`` for all moves, with the pen's frequencies; ``mixture of Gaussians``, as many as given, with the
        frequencies of the pen's states after each of its states.

    Example:
        >>> import torch
        >>> rows = [torch.tensor([[1.0, 0, 1, 0, 0], [-1, 1, 0, 1, 0], [0, 0, 0, 0, 1]])] * 5
        >>> sorted(constant_losses(rows, rows, 1))
        ['mixture of Gaussians', 'one Gaussian']
    """
    moves, own = _moves(train), _moves(held_out)
    steps = sum(map(len, held_out))
    plain, after = _pen_costs(train, held_out)
    return {
        "one Gaussian": (plain - _log_likelihood(moves, own, 1)) / steps,
        "mixture of Gaussians": (after - _log_likelihood(moves, own, components)) / steps,
    }


def _moves(drawings: Sequence[Tensor]) -> Values:
    return np.concatenate([drawing[drawing[:, 4] == 0, :2].double().numpy() for drawing in drawings])


def _log_likelihood(train: Values, held_out: Values, components: int) -> float:
    """Of held-out moves, in nats, under Gaussians fitted by expectation maximization to 100,000 moves at most."""
    from sklearn.mixture import GaussianMixture  # late: scikit-learn is slow to import

    some = train[np.random.default_rng(0).permutation(len(train))[:100_000]]
    model = GaussianMixture(components, random_state=0, reg_covar=1e-4, max_iter=50, tol=1e-2)
    return float(model.fit(some).score_samples(held_out).sum())


def _pen_costs(train: Sequence[Tensor], held_out: Sequence[Tensor]) -> tuple[float, float]:
    """Nats of the held-out pen's states: by their frequencies, and by those after each state; each counts one more."""
    counts, own = _pen_counts(train), _pen_counts(held_out)
    alike = (counts.sum(0) + 1) / (counts.sum() + 3)
    after = (counts + 1) / (counts + 1).sum(1, keepdims=True)
    return -float((own.sum(0) * np.log(alike)).sum()), -float((own * np.log(after)).sum())


def _pen_counts(drawings: Sequence[Tensor]) -> Values:
    """How often each state of the pen follows each, ``[3, 3]``; it is on the paper before the first step."""
    counts = np.zeros((3, 3))
    for drawing in drawings:
        states = drawing[:, 2:].argmax(1).numpy()
        np.add.at(counts, (np.concatenate([[0], states[:-1]]), states), 1)
    return counts

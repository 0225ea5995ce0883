r"""Strings that a trained predictor writes, symbol by symbol.

The network puts out scores :math:`z` of every symbol and of the end. Where it learned what followed (``observed``), it
has a law, and the next one is drawn from :math:`\mathrm{softmax}(z / \tau)`. Where it learned what may follow
(``legal``), it has none: drawn is in proportion to :math:`\sigma(z)^{1/\tau}`, among all with
:math:`\sigma(z) > 1/2` and in any case the highest, so nearly uniformly where it is sure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from lightning_rnn.errors import ConfigError, require
from lightning_rnn.types import Nest

from .module import GrammarModel
from .objectives import Predict, Supervision
from .spec import START

AT_ONCE = 1024  # strings


class Generated(NamedTuple):
    """A string, whether the network ended it (else it was cut), and the logarithm of the probability it was drawn with.

    The probability is that of the symbols, and of the end where there is one, at the temperature asked for.
    """

    string: str
    finished: bool
    log_probability: float


def law(scores: Tensor, supervision: Supervision, temperature: float = 1.0) -> Tensor:
    """Logarithm of the probability with which each symbol and the end are drawn next.

    Args:
        scores: ``[..., V + 1]``, of a predictor.
        supervision: what it learned from, see the module.
        temperature: above 0; 1 is the network's own law, near 0 always the highest score is drawn.

    Returns:
        the same shape; minus infinity where nothing is drawn.

    Example:
        >>> law(torch.tensor([9.0, -9.0, 9.0]), "legal").exp()
        tensor([0.5000, 0.0000, 0.5000])
        >>> law(torch.tensor([0.0, 2.0]), "observed", temperature=0.5).exp()
        tensor([0.0180, 0.9820])
    """
    if supervision == "legal":
        illegal = (scores <= 0) & (scores < scores.amax(-1, keepdim=True))
        scores = F.logsigmoid(scores).masked_fill(illegal, -torch.inf)
    return (scores / temperature).log_softmax(-1)


def rows_of(state: Nest, rows: Tensor) -> Nest:
    """The state ``[B, ...]`` of some rows (bool ``[B]``) alone."""
    return pytree.tree_map_only(Tensor, lambda one: one[rows], state)


@dataclass(frozen=True)
class Generator:
    """Samples strings from a trained predictor, see the module for the law they are drawn by.

    Attributes:
        model: with ``objective="predict"``.

    Raises:
        ConfigError: the model is an acceptor or solves a problem, or it is not yet built.

    Example:
        >>> from .spec import GrammarSpec
        >>> model = GrammarModel(objective="predict", hidden_size=4)
        >>> model.spec = GrammarSpec("two letters", "ab", symbols=3, outputs=3)
        >>> model.configure_model()
        >>> found = Generator(model).sample(100, longest=5, seed=1)
        >>> len(found), max(len(one.string) for one in found), {len(one.string) for one in found if not one.finished}
        (100, 5, {5})
    """

    model: GrammarModel

    def __post_init__(self) -> None:
        if self.model.spec is None or not isinstance(self.model.objective, Predict):
            raise ConfigError(
                "only a trained network with model.objective=predict writes strings: train one, or load its checkpoint"
            )

    @torch.no_grad()
    def sample(self, count: int, temperature: float = 1.0, longest: int = 1000, seed: int = 0) -> list[Generated]:
        """Draw strings.

        Args:
            count: how many.
            temperature: above 0, see :func:`law`.
            longest: symbols of a string at most; one that has not ended by then is cut, and not ``finished``.
            seed: the same one gives the same strings, for the same count.

        Raises:
            ConfigError: one of them is out of range.
        """
        require(count >= 0, f"count must be at least 0, got {count}")
        require(temperature > 0 and math.isfinite(temperature), f"temperature must be above 0, got {temperature}")
        require(longest >= 0, f"longest must be at least 0, got {longest}")
        self.model.eval()
        rng = torch.Generator().manual_seed(seed)
        sizes = [min(AT_ONCE, count - start) for start in range(0, count, AT_ONCE)]
        return [one for rows in sizes for one in self._batch(rows, temperature, longest, rng)]

    def _batch(self, rows: int, temperature: float, longest: int, rng: torch.Generator) -> list[Generated]:
        alphabet, drawn = self._alphabet, [list[str]() for _ in range(rows)]
        finished, total = torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.float64)
        for open_rows, symbols, logs in self._steps(rows, temperature, longest, rng):
            ended = symbols == len(alphabet)
            finished[open_rows] = ended
            total[open_rows] += logs
            for row, symbol in zip(open_rows[~ended].tolist(), symbols[~ended].tolist(), strict=True):
                drawn[row].append(alphabet[symbol])
        whole = zip(drawn, finished.tolist(), total.tolist(), strict=True)
        return [Generated("".join(symbols), *others) for symbols, *others in whole]

    def _steps(
        self, rows: int, temperature: float, longest: int, rng: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of each step: the rows that have not ended, what follows in them, and the logarithms of its probability."""
        objective, network = self.model.objective, self.model.network
        assert isinstance(objective, Predict)
        ids, state, left = torch.full((rows,), START), None, torch.arange(rows)
        for place in range(longest + 1):
            scores, state = network(ids.unsqueeze(1).to(self.model.device), state=state)
            logs = law(scores[:, 0].double(), objective.supervision, temperature).cpu()
            symbols = torch.multinomial(logs.exp(), 1, generator=rng)
            going_on = symbols[:, 0] < len(self._alphabet)
            may = ~going_on if place == longest else torch.ones_like(going_on)  # no symbol past the longest
            yield left[may], symbols[may, 0], logs.gather(1, symbols)[may, 0]
            if not going_on.any():
                return
            ids, left = symbols[going_on, 0] + 1, left[going_on]
            state = rows_of(state, going_on.to(self.model.device))

    @property
    def _alphabet(self) -> str:
        spec = self.model.spec
        assert spec is not None
        return spec.alphabet

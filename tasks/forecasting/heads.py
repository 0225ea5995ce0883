"""The table of heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_rnn.errors import ConfigError

from .distributions import Family, Mixture, NegativeBinomial, Normal, Objective, StudentT
from .head import Head, Point, PointObjective
from .quantile_heads import ImplicitQuantiles, Monotone, Quantiles


@dataclass(frozen=True)
class HeadOptions:
    """What heads are made with; each takes what it has.

    Attributes:
        levels: of ``quantile``.
        monotone: how quantiles are kept from crossing.
        point_objective: of ``point``.
        objective: of ``normal`` and ``student_t``.
        components: of ``mixture``.
        family: of ``mixture``'s components.
        features: of ``iqn``.
    """

    levels: Sequence[float] = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
    monotone: Monotone = "cumulative"
    point_objective: PointObjective = "mae"
    objective: Objective = "nll"
    components: int = 3
    family: Family = "normal"
    features: int = 32


HEADS: dict[str, Callable[[HeadOptions], Head]] = {
    "point": lambda options: Point(options.point_objective),
    "quantile": lambda options: Quantiles(options.levels, options.monotone),
    "normal": lambda options: Normal(options.objective),
    "student_t": lambda options: StudentT(options.objective),
    "negative_binomial": lambda options: NegativeBinomial(),
    "mixture": lambda options: Mixture(options.components, options.family),
    "iqn": lambda options: ImplicitQuantiles(options.features),
}


def build_head(name: str, options: HeadOptions) -> Head:
    """The head of this name.

    Raises:
        ConfigError: there is none.

    Example:
        >>> build_head("mixture", HeadOptions(components=2)).size
        6
    """
    if name not in HEADS:
        raise ConfigError(f"no head {name!r}: take one of {', '.join(HEADS)}")
    return HEADS[name](options)

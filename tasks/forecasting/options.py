"""The forecaster's options: what they must be, said before anything is built, and as the network takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from lightning_rnn.errors import require
from lightning_rnn.training.module import check_probability

from .heads import HEADS, HeadOptions
from .losses import SERIES_LOSSES
from .network import NetworkOptions
from .scaling import SCALINGS

COUNTS = ("hidden_size", "num_layers", "segment", "static_size", "samples", "members")
LISTS = ("lookbacks", "dilations", "lags")


def check_options(given: Mapping[str, Any]) -> None:
    """Whether the arguments of :class:`tasks.forecasting.Forecaster` are in range, and go with each other.

    Raises:
        ConfigError: one is not; names it.

    Example:
        >>> counts = dict.fromkeys([*COUNTS, *LISTS]) | {"members": 0}
        >>> check_options(counts | {"head": "point", "scale": "std", "loss": "head", "log": False, "dropout": 0.0})
        Traceback (most recent call last):
        lightning_rnn.errors.ConfigError: model.members must be at least 1, got 0
    """
    pairs = [(name, given[name]) for name in COUNTS] + [(name, one) for name in LISTS for one in given[name] or []]
    for name, value in pairs:
        require(value is None or value >= 1, f"model.{name} must be at least 1, got {value}")
    head, loss = given["head"], given["loss"]
    for name, table in (("head", [*HEADS]), ("scale", [*SCALINGS]), ("loss", ["head", *SERIES_LOSSES])):
        chosen = given[name] in table or (name == "scale" and given[name] is None)
        require(chosen, f"model.{name} must be one of {', '.join(table)}, got {given[name]!r}")
    require(head == "point" or loss == "head", f"model.loss={loss} is of a point forecast: use the head point")
    counted = given["scale"] in (None, "none", "mean") and not given["log"]
    require(
        head != "negative_binomial" or counted,
        "model.head=negative_binomial is of counts, which are scaled alone: set model.log=false, and model.scale=mean "
        "or none",
    )
    check_probability("model.dropout", given["dropout"])
    lags = given["lags"] or []
    require(not lags or given["decode"] == "recursive", "model.lags is of decode=recursive: leave it out, or take that")
    require(1 not in lags, "model.lags has 1, and the value one step before enters anyway: leave it out")
    require(len(set(lags)) == len(lags), f"model.lags has one twice: {lags}")
    levels = given["levels"] or []
    require(all(0 < level < 1 for level in levels), f"model.levels must be between 0 and 1, got {levels}")
    require(head != "quantile" or given["levels"] != [], "model.levels is empty: head=quantile needs some")
    require(len(set(levels)) == len(levels), f"model.levels has one twice: {levels}")


def network_options(given: Mapping[str, Any], levels: Sequence[float]) -> NetworkOptions:
    """The arguments of :class:`tasks.forecasting.Forecaster` that shape the network.

    Args:
        given: all of them.
        levels: of the quantiles, ascending.
    """
    heads = {one.name: given[one.name] for one in fields(HeadOptions) if one.name in given}
    own = {one.name: given[one.name] for one in fields(NetworkOptions) if one.name in given}
    own["skip"] = given["decode"] != "recursive" if given["skip"] is None else given["skip"]
    own["scale"] = given["scale"] or ("mean" if given["head"] == "negative_binomial" else "std")  # counts stay counts
    return NetworkOptions(**own, head_options=HeadOptions(**{**heads, "levels": tuple(levels)}))

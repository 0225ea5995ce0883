"""Output heads by name, for options and configurations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.adaptive import AdaptiveHead
from lightning_rnn.seq2seq.output import FullHead, OutputHead
from lightning_rnn.seq2seq.sampled_head import SampledHead

HeadKind = Literal["full", "sampled", "nce", "adaptive"]


class Head(NamedTuple):
    """One row of the table: how a kind is made, and the options that it has beside those of all."""

    build: Callable[..., OutputHead]
    options: frozenset[str]


HEADS: dict[str, Head] = {
    "full": Head(FullHead, frozenset()),
    "sampled": Head(partial(SampledHead, method="sampled"), frozenset({"candidates", "frequencies"})),
    "nce": Head(partial(SampledHead, method="nce"), frozenset({"candidates", "frequencies"})),
    "adaptive": Head(AdaptiveHead, frozenset({"cutoffs"})),
}


def build_head(
    kind: HeadKind,
    hidden_size: int,
    vocab_size: int,
    *,
    embedding: nn.Embedding | None = None,
    bias: bool = True,
    candidates: int | None = None,
    frequencies: Tensor | None = None,
    cutoffs: Sequence[int] | None = None,
) -> OutputHead:
    """An output head of any kind; pad, id 0, does not count.

    Args:
        kind: ``full``; ``sampled`` or ``nce``, :class:`SampledHead`; ``adaptive``, :class:`AdaptiveHead`.
        hidden_size: features of a hidden state, ``H``.
        vocab_size: number of words, ``V``.
        embedding: shares its vectors, see :class:`LinearHead`; not with ``adaptive``.
        bias: whether there is a bias.
        candidates: of ``sampled`` and ``nce``: words drawn for a batch; None: 512, at most ``V``.
        frequencies: of ``sampled`` and ``nce``: how often each word occurs, ``[V]``; None: ids are in that order.
        cutoffs: of ``adaptive``: first ids of the clusters; None: chosen from ``V``.

    Raises:
        ConfigError: there is no such kind, an option is given to a kind that does not have it, or does not fit.

    Example:
        >>> build_head("full", 24, 100)
        FullHead(
          24, 100
          (projection): Identity()
        )
        >>> build_head("full", 24, 100, cutoffs=[50])
        Traceback (most recent call last):
            ...
        lightning_rnn.errors.ConfigError: the output head full has no cutoffs: leave it out, or use adaptive
    """
    if kind not in HEADS:
        raise ConfigError(f"no output head is called {kind!r}: use {', '.join(HEADS)}")
    given: dict[str, Any] = {"candidates": candidates, "frequencies": frequencies, "cutoffs": cutoffs}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in HEADS[kind].options:
            others = [other for other, head in HEADS.items() if name in head.options]
            raise ConfigError(f"the output head {kind} has no {name}: leave it out, or use {' or '.join(others)}")
    if "candidates" in HEADS[kind].options:
        given.setdefault("candidates", min(512, vocab_size))
    return HEADS[kind].build(hidden_size, vocab_size, embedding=embedding, bias=bias, **given)

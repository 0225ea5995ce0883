"""Every kind of attention by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.attention_base import Attention as Attention
from lightning_rnn.seq2seq.attention_base import AttentionOutput as AttentionOutput
from lightning_rnn.seq2seq.attention_base import Memory as Memory
from lightning_rnn.seq2seq.attention_base import masked_softmax as masked_softmax
from lightning_rnn.seq2seq.attention_located import LocatedAttention as LocatedAttention
from lightning_rnn.seq2seq.attention_located import coverage_loss as coverage_loss
from lightning_rnn.seq2seq.attention_softmax import SoftmaxAttention as SoftmaxAttention
from lightning_rnn.seq2seq.energies import AdditiveEnergy, ConcatEnergy, DotEnergy, Energy, GeneralEnergy
from lightning_rnn.seq2seq.monotonic import MonotonicAttention as MonotonicAttention
from lightning_rnn.seq2seq.monotonic import MonotonicMode

AttentionKind = Literal[
    "dot",
    "scaled_dot",
    "general",
    "scaled_general",
    "concat",
    "bahdanau",
    "normed_bahdanau",
    "location",
    "coverage",
    "bahdanau_monotonic",
    "luong_monotonic",
]


@dataclass(frozen=True)
class AttentionOptions:
    """What some kinds let one choose; the others do not look at it.

    Attributes:
        mode: of the monotonic kinds, while training.
        eval_mode: of the monotonic kinds, in evaluation.
        noise: of the monotonic kinds, while training.
        bias: of the monotonic kinds, added to the energies at the start.
        filters: of ``location``.
        width: of ``location``, steps that its convolution sees.
    """

    mode: MonotonicMode = "parallel"
    eval_mode: MonotonicMode = "parallel"
    noise: float = 0.0
    bias: float = -1.0
    filters: int = 10
    width: int = 31


def _energy(kind: str, query: int, memory: int, size: int | None) -> Energy:
    return ENERGIES[kind](query, memory) if kind in UNSIZED else ENERGIES[kind](query, memory, size)


def _softmax(kind: str, query: int, memory: int, size: int | None, options: AttentionOptions) -> Attention:
    return SoftmaxAttention(query, memory, _energy(kind, query, memory, size))


def _monotonic(kind: str, query: int, memory: int, size: int | None, options: AttentionOptions) -> Attention:
    energy = _energy(kind, query, memory, size)
    return MonotonicAttention(query, memory, energy, options.mode, options.eval_mode, options.noise, options.bias)


def _location(kind: str, query: int, memory: int, size: int | None, options: AttentionOptions) -> Attention:
    return LocatedAttention(query, memory, size, filters=options.filters, width=options.width)


def _coverage(kind: str, query: int, memory: int, size: int | None, options: AttentionOptions) -> Attention:
    return LocatedAttention(query, memory, size, looked="cumulated", filters=0, width=1)


ENERGIES: dict[str, Callable[..., Energy]] = {
    "dot": DotEnergy,
    "scaled_dot": partial(DotEnergy, scaled=True),
    "general": GeneralEnergy,
    "scaled_general": partial(GeneralEnergy, scaled=True),
    "concat": ConcatEnergy,
    "bahdanau": AdditiveEnergy,
    "normed_bahdanau": partial(AdditiveEnergy, normed=True, bias=True),
    "bahdanau_monotonic": partial(AdditiveEnergy, normed=True, bias=True),
    "luong_monotonic": partial(GeneralEnergy, scaled=True),
}
UNSIZED = ("general", "scaled_general", "luong_monotonic")  # keys are as wide as queries
ATTENTIONS: dict[AttentionKind, Callable[[str, int, int, int | None, AttentionOptions], Attention]] = {
    "dot": _softmax,
    "scaled_dot": _softmax,
    "general": _softmax,
    "scaled_general": _softmax,
    "concat": _softmax,
    "bahdanau": _softmax,
    "normed_bahdanau": _softmax,
    "location": _location,
    "coverage": _coverage,
    "bahdanau_monotonic": _monotonic,
    "luong_monotonic": _monotonic,
}


def build_attention(
    kind: AttentionKind,
    query_size: int,
    memory_size: int,
    size: int | None = None,
    options: AttentionOptions | None = None,
) -> Attention:
    """Attention of a kind.

    Args:
        kind: ``dot``, ``scaled_dot`` (:class:`~.energies.DotEnergy`), ``general``, ``scaled_general``
            (:class:`~.energies.GeneralEnergy`), ``concat`` (:class:`~.energies.ConcatEnergy`), ``bahdanau``,
            ``normed_bahdanau`` (:class:`~.energies.AdditiveEnergy`), all under a softmax; ``location``
            (:class:`LocatedAttention`); ``coverage``, the same over the sum of all earlier weights without a
            convolution (See et al. 2017, arXiv 1704.04368, eq. 11); ``bahdanau_monotonic`` and ``luong_monotonic``
            (:class:`~.monotonic.MonotonicAttention`).
        query_size: features of a query, ``Q``.
        memory_size: features of a value of the memory, ``M``.
        size: features inside; None: Q. Of ``dot`` and ``scaled_dot``: queries and values are projected to so many;
            None: not.
        options: see :class:`AttentionOptions`.

    Raises:
        ConfigError: there is no such kind, the kind has no size to choose, or ``dot`` without a size is given a memory
            of another size than the query's.

    Example:
        >>> import torch
        >>> attention = build_attention("general", 5, 6)
        >>> memory = attention.remember(torch.randn(2, 7, 6), lengths=torch.tensor([7, 3]))
        >>> attention(torch.randn(4, 5), memory).context.shape  # two rows for each sentence
        torch.Size([4, 6])
    """
    if kind not in ATTENTIONS:
        raise ConfigError(f"no attention is called {kind!r}: use {', '.join(ATTENTIONS)}")
    if kind in UNSIZED and size is not None:
        raise ConfigError(f"attention {kind} has no size to choose, got {size}: leave it out, or use bahdanau")
    if kind in ("dot", "scaled_dot") and size is None and query_size != memory_size:
        raise ConfigError(
            f"attention {kind} compares queries of {query_size} features with a memory of {memory_size}: "
            "set a size to project both to, or use general"
        )
    return ATTENTIONS[kind](kind, query_size, memory_size, size, options or AttentionOptions())

"""The network: an embedding, recurrent layers with the dropouts of AWD-LSTM around them, an output head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnn.errors import require
from lightning_rnn.layers import LockedDropout, Regularization, WordDropout
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.layers.table import LAYERS, CellName, recurrent
from lightning_rnn.seq2seq.heads import HeadKind, build_head
from lightning_rnn.seq2seq.output import OutputHead

from .spec import LanguageSpec

EMBEDDING_BOUND = 0.1  # Zaremba et al. 2014, section 4.1, and Merity et al. 2018, section 5


@dataclass(frozen=True)
class NetworkOptions:
    """The arguments of :class:`LanguageModel` that shape the network; see there."""

    cell: CellName = "lstm"
    embedding_size: int = 200
    hidden_size: int = 200
    num_layers: int = 2
    last_size: int | None = None
    tied: bool = True
    scale_embedding: bool = False
    head: HeadKind = "full"
    candidates: int | None = None
    cutoffs: Sequence[int] | None = None
    embedding_dropout: float = 0.0
    input_dropout: float = 0.0
    layer_dropout: float = 0.0
    output_dropout: float = 0.0
    weight_dropout: float = 0.0
    locked: bool = True
    initializer: Initializer | None = None
    engine: Engine = "auto"

    def sizes(self) -> list[int]:
        """Units of each layer, the last one's those of the embedding where that is tied and nothing else was asked."""
        last = self.last_size or (self.embedding_size if self.tied else self.hidden_size)
        return [self.hidden_size] * (self.num_layers - 1) + [last]


class LanguageOutput(NamedTuple):
    """What the recurrent layers give for a batch.

    Attributes:
        hidden: the last layer's outputs after dropout, ``[B, T, H]``: what the head reads.
        state: of every layer in order, where the next chunk goes on.
        raw: the last layer's outputs before dropout, ``[B, T, H]``.
    """

    hidden: Tensor
    state: tuple[Any, ...]
    raw: Tensor


class LanguageModelNetwork(nn.Module):
    """Tokens → hidden states, and a head that says which token comes next.

    Args:
        spec: the data it is for.
        options: its shape.

    Example:
        >>> from lightning_rnn.data.tokenizer import train_tokenizer
        >>> spec = LanguageSpec.of(train_tokenizer(["a rose is a rose"], "words"))
        >>> network = LanguageModelNetwork(spec, NetworkOptions(hidden_size=8, embedding_size=4)).eval()
        >>> tokens = torch.tensor([[3, 4, 5, 6]])
        >>> whole = network(tokens)
        >>> first = network(tokens[:, :2])
        >>> rest = network(tokens[:, 2:], first.state)
        >>> torch.allclose(rest.hidden, whole.hidden[:, 2:], atol=1e-6)
        True
        >>> network.head.log_probs(whole.hidden).shape
        torch.Size([1, 4, 7])
    """

    head: OutputHead

    def __init__(self, spec: LanguageSpec, options: NetworkOptions) -> None:
        super().__init__()
        sizes = options.sizes()
        self.scale = options.embedding_size**0.5 if options.scale_embedding else 1.0
        self.embedding = nn.Embedding(spec.vocab_size, options.embedding_size)
        nn.init.uniform_(self.embedding.weight, -EMBEDDING_BOUND, EMBEDDING_BOUND)
        self.word_dropout = WordDropout(options.embedding_dropout)
        self.input_dropout = _dropout(options, options.input_dropout)
        self.between = _dropout(options, options.layer_dropout)
        self.output_dropout = _dropout(options, options.output_dropout)
        widths = [options.embedding_size, *sizes]
        self.layers = nn.ModuleList(_layer(options, widths[i], size) for i, size in enumerate(sizes))
        self.head = build_head(
            options.head,
            sizes[-1],
            spec.vocab_size,
            embedding=self.embedding if options.tied else None,
            candidates=options.candidates,
            frequencies=_frequencies(spec) if options.head in ("sampled", "nce") else None,
            cutoffs=options.cutoffs,
        )

    def forward(
        self, tokens: Tensor, state: Sequence[Any] | None = None, lengths: Tensor | None = None
    ) -> LanguageOutput:
        """Run over a batch.

        Args:
            tokens: int64 ``[B, T]``.
            state: where to go on from, in layer order; None: zeros.
            lengths: int64 ``[B]``, valid steps of each row; None: all.
        """
        x = self.word_dropout(self.scale * self.embedding(tokens), tokens, self.embedding.num_embeddings)
        x = self.input_dropout(x)
        states = []
        for i, layer in enumerate(self.layers):
            x = self.between(x) if i else x
            output = layer(x, None if state is None else state[i], lengths=lengths)
            x = output.sequence
            states.append(output.state)
        return LanguageOutput(self.output_dropout(x), tuple(states), x)


def _dropout(options: NetworkOptions, share: float) -> nn.Module:
    return LockedDropout(share) if options.locked else nn.Dropout(share)


def _layer(options: NetworkOptions, input_size: int, size: int) -> SequenceLayer:
    if options.cell not in LAYERS:
        plain = not options.weight_dropout and options.engine == "auto"
        require(
            plain,
            f"the cell {options.cell} has no weight_dropout or engine to choose: leave them out, or use "
            f"{', '.join(LAYERS)}",
        )
        return recurrent(options.cell, input_size, size, initializer=options.initializer)
    return LAYERS[options.cell](
        input_size,
        size,
        initializer=options.initializer or "torch",
        regularization=Regularization(weight_dropout=options.weight_dropout),
        engine=options.engine,
    )


def _frequencies(spec: LanguageSpec) -> Tensor:
    """How often each token was there; every one is drawn now and then."""
    return torch.tensor(spec.counts or [1] * spec.vocab_size, dtype=torch.float32).clamp(min=1)

"""The network: embeddings, an encoder, a decoder that attends to it or not, and an output head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError, require
from lightning_rnn.layers import RecurrentLayer
from lightning_rnn.layers.embedding import small_embedding
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.table import CellName
from lightning_rnn.seq2seq.attention import AttentionKind
from lightning_rnn.seq2seq.bridges import BridgeKind
from lightning_rnn.seq2seq.decoders import DecoderKind, DecoderOptions, Encoded, EncoderSizes, build_decoder
from lightning_rnn.seq2seq.heads import HeadKind, build_head
from lightning_rnn.seq2seq.schedules import mix
from lightning_rnn.seq2seq.step import StepOutput
from lightning_rnn.training.module import check_probability
from lightning_rnn.training.vectors import start_embedding
from lightning_rnn.types import Nest

from .encoder import Encoder
from .text import Codec

Tying = Literal["none", "embeddings", "output", "all"]
PROJECTED = ("dot", "scaled_dot")  # attention whose two sides are made of one size


@dataclass(frozen=True)
class NetworkOptions:
    """The translator's arguments that shape the network; see :class:`Translator` for each.

    Raises:
        ConfigError: a size or a share is out of its range.
    """

    cell: CellName = "lstm"
    embedding_size: int = 64
    hidden_size: int = 64
    bidirectional: bool = True
    encoder_layers: int = 1
    decoder: DecoderKind = "gnmt"
    decoder_layers: int = 2
    attention: AttentionKind = "scaled_dot"
    bridge: BridgeKind = "dense"
    residual: bool = False
    tying: Tying = "none"
    deep_output: bool = True
    head: HeadKind = "full"
    candidates: int | None = None
    embedding_dropout: float = 0.0
    layer_dropout: float = 0.0
    dropout: float = 0.0
    initializer: Initializer | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        for name in ("embedding_size", "hidden_size", "encoder_layers", "decoder_layers"):
            size = getattr(self, name)
            require(size >= 1, f"model.{name} must be at least 1, got {size}")
        for name in ("embedding_dropout", "layer_dropout", "dropout"):
            check_probability(f"model.{name}", getattr(self, name))

    def of_decoder(self) -> DecoderOptions:
        """Those of the decoder."""
        return DecoderOptions(
            cell=self.cell,
            hidden_size=self.hidden_size,
            num_layers=self.decoder_layers,
            dropout=self.layer_dropout,
            output_dropout=self.dropout,
            residual=self.residual,
            attention=self.attention,
            attention_size=self.hidden_size if self.attention in PROJECTED else None,
            bridge=self.bridge,
            readout_size=self.embedding_size if self.deep_output else None,
            initializer=self.initializer,
        )


class TranslationNetwork(nn.Module):
    """Translates token ids into token ids; runs without Lightning.

    Args:
        source_size: tokens of the source vocabulary.
        target_size: tokens of the target vocabulary.
        options: see :class:`NetworkOptions`.

    Attributes:
        attends: whether the decoder looks at the source by attention.

    Raises:
        ConfigError: the options do not go together, or embeddings are to be shared by two vocabularies.

    Example:
        >>> network = TranslationNetwork(20, 30, NetworkOptions(embedding_size=8, hidden_size=6)).eval()
        >>> source, lengths = torch.tensor([[4, 5, 3], [6, 3, 0]]), torch.tensor([3, 2])
        >>> network(source, lengths, torch.tensor([[2, 7], [2, 8]])).shape
        torch.Size([2, 2, 8])
    """

    def __init__(self, source_size: int, target_size: int, options: NetworkOptions) -> None:
        super().__init__()
        o, width = options, options.embedding_size
        if o.tying in ("embeddings", "all") and source_size != target_size:
            raise ConfigError(
                f"model.tying={o.tying} shares one embedding, but there are {source_size} source tokens and "
                f"{target_size} target tokens: set data.joint true, or model.tying output or none"
            )
        if (o.decoder, o.bridge) == ("none", "zero"):
            raise ConfigError("model.decoder none knows the source by the bridge alone: model.bridge must not be zero")
        self.attends = o.decoder != "none"
        self.target_embedding = small_embedding(target_size, width)
        shared = o.tying in ("embeddings", "all")
        self.source_embedding = self.target_embedding if shared else small_embedding(source_size, width)
        self.embedding_dropout = nn.Dropout(o.embedding_dropout)
        self.encoder = Encoder(
            o.cell, width, o.hidden_size, o.encoder_layers, o.bidirectional, o.layer_dropout, o.initializer
        )
        sizes = EncoderSizes(o.hidden_size, o.encoder_layers, o.bidirectional)
        self.decoder = build_decoder(o.decoder, width, sizes, o.of_decoder())
        tied = self.target_embedding if o.tying in ("output", "all") else None
        self.head = build_head(o.head, self.decoder.output_size, target_size, embedding=tied, candidates=o.candidates)
        for layer in self.modules():
            if isinstance(layer, RecurrentLayer):
                layer.engine = o.engine

    def start_from(self, codec: Codec, source: str | None, target: str | None) -> None:
        """Give the embeddings the vectors that files have for the tokens; None leaves an embedding as it is.

        Raises:
            ConfigError: vectors of another size than the embeddings.
            DataError: a file cannot be read, or has none of the tokens.
        """
        sides = (self.source_embedding, codec.source, source), (self.target_embedding, codec.target, target)
        for vectors, tokenizer, path in sides:
            if path is not None:
                start_embedding(vectors, path, tokenizer.pieces)

    def encode(self, source: Tensor, lengths: Tensor) -> Encoded:
        """The source, read.

        Args:
            source: token ids int64 ``[B, S]``.
            lengths: int64 ``[B]``.
        """
        sequence, state = self.encoder(self.embedding_dropout(self.source_embedding(source)), lengths)
        return Encoded(sequence, state, lengths)

    def begin(self, source: Tensor, lengths: Tensor) -> tuple[Nest, Nest]:
        """The state before the first word and the constants, for :meth:`decode_step`; leaves ``[B, ...]``."""
        return self.decoder.start(self.encode(source, lengths))

    def forward(self, source: Tensor, lengths: Tensor, words: Tensor, forced: float = 1.0) -> Tensor:
        """What the head is given at each step, ``[B, T, E]``.

        Args:
            source: token ids int64 ``[B, S]``.
            lengths: int64 ``[B]``.
            words: the word before each step, int64 ``[B, T]``; the first is ``<go>``.
            forced: share of ``words`` that are read; in place of the others the network reads what it writes itself
                (Bengio et al. 2015, section 2.4), step by step.
        """
        state, constants = self.begin(source, lengths)
        if forced < 1:
            return self._write(state, constants, words, forced)
        sequence: Tensor = self.decoder(self._embed(words), state, constants).sequence
        return sequence

    def _embed(self, words: Tensor) -> Tensor:
        x: Tensor = self.embedding_dropout(self.target_embedding(words))
        return x

    def _write(self, state: Nest, constants: Nest, words: Tensor, forced: float) -> Tensor:
        """As :meth:`forward`, step by step, the network's most probable word in place of some."""
        outputs: list[Tensor] = []
        for time in range(words.shape[1]):
            word = words[:, time]
            if time:
                with torch.no_grad():
                    word = mix(word, self.head.log_probs(outputs[-1]).argmax(1), forced)
            output, _, state = self.decoder.step(self._embed(word), state, constants)
            outputs.append(output)
        return torch.stack(outputs, 1)

    def decode_step(self, tokens: Tensor, state: Nest, constants: Nest) -> StepOutput:
        """One step: a :class:`~lightning_rnn.seq2seq.step.DecodeStep`."""
        output, alignment, state = self.decoder.step(self._embed(tokens), state, constants)
        return StepOutput(self.head.log_probs(output), state, alignment)

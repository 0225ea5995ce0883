"""The network: a condition that enters recurrent layers as their first state, at every step, or both; a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.data.tokenizer import BOS
from lightning_rnn.errors import require
from lightning_rnn.layers.conditioned_cells import SCLSTMCell, SCLSTMState, reading_loss
from lightning_rnn.layers.embedding import small_embedding
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.options import TimeOptions
from lightning_rnn.layers.rnn import RNN
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.layers.table import CellName, recurrent
from lightning_rnn.seq2seq.output import FullHead
from lightning_rnn.seq2seq.step import StepOutput, repeat_rows
from lightning_rnn.types import Nest

from .encoders import EncoderKind, build_encoder
from .spec import STROKE, GenerationSpec

Entry = Literal["state", "input", "both"]
GeneratorCell = Literal["sc_lstm"] | CellName


@dataclass(frozen=True)
class NetworkOptions:
    """The generator's arguments that shape the network; see :class:`.module.Generator` for each."""

    cell: GeneratorCell = "gru"
    embedding_size: int = 32
    hidden_size: int = 64
    num_layers: int = 1
    encoder: EncoderKind = "dense"
    encoder_size: int = 32
    image_channels: Sequence[int] = (16, 32)
    condition: Entry = "both"
    embedding_dropout: float = 0.0
    dropout: float = 0.0
    mixtures: int = 20
    alpha: float = 0.5
    reading_bias: float = 0.0
    keep_first: bool = False
    peek: bool = False
    eta: float = 1e-4
    xi: float = 100.0
    initializer: Initializer | None = None

    def __post_init__(self) -> None:
        cells = ("sc_lstm", *get_args(CellName))
        for name, value, known in (
            ("cell", self.cell, cells),
            ("encoder", self.encoder, get_args(EncoderKind)),
            ("condition", self.condition, get_args(Entry)),
        ):
            require(value in known, f"model.{name} is {value!r}: use {', '.join(known)}")
        for name, asked in (("keep_first", self.keep_first), ("peek", self.peek)):
            require(not asked or self.cell == "sc_lstm", f"model.{name} is of model.cell sc_lstm, not of {self.cell}")
        require(self.eta >= 0, f"model.eta must not be negative, got {self.eta}")
        require(self.xi > 0, f"model.xi must be more than 0, got {self.xi}")


class Run(NamedTuple):
    """What teacher forcing gives.

    Attributes:
        hidden: what the head is given, ``[B, T, H]``.
        reading: what the condition costs, see :func:`~lightning_rnn.layers.conditioned_cells.reading_loss`, ``[B]``;
            None without ``sc_lstm``.
    """

    hidden: Tensor
    reading: Tensor | None


class GeneratorNetwork(nn.Module):
    """Condition → what the head is given at each step; runs without Lightning.

    Args:
        spec: of the data.
        options: see :class:`NetworkOptions`.

    Raises:
        ConfigError: the options do not go together, or with the data.

    Example:
        >>> spec = GenerationSpec(condition_size=3, vocabulary=["<pad>", "<unk>", "<s>", "</s>", "a"])
        >>> network = GeneratorNetwork(spec, NetworkOptions(hidden_size=6))
        >>> network(torch.eye(3)[:2], torch.tensor([[2, 4], [2, 4]])).hidden.shape
        torch.Size([2, 2, 6])
    """

    def __init__(self, spec: GenerationSpec, options: NetworkOptions) -> None:
        super().__init__()
        o = options
        self.entry, self.strokes = o.condition, spec.kind == "strokes"
        self.encoder = build_encoder(o.encoder, spec, o.encoder_size, o.image_channels)
        size: int = self.encoder.output_size  # type: ignore[assignment]  # every encoder has one
        self.embedding = None if self.strokes else small_embedding(len(spec.vocabulary), o.embedding_size)
        self.embedding_dropout, self.dropout = nn.Dropout(o.embedding_dropout), nn.Dropout(o.dropout)
        width = (STROKE if self.strokes else o.embedding_size) + (size if o.condition != "state" else 0)
        self.reads, self.eta, self.xi = o.cell == "sc_lstm", o.eta, o.xi
        self.rnn = reader(spec, o, width, size) if o.cell == "sc_lstm" else layers(o.cell, o, width)
        self.bridge = None
        if not self.reads and o.condition != "input":
            sizes = [leaf.shape[-1] for leaf in pytree.tree_leaves(self.rnn.initial_state(1))]
            self.bridge = nn.Linear(size, sum(sizes))
        self.head = build_head(spec, o)

    def begin(self, conditions: Tensor) -> tuple[Nest, Tensor]:
        """The state before the first step, and the encoded conditions ``[B, E]``.

        Args:
            conditions: float ``[B, C]``.
        """
        encoded: Tensor = self.encoder(conditions)
        empty = pytree.tree_map(lambda leaf: leaf.to(encoded.dtype), self.rnn.initial_state(len(conditions)))
        if self.reads:
            return SCLSTMState(empty.h, empty.c, encoded), encoded
        if self.bridge is None:
            return empty, encoded
        leaves, tree = pytree.tree_flatten(empty)
        parts = self.bridge(encoded).tanh().split([leaf.shape[-1] for leaf in leaves], dim=-1)
        return pytree.tree_unflatten([part.contiguous() for part in parts], tree), encoded

    def forward(self, conditions: Tensor, previous: Tensor, lengths: Tensor | None = None) -> Run:
        """Teacher forcing.

        Args:
            conditions: float ``[B, C]``.
            previous: what was written before each step (:func:`~lightning_rnn.seq2seq.losses.shifted`, beginning with
                :attr:`GenerationSpec.first`): ids ``[B, T]`` or strokes ``[B, T, 5]``.
            lengths: steps that count, ``[B]``; needed for ``reading`` alone.
        """
        state, encoded = self.begin(conditions)
        output = self.rnn(self._inputs(previous, encoded), state, lengths=lengths if self.reads else None)
        reading = None
        if self.reads:
            kept = self.rnn.cell.kept  # type: ignore[union-attr]  # of an SCLSTMCell
            left = output.all_states.d[..., kept:]
            reading = reading_loss(encoded[:, kept:], left, lengths, self.eta, self.xi)
        return Run(self.dropout(output.sequence), reading)

    @torch.no_grad()
    def left_to_say(self, conditions: Tensor, previous: Tensor) -> Tensor | None:
        """What is left of the condition before each step and after the last, ``[B, T + 1, S]``; None but with sc_lstm.

        Args:
            conditions: float ``[B, C]``.
            previous: ids ``[B, T]``, see :meth:`forward`.
        """
        if not self.reads:
            return None
        state, encoded = self.begin(conditions)
        left: Tensor = self.rnn(self._inputs(previous, encoded), state).all_states.d
        return torch.cat([encoded.unsqueeze(1), left], 1)

    def _inputs(self, previous: Tensor, encoded: Tensor) -> Tensor:
        x: Tensor = self.embedding_dropout(previous if self.embedding is None else self.embedding(previous))
        if self.entry == "state":
            return x
        return torch.cat([x, encoded.unsqueeze(1).expand(-1, x.shape[1], -1)], dim=-1)

    def advance(self, previous: Tensor, state: Nest, encoded: Tensor) -> tuple[Tensor, Nest]:
        """One step: what the head is given, ``[N, H]``, and the state.

        Args:
            previous: what was written last: ids ``[N]``, or strokes ``[N, 5]``.
            state: leaves ``[N, ...]``.
            encoded: of :meth:`begin`, ``[B, E]``; the ``N / B`` rows of each are adjacent.
        """
        encoded = repeat_rows(encoded, len(previous) // max(len(encoded), 1))
        output = self.rnn(self._inputs(previous.unsqueeze(1), encoded), state)
        return self.dropout(output.sequence[:, -1]), output.state

    def decode_step(self, tokens: Tensor, state: Nest, constants: Nest) -> StepOutput:
        """One step of text: a :class:`~lightning_rnn.seq2seq.step.DecodeStep`; never an unknown token."""
        assert isinstance(self.head, FullHead)
        hidden, state = self.advance(tokens, state, constants)
        log_probs = self.head.log_probs(hidden).clone()
        log_probs[:, :BOS + 1] = -torch.inf  # fmt: skip  # padding, the unknown, the beginning
        return StepOutput(log_probs, state)


def build_head(spec: GenerationSpec, options: NetworkOptions) -> nn.Module:
    """What makes tokens or strokes of hidden states."""
    if spec.kind == "tokens":
        return FullHead(options.hidden_size, len(spec.vocabulary))
    from .mixture import MixtureHead  # late: of strokes alone

    return MixtureHead(options.hidden_size, options.mixtures)


def layers(cell: CellName, options: NetworkOptions, width: int) -> SequenceLayer:
    """Layers of the table of cells."""
    return recurrent(cell, width, options.hidden_size, options.num_layers, initializer=options.initializer)


def reader(spec: GenerationSpec, options: NetworkOptions, width: int, size: int) -> RNN:
    """The layer of SC-LSTM cells, whose states are kept for the loss of reading.

    Raises:
        ConfigError: an option that this cell does not have.
    """
    require(options.num_layers == 1, f"model.cell sc_lstm has one layer, model.num_layers is {options.num_layers}")
    require(options.initializer is None, "model.cell sc_lstm has no model.initializer: leave it out")
    require(
        not options.keep_first or options.encoder == "identity",
        "model.keep_first is for entries of the condition itself: it needs model.encoder identity",
    )
    kept = int(spec.extra.get("kept", 0)) if options.keep_first else 0
    cell = SCLSTMCell(
        width,
        options.hidden_size,
        size,
        alpha=options.alpha,
        reading_bias=options.reading_bias,
        kept=kept,
        peek=options.peek,
    )
    return RNN(cell, time_options=TimeOptions(return_all_states=True))

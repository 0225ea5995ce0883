"""Decoders whose layers run over all steps at once under teacher forcing: without attention, or with it in between."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_rnn.layers.table import recurrent
from lightning_rnn.seq2seq.attention import AttentionOutput, Memory, build_attention
from lightning_rnn.seq2seq.bridges import Encoded, EncoderSizes, build_bridge
from lightning_rnn.seq2seq.decoder_base import Decoder, DecoderOptions, DecoderOutput, Readout
from lightning_rnn.seq2seq.layered import advance
from lightning_rnn.types import Nest


def _layers(sizes: list[int], options: DecoderOptions) -> nn.ModuleList:
    return nn.ModuleList(
        recurrent(options.cell, size, options.hidden_size, initializer=options.initializer) for size in sizes
    )


class PlainDecoder(Decoder):
    """Layers that know the source by their first state alone (Sutskever et al. 2014, arXiv 1409.3215).

    The state is a tuple of the layers'; there are no constants.

    Args:
        input_size: features of the input, ``D``.
        encoder: what it reads from.
        options: see :class:`DecoderOptions`; ``readout_size`` adds a layer.

    Raises:
        ConfigError: there is no such cell or bridge, or it does not fit.

    Example:
        >>> decoder = PlainDecoder(3, EncoderSizes(5), DecoderOptions("gru", 5, bridge="copy"))
        >>> state, constants = decoder.start(Encoded(torch.zeros(2, 7, 5), torch.ones(2, 5)))
        >>> decoder(torch.zeros(2, 4, 3), state, constants).sequence.shape
        torch.Size([2, 4, 5])
    """

    def __init__(self, input_size: int, encoder: EncoderSizes, options: DecoderOptions) -> None:
        hidden, deep = options.hidden_size, options.readout_size
        layers = _layers([input_size, *[hidden] * (options.num_layers - 1)], options)
        template = tuple(layer.initial_state(1) for layer in layers)  # type: ignore[operator]
        super().__init__(deep or hidden, build_bridge(options.bridge, encoder, template), options.output_dropout)
        self.layers, self.residual = layers, options.residual
        self.dropout = nn.Dropout(options.dropout)
        self.readout = Readout([hidden], deep) if deep else None

    def start(self, encoded: Encoded) -> tuple[Nest, Nest]:
        rows = len(encoded.sequence)
        initial = tuple(layer.initial_state(rows) for layer in self.layers)  # type: ignore[operator]
        return self.bridge(encoded, initial), ()

    def forward(self, x: Tensor, state: Nest, constants: Nest, *, lengths: Tensor | None = None) -> DecoderOutput:
        sequence, state = self._advance(x, state, lengths)
        return DecoderOutput(sequence, None, state)

    def step(self, x: Tensor, state: Nest, constants: Nest) -> tuple[Tensor, Tensor | None, Nest]:
        output, state = self._advance(x, state, None)
        return output, None, state

    def _advance(self, x: Tensor, state: Nest, lengths: Tensor | None) -> tuple[Tensor, Nest]:
        news = []
        for i, (layer, old) in enumerate(zip(self.layers, state, strict=True)):
            entering = self.dropout(x) if i else x
            x, new = advance(layer, entering, old, lengths)
            x = x + entering if i and self.residual else x
            news.append(new)
        return self.output_dropout(x if self.readout is None else self.readout(x)), tuple(news)


class AttentionDecoder(Decoder):
    r"""Layers with attention between two of them: what is below it queries, what is above it reads ``[h; c]``.

    After the first layer it is GNMT's form (Wu et al. 2016, arXiv 1609.08144, figure 1, with this step's context as
    tensorflow/nmt's ``gnmt_v2``); after the last one Luong's without input feeding (Luong et al. 2015, arXiv
    1508.04025, eq. 5), whose output is :math:`\tanh(W [h; c] + b)`. No step waits for the attention of the one before,
    so teacher forcing has no loop in Python unless the attention carries a state.

    The state is ``(states of the layers, what the attention carries)``, the constants are the :class:`Memory`.

    Args:
        input_size: features of the input, ``D``.
        encoder: what it reads from.
        options: see :class:`DecoderOptions`; a ``readout_size`` adds ``tanh(W [h; c] + b)`` where there is none.
        below: layers below the attention.

    Raises:
        ConfigError: there is no such cell, attention or bridge, or they do not go together.

    Example:
        >>> decoder = AttentionDecoder(3, EncoderSizes(5), DecoderOptions("gru", 6, 2), below=1)
        >>> state, memory = decoder.start(Encoded(torch.randn(2, 7, 5), None))
        >>> decoder(torch.randn(2, 4, 3), state, memory).weights.shape
        torch.Size([2, 4, 7])
    """

    def __init__(self, input_size: int, encoder: EncoderSizes, options: DecoderOptions, below: int) -> None:
        hidden, deep, above = options.hidden_size, options.readout_size, options.num_layers - below
        deep = deep or (None if above else hidden)
        layers = _layers([input_size, *[hidden] * (below - 1), *[hidden + encoder.width] * above], options)
        template = tuple(layer.initial_state(1) for layer in layers)  # type: ignore[operator]
        super().__init__(deep or hidden, build_bridge(options.bridge, encoder, template), options.output_dropout)
        self.layers, self.residual, self.below = layers, options.residual, below
        self.attention = build_attention(
            options.attention, hidden, encoder.width, options.attention_size, options.attention_options
        )
        self.dropout = nn.Dropout(options.dropout)
        self.readout = Readout([hidden, encoder.width], deep) if deep else None

    def start(self, encoded: Encoded) -> tuple[Nest, Nest]:
        rows = len(encoded.sequence)
        memory = self.attention.remember(encoded.sequence, lengths=encoded.lengths)
        initial = tuple(layer.initial_state(rows) for layer in self.layers)  # type: ignore[operator]
        return (self.bridge(encoded, initial), self.attention.initial_state(memory, rows)), memory

    def forward(self, x: Tensor, state: Nest, constants: Nest, *, lengths: Tensor | None = None) -> DecoderOutput:
        return DecoderOutput(*self._advance(x, state, constants, lengths))

    def step(self, x: Tensor, state: Nest, constants: Nest) -> tuple[Tensor, Tensor | None, Nest]:
        return self._advance(x, state, constants, None)

    def _advance(self, x: Tensor, state: Nest, memory: Memory, lengths: Tensor | None) -> tuple[Tensor, Tensor, Nest]:
        olds, carried = state
        news: list[Nest] = []
        for i, (layer, old) in enumerate(zip(self.layers, olds, strict=True)):
            if i == self.below:
                read = self._attend(x, memory, carried)
            entering = self.dropout(x) if i else x
            given = torch.cat([entering, read.context], -1) if i >= self.below else entering
            x, new = advance(layer, given, old, lengths)
            x = x + entering if i and self.residual else x
            news.append(new)
        if self.below == len(self.layers):
            read = self._attend(x, memory, carried)
        output = x if self.readout is None else self.readout(x, read.context)
        return self.output_dropout(output), read.weights, (tuple(news), read.state)

    def _attend(self, query: Tensor, memory: Memory, carried: Nest) -> AttentionOutput:
        if query.ndim == 3:
            return self.attention.attend_all(query, memory, carried)
        read: AttentionOutput = self.attention(query, memory, carried)
        return read


def gnmt_decoder(input_size: int, encoder: EncoderSizes, options: DecoderOptions) -> AttentionDecoder:
    """Attention after the first layer."""
    return AttentionDecoder(input_size, encoder, options, 1)


def luong_decoder(input_size: int, encoder: EncoderSizes, options: DecoderOptions) -> AttentionDecoder:
    """Attention after the last layer."""
    return AttentionDecoder(input_size, encoder, options, options.num_layers)

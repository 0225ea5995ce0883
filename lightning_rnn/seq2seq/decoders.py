"""Every kind of decoder by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.bridges import Encoded as Encoded
from lightning_rnn.seq2seq.bridges import EncoderSizes as EncoderSizes
from lightning_rnn.seq2seq.decoder_base import Decoder as Decoder
from lightning_rnn.seq2seq.decoder_base import DecoderOptions as DecoderOptions
from lightning_rnn.seq2seq.decoder_base import DecoderOutput as DecoderOutput
from lightning_rnn.seq2seq.loop_decoders import BahdanauDecoder as BahdanauDecoder
from lightning_rnn.seq2seq.loop_decoders import InputFeedingDecoder as InputFeedingDecoder
from lightning_rnn.seq2seq.whole_decoders import AttentionDecoder as AttentionDecoder
from lightning_rnn.seq2seq.whole_decoders import PlainDecoder as PlainDecoder
from lightning_rnn.seq2seq.whole_decoders import gnmt_decoder, luong_decoder

DecoderKind = Literal["none", "luong", "input_feeding", "bahdanau", "gnmt"]

DECODERS: dict[DecoderKind, Callable[[int, EncoderSizes, DecoderOptions], Decoder]] = {
    "none": PlainDecoder,
    "luong": luong_decoder,
    "input_feeding": InputFeedingDecoder,
    "bahdanau": BahdanauDecoder,
    "gnmt": gnmt_decoder,
}


def build_decoder(
    kind: DecoderKind, input_size: int, encoder: EncoderSizes, options: DecoderOptions | None = None
) -> Decoder:
    """A decoder of a kind.

    Args:
        kind: ``none``: the encoder's state alone (:class:`PlainDecoder`). ``luong``: attention after the layers,
            ``gnmt``: after the first layer (:class:`AttentionDecoder`); both take teacher forcing without a loop in
            Python. ``input_feeding``: attention after the layers, fed into the next step
            (:class:`InputFeedingDecoder`); ``luong`` is that with the feeding switched off. ``bahdanau``: attention
            before the layers (:class:`BahdanauDecoder`).
        input_size: features of the input, ``D``.
        encoder: what it reads from.
        options: see :class:`DecoderOptions`.

    Raises:
        ConfigError: there is no such kind, cell, attention or bridge, or they do not go together.

    Example:
        >>> import torch
        >>> from lightning_rnn import LSTM
        >>> encoder = LSTM(3, 5, bidirectional=True)
        >>> options = DecoderOptions(hidden_size=6, num_layers=2, attention="general", bridge="dense")
        >>> decoder = build_decoder("gnmt", 3, EncoderSizes(5, bidirectional=True), options)
        >>> lengths = torch.tensor([7, 4])
        >>> sequence, state = encoder(torch.randn(2, 7, 3), lengths=lengths)
        >>> state, memory = decoder.start(Encoded(sequence, state, lengths))
        >>> output = decoder(torch.randn(2, 4, 3), state, memory)
        >>> output.sequence.shape, output.weights.shape
        (torch.Size([2, 4, 6]), torch.Size([2, 4, 7]))
    """
    if kind not in DECODERS:
        raise ConfigError(f"no decoder is called {kind!r}: use {', '.join(DECODERS)}")
    return DECODERS[kind](input_size, encoder, options or DecoderOptions())

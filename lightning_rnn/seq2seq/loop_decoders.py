"""Decoders in which each step waits for the attention of the one before: input feeding, and Bahdanau's."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from lightning_rnn.functional.masks import Valid
from lightning_rnn.functional.scan import Stepper, scan
from lightning_rnn.seq2seq.attention import Attention, build_attention
from lightning_rnn.seq2seq.bridges import Encoded, EncoderSizes, build_bridge
from lightning_rnn.seq2seq.decoder_base import Decoder, DecoderOptions, DecoderOutput, Readout
from lightning_rnn.seq2seq.layered import LayeredCell, build_cell
from lightning_rnn.seq2seq.wrapper import AttendingCell, AttentionState, AttentionWrapper, QueryFirstCell
from lightning_rnn.types import Nest


class LoopDecoder(Decoder):
    """A cell that attends, over time; a subclass says what is read out of its outputs.

    The state is :class:`AttentionState`, the constants are the :class:`Memory`.

    Args:
        cell: attends; wraps the layers.
        layers: the cell of all layers.
        encoder: what it reads from.
        options: see :class:`DecoderOptions`.
    """

    def __init__(
        self, cell: AttendingCell, layers: LayeredCell, encoder: EncoderSizes, options: DecoderOptions
    ) -> None:
        bridge = build_bridge(options.bridge, encoder, layers.initial_state(1))
        super().__init__(options.readout_size or options.hidden_size, bridge, options.output_dropout)
        self.cell = cell

    @abstractmethod
    def read_out(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The decoder's outputs ``[..., O]``, of the cell's and of its inputs ``[..., D]``."""

    def start(self, encoded: Encoded) -> tuple[Nest, Nest]:
        memory = self.cell.attention.remember(encoded.sequence, lengths=encoded.lengths)
        initial = self.cell.initial_state_for(len(encoded.sequence), memory)
        return initial._replace(cell_state=self.bridge(encoded, initial.cell_state)), memory

    def forward(self, x: Tensor, state: Nest, constants: Nest, *, lengths: Tensor | None = None) -> DecoderOutput:
        stepper = _Shown(self.cell.bind_constants(x, len(x), constants))
        ran = scan(stepper, x, state, Valid.of(x.shape[1], lengths, None))
        outputs, weights = ran.outputs
        return DecoderOutput(self.output_dropout(self.read_out(outputs, x)), weights, ran.state)

    def step(self, x: Tensor, state: Nest, constants: Nest) -> tuple[Tensor, Tensor | None, Nest]:
        output, state = self.cell(x, state, constants=constants)
        return self.output_dropout(self.read_out(output, x)), state.alignments, state


@dataclass(frozen=True, eq=False)
class _Shown:
    """A cell whose output is a pair with the weights of the step."""

    inner: Stepper

    def project(self, x: Nest) -> Nest:
        return self.inner.project(x)

    def step(self, projected: Nest, state: AttentionState) -> tuple[Nest, AttentionState]:
        output, new = self.inner.step(projected, state)
        return (output, new.alignments), new


def _attention(encoder: EncoderSizes, options: DecoderOptions) -> Attention:
    return build_attention(
        options.attention, options.hidden_size, encoder.width, options.attention_size, options.attention_options
    )


def _layers(input_size: int, options: DecoderOptions) -> LayeredCell:
    sizes = [input_size, *[options.hidden_size] * (options.num_layers - 1)]
    cells = [build_cell(options.cell, size, options.hidden_size, options.initializer) for size in sizes]
    return LayeredCell(cells, options.dropout, options.residual)


class InputFeedingDecoder(LoopDecoder):
    r"""Attention after the layers, :math:`\tilde h = \tanh(W [h; c])`, fed into the next step beside its input.

    Luong et al. 2015, arXiv 1508.04025, eq. 5 and section 3.3. The output is :math:`\tilde h`.

    Args:
        input_size: features of the input, ``D``.
        encoder: what it reads from.
        options: see :class:`DecoderOptions`.

    Raises:
        ConfigError: there is no such cell, attention or bridge, or they do not go together.

    Example:
        >>> import torch
        >>> decoder = InputFeedingDecoder(3, EncoderSizes(5), DecoderOptions("gru", 6, 2))
        >>> state, memory = decoder.start(Encoded(torch.randn(2, 7, 5), None))
        >>> decoder(torch.randn(2, 4, 3), state, memory).weights.shape
        torch.Size([2, 4, 7])
    """

    def __init__(self, input_size: int, encoder: EncoderSizes, options: DecoderOptions) -> None:
        size = options.readout_size or options.hidden_size
        layers = _layers(input_size + size, options)
        cell = AttentionWrapper(layers, _attention(encoder, options), size, attention_activation="tanh")
        super().__init__(cell, layers, encoder, options)

    def read_out(self, outputs: Tensor, x: Tensor) -> Tensor:
        return outputs


class BahdanauDecoder(LoopDecoder):
    r"""Attention queried by the state before the step; its context c is an input of the step beside x.

    Bahdanau et al. 2015, arXiv 1409.0473, A.1.2 and A.2.2. The output is :math:`\tanh(W [h; c; x] + b)` of the new h,
    as Nematus has it, in the place of the paper's maxout.

    Args:
        input_size: features of the input, ``D``.
        encoder: what it reads from.
        options: see :class:`DecoderOptions`.

    Raises:
        ConfigError: there is no such cell, attention or bridge, or they do not go together.

    Example:
        >>> import torch
        >>> decoder = BahdanauDecoder(3, EncoderSizes(5), DecoderOptions("gru", 6, bridge="mean"))
        >>> state, memory = decoder.start(Encoded(torch.randn(2, 7, 5), None))
        >>> decoder(torch.randn(2, 4, 3), state, memory).sequence.shape
        torch.Size([2, 4, 6])
    """

    def __init__(self, input_size: int, encoder: EncoderSizes, options: DecoderOptions) -> None:
        layers = _layers(input_size + encoder.width, options)
        super().__init__(QueryFirstCell(layers, _attention(encoder, options)), layers, encoder, options)
        self.readout = Readout([options.hidden_size + encoder.width, input_size], self.output_size)

    def read_out(self, outputs: Tensor, x: Tensor) -> Tensor:
        read: Tensor = self.readout(outputs, x)
        return read

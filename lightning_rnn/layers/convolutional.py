"""ConvLSTM and ConvGRU: recurrent layers over images, whose products with the weights are convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from lightning_rnn.functional.options import Activation
from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.config import to_config
from lightning_rnn.layers.convolutional_cells import ConvCell
from lightning_rnn.layers.convolutional_cells import ConvGRUCell as ConvGRUCell
from lightning_rnn.layers.convolutional_cells import ConvLSTMCell as ConvLSTMCell
from lightning_rnn.layers.convolutional_steps import Padding
from lightning_rnn.layers.convolutional_steps import Window as Window
from lightning_rnn.layers.convolutional_steps import conv_gru_step as conv_gru_step
from lightning_rnn.layers.convolutional_steps import conv_lstm_step as conv_lstm_step
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.options import TimeOptions
from lightning_rnn.layers.rnn import RNN
from lightning_rnn.types import Nest


class ConvRNN(RNN):
    """A convolutional cell over time. A subclass names the cell and the number of spatial axes and nothing else.

    Args:
        in_channels: channels of the input, ``C``; None: taken from the first input.
        out_channels: channels of the output, ``F`` (Keras' ``filters``).
        kernel_size: of both convolutions; a number, or one for each spatial axis.
        stride: of the input convolution; the recurrent one always has 1.
        padding: of the input convolution: ``valid`` (none) or ``same``; the recurrent one always has ``same``.
        dilation: of the input convolution; not together with ``stride``.
        bias: whether the input convolution has a bias.
        activation: of the candidate and of the output.
        recurrent_activation: of the gates.
        unit_forget_bias: ConvLSTM: the forget gate's bias starts at 1, else 0.
        dropout: share of the input dropped, a mask for each gate, the same at every step.
        recurrent_dropout: share of the state dropped before the recurrent convolution, likewise.
        reverse: from the last step to the first (Keras' ``go_backwards``); outputs are in the order of processing.
        stateful: the final state is where the next call starts; see :meth:`reset_states`.
        zero_output_for_mask: outputs of masked steps are zero; else they repeat the last valid one.
        time_options: unrolling, checkpoints, axis order, states of all steps.
        engine: ``auto`` or ``scan``; no fused kernel computes these layers.

    ``x`` is ``[B, T, C, *sizes]`` (channels first, where Keras has them last), states are ``[B, F, *places]``. ``cell``
    holds the parameters, see :class:`ConvCell`.
    """

    cell_class: ClassVar[type[ConvCell]]
    dimensions: ClassVar[int]
    cell: ConvCell

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = "valid",
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        unit_forget_bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reverse: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        time_options: TimeOptions | None = None,
        engine: Engine = "auto",
    ) -> None:
        cell = self.cell_class(
            in_channels,
            out_channels,
            kernel_size,
            dimensions=self.dimensions,
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=bias,
            activation=activation,
            recurrent_activation=recurrent_activation,
            unit_forget_bias=unit_forget_bias,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
        )
        super().__init__(
            cell,
            reverse=reverse,
            stateful=stateful,
            zero_output_for_mask=zero_output_for_mask,
            time_options=time_options,
            engine=engine,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data: the cell's and those of time."""
        config = self.cell.get_config()
        del config["dimensions"]  # the class says it
        return config | {
            "reverse": self.reverse,
            "stateful": self.stateful,
            "zero_output_for_mask": self.zero_output_for_mask,
            "time_options": to_config(self.time_options),
            "engine": self.engine,
        }

    def _ready(self, x: Nest, constants: Any = None) -> Stepper:
        if not isinstance(x, Tensor) or x.ndim != self.dimensions + 3:
            got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"{type(self).__name__}: expected x [B, T, C, *sizes], {self.dimensions + 3} axes, got {got}"
            )
        return super()._ready(x, constants)


class ConvLSTM1d(ConvRNN):
    """Convolutional LSTM over series of channels ``[B, T, C, L]``, see :class:`ConvRNN` and :func:`conv_lstm_step`.

    Example:
        >>> import torch
        >>> sequence, (h, c) = ConvLSTM1d(3, 5, 3)(torch.zeros(2, 4, 3, 8))
        >>> sequence.shape, c.shape
        (torch.Size([2, 4, 5, 6]), torch.Size([2, 5, 6]))
    """

    cell_class, dimensions = ConvLSTMCell, 1


class ConvLSTM2d(ConvRNN):
    """Convolutional LSTM over images ``[B, T, C, height, width]``, see :class:`ConvRNN` and :func:`conv_lstm_step`.

    Example:
        >>> import torch
        >>> sequence, (h, c) = ConvLSTM2d(3, 5, 3, padding="same")(torch.zeros(2, 4, 3, 8, 9))
        >>> sequence.shape, c.shape
        (torch.Size([2, 4, 5, 8, 9]), torch.Size([2, 5, 8, 9]))
    """

    cell_class, dimensions = ConvLSTMCell, 2


class ConvLSTM3d(ConvRNN):
    """Convolutional LSTM over volumes ``[B, T, C, depth, height, width]``, see :class:`ConvRNN`.

    Example:
        >>> import torch
        >>> sequence, (h, c) = ConvLSTM3d(3, 5, (1, 2, 2), stride=2)(torch.zeros(2, 4, 3, 5, 6, 6))
        >>> sequence.shape, c.shape
        (torch.Size([2, 4, 5, 3, 3, 3]), torch.Size([2, 5, 3, 3, 3]))
    """

    cell_class, dimensions = ConvLSTMCell, 3


class ConvGRU2d(ConvRNN):
    """Convolutional GRU over images ``[B, T, C, height, width]``, see :class:`ConvRNN` and :func:`conv_gru_step`.

    Example:
        >>> import torch
        >>> sequence, h = ConvGRU2d(3, 5, 3)(torch.zeros(2, 4, 3, 8, 9))
        >>> sequence.shape, h.shape
        (torch.Size([2, 4, 5, 6, 7]), torch.Size([2, 5, 6, 7]))
    """

    cell_class, dimensions = ConvGRUCell, 2

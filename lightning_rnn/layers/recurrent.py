"""SimpleRNN, LSTM and GRU: torch's weights and names, Keras' and TF1's options."""

from __future__ import annotations

from lightning_rnn.layers.recurrent_layer import RecurrentLayer as RecurrentLayer


class SimpleRNN(RecurrentLayer):
    r"""Elman's network, :math:`h_t = \phi(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})`; state ``h [B, H]``.

    Arguments are those of :class:`RecurrentLayer`; weights those of ``torch.nn.RNN``.

    Example:
        >>> import torch
        >>> out = SimpleRNN(28, 150)(torch.zeros(4, 28, 28), lengths=torch.tensor([28, 3, 1, 0]))
        >>> out.last.shape
        torch.Size([4, 150])
    """

    kind = "simple_rnn"


class LSTM(RecurrentLayer):
    """Long short-term memory, :func:`lightning_rnn.functional.lstm_step`; state :class:`LSTMState` ``(h, c)``.

    Arguments are those of :class:`RecurrentLayer`; weights those of ``torch.nn.LSTM``.

    Example:
        >>> import torch
        >>> output, (forward, backward) = LSTM(28, 64, bidirectional=True)(torch.zeros(4, 28, 28))
        >>> output.shape, backward.c.shape
        (torch.Size([4, 28, 128]), torch.Size([4, 64]))
    """

    kind = "lstm"


class GRU(RecurrentLayer):
    """Gated recurrent unit, :func:`lightning_rnn.functional.gru_step`; state ``h [B, H]``.

    Arguments are those of :class:`RecurrentLayer`; weights those of ``torch.nn.GRU``.

    Example:
        >>> import torch
        >>> output, (first, second) = GRU(28, 64, num_layers=2)(torch.zeros(4, 28, 28))
        >>> second.shape
        torch.Size([4, 64])
    """

    kind = "gru"

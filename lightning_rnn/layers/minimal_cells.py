"""minLSTM and minGRU: gates that do not see the state, so all steps run at once."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.matrix_cell import MatrixCell
from lightning_rnn.layers.options import TimeOptions
from lightning_rnn.layers.rnn import RNN
from lightning_rnn.types import Nest


def positive_candidate(x: Tensor) -> Tensor:
    """``g(x)``: ``x + 1/2`` from 0 on, ``sigmoid(x)`` below: positive and increasing (arXiv 2410.01201, appendix B).

    Example:
        >>> positive_candidate(torch.tensor([0.0, 2.0])).tolist()
        [0.5, 2.5]
    """
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


class MinimalCell(MatrixCell):
    """What the two cells share: ``h' = a h + b``, a and b of the input alone; a subclass gives :meth:`coefficients`.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        bias: whether there is a bias vector.
        positive: candidates pass :func:`positive_candidate`, as in the paper's form in log space; False: as they are.
    """

    def __init__(self, input_size: int | None, hidden_size: int, *, bias: bool = True, positive: bool = True) -> None:
        super().__init__(hidden_size, bias)
        self.positive = positive
        self.build(input_size)

    def parameter_shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        return {"weight_ih": (self.gates * self.hidden_size, input_size)}

    def candidate(self, x: Tensor) -> Tensor:
        """What may enter the state."""
        return positive_candidate(x) if self.positive else x

    @abstractmethod
    def coefficients(self, projected: Nest) -> tuple[Tensor, Tensor]:
        """``a`` and ``b``, of one step ``[B, H]`` or of all ``[B, T, H]``."""

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, Tensor]:
        a, b = self.coefficients(projected)
        h = a * state + b
        return h, h


class MinGRUCell(MinimalCell):
    r"""minGRU (Feng et al. 2024, arXiv 2410.01201, section 3.1).

    :math:`z = \sigma(W_z x + b_z),\ \tilde h = g(W_h x + b_h),\ h' = (1 - z) h + z \tilde h`; arguments as
    :class:`MinimalCell`, blocks in the order z, h. The state is ``h [B, H]``.

    Example:
        >>> output, h = MinGRUCell(3, 5)(torch.zeros(2, 3))
        >>> h.shape
        torch.Size([2, 5])
    """

    gates = 2

    def coefficients(self, projected: Nest) -> tuple[Tensor, Tensor]:
        z, h = projected.chunk(2, dim=-1)
        return torch.sigmoid(-z), torch.sigmoid(z) * self.candidate(h)


class MinLSTMCell(MinimalCell):
    r"""minLSTM (Feng et al. 2024, arXiv 2410.01201, section 3.2).

    :math:`i = \sigma(W_i x + b_i),\ f = \sigma(W_f x + b_f),\ \tilde h = g(W_h x + b_h)`,
    :math:`h' = (f h + i \tilde h) / (f + i)`; arguments as :class:`MinimalCell`, blocks in the order i, f, h. The state
    is ``h [B, H]``.

    Example:
        >>> output, h = MinLSTMCell(3, 5)(torch.zeros(2, 3))
        >>> h.shape
        torch.Size([2, 5])
    """

    gates = 3

    def coefficients(self, projected: Nest) -> tuple[Tensor, Tensor]:
        i, f, h = projected.chunk(3, dim=-1)
        ratio = F.logsigmoid(f) - F.logsigmoid(i)  # f / (f + i) = sigmoid(log(f / i)), safe where both vanish
        return torch.sigmoid(ratio), torch.sigmoid(-ratio) * self.candidate(h)


class MinimalLayer(RNN):
    """A minimal cell over time: :class:`RNN` of it, as one parallel scan (engine ``parallel``) instead of a loop.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        bias: whether there is a bias vector.
        positive: as in :class:`MinimalCell`.
        reverse: from the last step to the first; outputs are in the order of processing.
        stateful: the final state is where the next call starts.
        zero_output_for_mask: outputs of masked steps are zero; else they repeat the last valid one.
        time_options: checkpoints, axis order, states of all steps; ``unroll`` asks for the loop.
        engine: ``auto``, ``parallel`` or ``scan``; anything but auto raises rather than fall back.
    """

    kind: ClassVar[type[MinimalCell]]

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        *,
        bias: bool = True,
        positive: bool = True,
        reverse: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        time_options: TimeOptions | None = None,
        engine: Engine = "auto",
    ) -> None:
        super().__init__(
            self.kind(input_size, hidden_size, bias=bias, positive=positive),
            reverse=reverse,
            stateful=stateful,
            zero_output_for_mask=zero_output_for_mask,
            time_options=time_options,
            engine=engine,
        )
        self.hidden_size, self.bias, self.positive = hidden_size, bias, positive

    @property
    def input_size(self) -> int | None:
        """Features of the input, once known."""
        return self.cell.input_size  # type: ignore[return-value]


class MinGRU(MinimalLayer):
    """:class:`MinGRUCell` over time in one parallel scan.

    Example:
        >>> output, h = MinGRU(3, 5)(torch.zeros(2, 7, 3), lengths=torch.tensor([7, 4]))
        >>> output.shape, h.shape
        (torch.Size([2, 7, 5]), torch.Size([2, 5]))
    """

    kind = MinGRUCell


class MinLSTM(MinimalLayer):
    """:class:`MinLSTMCell` over time in one parallel scan.

    Example:
        >>> output, h = MinLSTM(3, 5)(torch.zeros(2, 7, 3), lengths=torch.tensor([7, 4]))
        >>> output.shape, h.shape
        (torch.Size([2, 7, 5]), torch.Size([2, 5]))
    """

    kind = MinLSTMCell

"""A cell that attends to a memory at every step: around any cell, for :class:`lightning_rnn.layers.RNN`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnn.functional.options import Activation
from lightning_rnn.functional.options import activation as function_of
from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cell import ConditionalCell
from lightning_rnn.layers.cells import ready
from lightning_rnn.layers.wrapper import CellWrapper
from lightning_rnn.seq2seq.attention_base import Attention, Memory
from lightning_rnn.seq2seq.feeding import Alone, Feeder, Made, feeder
from lightning_rnn.seq2seq.layered import first_of
from lightning_rnn.seq2seq.states import output_of
from lightning_rnn.types import Nest

CellInput = Literal["concat", "input"] | Callable[[Tensor, Tensor], Tensor]


class AttentionState(NamedTuple):
    """State of a cell that attends.

    Attributes:
        cell_state: the wrapped cell's.
        attention: what is fed to the next step, ``[N, A]``.
        alignments: weights of the last step, ``[N, S]``; zeros before the first.
        attention_state: what the kind of attention carries, leaves ``[N, ...]``.
    """

    cell_state: Nest
    attention: Tensor
    alignments: Tensor
    attention_state: Nest


class AttendingCell(CellWrapper, ConditionalCell):
    """What cells share that attend: the memory is their constant.

    Args:
        cell: what is wrapped.
        attention: reads the memory.
        fed_size: features that are fed into the cell beside its input; None: what the cell sees is not known.

    Raises:
        ValueError: sizes do not fit, or ``fed_size`` is None and the cell has no size yet.
    """

    def __init__(self, cell: Any, attention: Attention, fed_size: int | None) -> None:
        super().__init__(cell)
        self.attention, self.fed_size = attention, fed_size
        inside = getattr(cell, "input_size", None)
        if fed_size is None and inside is None:
            raise ValueError(f"{type(self).__name__}: {type(cell).__name__} needs its input_size")
        self.build(inside - fed_size if isinstance(inside, int) and fed_size is not None else None)

    def size_of(self, x: Nest) -> Any:
        return x.shape[-1]

    def create(self, input_size: int) -> None:
        """Sizes the wrapped cell."""
        if self.fed_size is not None:
            self._size_cell(input_size + self.fed_size)

    def initial_state(self, batch: int) -> Nest:
        return ConditionalCell.initial_state(self, batch)

    def initial_state_for(self, batch: int, constants: Nest) -> AttentionState:
        """The state before the first step of ``batch`` rows: the cell's own, nothing read yet.

        Another state of the cell: ``initial_state_for(batch, memory)._replace(cell_state=...)``.
        """
        memory = self._memory(constants)
        return AttentionState(
            self.cell.initial_state(batch),  # type: ignore[operator]
            memory.values.new_zeros(batch, self.attention_size),
            memory.values.new_zeros(batch, memory.values.shape[1]),
            self.attention.initial_state(memory, batch),
        )

    @property
    def attention_size(self) -> int:
        """Features of ``AttentionState.attention``."""
        return self.attention.memory_size

    def _memory(self, constants: Nest) -> Memory:
        if not isinstance(constants, Memory):
            raise ValueError(
                f"{type(self).__name__}: constants must be the Memory that attention.remember(values) makes, "
                f"got {type(constants).__name__}"
            )
        return constants


class AttentionWrapper(AttendingCell):
    r"""Attention after a cell, fed back into its next step: input feeding.

    :math:`y, s' = \mathrm{cell}([x; a], s)`, context c read from the memory by the query y, and
    :math:`a' = \phi(W [y; c])`, which is fed into the next step (Luong et al. 2015, arXiv 1508.04025, section 3.3);
    without ``attention_layer_size`` :math:`a' = c`. TF1's and Addons' ``AttentionWrapper``. The memory is the constant
    of :class:`~lightning_rnn.layers.RNN`; the state is :class:`AttentionState`. With
    ``TimeOptions(return_all_states=True)`` the alignments of all steps are ``all_states.alignments``, ``[B, T, S]``.

    Args:
        cell: a :class:`~lightning_rnn.layers.Cell` or what serves as one; its output is the query.
        attention: from :func:`~lightning_rnn.seq2seq.build_attention`.
        attention_layer_size: features of a; None: a is the context.
        cell_input: ``concat``: the cell sees ``[x; a]``; ``input``: x alone; or a function of x and a.
        output_attention: the output is :math:`a'`; False: the cell's y.
        attention_activation: :math:`\phi`.

    Raises:
        ValueError: ``cell_input`` is unknown, or sizes do not fit.

    Example:
        >>> from lightning_rnn.layers import RNN, LSTMCell, TimeOptions
        >>> from lightning_rnn.seq2seq.attention import build_attention
        >>> attention = build_attention("bahdanau", query_size=5, memory_size=6)
        >>> cell = AttentionWrapper(LSTMCell(None, 5), attention, attention_layer_size=4)
        >>> decoder = RNN(cell, time_options=TimeOptions(return_all_states=True))
        >>> memory = attention.remember(torch.randn(2, 9, 6), lengths=torch.tensor([9, 4]))
        >>> output = decoder(torch.randn(2, 7, 3), constants=memory)
        >>> output.sequence.shape, output.all_states.alignments.shape
        (torch.Size([2, 7, 4]), torch.Size([2, 7, 9]))
    """

    def __init__(
        self,
        cell: Any,
        attention: Attention,
        attention_layer_size: int | None = None,
        cell_input: CellInput = "concat",
        output_attention: bool = True,
        attention_activation: Activation = "linear",
    ) -> None:
        if not callable(cell_input) and cell_input not in ("concat", "input"):
            raise ValueError(f"AttentionWrapper: cell_input must be concat, input or a function, got {cell_input!r}")
        function_of(attention_activation)  # refuses unknown names
        size = attention_layer_size or attention.memory_size
        super().__init__(cell, attention, None if callable(cell_input) else size if cell_input == "concat" else 0)
        self.attention_layer_size, self.cell_input = attention_layer_size, cell_input
        self.output_attention, self.attention_activation = output_attention, attention_activation
        both = attention.query_size + attention.memory_size
        self.attention_layer = nn.Linear(both, attention_layer_size, bias=False) if attention_layer_size else None

    @property
    def attention_size(self) -> int:
        return self.attention_layer_size or self.attention.memory_size

    @property
    def output_size(self) -> Any:
        """Features of the output."""
        return self.attention_size if self.output_attention else super().output_size

    def bind_constants(self, x: Nest, batch: int, constants: Nest) -> Stepper:
        inner = ready(self.cell, x, batch)
        feed: Feeder = Made(inner, self.cell_input) if callable(self.cell_input) else Alone(inner)
        if self.fed_size:
            feed = feeder(first_of(inner), x.shape[-1])
        return _Attending(self, inner, feed, self._memory(constants))

    def attend(self, output: Tensor, context: Tensor) -> Tensor:
        """What is fed on, ``[N, A]``, of the cell's output and the context."""
        if self.attention_layer is None:
            return context
        attended: Tensor = self.attention_layer(torch.cat([output, context], -1))
        return function_of(self.attention_activation)(attended)


@dataclass(frozen=True, eq=False)
class _Attending:
    cell: AttentionWrapper
    inner: Stepper
    feed: Feeder
    memory: Memory

    def project(self, x: Nest) -> Nest:
        return self.feed.project(x)

    def step(self, projected: Nest, state: AttentionState) -> tuple[Nest, AttentionState]:
        output, cell_state = self.inner.step(self.feed.join(projected, state.attention), state.cell_state)
        read = self.cell.attention(output, self.memory, state.attention_state)
        attended = self.cell.attend(output, read.context)
        new = AttentionState(cell_state, attended, read.weights, read.state)
        return attended if self.cell.output_attention else output, new


class QueryFirstCell(AttendingCell):
    r"""Attention before a cell: what it reads enters the same step (Bahdanau et al. 2015, arXiv 1409.0473, A.1.2).

    Context c read from the memory by the output that the state s holds, then :math:`y, s' = \mathrm{cell}([x; c], s)`;
    the output is ``[y; c]``. The state is :class:`AttentionState`, its ``attention`` the context.

    Args:
        cell: a :class:`~lightning_rnn.layers.Cell` or what serves as one; of stacked ones the top output is the query.
        attention: from :func:`~lightning_rnn.seq2seq.build_attention`.

    Example:
        >>> from lightning_rnn.layers import RNN, GRUCell
        >>> from lightning_rnn.seq2seq.attention import build_attention
        >>> attention = build_attention("bahdanau", query_size=5, memory_size=6)
        >>> decoder = RNN(QueryFirstCell(GRUCell(None, 5), attention))
        >>> decoder(torch.randn(2, 7, 3), constants=attention.remember(torch.randn(2, 9, 6))).sequence.shape
        torch.Size([2, 7, 11])
    """

    def __init__(self, cell: Any, attention: Attention) -> None:
        super().__init__(cell, attention, attention.memory_size)

    @property
    def output_size(self) -> Any:
        """Features of the output."""
        return self.attention.query_size + self.attention.memory_size

    def bind_constants(self, x: Nest, batch: int, constants: Nest) -> Stepper:
        inner = ready(self.cell, x, batch)
        return _QueryingFirst(self, inner, feeder(first_of(inner), x.shape[-1]), self._memory(constants))


@dataclass(frozen=True, eq=False)
class _QueryingFirst:
    cell: QueryFirstCell
    inner: Stepper
    feed: Feeder
    memory: Memory

    def project(self, x: Nest) -> Nest:
        return self.feed.project(x)

    def step(self, projected: Nest, state: AttentionState) -> tuple[Nest, AttentionState]:
        context, weights, carried = self.cell.attention(output_of(state.cell_state), self.memory, state.attention_state)
        output, cell_state = self.inner.step(self.feed.join(projected, context), state.cell_state)
        return torch.cat([output, context], -1), AttentionState(cell_state, context, weights, carried)

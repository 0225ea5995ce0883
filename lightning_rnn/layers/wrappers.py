"""What stands around a cell: dropout, shortcuts, projections, an embedding, a device. TF1's cell wrappers.

A wrapper is a cell itself, so wrappers nest, stack (:class:`StackedCells`) and run over time (:class:`RNN`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from lightning_rnn.functional.options import Activation
from lightning_rnn.functional.options import activation as function_of
from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cell import Cell, first_tensor
from lightning_rnn.layers.cells import check_cell, ready
from lightning_rnn.types import LSTMState, Nest


def same(x: Nest) -> Nest:
    """The identity."""
    return x


@dataclass(frozen=True, eq=False)
class Around:
    """A cell made ready for one call, and what happens before and after each step of it.

    Attributes:
        inner: the wrapped cell.
        enter: from the wrapper's input to the cell's, for a step ``[B, ...]`` or all of them ``[B, T, ...]``.
        beside: what ``leave`` needs of the input beside the cell's output, for a step or all of them.
        leave: from the cell's output, and what ``beside`` gave, to the wrapper's output.
        take: from the state given to the cell's.
        keep: from the cell's new state to the one handed on.
    """

    inner: Stepper
    enter: Callable[[Nest], Nest] = same
    beside: Callable[[Nest], Nest] = lambda x: ()
    leave: Callable[[Nest, Nest], Nest] = lambda output, beside: output
    take: Callable[[Nest], Nest] = same
    keep: Callable[[Nest], Nest] = same

    def project(self, x: Nest) -> Nest:
        return self.inner.project(self.enter(x)), self.beside(x)

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        inside, beside = projected
        output, new = self.inner.step(inside, self.take(state))
        return self.leave(output, beside), self.keep(new)


class CellWrapper(Cell):
    """What the wrappers share: sizes and states are the wrapped cell's, a subclass says in ``bind`` what it changes.

    Args:
        cell: a :class:`Cell`, or any module with ``forward(x_t, state)`` and ``initial_state(batch)``.
    """

    def __init__(self, cell: Any) -> None:
        super().__init__()
        check_cell(cell)
        self.cell: nn.Module = cell

    @property
    def output_size(self) -> Any:
        """Features of the output, where the cell tells."""
        return getattr(self.cell, "output_size", None)

    def initial_state(self, batch: int) -> Nest:
        """The wrapped cell's."""
        return self.cell.initial_state(batch)  # type: ignore[operator]

    def size_of(self, x: Nest) -> Any:
        if isinstance(self.cell, Cell):
            return self.cell.size_of(x)
        return super().size_of(x) if isinstance(x, Tensor) and x.is_floating_point() else None

    def create(self, input_size: Any) -> None:
        """Sizes the wrapped cell."""
        self._size_cell(input_size)

    def project(self, x: Nest) -> Nest:
        return self.bind(x, first_tensor(x).shape[0]).project(x)

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        return self.bind(projected, first_tensor(projected).shape[0]).step(projected, state)

    def _size_cell(self, size: Any) -> None:
        """Make the parameters of the cell for inputs of this size."""
        if isinstance(self.cell, Cell):
            self.cell.build(size)
        wanted = getattr(self.cell, "input_size", None)
        if isinstance(wanted, int) and isinstance(size, int) and wanted != size:
            raise ValueError(
                f"{type(self).__name__}: {type(self.cell).__name__} expects inputs of {wanted} features, got {size}"
            )

    def _need_size(self) -> None:
        """Refuse an input that does not tell its size."""
        if self.input_size is None:
            raise ValueError(f"{type(self).__name__}: the input must be one tensor of floats")

    def _dense(self, inputs: int, outputs: int, bias: float = 0.0) -> nn.Linear:
        """An affine map that starts as TF1's do: Glorot's uniform weights, a constant bias."""
        linear = nn.Linear(inputs, outputs, dtype=self.zeros(0).dtype)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.constant_(linear.bias, bias)
        return linear

    def _check_shortcut(self) -> None:
        """Input and output must be of one size to be added."""
        sizes = self.input_size, self.output_size
        if all(isinstance(size, int) for size in sizes) and sizes[0] != sizes[1]:
            raise ValueError(
                f"{type(self).__name__}: the cell turns {sizes[0]} features into {sizes[1]}; both must be equal"
            )


StateFilter = Callable[[Nest], Nest] | Nest


def not_memory(state: Nest) -> Nest:
    """The state that dropout may touch: all but the memory ``c`` of an LSTM."""
    return LSTMState(True, False) if isinstance(state, LSTMState) else True  # type: ignore[arg-type]


def chosen(state: Nest, which: StateFilter) -> list[bool]:
    """One truth value for each tensor of a state.

    ``which`` is a bool for a whole state, a nest of such, or a function of any level of the state that gives one (where
    it says True of a nest, it is asked again for each member), as TF1's ``dropout_state_filter_visitor``.

    Example:
        >>> one = torch.zeros(2, 3)
        >>> chosen((LSTMState(one, one), one), not_memory), chosen((LSTMState(one, one), one), [False, True])
        ([True, False, True], [False, False, True])
    """
    leaves = pytree.tree_leaves(state)
    answer = which(state) if callable(which) else which
    single = len(leaves) == 1 and leaves[0] is state
    if isinstance(answer, bool) and (single or not answer or not callable(which)):
        return [answer] * len(leaves)
    members = pytree.tree_leaves(state, is_leaf=lambda node: node is not state)
    answers = [which] * len(members)
    if not isinstance(answer, bool):
        answers = pytree.tree_leaves(answer, is_leaf=lambda node: node is not answer)
    if single or len(answers) != len(members):
        raise ValueError(f"DropoutWrapper: state_filter gives {answer!r}, which does not fit the state of the cell")
    return [value for member, part in zip(members, answers, strict=True) for value in chosen(member, part)]


@dataclass(frozen=True, eq=False)
class Noise:
    """Dropout of the tensors of a nest, drawn at each step, or, where there are ``masks``, once a call.

    Attributes:
        share: share of the elements dropped; the others are divided by ``1 - share``.
        masks: ``[B, ...]`` of each tensor, already divided.
        where: whether each tensor is touched; None: all are.
    """

    share: float = 0.0
    masks: list[Tensor] | None = None
    where: list[bool] | None = None

    def __call__(self, x: Nest) -> Nest:
        if not self.share:
            return x
        leaves, spec = pytree.tree_flatten(x)
        touched = self.where or [True] * len(leaves)
        noisy = [self._drop(i, leaf) if touched[i] else leaf for i, leaf in enumerate(leaves)]
        return pytree.tree_unflatten(noisy, spec)

    def _drop(self, i: int, x: Tensor) -> Tensor:
        if self.masks is None:
            return F.dropout(x, self.share)
        mask = self.masks[i].to(x)
        if x.shape[x.ndim - mask.ndim + 1 :] != mask.shape[1:]:
            raise ValueError(
                f"DropoutWrapper: the mask of variational dropout has features {list(mask.shape[1:])}, drawn for the "
                f"sizes that the cell tells; got a tensor of shape {list(x.shape)}"
            )
        return x * (mask.unsqueeze(1) if x.ndim > mask.ndim else mask)


class DropoutWrapper(CellWrapper):
    r"""Dropout around a cell while training.

    :math:`y, s' = \mathrm{cell}(d_x \odot x,\ s)`; handed on are :math:`d_y \odot y` and :math:`d_s \odot s'`.
    TF1's ``DropoutWrapper``, with shares dropped in place of those kept. In eval mode it is the cell alone, on the
    engine that runs that. ``variational`` draws for each row (Gal and Ghahramani 2016, arXiv 1512.05287); TF1 shares
    one mask among the rows of a batch.

    Args:
        cell: what is wrapped.
        input_dropout: share of the input dropped.
        output_dropout: share of the output dropped; the state keeps it.
        state_dropout: share of the new state dropped, on its way to the next step.
        variational: the same elements at every step of a call; False: drawn anew at each.
        state_filter: which parts of the state ``state_dropout`` touches, see :func:`chosen`; None: all but the memory
            ``c`` of an :class:`LSTMState`.

    Raises:
        ValueError: a share is outside 0..1; ``variational`` and the cell does not tell the size in question.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> cell = DropoutWrapper(GRUCell(3, 5), output_dropout=1.0)
        >>> output, h = cell(torch.ones(2, 3))
        >>> output.any().item(), h.any().item(), cell.eval()(torch.ones(2, 3))[0].any().item()
        (False, True, True)
    """

    def __init__(
        self,
        cell: Any,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        state_dropout: float = 0.0,
        variational: bool = False,
        state_filter: StateFilter | None = None,
    ) -> None:
        super().__init__(cell)
        self.input_dropout, self.output_dropout, self.state_dropout = input_dropout, output_dropout, state_dropout
        self.variational, self.state_filter = variational, state_filter
        for name in ("input_dropout", "output_dropout", "state_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"DropoutWrapper: {name} must be between 0 and 1, got {getattr(self, name)}")
        self.build(getattr(cell, "input_size", None))

    def bind(self, x: Nest, batch: int) -> Stepper:
        inner = ready(self.cell, x, batch)
        if not self.training or not (self.input_dropout or self.output_dropout or self.state_dropout):
            return inner
        first = first_tensor(x)
        ones = (first if first.is_floating_point() else self.zeros(0)).new_ones

        def noise(what: str, size: Any, share: float) -> Noise:
            if not self.variational or not share:
                return Noise(share)
            if size is None:
                raise ValueError(f"DropoutWrapper: variational {what}_dropout needs a cell with {what}_size")
            shape = (size,) if isinstance(size, int) else tuple(size)
            return Noise(share, [F.dropout(ones(first.shape[0], *shape), share)])

        enter = noise("input", self.input_size, self.input_dropout)
        leave = noise("output", self.output_size, self.output_dropout)
        keep = self._state_noise(first.shape[0], ones)
        return Around(inner, enter=enter, leave=lambda output, _: leave(output), keep=keep)

    def _state_noise(self, batch: int, ones: Callable[..., Tensor]) -> Noise:
        if not self.state_dropout:
            return Noise()
        state = self.initial_state(batch)
        where = chosen(state, not_memory if self.state_filter is None else self.state_filter)
        masks = None
        if self.variational:
            masks = [F.dropout(ones(*leaf.shape), self.state_dropout) for leaf in pytree.tree_leaves(state)]
        return Noise(self.state_dropout, masks, where)

    def extra_repr(self) -> str:
        names = ("input_dropout", "output_dropout", "state_dropout", "variational")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class ResidualWrapper(CellWrapper):
    r"""A shortcut around a cell: :math:`y = x + \mathrm{cell}(x, s)` (Wu et al. 2016, arXiv 1609.08144, eq. 6).

    TF1's ``ResidualWrapper``.

    Args:
        cell: what is wrapped; nests of inputs and outputs must be alike.
        residual_fn: ``residual_fn(x, output)`` in place of the sum.

    Raises:
        ValueError: without ``residual_fn``, input and output differ in shape.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> cell = ResidualWrapper(GRUCell(5, 5))
        >>> x = torch.ones(2, 5)
        >>> output, h = cell(x)
        >>> torch.equal(output, x + h)
        True
    """

    def __init__(self, cell: Any, residual_fn: Callable[[Nest, Nest], Nest] | None = None) -> None:
        super().__init__(cell)
        self.residual_fn = residual_fn
        self.build(getattr(cell, "input_size", None))

    def create(self, input_size: Any) -> None:
        super().create(input_size)
        if self.residual_fn is None:
            self._check_shortcut()

    def bind(self, x: Nest, batch: int) -> Stepper:
        return Around(ready(self.cell, x, batch), beside=same, leave=self._add)

    def _add(self, output: Nest, x: Nest) -> Nest:
        return (self.residual_fn or add)(x, output)


def add(x: Nest, output: Nest) -> Nest:
    """The sum of two nests of the same shapes."""
    leaves, spec = pytree.tree_flatten(output)
    inputs = pytree.tree_leaves(x)
    shapes = [list(leaf.shape) for leaf in inputs], [list(leaf.shape) for leaf in leaves]
    if shapes[0] != shapes[1]:
        raise ValueError(f"ResidualWrapper: the input is {shapes[0]}, the output {shapes[1]}; give a residual_fn")
    return pytree.tree_unflatten([a + b for a, b in zip(inputs, leaves, strict=True)], spec)


class HighwayWrapper(CellWrapper):
    r"""A gated shortcut around a cell: :math:`y = c \odot x + t \odot \mathrm{cell}(x, s)`.

    :math:`c = \sigma(W_c x + b_c)`, :math:`t = 1 - c`, or, where not coupled, :math:`t = \sigma(W_t x + b_t)`
    (Srivastava, Greff, Schmidhuber 2015, arXiv 1505.00387, eq. 2-3; TF1's ``contrib.rnn.HighwayWrapper``).

    Args:
        cell: what is wrapped; its input and output are of one size.
        carry_bias: :math:`b_c` starts here, :math:`b_t` at its negative.
        coupled: :math:`t = 1 - c`.

    Raises:
        ValueError: input and output differ in size.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> x = torch.ones(2, 5)
        >>> output, h = HighwayWrapper(GRUCell(5, 5), carry_bias=100.0)(x)
        >>> torch.equal(output, x)
        True
    """

    def __init__(self, cell: Any, carry_bias: float = 1.0, coupled: bool = True) -> None:
        super().__init__(cell)
        self.carry_bias, self.coupled = carry_bias, coupled
        self.build(getattr(cell, "input_size", None))

    def create(self, input_size: Any) -> None:
        super().create(input_size)
        self._check_shortcut()
        self.carry = self._dense(input_size, input_size, self.carry_bias)
        self.transform = None if self.coupled else self._dense(input_size, input_size, -self.carry_bias)

    def bind(self, x: Nest, batch: int) -> Stepper:
        self._need_size()
        return Around(ready(self.cell, x, batch), beside=self._gates, leave=self._mix)

    def _gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        carry = torch.sigmoid(self.carry(x))
        transform = 1 - carry if self.transform is None else torch.sigmoid(self.transform(x))
        return carry * x, transform

    def _mix(self, output: Tensor, gates: tuple[Tensor, Tensor]) -> Tensor:
        carried, transform = gates
        return carried + transform * output


class InputProjectionWrapper(CellWrapper):
    r"""The cell sees :math:`\phi(W x + b)`, taken for all steps at once (TF1's ``InputProjectionWrapper``).

    Args:
        cell: what is wrapped.
        size: features that the cell sees.
        activation: :math:`\phi`, a name or a function.
        input_size: features of the input; None: taken from the first input.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> output, h = InputProjectionWrapper(GRUCell(4, 5), 4)(torch.ones(2, 30))
        >>> h.shape
        torch.Size([2, 5])
    """

    def __init__(self, cell: Any, size: int, activation: Activation = "linear", input_size: int | None = None) -> None:
        super().__init__(cell)
        self.size, self.activation = size, activation
        function_of(activation)  # refuses unknown names
        self._size_cell(size)
        self.build(input_size)

    def size_of(self, x: Nest) -> Any:
        return Cell.size_of(self, x)

    def create(self, input_size: int) -> None:
        self.projection = self._dense(input_size, self.size)

    def bind(self, x: Nest, batch: int) -> Stepper:
        self._need_size()
        phi = function_of(self.activation)
        return Around(ready(self.cell, x, batch), enter=lambda x: phi(self.projection(x)))


class OutputProjectionWrapper(CellWrapper):
    r"""The output is :math:`\phi(W y + b)` of the cell's; the state is as it was (TF1's ``OutputProjectionWrapper``).

    Args:
        cell: what is wrapped.
        size: features of the output.
        activation: :math:`\phi`, a name or a function.

    Raises:
        ValueError: the cell does not tell its ``output_size``.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> output, h = OutputProjectionWrapper(GRUCell(3, 5), 2)(torch.ones(2, 3))
        >>> output.shape, h.shape
        (torch.Size([2, 2]), torch.Size([2, 5]))
    """

    def __init__(self, cell: Any, size: int, activation: Activation = "linear") -> None:
        super().__init__(cell)
        self.size, self.activation = size, activation
        function_of(activation)  # refuses unknown names
        inside = getattr(cell, "output_size", None)
        if not isinstance(inside, int):
            raise ValueError(f"OutputProjectionWrapper: {type(cell).__name__} does not tell its output_size")
        self.projection = self._dense(inside, size)
        self.build(getattr(cell, "input_size", None))

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self.size

    def bind(self, x: Nest, batch: int) -> Stepper:
        phi = function_of(self.activation)
        return Around(ready(self.cell, x, batch), leave=lambda output, _: phi(self.projection(output)))


class EmbeddingWrapper(CellWrapper):
    """The cell sees the vectors of integer inputs, looked up for all steps at once (TF1's ``EmbeddingWrapper``).

    Inputs are ids ``[B]`` or ``[B, 1]`` for one step, ``[B, T]`` or ``[B, T, 1]`` for all.

    Args:
        cell: what is wrapped.
        classes: number of different ids.
        size: features of a vector.

    Raises:
        TypeError: the input is not of integers.
        ValueError: the cell expects another size.

    Example:
        >>> from lightning_rnn.layers import RNN, GRUCell
        >>> RNN(EmbeddingWrapper(GRUCell(4, 5), 100, 4))(torch.tensor([[7, 99, 0]])).sequence.shape
        torch.Size([1, 3, 5])
    """

    def __init__(self, cell: Any, classes: int, size: int) -> None:
        super().__init__(cell)
        self.classes, self.size = classes, size
        self.embedding = nn.Embedding(classes, size)
        nn.init.uniform_(self.embedding.weight, -(3**0.5), 3**0.5)  # variance 1, as TF1
        self._size_cell(size)
        self.build(1)

    def size_of(self, x: Nest) -> int:
        """One id, with or without an axis of its own."""
        return 1

    def create(self, input_size: int) -> None:
        """The table is there from the beginning."""

    def bind(self, x: Nest, batch: int) -> Stepper:
        return _Embedded(ready(self.cell, x, batch), self.embedding)


@dataclass(frozen=True, eq=False)
class _Embedded:
    inner: Stepper
    embedding: nn.Embedding

    def project(self, ids: Tensor) -> tuple[Nest, Tensor]:
        if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dtype == torch.bool:
            got = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
            raise TypeError(f"EmbeddingWrapper: the input must be a tensor of integers, got {got}")
        if ids.ndim > 3 or (ids.ndim == 3 and ids.shape[2] != 1):
            raise ValueError(f"EmbeddingWrapper: expected ids of shape [B], [B, 1] or [B, T], got {list(ids.shape)}")
        ids = ids.squeeze(2) if ids.ndim == 3 else ids
        return self.inner.project(self.embedding(ids)), ids

    def step(self, projected: tuple[Nest, Tensor], state: Nest) -> tuple[Nest, Nest]:
        inside, ids = projected
        if ids.ndim == 2:  # one step given as [B, 1]: it was projected as a sequence of one
            inside = pytree.tree_map(lambda leaf: leaf.squeeze(1), inside)
        return self.inner.step(inside, state)


class DeviceWrapper(CellWrapper):
    """The cell lives and runs on a device of its own (TF1's ``DeviceWrapper``).

    Input and state are moved there, output and new state back to the device of the input. Moving the wrapper moves its
    dtype only.

    Args:
        cell: what is wrapped.
        device: such as ``cuda:1``.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> output, h = DeviceWrapper(GRUCell(3, 5), "cpu")(torch.ones(2, 3))
        >>> h.device
        device(type='cpu')
    """

    def __init__(self, cell: Any, device: str | torch.device) -> None:
        super().__init__(cell)
        self.device = str(torch.device(device))
        self.cell.to(self.device)
        self.build(getattr(cell, "input_size", None))

    def create(self, input_size: Any) -> None:
        super().create(input_size)
        self.cell.to(self.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DeviceWrapper:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if not any(parameter.is_meta for parameter in self.cell.parameters()):
            self.cell.to(self.device)
        return self

    def bind(self, x: Nest, batch: int) -> Stepper:
        home = first_tensor(x).device
        there = moves(torch.device(self.device))
        back = moves(home)
        return Around(
            ready(self.cell, there(x), batch),
            enter=there,
            leave=lambda output, _: back(output),
            take=there,
            keep=back,
        )

    def extra_repr(self) -> str:
        return f"device={self.device}"


def moves(device: torch.device) -> Callable[[Nest], Nest]:
    """A function that moves the tensors of a nest to ``device``."""
    return lambda nest: pytree.tree_map_only(Tensor, lambda leaf: leaf.to(device), nest)

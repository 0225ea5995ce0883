"""Dropout around a cell: of its input, output and state, drawn at each step or once a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cell import first_tensor
from lightning_rnn.layers.cells import ready
from lightning_rnn.layers.wrapper import Around, CellWrapper
from lightning_rnn.types import LSTMState, Nest

StateFilter = Callable[[Nest], Nest] | Nest


def not_memory(state: Nest) -> Nest:
    """The state that dropout may touch: all but the memory ``c`` of an LSTM."""
    return LSTMState(True, False) if isinstance(state, LSTMState) else True  # type: ignore[arg-type]


def chosen(state: Nest, which: StateFilter) -> list[bool]:
    """One truth value for each tensor of a state.

    ``which`` is a bool for a whole state, a nest of such, or a function of any level of the state that gives one (where
    it says True of a nest, it is asked again for each member), as TF1's ``dropout_state_filter_visitor``.

    Example:
        >>> import torch
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
        >>> import torch
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

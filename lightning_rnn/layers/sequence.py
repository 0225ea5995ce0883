"""What every layer over time shares: checks of its input, chunks, the filling of masked steps, kept states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.functional.masks import Valid, expand, fill_masked, turn
from lightning_rnn.functional.scan import Ran, Resets, in_order
from lightning_rnn.layers.cell import first_tensor, like, map_tensors
from lightning_rnn.layers.chunks import run_chunks
from lightning_rnn.layers.config import Configurable
from lightning_rnn.layers.engines import Call, Engine, EngineChoice, choose, entry_of
from lightning_rnn.layers.gates import Gates
from lightning_rnn.layers.options import TimeOptions
from lightning_rnn.types import Nest

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class SequenceLayer(Configurable, nn.Module, ABC):
    """A layer over time. Its subclasses say which cells run, this class how time is run."""

    engine: Engine
    reverse: bool
    stateful: bool
    zero_output_for_mask: bool
    time_options: TimeOptions
    _states: Nest | None = None  # a plain attribute: not in the state_dict

    @property
    def states(self) -> Nest | None:
        """The state kept by a ``stateful`` layer, readable and reusable; None before the first call."""
        return self._states

    @abstractmethod
    def initial_state(self, batch: int) -> Nest:
        """The state of ``batch`` rows before the first step."""

    @abstractmethod
    def explain(
        self,
        x: Any,
        state: Nest | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
    ) -> EngineChoice:
        """The engine that ``forward`` with these arguments runs on, and why."""

    def reset_states(self, values: Nest | None = None, rows: Any = None) -> None:
        """Forget the kept state, or set it.

        Args:
            values: the new state, tensors or arrays, nested as ``states`` or flat in that order; None: the initial one.
            rows: indices or a bool mask of the rows to reset, the others stay; None: all.

        Raises:
            ValueError: the layer is not ``stateful``, the values do not fit, or there are rows but no kept state.
        """
        name = type(self).__name__
        if not self.stateful:
            raise ValueError(f"{name}: only a layer with stateful=True keeps states to reset")
        if values is None and (rows is None or self._states is None):
            self._states = None
            return
        with torch.no_grad():
            if values is not None:
                arrays = [torch.as_tensor(leaf) for leaf in pytree.tree_leaves(in_order(values, self.initial_state(1)))]
                spec = pytree.tree_structure(self.initial_state(1))
                if len(arrays) != spec.num_leaves:
                    raise ValueError(f"{name}: expected {spec.num_leaves} arrays of state, got {len(arrays)}")
                values = pytree.tree_unflatten(arrays, spec)
            if rows is None:
                self._states = pytree.tree_map(torch.clone, like(values, self._dtype_and_device()))
                return
            if self._states is None:
                raise ValueError(f"{name}: no state is kept yet, so no rows of it can be set: give all values")
            rows = torch.as_tensor(rows)
            if values is None:
                kept = first_tensor(self._states).shape[0]
                values = pytree.tree_map(lambda leaf: leaf[rows], self.initial_state(kept))
            parts = zip(pytree.tree_leaves(self._states), pytree.tree_leaves(values), strict=True)
            new = []
            for old, value in parts:
                changed = old.clone()
                changed[rows] = value.to(old)
                new.append(changed)
            self._states = pytree.tree_unflatten(new, pytree.tree_structure(self._states))

    def _dtype_and_device(self) -> Tensor:
        parameter = next(self.parameters(), None)
        return torch.zeros(()) if parameter is None else parameter

    def _keep(self, state: Nest) -> None:
        if self.stateful:
            self._states = map_tensors(torch.Tensor.detach, state)

    def _kept(self, x: Tensor) -> Nest | None:
        """The state kept from the call before, checked against this one."""
        if not self.stateful or self._states is None:
            return None
        kept = first_tensor(self._states)
        if kept.shape[0] != x.shape[0]:
            raise ValueError(
                f"{type(self).__name__}: the kept state has {kept.shape[0]} rows, x has {x.shape[0]}; "
                "call reset_states() before another batch size"
            )
        return like(self._states, x)

    def _turn(self, nest: Nest) -> Nest:
        """Between ``[B, T]`` and a ``time_major`` layer's ``[T, B]``."""
        if not self.time_options.time_major:
            return nest
        return map_tensors(lambda leaf: leaf.transpose(0, 1) if leaf.ndim > 1 else leaf, nest)

    def _valid(self, x: Tensor, lengths: Tensor | None, mask: Tensor | None, reset_mask: Tensor | None) -> Valid | None:
        """Which steps are real. Shapes and dtypes are checked here, before any kernel: kernels do not check."""
        name = type(self).__name__
        if lengths is not None and mask is not None:
            raise ValueError(f"{name}: give lengths or mask, not both")
        for what, given in (("lengths", lengths), ("mask", mask), ("reset_mask", reset_mask)):
            if given is not None and not isinstance(given, Tensor):
                raise TypeError(f"{name}: {what} must be a tensor, got {type(given).__name__}")
        if lengths is not None:
            if lengths.shape != x.shape[:1]:
                raise ValueError(f"{name}: expected lengths of shape [{x.shape[0]}], got {list(lengths.shape)}")
            if lengths.dtype not in INTEGERS:
                raise TypeError(f"{name}: lengths must be integers, got {lengths.dtype}")
            if lengths.device != x.device:
                raise ValueError(f"{name}: lengths are on {lengths.device}, x on {x.device}")
            traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
            if not lengths.is_cuda and lengths.numel() and not traced:
                low, high = int(lengths.min()), int(lengths.max())
                if low < 0 or high > x.shape[1]:
                    raise ValueError(f"{name}: lengths must be in 0..{x.shape[1]} (T), got {low}..{high}")
        for what, given in (("mask", mask), ("reset_mask", reset_mask)):
            if given is None:
                continue
            if given.shape != x.shape[:2]:
                raise ValueError(f"{name}: expected {what} of shape {list(x.shape[:2])}, got {list(given.shape)}")
            if given.dtype != torch.bool:
                raise TypeError(f"{name}: {what} must be bool, got {given.dtype}")
            if given.device != x.device:
                raise ValueError(f"{name}: {what} is on {given.device}, x on {x.device}")
        valid = Valid.of(x.shape[1], lengths, mask)
        if valid is not None and (self.time_options.return_all_states or reset_mask is not None):
            return Valid(valid.mask)  # what happens at padding, states or starts of episodes, has its own time
        return valid

    def _choose(self, stepper: object, x: Nest, masked: bool, reset_mask: Tensor | None) -> EngineChoice:
        time, sizes = self.time_options, None
        if isinstance(x, Tensor) and x.ndim == 3 and not x.is_cuda:
            sizes = (x.shape[0], x.shape[1])
        call = Call(reset_mask is not None, time.unroll, time.return_all_states, sizes, masked)
        return choose(self.engine, stepper, call)

    def _run(
        self,
        stepper: Any,
        x: Nest,
        state: Nest,
        valid: Valid | None,
        reset_mask: Tensor | None,
        fresh: Nest,
        *,
        reverse: bool,
        after: Callable[[Nest], Nest] | None = None,
    ) -> tuple[Ran, Nest]:
        """One direction: outputs in the order of ``x`` with masked steps filled, and the last output processed.

        ``fresh`` is the state at which episodes start; ``after`` acts on outputs before masked steps repeat them.
        """
        resets = None if reset_mask is None else Resets(reset_mask, fresh)
        entry, time = entry_of(self._choose(stepper, x, valid is not None, reset_mask)), self.time_options
        if valid is not None:
            x = map_tensors(lambda leaf: torch.where(expand(valid.mask, leaf), leaf, 0), x)
        if resets is not None and reverse:  # an episode that starts at t ends, seen from behind, before t - 1
            ahead = torch.cat([resets.mask[:, 1:], torch.zeros_like(resets.mask[:, :1])], dim=1)
            resets = Resets(ahead, resets.state)
        host = torch.autograd.graph.save_on_cpu(first_tensor(x).is_cuda) if time.offload else nullcontext()
        ordered = time.checkpoint is not None or (isinstance(stepper, Gates) and stepper.draws)
        whole = entry.whole and not (reverse and ordered)
        final = after is None and not time.return_all_states and time.checkpoint is None
        with host:
            if whole:
                fill = "carry" if not final else "zero" if self.zero_output_for_mask else "repeat"
                run = partial(entry.run, reverse=reverse, fill=fill)
                ran = run_chunks(run, stepper, x, state, valid, resets, time.return_all_states, time.checkpoint)
            else:
                ran = self._turned(entry.run, stepper, x, state, valid, resets, reverse)
        outputs, all_states = ran.outputs, ran.all_states
        if after is not None:
            outputs = after(outputs)
        if not (whole and final):
            outputs = map_tensors(
                lambda leaf: fill_masked(leaf, valid, reverse=reverse, zero=self.zero_output_for_mask), outputs
            )
        end = 0 if reverse else -1
        last = map_tensors(lambda leaf: leaf[:, end] if leaf.shape[1] else leaf.sum(1), outputs)
        return Ran(outputs, ran.state, all_states), last

    def _turned(
        self,
        run: Callable[..., Ran],
        stepper: Any,
        x: Nest,
        state: Nest,
        valid: Valid | None,
        resets: Resets | None,
        reverse: bool,
    ) -> Ran:
        """An engine that knows only one direction, in either."""
        time, ordered = self.time_options, valid
        if reverse:
            x = map_tensors(lambda leaf: turn(leaf, valid), x)
            ordered = None if valid is None else valid.turned()
            resets = None if resets is None else Resets(turn(resets.mask, valid), resets.state)
        ran = run_chunks(run, stepper, x, state, ordered, resets, time.return_all_states, time.checkpoint)
        if not reverse:
            return ran
        outputs, kept = map_tensors(lambda leaf: turn(leaf, valid), (ran.outputs, ran.all_states))
        return Ran(outputs, ran.state, kept)

    def _order(self, outputs: Nest) -> Nest:
        """A ``reverse`` layer's outputs in the order of processing, unless it keeps theirs."""
        if not self.reverse or self.time_options.keep_order:
            return outputs
        return map_tensors(lambda leaf: leaf.flip(1), outputs)

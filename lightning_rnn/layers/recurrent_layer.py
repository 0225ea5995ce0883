"""What SimpleRNN, LSTM and GRU share: layers, directions, residual connections, states; all but the cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lightning_rnn.functional import StepOptions
from lightning_rnn.functional.masks import Valid
from lightning_rnn.layers.cell import follow, like
from lightning_rnn.layers.engines import Engine, EngineChoice
from lightning_rnn.layers.gates import (
    KINDS,
    CellKind,
    bind,
    check_options,
    collect,
    create,
    drop,
    parameter_shapes,
    reset,
    zero_state,
)
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.options import Regularization, TimeOptions
from lightning_rnn.layers.packing import is_ragged, run_padded, unpack
from lightning_rnn.layers.recurrent_checks import check_choices, check_input, in_parts, layer_sizes
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.layers.streaming import stream_step
from lightning_rnn.types import LSTMState, RNNOutput, State

InitialState = Literal["zeros", "learned"]


class RecurrentLayer(SequenceLayer):
    """What the three layers share. A subclass names its row of the table of cells and nothing else.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input (:meth:`build` makes the parameters).
        hidden_size: features of the output, ``H``; a list gives each layer its own.
        num_layers: layers stacked on each other.
        bias: whether there are bias vectors.
        bidirectional: a second direction from the end to the start; outputs are side by side, ``2H``.
        proj_size: LSTM: outputs are projected to this many features (Sak et al. 2014); 0: not.
        residual: each layer's input is added to its output (Wu et al. 2016, arXiv 1609.08144, section 3.1): every layer
            after the first, and the first where sizes are equal.
        reverse: from the last step to the first (Keras' ``go_backwards``); outputs are in the order of processing.
        stateful: the final state is where the next call starts; see :meth:`reset_states`.
        zero_output_for_mask: outputs of masked steps are zero; else they repeat the last valid one.
        initial_state: ``zeros`` or ``learned`` (a parameter of each layer), where none is given.
        initializer: ``torch``, ``keras`` or ``chrono``, see :func:`lightning_rnn.layers.initializers.initialize`.
        unit_forget_bias: LSTM: whether the forget gate's bias starts at 1, else 0; None: as the initializer has it.
        step_options: variants of the equations: activations, peepholes, layer normalization, clipping, reset form.
        regularization: dropout of every kind, zoneout.
        time_options: unrolling, checkpoints, axis order, states of all steps.
        engine: ``auto``, ``native``, ``fused`` or ``scan``; anything but auto raises rather than fall back.

    Parameters have the names, shapes and gate order of ``torch.nn``: a ``state_dict`` moves both ways.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int | list[int],
        num_layers: int = 1,
        *,
        bias: bool = True,
        bidirectional: bool = False,
        proj_size: int = 0,
        residual: bool = False,
        reverse: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        initial_state: InitialState = "zeros",
        initializer: Initializer = "torch",
        unit_forget_bias: bool | None = None,
        step_options: StepOptions | None = None,
        regularization: Regularization | None = None,
        time_options: TimeOptions | None = None,
        engine: Engine = "auto",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        sizes = layer_sizes(name, input_size, hidden_size, num_layers)
        if proj_size < 0:
            raise ValueError(f"{name}: proj_size must not be negative, got {proj_size}")
        check_choices(
            name,
            (
                ("initial_state", initial_state, get_args(InitialState)),
                ("initializer", initializer, get_args(Initializer)),
                ("engine", engine, get_args(Engine)),
            ),
        )
        if reverse and bidirectional:
            raise ValueError(f"{name}: reverse and bidirectional exclude each other")
        self.hidden_size, self.num_layers, self.sizes = hidden_size, len(sizes), sizes
        self.bias, self.bidirectional, self.proj_size, self.residual = bias, bidirectional, proj_size, residual
        self.reverse, self.stateful, self.zero_output_for_mask = reverse, stateful, zero_output_for_mask
        self.start: InitialState = initial_state
        self.initializer, self.unit_forget_bias, self.engine = initializer, unit_forget_bias, engine
        self.step_options = step_options or StepOptions()
        self.regularization = regularization or Regularization()
        self.time_options = time_options or TimeOptions()
        check_options(name, self._kind, self.step_options, proj_size)
        if residual and len(set(self._widths())) > 1:
            raise ValueError(f"{name}: residual needs layers of one size, got {self._widths()}")
        self.input_size: int | None = None
        if input_size is not None:
            self.build(input_size)

    def _argument(self, name: str) -> Any:
        return self.start if name == "initial_state" else super()._argument(name)

    @property
    def _kind(self) -> CellKind:
        return KINDS[self.kind]

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _widths(self) -> list[int]:
        return [(self.proj_size or size) * self._directions for size in self.sizes]

    @property
    def output_size(self) -> int:
        """Features of the output: ``H``, or ``2H`` when bidirectional."""
        return self._widths()[-1]

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"] if self.bidirectional else [f"_l{layer}"]

    def build(self, input_size: int) -> Self:
        """Make the parameters for ``input_size`` features, once; a later call changes nothing."""
        if self.input_size is not None:
            return self
        self.input_size = input_size
        for layer, (width, size) in enumerate(zip([input_size, *self._widths()], self.sizes, strict=False)):
            shapes = parameter_shapes(self._kind, width, size, self.proj_size, self.bias, self.step_options)
            for suffix in self._suffixes(layer):
                create(self, shapes, suffix)
                if self.start == "learned":
                    for i, name in enumerate(("h0", "c0")[: self._kind.states]):
                        create(self, {name: (size if i or not self.proj_size else self.proj_size,)}, suffix)
        self.reset_parameters()
        return self

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for layer in range(self.num_layers):
            for suffix in self._suffixes(layer):
                reset(self._kind, collect(self, suffix), self.initializer, self.unit_forget_bias)
        for name, parameter in self.named_parameters():
            if name.startswith(("h0", "c0")):
                nn.init.zeros_(parameter)

    @classmethod
    def from_torch(cls, module: nn.RNNBase) -> Self:
        """A layer with a copy of a ``torch.nn`` module's weights, see :func:`lightning_rnn.layers.torch_nn.from_torch`.

        Raises:
            TypeError: the module is of another kind.
        """
        from lightning_rnn.layers.torch_nn import from_torch

        layer = from_torch(module)
        if not isinstance(layer, cls):
            raise TypeError(f"{cls.__name__}.from_torch: {type(module).__name__} is a {type(layer).__name__}")
        return layer

    def to_torch(self) -> nn.RNNBase:
        """The ``torch.nn`` module with a copy of the weights, see :func:`lightning_rnn.layers.torch_nn.to_torch`."""
        from lightning_rnn.layers.torch_nn import to_torch

        return to_torch(self)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"
        return text + (", bidirectional=True" if self.bidirectional else "")

    def initial_state(self, batch: int) -> State:
        """The state of ``batch`` rows before the first step: zeros, or the learned one."""
        if self.start == "learned" and self.input_size is None:
            raise ValueError(f"{type(self).__name__}: no learned initial state before the first input or build()")
        weight = self._dtype_and_device()

        def one(layer: int, suffix: str) -> State:
            if self.start == "zeros":
                return zero_state(self._kind, batch, self.sizes[layer], self.proj_size, weight)
            h = getattr(self, f"h0{suffix}").expand(batch, -1)
            return LSTMState(h, getattr(self, f"c0{suffix}").expand(batch, -1)) if self._kind.states > 1 else h

        layers = [self._of_sides([one(i, suffix) for suffix in self._suffixes(i)]) for i in range(self.num_layers)]
        state: State = self._of_layers(layers)
        return state

    def explain(
        self,
        x: Tensor | PackedSequence,
        state: State | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
    ) -> EngineChoice:
        """The engine that ``forward`` with these arguments runs on, and why.

        Example:
            >>> from lightning_rnn.layers import GRU
            >>> GRU(3, 5, engine="scan").explain(torch.zeros(2, 7, 3))
            EngineChoice(engine='scan', reasons=("engine='scan' was asked for",))
        """
        if is_ragged(x):
            padded, lengths, _ = unpack(x)
            return self.explain(self._turn(padded), state, lengths=lengths)
        rows: Tensor = self._turn(x)
        mask, reset_mask = self._turn(mask), self._turn(reset_mask)
        self._check(rows)
        self._valid(rows, lengths, mask, reset_mask)
        with torch.random.fork_rng(devices=[rows.device] if rows.is_cuda else [], enabled=self.training):
            each = [collect(self, f"_l{layer}") for layer in range(self.num_layers)]
            bound = [
                bind(self._kind, weights, self.step_options, self.regularization, 1, self.training) for weights in each
            ]
        masked = lengths is not None or mask is not None
        choices = [self._choose(gates, rows, masked, reset_mask) for gates in bound]
        return max(
            choices, key=lambda choice: choice.engine in ("loop", "scan")
        )  # one layer in the loop is what takes the time

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: State | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
    ) -> RNNOutput:
        """Run over a batch.

        Args:
            x: ``[B, T, D]`` in the dtype of the weights; ``T = 0`` is legal. A ``PackedSequence`` or a jagged nested
                tensor brings its lengths along, and ``RNNOutput.sequence`` is one too.
            state: initial state in the structure of ``RNNOutput.state``, each tensor ``[B, H]``; None: the kept one of
                a ``stateful`` layer, else that of :meth:`initial_state`.
            lengths: integers ``[B]``, valid steps of each row, padding on the right; 0 is legal.
            mask: bool ``[B, T]``, True where a step is valid, any pattern. Not with ``lengths``.
            reset_mask: bool ``[B, T]``, True where an episode starts: the state before that step is the initial one.

        Raises:
            ValueError: a shape does not fit, a length is outside 0..T (checked on the CPU only, as a GPU would have to
                be waited for), both ``lengths`` and ``mask``, or the ``engine`` asked for cannot run the call.
            TypeError: wrong dtype of ``x``, ``state``, ``lengths`` or ``mask``.
        """
        if is_ragged(x):
            return run_padded(self, x, state, lengths, mask, reset_mask)
        return self._padded(x, state, lengths, mask, reset_mask)  # type: ignore[arg-type]

    def step(self, x_t: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One step ``[B, D]`` for online use, see :func:`lightning_rnn.layers.streaming.stream_step`."""
        return stream_step(self, x_t, state)

    def _padded(
        self, x: Tensor, state: State | None, lengths: Tensor | None, mask: Tensor | None, reset_mask: Tensor | None
    ) -> RNNOutput:
        x, mask, reset_mask = self._turn(x), self._turn(mask), self._turn(reset_mask)
        self._check(x)
        valid = self._valid(x, lengths, mask, reset_mask)
        given = state if state is not None else self._kept(x)
        fresh = in_parts(self, x, like(self.initial_state(x.shape[0]), x))
        starts = fresh if given is None else in_parts(self, x, given)
        finals: list[State] = []
        kept: list[Any] = []
        for layer in range(self.num_layers):
            if layer:
                x = drop(x, self.regularization.layer_dropout, self.training, False)
            x, lasts, states, steps = self._layer(layer, x, starts[layer], valid, reset_mask, fresh[layer])
            finals.append(self._of_sides(states))
            kept.append(self._of_sides(steps))
        final = self._of_layers(finals)
        self._keep(final)
        all_states = None
        if self.time_options.return_all_states:
            all_states = self._turn(self._order(self._of_layers(kept)))
        last = torch.cat(lasts, dim=-1)  # a copy of its own, also of one: a view would keep the whole sequence
        return RNNOutput(self._turn(self._order(x)), final, last, all_states)

    def _of_sides(self, parts: list[Any]) -> Any:
        return tuple(parts) if self.bidirectional else parts[0]

    def _of_layers(self, parts: list[Any]) -> Any:
        return tuple(parts) if self.num_layers > 1 else parts[0]

    def _layer(
        self,
        layer: int,
        x: Tensor,
        starts: list[State],
        valid: Valid | None,
        reset_mask: Tensor | None,
        fresh: list[State],
    ) -> tuple[Tensor, list[Tensor], list[State], list[Any]]:
        """One layer: ``(outputs, last output of each direction, final states, all states)``."""
        skip = self.residual and (layer > 0 or x.shape[2] == self.output_size)
        sides = []
        for direction, suffix in enumerate(self._suffixes(layer)):
            weights = collect(self, suffix)
            gates = bind(self._kind, weights, self.step_options, self.regularization, x.shape[0], self.training)
            after, reverse = self._after(x, direction, skip), bool(direction) or self.reverse
            start, again = starts[direction], fresh[direction]
            sides.append(self._run(gates, x, start, valid, reset_mask, again, reverse=reverse, after=after))
        rans, lasts = [ran for ran, _ in sides], [last for _, last in sides]
        outputs = torch.cat([ran.outputs for ran in rans], dim=-1) if self.bidirectional else rans[0].outputs
        return outputs, lasts, [ran.state for ran in rans], [ran.all_states for ran in rans]

    def _after(self, x: Tensor, direction: int, skip: bool) -> Callable[[Tensor], Tensor] | None:
        """What happens to one direction's outputs: dropout, then its half of the input is added; None for nothing."""
        if not skip and not (self.regularization.output_dropout and self.training):
            return None

        def after(outputs: Tensor) -> Tensor:
            noise = self.regularization
            outputs = drop(outputs, noise.output_dropout, self.training, noise.variational)
            return outputs + x.chunk(self._directions, dim=-1)[direction] if skip else outputs

        return after

    def _check(self, x: Tensor) -> None:
        name = type(self).__name__
        if not isinstance(x, Tensor) or x.ndim != 3:
            got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name}: expected x of shape [B, T, {self.input_size or 'D'}], got {got}")
        if self.input_size is None:
            follow(self.build(x.shape[2]), x)
        check_input(self, x)

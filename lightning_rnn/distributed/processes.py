"""A stack's layers on several processes, a group of neighbours on each: pieces of time go from one to the next.

Every process runs the same network on the same batch; only the stack is shared out. Its outputs and final states come
to all of them, so that what stands before and after it stays equal everywhere, and so do the gradients of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.distributed.pipeline import Arguments, Call, begin, end, groups_of
from lightning_rnn.distributed.stacks import stack_of
from lightning_rnn.errors import require
from lightning_rnn.types import Nest, RNNOutput


class AcrossProcesses:
    """The forward of a stack of which each process runs a group of layers.

    Process r runs its layers over piece t of time while the one before runs piece t + 1; backward the other way round.
    Every process must call it, with the same input, in the same order. The gradients of a process' own layers are in
    their parameters' ``grad``, those of the others' are None; the input's and the initial state's are everywhere.

    Args:
        module: SimpleRNN, LSTM or GRU of several layers, or ``RNN([cell, ...])``; its names and ``state_dict`` stay.
        chunks: pieces of time, at most one a step; one where the stack cannot be cut.
        group: the processes; None: all.

    Attributes:
        layers: the numbers of those that run here.

    Raises:
        ConfigError: not a stack, one that reads from the end, fewer layers than processes, fewer than one chunk, or
            states of all steps were asked for.

    Example:
        .. code-block:: python

            dist.init_process_group("gloo")  # torchrun --nproc_per_node=2
            network = LSTM(28, 64, num_layers=2)
            shared = AcrossProcesses(network, chunks=8)
            network(x).sequence.sum().backward()
            shared.gather()  # all weights everywhere, before saving them
    """

    def __init__(self, module: nn.Module, chunks: int = 8, group: dist.ProcessGroup | None = None) -> None:
        stack, name = stack_of(module), type(module).__name__
        require(
            stack is not None, f"{name} is not a stack of several recurrent layers: give one with num_layers over 1"
        )
        assert stack is not None
        self.stack, self.chunks, self.group = stack, chunks, group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        require(chunks >= 1, f"chunks must be at least 1, got {chunks}")
        against = "; ".join(stack.against_chunks())
        require(not against, f"{name} cannot be shared out over processes, as {against}: use LayerPlacement")
        require(
            self.size <= stack.depth,
            f"{name} has {stack.depth} layers for {self.size} processes: start at most {stack.depth}",
        )
        require(
            not stack.module.time_options.return_all_states,
            f"{name}: the states of all steps stay in their processes: set return_all_states=False",
        )
        self.groups = groups_of(stack.depth, self.size)
        self.layers = self.groups[self.rank]
        module.__dict__["forward"] = self

    def __call__(
        self,
        x: Tensor,
        state: Nest | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
    ) -> RNNOutput:
        """As :meth:`RecurrentLayer.forward`, of tensors ``[B, T, D]``; not under autocast.

        Raises:
            ConfigError: under autocast, as a process does not know in which dtype the one before puts out.
        """
        require(
            not torch.is_autocast_enabled(x.device.type),
            "layers on several processes know one dtype alone: use --trainer.precision 32-true, 64-true or bf16-true",
        )
        call = begin(self.stack, x, Arguments(state, lengths, mask, reset_mask), self.chunks)
        weights = [p for place in self.layers for p in self.stack.weights(place) if p.requires_grad]
        starts, spec = pytree.tree_flatten(call.states)
        inputs = (call.x, *starts, *pytree.tree_leaves(call.fresh), *weights)
        learn = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
        sequence, *ended = _Across.apply(_Run(self, call, learn), *inputs)  # type: ignore[no-untyped-call]
        call.states = pytree.tree_unflatten(ended, spec)
        return end(self.stack, call, sequence, None)

    @torch.no_grad()
    def gather(self) -> None:
        """Give every process all layers' weights; every process must call it."""
        for owner, places in enumerate(self.groups):
            for place in places:
                for parameter in self.stack.weights(place):
                    self.share(parameter.data, owner)

    def share(self, tensor: Tensor, owner: int) -> Tensor:
        """One process' tensor, in all of them; the others give one of its shape to be overwritten."""
        sent = tensor.contiguous()
        dist.broadcast(sent, group_src=owner, group=self.group)
        return tensor.copy_(sent)

    def send(self, tensor: Tensor, rank: int, piece: int) -> dist.Work:
        """Begin to send a piece; the work holds the tensor until it is waited for."""
        work = dist.isend(tensor.contiguous(), group_dst=rank, group=self.group, tag=piece)
        assert work is not None
        return work

    def receive(self, like: Tensor, width: int, rank: int, piece: int) -> Tensor:
        """A piece ``[B, t, width]`` for one like ``[B, t, ...]``."""
        received = like.new_empty(*like.shape[:2], width)
        dist.recv(received, group_src=rank, group=self.group, tag=piece)
        return received


class _Run:
    """One call in one process: its pieces forward, and what each leaves for backward."""

    def __init__(self, to: AcrossProcesses, call: Call, learn: bool) -> None:
        self.to, self.call, self.learn = to, call, learn
        self.first, self.last = to.rank == 0, to.rank + 1 == to.size
        self.owner = [rank for rank, places in enumerate(to.groups) for p in places for _ in self._leaves(p)]
        widths = to.stack.widths()
        self.width_in = widths[to.layers[0] - 1]  # of nothing, where it is the first
        self.width_out, self.width_end = widths[to.layers[-1]], widths[-1]
        self.pieces: list[tuple[list[Tensor], list[Tensor]]] = []
        self.fresh = self._cut(call.fresh)

    def _leaves(self, place: int) -> list[Tensor]:
        leaves: list[Tensor] = pytree.tree_leaves(self.call.states[place])
        return leaves

    def own(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Of the tensors of all layers' states, those of the layers here."""
        return [one for one, owner in zip(tensors, self.owner, strict=True) if owner == self.to.rank]

    def _cut(self, states: list[Nest]) -> list[Tensor]:
        """Make those of the layers here new starting points, where gradients are kept; gives their tensors."""
        for place in self.to.layers:
            states[place] = pytree.tree_map(lambda t: t.detach().requires_grad_(self.learn), states[place])
        return [leaf for place in self.to.layers for leaf in pytree.tree_leaves(states[place])]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Each piece: from the process before, through the layers here, to the next one; gives the outputs."""
        to, outputs, sending = self.to, [], []
        for i, (piece, part) in enumerate(zip(self.call.pieces, self.call.cut(x), strict=True)):
            entering = part.detach() if self.first else to.receive(part, self.width_in, to.rank - 1, i)
            sources = [entering.requires_grad_(self.learn), *self._cut(self.call.states)]
            output, _ = self.call.run(to.layers, entering, piece)
            if self.learn:
                self.pieces.append((sources, [output, *(leaf for p in to.layers for leaf in self._leaves(p))]))
            outputs.append(output.detach())
            if not self.last:
                sending.append(to.send(outputs[-1], to.rank + 1, i))
        for work in sending:
            work.wait()
        return outputs

    def backward(
        self, grad: Tensor, carry: list[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The pieces from the last to the first: gradients of the input here, both kinds of states, the weights."""
        to, inner, sending, fixed = self.to, [], [], [*self.fresh, *weights]
        totals = [torch.zeros_like(tensor) for tensor in fixed]
        for i, part in reversed(list(enumerate(self.call.cut(grad)))):
            sources, results = self.pieces.pop()
            arriving = part if self.last else to.receive(part, self.width_out, to.rank + 1, i)
            found = _gradients(results, [arriving, *carry], [*sources, *fixed])
            carry = found[1 : len(sources)]
            inner.append(found[0])
            if not self.first:
                sending.append(to.send(found[0], to.rank - 1, i))
            totals = [total + more for total, more in zip(totals, found[len(sources) :], strict=True)]
        for work in sending:
            work.wait()
        count = len(self.fresh)
        return torch.cat(inner[::-1], 1), [*carry, *totals[:count]], totals[count:]


class _Across(torch.autograd.Function):
    """A call over all processes as one operation in each of them."""

    @staticmethod
    def forward(ctx: Any, run: _Run, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        to = run.to
        ctx.run, ctx.weights, ctx.x_shape = run, tensors[2 * len(run.owner) :], x.shape
        with _own_numbers(to.rank), torch.set_grad_enabled(run.learn):
            outputs = run.forward(x)
        whole = torch.cat(outputs, 1) if run.last else x.new_empty(*x.shape[:2], run.width_end)
        states = [leaf.detach().clone() for leaf in pytree.tree_leaves(run.call.states)]
        shared = [to.share(leaf, owner) for leaf, owner in zip(states, run.owner, strict=True)]
        return to.share(whole, to.size - 1), *shared

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *grad_states: Tensor) -> tuple[Tensor | None, ...]:
        run: _Run = ctx.run
        to, needs = run.to, ctx.needs_input_grad
        inner, states, totals = run.backward(grad, run.own(grad_states), ctx.weights)
        entering = inner if run.first else inner.new_empty(ctx.x_shape)
        found: list[Tensor | None] = [to.share(entering, 0) if needs[1] else None]
        mine = iter(states)
        for owner, like, need in zip(2 * run.owner, 2 * grad_states, needs[2:], strict=False):
            one = next(mine) if owner == to.rank else torch.empty_like(like)
            found.append(to.share(one.clone(), owner) if need else None)
        return None, *found, *totals


def _gradients(results: list[Tensor], grads: list[Tensor], sources: list[Tensor]) -> list[Tensor]:
    """Gradients of all sources, zeros of those that nothing came from."""
    pairs = [(result, grad) for result, grad in zip(results, grads, strict=True) if result.requires_grad]
    given, arriving = zip(*pairs, strict=True)
    found = torch.autograd.grad(given, sources, arriving, allow_unused=True)
    return [torch.zeros_like(s) if grad is None else grad for s, grad in zip(sources, found, strict=True)]


@contextmanager
def _own_numbers(rank: int) -> Iterator[None]:
    """Random numbers of this process alone, after which all processes go on with the same ones."""
    seed = int(torch.randint(2**31, (1,)))
    with torch.random.fork_rng():
        torch.manual_seed(seed + rank)
        yield

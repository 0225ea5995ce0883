"""A schedule over pieces of time: its order, what it may gain, and the same layers on two processes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, RNN, CIFGCell, SimpleRNN, TimeOptions, UGRNNCell
from lightning_rnn.distributed import AcrossProcesses, Costs, simulate
from lightning_rnn.distributed.pipeline import groups_of, wavefront
from lightning_rnn.distributed.plan import equal_bubble, equal_speedup
from lightning_rnn.distributed.stacks import pieces_of
from lightning_rnn.errors import ConfigError
from tasks.grammar_acceptance.network import GrammarNetwork, NetworkOptions
from tasks.grammar_acceptance.spec import GrammarSpec

B, T, D = 3, 11, 4


@pytest.mark.parametrize(("groups", "pieces"), [(1, 1), (1, 5), (3, 1), (3, 2), (4, 9)])
def test_each_piece_comes_after_what_it_waits_for_and_within_a_wave_nothing_waits(groups: int, pieces: int) -> None:
    order = list(wavefront(groups, pieces))
    assert sorted(order) == [(group, piece) for group in range(groups) for piece in range(pieces)]
    when = {pair: place for place, pair in enumerate(order)}
    for group, piece in order:
        for before in ((group - 1, piece), (group, piece - 1)):
            assert when.get(before, -1) < when[group, piece]
    assert [sum(pair) for pair in order] == sorted(sum(pair) for pair in order)


@pytest.mark.parametrize(("steps", "chunks"), [(0, 4), (1, 4), (7, 3), (8, 8), (100, 7)])
def test_pieces_cover_time_once_and_evenly(steps: int, chunks: int) -> None:
    pieces = pieces_of(steps, chunks, None, None)
    sizes = [piece.stop - piece.start for piece in pieces]
    assert sum(sizes) == steps and max(sizes) - min(sizes) <= 1 and len(pieces) <= chunks
    assert all(a.stop == b.start for a, b in pairwise(pieces))


@pytest.mark.parametrize("groups", [1, 2, 3, 5])
def test_groups_are_neighbours_of_even_size(groups: int) -> None:
    found = groups_of(5, groups)
    assert [place for group in found for place in group] == list(range(5))
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("chunks", [1, 2, 8, 50])
def test_the_simulation_of_equal_layers_gives_the_formula(devices: int, chunks: int) -> None:
    plan = simulate(Costs([0.3] * 8, backward=1.7), devices, chunks)
    assert plan.bubble == pytest.approx(equal_bubble(devices, chunks), abs=1e-12)
    assert plan.speedup == pytest.approx(equal_speedup(devices, chunks), rel=1e-12)


def recurrence(seconds: list[float], chunks: int, transfer: float) -> float:
    """The end of a pass by dynamic programming: a piece begins when it is there and the one before it is done."""
    ends = [0.0] * chunks
    for place, one in enumerate(seconds):
        free = 0.0
        for piece in range(chunks):
            free = max(free, ends[piece] + (transfer if place else 0.0)) + one
            ends[piece] = free
    return ends[-1]


@pytest.mark.parametrize("transfer", [0.0, 0.05, 2.0])
@pytest.mark.parametrize("layers", [[1.0, 5.0, 2.0], [5.0, 1.0, 1.0], [0.1, 0.2, 9.0]])
def test_the_simulation_of_unequal_layers_with_transfers_equals_the_recurrence(
    layers: list[float], transfer: float
) -> None:
    plan = simulate(Costs(layers, backward=2.0, transfer=transfer, launch=0.01), 3, 6)
    forward = [one / 6 + 0.01 for one in layers]
    backward = [2 * one / 6 + 0.01 for one in reversed(layers)]
    assert plan.forward == pytest.approx(recurrence(forward, 6, transfer))
    assert plan.step == pytest.approx(recurrence(forward, 6, transfer) + recurrence(backward, 6, transfer))


def test_no_plan_is_faster_than_its_slowest_group_nor_than_its_devices() -> None:
    for chunks in (1, 4, 1000):
        plan = simulate(Costs([1.0, 3.0]), 2, chunks)
        assert plan.speedup <= 4 / 3 + 1e-9 and 0 <= plan.bubble < 1


@pytest.mark.parametrize(("devices", "chunks"), [(0, 4), (3, 4), (1, 0)])
def test_an_impossible_plan_is_refused(devices: int, chunks: int) -> None:
    with pytest.raises(ConfigError, match="must be"):
        simulate(Costs([1.0, 1.0]), devices, chunks)


# Two processes


def together(work: Callable[..., None], *args: Any) -> None:
    """Run ``work(rank, *args)`` in two gloo processes; what fails there fails here."""
    mp.start_processes(_joined, (work, *args), nprocs=2, start_method="fork")


def _joined(rank: int, work: Callable[..., None], folder: Path, *args: Any) -> None:
    torch.set_default_dtype(torch.float64)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=30))
    work(rank, *args)
    dist.destroy_process_group()


def loss_of(output: Any) -> Tensor:
    """A number that depends on every element of what a layer returns."""
    numbers = torch.Generator().manual_seed(1)
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    return sum((leaf * torch.randn(leaf.shape, generator=numbers)).sum() for leaf in leaves)  # type: ignore[return-value]


CASES: list[tuple[Callable[[], nn.Module], list[str]]] = [
    (lambda: LSTM(D, 5, 3), []),
    (lambda: LSTM(D, 5, 3, initial_state="learned"), ["lengths"]),
    (lambda: GRU(D, D, 3, residual=True, initial_state="learned"), ["mask", "reset_mask"]),
    (lambda: SimpleRNN(D, [5, 6], zero_output_for_mask=True), ["mask"]),
    (lambda: RNN([CIFGCell(D, 5), UGRNNCell(5, 6)]), ["lengths"]),
    (lambda: GRU(D, 5, 2), ["lengths", "state"]),
]


def arguments(names: list[str]) -> dict[str, Any]:
    numbers = torch.Generator().manual_seed(2)
    state = tuple(torch.randn(B, 5, generator=numbers).requires_grad_() for _ in range(2))
    every = {
        "lengths": torch.tensor([T, 3, 0]),
        "mask": torch.rand(B, T, generator=numbers) > 0.4,
        "reset_mask": torch.rand(B, T, generator=numbers) < 0.2,
        "state": state,
    }
    return {name: every[name] for name in names}


def compare(rank: int) -> None:
    for make, names in CASES:
        torch.manual_seed(0)
        alone = make()
        shared = copy.deepcopy(alone)
        mine = AcrossProcesses(shared, chunks=4).layers
        kept, found = [], []
        for network in (alone, shared):
            x, given = torch.randn(B, T, D, generator=torch.Generator().manual_seed(3)), arguments(names)
            output = network(x.requires_grad_(), **given)
            loss_of(output).backward()
            kept.append(pytree.tree_leaves(output))
            found.append([x.grad, *(one.grad for one in given.get("state", ()))])
        torch.testing.assert_close(kept[1], kept[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-10)
        own = [name for name, p in shared.named_parameters() if p.grad is not None and not name.startswith("h0")]
        assert len(mine) in (1, 2) and 0 < len(own) < len(list(shared.parameters())), (rank, own)
        for (name, one), other in zip(shared.named_parameters(), alone.parameters(), strict=True):
            if one.grad is not None:
                torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-10, msg=f"{make} {name}")


def test_layers_on_two_processes_give_the_outputs_and_gradients_of_one(tmp_path: Path) -> None:
    together(compare, tmp_path)


def train(rank: int) -> None:
    torch.manual_seed(0)
    spec, options = GrammarSpec(symbols=8, outputs=8), NetworkOptions(cell="gru", hidden_size=6, num_layers=3)
    alone = GrammarNetwork(spec, options)
    shared = copy.deepcopy(alone)
    across = AcrossProcesses(shared.rnn, chunks=3)
    x = torch.randint(8, (B, T))
    for network in (alone, shared):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(network(x, torch.tensor([T, 3, 1]))).backward()
            optimizer.step()
    stale = [name for name, p in shared.named_parameters() if not torch.allclose(p, alone.get_parameter(name))]
    assert stale and all(name.startswith("rnn.") for name in stale), stale  # the other process' layers
    across.gather()
    torch.testing.assert_close(shared.state_dict(), alone.state_dict(), rtol=0, atol=1e-9)


def test_training_on_two_processes_and_gathering_gives_the_weights_of_one(tmp_path: Path) -> None:
    together(train, tmp_path)


def refuse(rank: int) -> None:
    for make, sentence in (
        (lambda: LSTM(D, 5), "not a stack"),
        (lambda: LSTM(D, 5, 2, bidirectional=True), "bidirectional"),
        (lambda: LSTM(D, 5, 2, time_options=TimeOptions(return_all_states=True)), "return_all_states"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            AcrossProcesses(make())
    from lightning_rnn.layers import Regularization

    torch.manual_seed(0)
    network = GRU(D, 5, 2, regularization=Regularization(layer_dropout=0.5))
    AcrossProcesses(network)(torch.ones(B, T, D))
    numbers = [torch.zeros(3) for _ in range(2)]
    dist.all_gather(numbers, torch.rand(3))
    assert torch.equal(*numbers)  # what is drawn after the stack is the same everywhere


def test_what_cannot_be_shared_out_is_refused_and_random_numbers_stay_in_step(tmp_path: Path) -> None:
    together(refuse, tmp_path)

"""The order of batches: every row once, the same number of batches everywhere, a function of (seed, epoch) alone."""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnn.data.sampler import BucketBatchSampler, even_bounds, token_bounds
from lightning_rnn.errors import ConfigError


def batches(lengths: Any, *args: Any, epoch: int = 0, start: int = 0, **options: Any) -> list[list[int]]:
    sampler = BucketBatchSampler(torch.as_tensor(lengths), *args, **options)
    sampler.set_epoch(epoch)
    sampler.start = start
    found = list(sampler)
    assert len(found) == len(sampler) - start
    return found


def whole(lengths: Any, *args: Any, world: int, **options: Any) -> list[list[int]]:
    """The global batches, put together from those of all processes."""
    parts = [batches(lengths, *args, rank=rank, world=world, **options) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    merged = []
    for shares in zip(*parts, strict=True):
        rows = [0] * sum(map(len, shares))
        for rank, share in enumerate(shares):
            rows[rank::world] = share
        merged.append(rows)
    return merged


def test_rows_that_are_neither_shuffled_nor_pooled_stay_as_they_are() -> None:
    assert batches([5, 1, 4, 2, 3], 2, pool=1) == [[0, 1], [2, 3], [4]]
    assert batches([5, 1, 4, 2, 3], 2, pool=1, epoch=1, start=1) == [[2, 3], [4]]


OPTIONS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "max_tokens": st.none() | st.integers(1, 60),
        "shuffle": st.booleans(),
        "seed": st.integers(0, 3),
        "pool": st.sampled_from([1, 3, 200]),
    }
)
LENGTHS = st.lists(st.integers(0, 40), min_size=4, max_size=90)


@settings(max_examples=150, deadline=None)
@given(LENGTHS, OPTIONS, st.integers(1, 4), st.integers(0, 3))
def test_every_row_once_on_any_number_of_processes(
    lengths: list[int], options: dict[str, Any], world: int, epoch: int
) -> None:
    rows = whole(lengths, **options, world=world, epoch=epoch)
    assert sorted(row for batch in rows for row in batch) == list(range(len(lengths)))
    assert all(len(batch) >= world for batch in rows)
    assert len(rows) == len(whole(lengths, **options, world=world, epoch=epoch + 1))


@settings(max_examples=100, deadline=None)
@given(LENGTHS, OPTIONS, st.integers(0, 3))
def test_going_on_anywhere_gives_the_rest(lengths: list[int], options: dict[str, Any], epoch: int) -> None:
    all_of_them = batches(lengths, **options, epoch=epoch, min_batches=12)
    for start in range(0, len(all_of_them) + 1, 3):
        assert batches(lengths, **options, epoch=epoch, min_batches=12, start=start) == all_of_them[start:]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=24, max_size=90), OPTIONS, st.integers(1, 3), st.integers(1, 4))
def test_another_number_of_processes_keeps_the_global_batches(
    lengths: list[int], options: dict[str, Any], shares: int, world: int
) -> None:
    options["batch_size"] += 7
    before = whole(lengths, **options, world=shares, epoch=1)
    if min(map(len, before)) < world:
        with pytest.raises(ConfigError, match="cannot be shared out"):
            whole(lengths, **options, world=world, shares=shares, epoch=1)
    else:
        assert whole(lengths, **options, world=world, shares=shares, epoch=1) == before


@settings(max_examples=100, deadline=None)
@given(LENGTHS, st.integers(1, 60), st.integers(1, 3))
def test_no_process_gets_more_than_its_budget(lengths: list[int], budget: int, world: int) -> None:
    ordered = np.sort(np.array(lengths))
    bounds = token_bounds(ordered, budget, 1000, world)
    for low, high in itertools.pairwise(bounds[:-1]):  # the last one may have taken what was left
        share = math.ceil((high - low) / world)
        assert share == 1 or share * ordered[high - 1] <= budget


def test_the_seed_and_the_epoch_make_the_order() -> None:
    lengths = torch.randint(1, 50, (300,))
    one = batches(lengths, 8, shuffle=True, seed=1, epoch=2)
    assert one == batches(lengths, 8, shuffle=True, seed=1, epoch=2)
    assert one != batches(lengths, 8, shuffle=True, seed=1, epoch=3)
    assert one != batches(lengths, 8, shuffle=True, seed=2, epoch=2)


def test_without_shuffling_the_order_never_changes() -> None:
    lengths = torch.randint(1, 50, (300,))
    assert batches(lengths, 8, epoch=0) == batches(lengths, 8, epoch=5)


def test_rows_of_equal_length_meet_others_in_the_next_epoch() -> None:
    """By tokens the cuts are the same in each epoch; what is between them is not."""
    lengths = torch.full((400,), 5)
    first, second = (batches(lengths, 100, max_tokens=50, shuffle=True, epoch=epoch) for epoch in (0, 1))
    assert not {frozenset(batch) for batch in first} & {frozenset(batch) for batch in second}


def padding(lengths: np.ndarray[Any, Any], *args: Any, **options: Any) -> float:
    found = batches(lengths, *args, shuffle=True, **options)
    return 1 - lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in found)


def imdb_lengths() -> np.ndarray[Any, Any]:
    """Log-normal, mean 234, 95th percentile 598, cut at 2,470: the lengths of IMDB's reviews."""
    sigma = 0.74
    drawn = np.random.default_rng(0).lognormal(math.log(234) - sigma**2 / 2, sigma, 25_000)
    lengths = drawn.clip(1, 2470).astype(np.int64)
    assert lengths.mean() == pytest.approx(234, rel=0.01)
    assert np.percentile(lengths, 95) == pytest.approx(598, rel=0.01)
    return lengths


@pytest.mark.parametrize("batch_size", [16, 32, 64, 128])
def test_padding_is_under_5_percent_at_imdbs_lengths(batch_size: int) -> None:
    lengths = imdb_lengths()
    assert padding(lengths, batch_size) < 0.05
    assert padding(lengths, batch_size, pool=1) > 0.5  # random batches
    assert padding(lengths, 100_000, max_tokens=234 * batch_size) < 0.05


@pytest.mark.parametrize("batch_size", [16, 64, 256])
def test_padding_is_under_5_percent_on_multi30k(batch_size: int, data_root: Path) -> None:
    with gzip.open(data_root / "multi30k/raw/train.en.gz", "rt") as file:
        lengths = np.array([len(line.split()) for line in file])
    assert padding(lengths, batch_size) < 0.05


@pytest.mark.parametrize(("rows", "size", "expected"), [(9, 4, [4, 3, 2]), (8, 4, [4, 4]), (3, 4, [3]), (5, 4, [3, 2])])
def test_the_last_two_batches_share_what_is_left(rows: int, size: int, expected: list[int]) -> None:
    assert np.diff(even_bounds(rows, size)).tolist() == expected


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 rows cannot be shared out over 4 processes"):
        batches([1, 2, 3], 8, world=4)

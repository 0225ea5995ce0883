"""The order of chunks: nothing lost, nothing twice, every row continued, whatever the lanes, processes and restarts."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnn.data.lanes import Chunk
from lightning_rnn.data.streams import StreamBatchSampler
from lightning_rnn.errors import ConfigError

Options = dict[str, float | bool]
RANDOM: Options = {"chunk_std": 3.0, "half_probability": 0.2}


@st.composite
def samplers(draw: st.DrawFn) -> StreamBatchSampler:
    """Of streams of very different lengths, empty ones among them, or of one that is cut."""
    lanes, chunk = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    split = draw(st.booleans())
    if split:
        lengths = [draw(st.integers(lanes, 200))]
    else:
        lengths = draw(st.lists(st.integers(0, 60), min_size=lanes, max_size=25).map(lambda x: [*x, *[1] * lanes]))
    std, half = draw(st.sampled_from([0.0, 1.0, 5.0])), draw(st.sampled_from([0.0, 0.05, 1.0]))
    sampler = StreamBatchSampler(
        torch.tensor(lengths),
        lanes,
        chunk,
        shuffle=draw(st.booleans()),
        split=split,
        chunk_std=std,
        half_probability=half,
        seed=draw(st.integers(0, 5)),
    )
    sampler.set_epoch(draw(st.integers(0, 3)))
    return sampler


def again(sampler: StreamBatchSampler, rank: int = 0, world: int = 1) -> StreamBatchSampler:
    """The same epoch of the same order, as one of ``world`` processes."""
    other = StreamBatchSampler(
        torch.from_numpy(sampler.lengths),
        sampler.lanes,
        sampler.chunk,
        shuffle=sampler.shuffle,
        split=sampler.split,
        chunk_std=sampler.chunk_std,
        half_probability=sampler.half_probability,
        seed=sampler.seed,
        rank=rank,
        world=world,
    )
    other.set_epoch(sampler.epoch)
    return other


def lanes_of(batches: list[list[Chunk]]) -> list[list[Chunk]]:
    """The chunks of each row that have a step."""
    return [[chunk for chunk in lane if chunk.stop > chunk.start] for lane in zip(*batches, strict=True)]


@settings(deadline=None, max_examples=80)
@given(samplers())
def test_every_step_is_in_one_chunk_of_every_epoch(sampler: StreamBatchSampler) -> None:
    for epoch in (sampler.epoch, 7):
        sampler.set_epoch(epoch)
        seen = Counter((c.stream, t) for chunks in sampler for c in chunks for t in range(c.start, c.stop))
        assert seen == Counter((i, t) for i, length in enumerate(sampler.lengths.tolist()) for t in range(length))


@settings(deadline=None, max_examples=80)
@given(samplers())
def test_a_row_goes_on_where_it_stopped_and_starts_are_said(sampler: StreamBatchSampler) -> None:
    for lane in lanes_of(list(sampler)):
        assert lane[0].begins
        for before, chunk in pairwise(lane):
            continued = (chunk.stream, chunk.start) == (before.stream, before.stop)
            assert continued != chunk.begins
            assert not continued or before.stop - before.start == before.width


@settings(deadline=None, max_examples=80)
@given(samplers())
def test_rows_are_shorter_than_their_batch_only_where_a_stream_ends(sampler: StreamBatchSampler) -> None:
    batches = list(sampler)
    for k, chunks in enumerate(batches):
        assert len(chunks) == sampler.lanes
        assert {chunk.width for chunk in chunks} == {max(chunk.stop - chunk.start for chunk in chunks)}
        assert chunks[0].width > 0
        for row, chunk in enumerate(chunks):
            if chunk.stop - chunk.start < chunk.width and k + 1 < len(batches):
                after = batches[k + 1][row]
                assert after.begins or after.stream == -1


@settings(deadline=None, max_examples=80)
@given(samplers())
def test_every_epoch_has_the_promised_number_of_batches(sampler: StreamBatchSampler) -> None:
    for epoch in range(5):
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler)


def test_another_epoch_begins_at_its_first_batch_the_same_one_goes_on() -> None:
    sampler = StreamBatchSampler(torch.arange(5, 25), 3, 6, shuffle=True)
    batches = list(sampler)
    sampler.start = 4
    sampler.set_epoch(0)
    assert list(sampler) == batches[4:]
    sampler.start = 4
    sampler.set_epoch(1)
    assert len(list(sampler)) == len(batches)


def test_random_chunks_of_short_streams_are_not_stretched() -> None:
    # where every stream is a chunk long, random chunks need more of them
    sampler = StreamBatchSampler(torch.full((5000,), 70), 20, 70, chunk_std=5, half_probability=0.05, shuffle=True)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        assert 66 < sampler.plan().chunks.mean() < 74 and sampler.plan().chunks.max() < 95
        assert len(list(sampler)) == len(sampler)


@settings(deadline=None, max_examples=40)
@given(samplers(), st.integers(1, 3))
def test_another_number_of_processes_sees_the_same_batches(sampler: StreamBatchSampler, world: int) -> None:
    world = min(world, sampler.lanes)
    ranks = [list(again(sampler, rank, world)) for rank in range(world)]
    for step, whole in enumerate(sampler):
        assert {chunk.width for rank in ranks for chunk in rank[step]} == {whole[0].width}
        for rank in range(world):
            assert ranks[rank][step] == whole[rank::world]


@settings(deadline=None, max_examples=12)
@given(samplers())
def test_a_start_at_any_batch_gives_the_rest_of_the_epoch(sampler: StreamBatchSampler) -> None:
    batches = list(sampler)
    for start in range(len(batches) + 1):
        fresh = again(sampler)
        fresh.start = start
        assert list(fresh) == batches[start:]
    assert list(fresh) == batches  # the next one begins at its first batch


@pytest.mark.parametrize("options", [{}, RANDOM], ids=["equal", "random"])
def test_epochs_and_seeds_differ_only_where_shuffled_or_random(options: Options) -> None:
    def epoch(number: int, seed: int = 0, **more: bool) -> list[list[Chunk]]:
        lengths = torch.tensor([30]) if more.get("split") else torch.arange(5, 25)
        sampler = StreamBatchSampler(lengths, 3, 6, seed=seed, **more, **options)  # type: ignore[arg-type]
        sampler.set_epoch(number)
        return list(sampler)

    for more in ({}, {"split": True}):
        assert (epoch(0, **more) == epoch(1, **more)) == (not options)
        assert epoch(4, shuffle=True, **more) == epoch(4, shuffle=True, **more)
        assert epoch(0, shuffle=True, **more) != epoch(1, shuffle=True, **more)
        assert epoch(0, shuffle=True, **more) != epoch(0, 1, shuffle=True, **more)


def test_lanes_end_together() -> None:
    lengths = torch.from_numpy(torch.distributions.LogNormal(5.0, 1.0).sample((1000,)).numpy()).long() + 1
    sampler = StreamBatchSampler(lengths, 32, 20, shuffle=True)
    rows = [chunk for chunks in sampler for chunk in chunks]
    assert sum(chunk.stream == -1 for chunk in rows) < 0.01 * len(rows)
    # streams dealt out in turn leave a third of the rows empty


def test_unshuffled_lanes_keep_the_order_of_the_streams() -> None:
    for lane in lanes_of(list(StreamBatchSampler(torch.arange(1, 40), 4, 5))):
        assert [c.stream for c in lane] == sorted(c.stream for c in lane)


def test_random_chunks_have_awd_lstms_distribution() -> None:
    sampler = StreamBatchSampler(
        torch.tensor([930_000]), 20, 70, split=True, chunk_std=5, half_probability=0.05, seed=1
    )  # PTB's shape
    widths = torch.tensor([chunks[0].width for chunks in sampler])
    short = widths < 52
    assert 0.02 < float(short.float().mean()) < 0.09
    assert widths[~short].float().std().item() == pytest.approx(5, abs=0.7)
    assert widths.float().mean().item() == pytest.approx(70, abs=0.3)
    assert int(widths.max()) <= 90
    lags = torch.corrcoef(torch.stack([widths[:-1].float(), widths[1:].float()]))[0, 1]
    assert abs(float(lags)) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk must be at least 1, got 0"),
        ({"chunk_std": -1.0}, "chunk_std must be at least 0, got -1.0"),
        ({"half_probability": 1.5}, "half_probability must be 0 to 1, got 1.5"),
        ({"lanes": 2, "world": 3}, "2 lanes cannot be shared out over 3 processes"),
        ({"lanes": 4}, "3 cannot fill 4 lanes"),
        ({"split": True}, "split cuts one stream, got 3"),
        ({"lengths": torch.tensor([5]), "lanes": 6, "split": True}, "5 steps cannot fill 6 lanes"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, object], message: str) -> None:
    arguments = {"lengths": torch.tensor([5, 6, 7]), "lanes": 2, "chunk": 3, **options}
    with pytest.raises(ConfigError, match=message):
        StreamBatchSampler(**arguments)  # type: ignore[arg-type]

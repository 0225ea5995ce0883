"""What batches of streams hold: the streams bit for bit, their targets, and a state that may be carried over."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_rnn import LSTM, LSTMState, SequenceBatch
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.streams import StreamBatchSampler, Streams
from lightning_rnn.errors import ConfigError, DataError

Options = dict[str, float | bool]
RANDOM: Options = {"chunk_std": 3.0, "half_probability": 0.2}


def fetched(data: Streams, sampler: StreamBatchSampler) -> list[SequenceBatch]:
    return [data.__getitems__(chunks) for chunks in sampler]


def joined(batches: list[SequenceBatch], what: str) -> dict[int, Tensor]:
    """Each stream's valid steps, in the order in which they came."""
    parts: dict[int, list[Tensor]] = {}
    for batch in batches:
        assert batch.ids is not None and batch.lengths is not None
        values = getattr(batch, what)
        for row, (stream, length) in enumerate(zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)):
            parts.setdefault(stream, []).append(values[row, :length])
            assert not values[row, length:].any()  # padding
    return {stream: torch.cat(rows) for stream, rows in parts.items() if stream >= 0}


@pytest.mark.parametrize("options", [{}, RANDOM], ids=["equal", "random"])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_chunks_joined_are_the_streams_bit_for_bit(options: Options, shape: tuple[int, ...]) -> None:
    rows = Ragged.from_list([torch.randn(length, *shape) for length in (17, 1, 64, 5, 33, 8, 8)])
    outcomes = Ragged(rows.values * 2, rows.offsets)
    sampler = StreamBatchSampler(rows.lengths, 3, 7, shuffle=True, **options)  # type: ignore[arg-type]
    batches = fetched(Streams(rows, outcomes), sampler)
    for what, source in (("inputs", rows), ("targets", outcomes)):
        parts = joined(batches, what)
        assert sorted(parts) == list(range(len(rows)))
        assert all(torch.equal(parts[i], source[i]) for i in parts)


def test_next_targets_are_the_next_steps_across_chunks() -> None:
    rows = Ragged.from_list([torch.arange(100 * i, 100 * i + n) for i, n in enumerate([23, 2, 40, 11, 9])])
    data = Streams(rows, "next")
    batches = fetched(data, StreamBatchSampler(data.lengths, 2, 5, shuffle=True, **RANDOM))  # type: ignore[arg-type]
    inputs, targets = joined(batches, "inputs"), joined(batches, "targets")
    for i in range(len(rows)):
        assert torch.equal(inputs[i], rows[i][:-1]) and torch.equal(targets[i], rows[i][1:])
    assert all(batch.target_lengths is batch.lengths for batch in batches)


@pytest.mark.parametrize("epoch", range(4))
def test_a_cut_stream_loses_no_target_at_the_cuts(epoch: int) -> None:
    data = Streams(Ragged.from_list([torch.arange(1, 104)]), "next")
    sampler = StreamBatchSampler(data.lengths, 4, 6, shuffle=True, split=True)
    sampler.set_epoch(epoch)
    pairs = []
    for batch in fetched(data, sampler):
        assert batch.lengths is not None
        for row, length in enumerate(batch.lengths.tolist()):
            pairs += list(zip(batch.inputs[row, :length].tolist(), batch.targets[row, :length].tolist(), strict=True))
    assert sorted(pairs) == [(x, x + 1) for x in range(1, 103)]


def test_labels_go_with_all_chunks_of_their_stream() -> None:
    rows = Ragged.from_list([torch.zeros(n, 2) for n in (9, 4, 20)])
    for labels in (torch.tensor([5, 6, 7]), torch.tensor([[0.5], [0.6], [0.7]])):
        for batch in fetched(Streams(rows, labels), StreamBatchSampler(rows.lengths, 2, 3)):
            assert batch.ids is not None and batch.lengths is not None
            dry = batch.ids < 0
            assert torch.equal(dry, batch.lengths == 0)
            assert torch.equal(batch.targets[~dry], labels[batch.ids[~dry]])
            ignored = batch.targets[dry].isnan() if labels.is_floating_point() else batch.targets[dry] == -100
            assert ignored.all()
    assert dry.any()


@pytest.mark.parametrize("split", [False, True])
def test_chunks_with_carried_state_equal_one_run(split: bool) -> None:
    rows = Ragged.from_list([torch.randn(n, 3) for n in ((47,) if split else (31, 4, 18, 50, 7, 9, 22))])
    layer = LSTM(3, 4, num_layers=2)
    sampler = StreamBatchSampler(rows.lengths, 3, 8, shuffle=True, split=split, **RANDOM)  # type: ignore[arg-type]
    state: tuple[LSTMState, ...] = tuple(LSTMState(torch.zeros(3, 4), torch.zeros(3, 4)) for _ in range(2))
    outputs: dict[tuple[int, int], Tensor] = {}
    for chunks in sampler:
        batch = Streams(rows).__getitems__(chunks)
        assert batch.starts is not None and batch.lengths is not None
        kept = ~batch.starts.unsqueeze(1)
        state = tuple(LSTMState(part.h * kept, part.c * kept) for part in state)
        sequence, state = layer(batch.inputs, state, lengths=batch.lengths)
        for row, chunk in enumerate(chunks):
            outputs |= {(chunk.stream, t): sequence[row, t - chunk.start] for t in range(chunk.start, chunk.stop)}
    begins = sorted((chunk.stream, chunk.start) for chunks in sampler for chunk in chunks if chunk.begins)
    for number, (stream, start) in enumerate(begins):
        end = begins[number + 1][1] if split and number + 1 < len(begins) else len(rows[stream])
        whole = layer(rows[stream][start:end].unsqueeze(0)).sequence[0]
        ours = torch.stack([outputs[stream, t] for t in range(start, end)])
        torch.testing.assert_close(ours, whole, atol=1e-6, rtol=0)


def test_a_loader_with_workers_gives_the_same_batches() -> None:
    rows = Ragged.from_list([torch.randn(n, 2) for n in (31, 4, 18, 50)])
    data, sampler = Streams(rows), StreamBatchSampler(rows.lengths, 2, 8, shuffle=True)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=lambda x: x, num_workers=1)  # type: ignore[arg-type, var-annotated]
    for ours, theirs in zip(fetched(data, sampler), loader, strict=True):
        assert torch.equal(ours.inputs, theirs.inputs) and torch.equal(ours.ids, theirs.ids)
    chunk = next(iter(sampler))[0]
    assert pickle.loads(pickle.dumps(chunk)) == chunk


def test_small_integers_come_as_int64() -> None:
    rows = Ragged.from_list([torch.arange(9, dtype=torch.int16)])
    batch = Streams(rows, "next").__getitems__(next(iter(StreamBatchSampler(torch.tensor([8]), 1, 5))))
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64 and batch.targets.tolist() == [[1, 2, 3, 4, 5]]


def test_real_text_is_read_once_and_in_order(data_root: Path) -> None:
    text = (data_root / "char" / "tinyshakespeare.txt").read_bytes()
    data = Streams(Ragged.from_list([torch.tensor(list(text))]), "next")
    sampler = StreamBatchSampler(data.lengths, 32, 200, split=True, chunk_std=10, half_probability=0.05)
    lanes: list[list[Tensor]] = [[] for _ in range(32)]
    for batch in fetched(data, sampler):
        assert batch.lengths is not None
        for lane, row, length in zip(lanes, batch.targets, batch.lengths.tolist(), strict=True):
            lane.append(row[:length])
    assert bytes(torch.cat([torch.cat(lane) for lane in lanes]).tolist()) == text[1:]


def test_real_documents_fill_their_lanes(data_root: Path) -> None:
    lines = (data_root / "ptb" / "ptb.valid.txt").read_text().splitlines()
    rows = Ragged.from_list([torch.arange(len(line.split()) + 1) for line in lines])
    sampler = StreamBatchSampler(rows.lengths, 16, 35, shuffle=True)
    parts = joined(fetched(Streams(rows), sampler), "inputs")
    assert all(torch.equal(parts[i], torch.arange(len(line.split()) + 1)) for i, line in enumerate(lines))


# Mistakes.


def test_streams_without_a_step_are_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    rows = Ragged.from_list([torch.arange(5), torch.arange(1), torch.arange(0), torch.arange(4)])
    with caplog.at_level(logging.WARNING):
        data = Streams(rows, "next", ids=["a", "b", "c", "d"])
    assert caplog.messages == ["2 of 4 streams are too short for a step and are left out: b, c"]
    seen = {chunk.stream for chunks in StreamBatchSampler(data.lengths, 2, 3) for chunk in chunks}
    assert seen - {-1} == {0, 3}


def test_targets_that_do_not_fit_are_named() -> None:
    rows = Ragged.from_list([torch.arange(5), torch.arange(4)])
    with pytest.raises(DataError, match="2 streams but targets of 3"):
        Streams(rows, torch.zeros(3))
    with pytest.raises(DataError, match="stream b has 4 steps but 3 targets"):
        Streams(rows, Ragged.from_list([torch.arange(5), torch.arange(3)]), ids=["a", "b"])
    with pytest.raises(ConfigError, match=r"int64 or floating, got torch.bool"):
        Streams(rows, torch.tensor([True, False]))

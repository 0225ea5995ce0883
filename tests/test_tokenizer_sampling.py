"""Sampled cuts of words: a function of text and seed, of the model's own distribution, anew in every epoch."""

from __future__ import annotations

import collections
import math
import threading

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_rnn.data.dataset import SequenceDataset
from lightning_rnn.data.sampled import SampledText, row_seeds
from lightning_rnn.data.sentencepiece import SentencePieceTokenizer
from lightning_rnn.data.tokenizer import UNK, Kind, Tokenizer, train_tokenizer
from lightning_rnn.errors import ConfigError
from lightning_rnn.types import SequenceBatch

TEXTS = ["The cat sat on the mat", "a dog ran far away", "", "cats and dogs and mats", "the End"] * 4


def trained(kind: Kind, texts: list[str] = TEXTS, size: int = 30, lower: bool = False) -> Tokenizer:
    return train_tokenizer(iter(texts), kind, max(size, 260) if kind == "bytes" else size, lower)


def sampled(kind: Kind, texts: list[str], seeds: list[int], alpha: float = 0.2) -> list[list[int]]:
    tokenizer = trained(kind)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    rows = tokenizer.sample(texts, seeds, alpha)
    return [rows[i].tolist() for i in range(len(rows))]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_sample_is_a_function_of_text_and_seed(kind: Kind) -> None:
    seeds = row_seeds(0, 0, torch.arange(20))
    rows = sampled(kind, TEXTS, seeds)
    assert sampled(kind, TEXTS[::-1], seeds[::-1])[::-1] == rows
    assert [sampled(kind, [text], [seed])[0] for text, seed in zip(TEXTS, seeds, strict=True)] == rows
    threaded: list[list[list[int]]] = []
    threads = [threading.Thread(target=lambda: threaded.append(sampled(kind, TEXTS, seeds))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert threaded == [rows] * 4
    assert sampled(kind, TEXTS, row_seeds(1, 0, torch.arange(20))) != rows


@pytest.mark.parametrize(("kind", "alpha"), [("unigram", 0.3), ("bpe", 0.3)])
def test_samples_have_the_distribution_of_sentencepieces_own(kind: Kind, alpha: float) -> None:
    text, count, tokenizer = " ".join(TEXTS[0].split()[:4]), 4000, trained(kind)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    ours = collections.Counter(map(tuple, sampled(kind, [text] * count, list(range(count)), alpha)))
    sp = tokenizer._processor
    theirs = collections.Counter(
        tuple(sp.encode(text, enable_sampling=True, alpha=alpha, nbest_size=-1)) for _ in range(count)
    )
    often = [way for way in ours | theirs if ours[way] + theirs[way] >= 20]
    chi_squared = sum((ours[way] - theirs[way]) ** 2 / (ours[way] + theirs[way]) for way in often)
    assert len(often) > 5
    assert chi_squared < len(often) + 6 * math.sqrt(2 * len(often))  # six standard deviations


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_sample_is_the_same_text_cut_in_other_ways(kind: Kind) -> None:
    tokenizer = trained(kind)
    ways = sampled(kind, [TEXTS[0]] * 50, list(range(50)))
    assert len({tuple(way) for way in ways}) > 10
    assert {tokenizer.decode(way) for way in ways} == {TEXTS[0]}
    assert sampled(kind, [""], [7]) == [[UNK]]
    plain = tokenizer.encode(TEXTS[:1])[0].tolist()
    mild = sampled(kind, [TEXTS[0]] * 50, list(range(50)), 20.0 if kind == "unigram" else 1e-4)
    assert mild.count(plain) > 40 > ways.count(plain)


def test_only_pieces_that_merge_are_sampled() -> None:
    for kind, alpha, problem in (
        ("word", 0.1, "not with word"),
        ("unigram", 0.0, "above 0"),
        ("bpe", 1.5, "at most 1"),
    ):
        with pytest.raises(ConfigError, match=problem):
            sampled(kind, TEXTS, list(range(20)), alpha)  # type: ignore[arg-type]


def drawn_dataset(seed: int = 0, max_length: int | None = None) -> SequenceDataset:
    tokenizer = trained("unigram")
    assert isinstance(tokenizer, SentencePieceTokenizer)
    text = SampledText(TEXTS, tokenizer, 0.1, seed, max_length)
    return SequenceDataset(tokenizer.encode(TEXTS), torch.arange(20), drawn=text)


def epoch_of(data: SequenceDataset, epoch: int, workers: int = 0, size: int = 4) -> list[list[int]]:
    """Tokens of the rows in their order, as batches of ``size`` give them."""
    data.set_epoch(epoch)
    batches = [list(range(start, min(start + size, 20))) for start in range(0, 20, size)]
    context = "fork" if workers else None
    loader: DataLoader[SequenceBatch] = DataLoader(
        data,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=lambda batch: batch,
        num_workers=workers,
        multiprocessing_context=context,
    )
    return [row[:length].tolist() for batch in loader for row, length in zip(batch.inputs, batch.lengths, strict=True)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_sampled_rows_are_a_function_of_seed_epoch_and_row() -> None:
    first, second = (epoch_of(drawn_dataset(), epoch) for epoch in (0, 1))
    assert first != second
    for workers, size in ((0, 7), (2, 4)):
        data = drawn_dataset()
        assert [epoch_of(data, epoch, workers, size) for epoch in (1, 0)] == [second, first]
    assert epoch_of(drawn_dataset(seed=1), 0) != first
    assert max(map(len, epoch_of(drawn_dataset(max_length=3), 0))) == 3
    tokenizer = trained("unigram")
    assert [tokenizer.decode(row) for row in first] == [
        tokenizer.decode(tokenizer.encode([t])[0].tolist()) for t in TEXTS
    ]


def test_sampled_rows_are_sorted_by_their_plain_lengths() -> None:
    data = drawn_dataset()
    assert torch.equal(data.inputs.lengths, trained("unigram").encode(TEXTS).lengths)
    assert data.row_id(3) == 3 and len(data) == 20


def test_seeds_of_rows_do_not_meet() -> None:
    seeds = [seed for s in range(3) for epoch in range(10) for seed in row_seeds(s, epoch, torch.arange(1000))]
    assert len(set(seeds)) > len(seeds) - 3  # 0.1 pairs are expected
    assert 0 <= min(seeds) < 2**22 and 2**32 - 2**22 < max(seeds) < 2**32

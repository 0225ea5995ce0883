"""The token store: prepared once, whole or absent, never stale, shared by all processes."""

from __future__ import annotations

import errno
import gzip
import json
import multiprocessing
import os
import pickle
import warnings
from collections.abc import Iterator
from io import BytesIO
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from store_cases import TOKENIZER, WORDS, Lines, expected, folders, prepare, rows_of, write_corpus
from torch.utils.data import DataLoader

from lightning_rnn.data import BucketBatchSampler
from lightning_rnn.data.dataset import SequenceDataset
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.store import MappedRagged, chunks, prepare_tokenizer, prepare_tokens
from lightning_rnn.data.tokenizer import BOS, EOS, train_tokenizer
from lightning_rnn.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lightning_rnn.data.store.CHUNK_TEXTS", 50)
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path)


def test_what_is_stored_is_what_was_encoded(cache: Path, corpus: Path) -> None:
    tokens = prepare(Lines(corpus))
    assert rows_of(tokens) == expected(corpus)
    assert tokens.values.dtype == torch.int16 and tokens.offsets.dtype == torch.int64
    assert sorted(path.name for path in tokens.folder.iterdir()) == ["meta.json", "offsets.npy", "values.npy"]
    assert np.array_equal(np.load(tokens.folder / "values.npy"), tokens.values.numpy())


@pytest.mark.parametrize("kind", ["unigram", "bpe", "characters", "bytes"])
def test_real_text_comes_back_from_the_store(cache: Path, data_root: Path, kind: Any) -> None:
    path = data_root / "sst/sst2_dev.tsv"
    texts = [" ".join(line.split("\t")[0].split()) for line in path.read_text().splitlines()]
    tokenizer = train_tokenizer(texts, kind, 2000)
    tokens = prepare_tokens([path], lambda: iter(texts), tokenizer)
    assert torch.equal(tokens.values.long(), tokenizer.encode(texts).values)
    assert [tokenizer.decode(row) for row in rows_of(tokens)] == texts


def test_many_pieces_are_stored_wider(cache: Path, tmp_path: Path) -> None:
    for count, dtype in ((2**15 - 5, torch.int16), (2**15 - 4, torch.int32)):
        words = [f"w{number}" for number in range(count)]
        (tmp_path / "words.txt").write_text("\n".join(words))
        tokens = prepare(Lines(tmp_path / "words.txt"), train_tokenizer(words, "words", 10**6))
        assert tokens.values.dtype == dtype
        assert tokens.pad(torch.tensor([count - 1]))[0].tolist() == [[count + 3]]


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("cut", [None, 1, 5])
def test_rows_are_cut_then_framed(cache: Path, corpus: Path, bos: bool, eos: bool, cut: int | None) -> None:
    tokens = prepare(Lines(corpus), bos=bos, eos=eos, max_length=cut)
    assert rows_of(tokens) == [[BOS] * bos + row[:cut] + [EOS] * eos for row in expected(corpus)]


def test_a_second_run_reads_no_text(cache: Path, corpus: Path) -> None:
    first, lines = prepare(Lines(corpus)), Lines(corpus)
    second = prepare(lines)
    assert second.folder == first.folder and lines.read == 0
    corpus.rename(corpus.with_name("moved.txt"))  # the same content under another name
    moved = Lines(corpus.with_name("moved.txt"))
    assert prepare(moved).folder == first.folder and moved.read == 0


def test_a_changed_source_is_named_and_prepared_again(
    cache: Path, corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, times = prepare(Lines(corpus)), corpus.stat()
    text = corpus.read_text()
    corpus.write_text(text.replace("rose", "blue", 1))  # of the same length, and as old
    os.utime(corpus, ns=(times.st_atime_ns, times.st_mtime_ns))
    new = prepare(lines := Lines(corpus))
    assert caplog.messages == [f"{corpus} changed since its tokens were prepared: preparing again"]
    assert new.folder != old.folder and rows_of(new) == expected(corpus) and lines.read == 1
    corpus.write_text(text)
    assert prepare(Lines(corpus)).folder == old.folder
    assert len(caplog.messages) == 1


def test_another_tokenizer_or_option_is_another_store(
    cache: Path, corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = train_tokenizer([" ".join(WORDS)], "words", lower=True)
    options: list[dict[str, Any]] = [{}, {"bos": True}, {"eos": True}, {"max_length": 3}, {"reading": {"column": 1}}]
    made = {prepare(Lines(corpus), **option).folder for option in options}
    made.add(prepare(Lines(corpus), other).folder)
    assert len(made) == len({MappedRagged.open(folder).digest() for folder in made}) == len(options) + 1
    assert caplog.messages == []


def test_files_count_in_their_order_and_as_often_as_they_are_given(cache: Path, corpus: Path) -> None:
    other = corpus.with_name("other.txt")
    other.write_text("a rose")
    orders = [[corpus, other], [other, corpus], [corpus], [corpus, corpus]]
    made = [
        prepare_tokens(files, lambda files=files: (line for file in files for line in Lines(file)()), TOKENIZER)  # type: ignore[misc]
        for files in orders
    ]
    assert [len(tokens) for tokens in made] == [401, 401, 400, 800]


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize(
    "place", ["os.replace", "os.fsync", "pathlib.Path.mkdir", "numpy.lib.format.write_array_header_1_0"]
)
def test_a_cache_that_cannot_be_written_to_is_named(
    cache: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        with pytest.raises(DataError, match=f"{os.strerror(number)}.*LIGHTNING_RNN_CACHE") as caught:
            prepare(Lines(corpus))
    assert str(cache) in str(caught.value) and "\n" not in str(caught.value)
    assert not cache.exists() or folders(cache) == []
    assert rows_of(prepare(Lines(corpus))) == expected(corpus)


def test_a_cache_that_is_a_file_is_named(cache: Path, corpus: Path) -> None:
    cache.parent.write_text("in the way")
    with pytest.raises(DataError, match=r"cache.*LIGHTNING_RNN_CACHE"):
        prepare(Lines(corpus))


def test_a_read_only_cache_serves_what_it_has(cache: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(Lines(corpus))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for place in ("os.replace", "os.rename", "os.fsync", "pathlib.Path.mkdir", "lightning_rnn.data.cache.locked"):
        monkeypatch.setattr(place, refuse)
    assert rows_of(prepare(Lines(corpus))) == expected(corpus)


def test_a_source_that_is_missing_or_empty_or_changes_is_named(cache: Path, corpus: Path) -> None:
    with pytest.raises(DataError, match=f"cannot read {corpus}x"):
        prepare(Lines(Path(f"{corpus}x")))

    def appending() -> Iterator[str]:
        with corpus.open("a") as stream:
            stream.write("a\n")
        return iter(["a"])

    with pytest.raises(DataError, match=f"{corpus} changed while it was read"):
        prepare_tokens([corpus], appending, TOKENIZER)
    with pytest.raises(DataError, match=f"there is no text in {corpus}"):
        prepare_tokens([corpus], lambda: iter([]), TOKENIZER)
    with pytest.raises(DataError, match="half a surrogate pair"):
        prepare_tokens([corpus], lambda: iter(["\ud800"]), TOKENIZER)
    with pytest.raises(ConfigError, match="max_length must be at least 1"):
        prepare(Lines(corpus), max_length=0)
    assert folders(cache) == []


def test_a_trained_tokenizer_is_kept_too(cache: Path, corpus: Path) -> None:
    lines = Lines(corpus)
    made = [prepare_tokenizer([corpus], lines, "bpe", 40) for _ in range(2)]
    assert made[0].digest == made[1].digest == train_tokenizer(lines(), "bpe", 40).digest
    assert lines.read == 2  # one of them just above
    assert prepare_tokenizer([corpus], lines, "words", 10).vocab_size == 10


def test_mapped_rows_travel_as_a_path(cache: Path, corpus: Path) -> None:
    tokens = prepare(Lines(corpus))
    for packed in (pickle.dumps(tokens), bytes(ForkingPickler.dumps(SequenceDataset(tokens)))):
        assert len(packed) < 1000
        copy = pickle.load(BytesIO(packed))
        assert rows_of(copy.inputs if isinstance(copy, SequenceDataset) else copy) == rows_of(tokens)


def as_it_is(batch: Any) -> Any:
    return batch


@pytest.mark.parametrize("context", ["fork", "forkserver"])
def test_workers_read_the_same_rows(cache: Path, corpus: Path, context: str) -> None:
    methods: BaseContext = multiprocessing.get_context(context)
    data = SequenceDataset(prepare(Lines(corpus)))
    batches = list(BucketBatchSampler(data.inputs.lengths, 64))
    loader: DataLoader[Any] = DataLoader(
        data,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=as_it_is,
        num_workers=1,
        multiprocessing_context=methods,
    )
    found = {
        int(row): tokens[:length].tolist()
        for batch in loader
        for row, tokens, length in zip(batch.ids, batch.inputs, batch.lengths, strict=True)
    }
    assert [found[row] for row in range(400)] == expected(corpus)


def test_mapping_warns_of_nothing_and_changes_no_file(cache: Path, corpus: Path) -> None:
    folder = prepare(Lines(corpus)).folder
    before = (folder / "values.npy").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokens = MappedRagged.open(folder)
    tokens.values[0] = 7
    assert (folder / "values.npy").read_bytes() == before


def padded(rows: list[torch.Tensor], value: float) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16, torch.int32, torch.int64, torch.uint8])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_a_batch_is_that_of_pad_sequence(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    rows = [(torch.rand(length, *shape) * 100).to(dtype) for length in (3, 0, 5, 1, 5, 2)]
    ragged = Ragged.from_list(rows)
    wanted = dtype if dtype.is_floating_point else torch.int64
    for index in ([0, 1, 2, 3, 4, 5], [5], [2, 4], [1], [5, 5, 0], []):
        for value in (0, 7):
            batch, lengths = ragged.pad(torch.tensor(index, dtype=torch.int64), value)
            chosen = [rows[i].to(wanted) for i in index]
            assert batch.dtype == wanted and lengths.dtype == torch.int64
            assert torch.equal(batch, padded(chosen, value) if index else torch.zeros(0, 0, *shape, dtype=wanted))
            assert lengths.tolist() == [len(row) for row in chosen]


def test_cut_and_select_are_those_of_lists(cache: Path, corpus: Path) -> None:
    rows = expected(corpus)
    for tokens in (prepare(Lines(corpus)), TOKENIZER.encode(corpus.read_text().splitlines())):
        for length in (0, 1, 4, 100):
            assert rows_of(tokens.cut(length)) == [row[:length] for row in rows]
        assert rows_of(tokens.select(torch.tensor([7, 3, 7]))) == [rows[7], rows[3], rows[7]]
    empty = TOKENIZER.encode([])
    assert len(empty.cut(3)) == len(empty.select(torch.tensor([], dtype=torch.int64))) == 0


def test_chunks_are_bounded_and_lose_nothing() -> None:
    texts = ["x" * length for length in (5, 1, 9_000_000, 3, 3_999_999, 1, 2)]
    cut = list(chunks(iter(texts)))
    assert [text for chunk in cut for text in chunk] == texts
    assert [len(chunk) for chunk in cut] == [3, 2, 2] and list(chunks(iter([]))) == []


def test_a_gzipped_source_is_told_by_its_own_bytes(cache: Path, tmp_path: Path) -> None:
    path, made = tmp_path / "a.gz", []
    for text in ("a rose", "a tulip"):
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
        made.append(prepare_tokens([path], lambda text=text: iter([text]), TOKENIZER))  # type: ignore[misc]
    assert [rows_of(tokens) for tokens in made] == [[[4, 5]], [[4, 8]]]
    meta = json.loads((made[0].folder / "meta.json").read_text())
    assert list(meta["sources"]) == [str(path)]


def test_the_digest_takes_in_as_many_values_as_there_are() -> None:
    size = 43_118_432  # MNIST's pixels: between the numbers that float32 tells apart
    ragged = Ragged(torch.zeros(size, dtype=torch.uint8), torch.tensor([0, size]))
    before = ragged.digest()
    ragged.values[-1] = 1
    assert ragged.digest() != before

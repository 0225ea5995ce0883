"""Word vectors to and from word2vec's formats and gensim: what either side writes, the other reads to the bit."""

from __future__ import annotations

import gc
import io
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors

from lightning_rnn.data.vectors import read_vectors, write_vectors
from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.interop.keyed_vectors import read_keyed_vectors
from lightning_rnn.interop.word2vec import WordTable, binary_rows, from_gensim, parse_header, to_gensim, write_table

WORDS = ["the", "café", "日本", "new_york", "a", "İ"]


@pytest.fixture
def table() -> WordTable:
    random = torch.Generator().manual_seed(0)
    return WordTable(list(WORDS), torch.randn(len(WORDS), 7, generator=random) * 1e-3, [9, 8, 7, 6, 5, 4])


@pytest.mark.parametrize("kind", ["text", "binary", "glove"])
def test_gensim_reads_what_is_written(table: WordTable, tmp_path: Path, kind: str) -> None:
    write_vectors(tmp_path / "a", table, kind)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # without a header gensim opens the file twice, closes it once
        where, glove = str(tmp_path / "a"), kind == "glove"
        keyed = KeyedVectors.load_word2vec_format(where, binary=kind == "binary", no_header=glove)
        gc.collect()
    assert keyed.index_to_key == WORDS
    assert np.array_equal(keyed.vectors, table.vectors.numpy())


@pytest.mark.parametrize("kind", ["text", "binary", "glove"])
def test_what_gensim_writes_is_read(table: WordTable, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    to_gensim(table).save_word2vec_format(str(path), binary=kind == "binary", write_header=kind != "glove")
    found = read_vectors(path)
    assert found.words == WORDS and torch.equal(found.vectors, table.vectors) and found.counts is None


@pytest.mark.parametrize(("rows", "protocol"), [(1, 4), (1, 5), (300, 4)])
def test_saved_keyed_vectors_are_read_without_gensim_with_large_arrays_beside_them(
    tmp_path: Path, rows: int, protocol: int
) -> None:
    words = [f"w{i}" for i in range(rows)]
    values = np.arange(rows * 100, dtype=np.float32).reshape(rows, 100)
    keyed = KeyedVectors(100)
    keyed.add_vectors(words, values)
    keyed.set_vecattr("w0", "count", 12)
    keyed.fill_norms()
    keyed.save(str(tmp_path / "a.kv"), sep_limit=1000, pickle_protocol=protocol)
    assert (tmp_path / "a.kv.vectors.npy").exists() == (rows > 1)
    found = read_vectors(tmp_path / "a.kv")
    assert found.words == words and np.array_equal(found.vectors.numpy(), values)
    assert found.counts is not None and found.counts[0] == 12
    if rows > 1:
        (tmp_path / "a.kv.vectors.npy").unlink()
        with pytest.raises(DataError, match=r"a\.kv\.vectors\.npy.*belongs beside"):
            read_vectors(tmp_path / "a.kv")


def test_keyed_vectors_come_back_from_gensims_own_file(table: WordTable, tmp_path: Path) -> None:
    write_vectors(tmp_path / "a.kv", table, "gensim")
    assert KeyedVectors.load(str(tmp_path / "a.kv")).get_vecattr("a", "count") == 5
    found = read_vectors(tmp_path / "a.kv")
    assert found.words == table.words and torch.equal(found.vectors, table.vectors) and found.counts == table.counts
    assert read_vectors(tmp_path / "a.kv", limit=2).words == WORDS[:2]


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.kv").write_bytes(pickle.dumps(Runs(tmp_path / "made"), protocol))
    with pytest.raises(DataError, match=r"a\.kv is not what KeyedVectors\.save.*posix\.mkdir"):
        read_keyed_vectors(tmp_path / "a.kv")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps({"a": 1}), pickle.dumps([1, 2])[:-3]])
def test_other_files_are_no_keyed_vectors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.kv").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.kv .*KeyedVectors"):
        read_vectors(tmp_path / "a.kv")


@pytest.mark.parametrize("keep", range(8, 70, 5))
def test_binary_cut_short_says_at_which_word(table: WordTable, keep: int) -> None:
    write_table(stream := io.BytesIO(), table, "binary")
    whole = stream.getvalue()
    begins = [whole.index(word.encode() + b" ") for word in WORDS[:4]]
    number = max(i for i, place in enumerate(begins, 1) if place <= max(keep, begins[0]))
    with pytest.raises(DataError, match=rf"a\.bin is cut short: it ends at word {number} of the 6"):
        list(binary_rows(io.BytesIO(whole[:keep]), "a.bin"))


def test_binary_of_another_size_than_its_header_is_refused(table: WordTable) -> None:
    write_table(stream := io.BytesIO(), table, "binary")
    rest = stream.getvalue().partition(b"\n")[2]
    with pytest.raises(DataError, match="goes on after the 5 words"):
        list(binary_rows(io.BytesIO(b"5 7\n" + rest), "a.bin"))
    with pytest.raises(DataError, match=r"cut short: it ends at word|not a finite number|goes on after"):
        list(binary_rows(io.BytesIO(b"6 5\n" + rest), "a.bin"))
    write_table(stream := io.BytesIO(), WordTable(["a"], torch.tensor([[torch.nan]])), "binary")
    with pytest.raises(DataError, match=r"word 1 \('a'\): a value is not a finite number"):
        list(binary_rows(io.BytesIO(stream.getvalue()), "a.bin"))


@pytest.mark.parametrize("line", [b"", b"3", b"a b", b"3 0", b"3 4 5", b"-1 4"])
def test_another_header_is_shown(line: bytes) -> None:
    with pytest.raises(DataError, match="the header must be the number of words"):
        parse_header(line, "a.bin")


def test_words_that_a_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the word 'New York' has white space"):
        write_vectors(tmp_path / "a.txt", WordTable(["New York"], torch.ones(1, 2)))
    assert not (tmp_path / "a.txt").exists()
    other = ["1\u00a0000", "\u3000", "a\u2028b"]  # white space of Unicode is no end of a word in these formats
    for kind in ("text", "binary", "glove"):
        write_vectors(tmp_path / "a", WordTable(other, torch.eye(3)), kind)  # type: ignore[arg-type]
        assert read_vectors(tmp_path / "a").words == other
    write_vectors(tmp_path / "a", WordTable(other, torch.eye(3)))
    assert KeyedVectors.load_word2vec_format(str(tmp_path / "a")).index_to_key == other
    with pytest.raises(ConfigError, match="the format must be one of text, binary, glove, got 'csv'"):
        write_table(io.BytesIO(), WordTable(["a"], torch.ones(1, 2)), "csv")  # type: ignore[arg-type]


def test_keyed_vectors_whose_parts_do_not_fit_are_refused(table: WordTable) -> None:
    keyed = to_gensim(table)
    keyed.vectors = keyed.vectors[:3]
    with pytest.raises(DataError, match=r"of 6 words have vectors \[3, 7\]"):
        from_gensim(keyed)

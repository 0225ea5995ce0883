"""Files of word vectors: any format is told by how it begins, and what is wrong with one is said."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors, Word2Vec
from torch import nn

from lightning_rnn.data.vectors import read_vectors, read_word_vectors, vector_format, write_vectors
from lightning_rnn.errors import DataError
from lightning_rnn.interop.word2vec import WordTable
from lightning_rnn.training.vectors import start_embedding

KINDS = ["text", "binary", "glove", "gensim"]
TABLE = WordTable([f"word{i}" for i in range(300)], torch.randn(300, 4, generator=torch.Generator().manual_seed(1)))


def written(folder: Path, kind: str) -> Path:
    path = folder / ("a.kv" if kind == "gensim" else "a")
    write_vectors(path, TABLE, kind)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_each_format_is_told_and_read_to_the_bit(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind)
    assert vector_format(path) == kind
    found = read_vectors(path)
    assert found.words == TABLE.words and torch.equal(found.vectors, TABLE.vectors)
    assert read_vectors(path, limit=7).vectors.shape == (7, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_starts_from_each_format(tmp_path: Path, kind: str) -> None:
    embedding = nn.Embedding(3, 4)
    start_embedding(embedding, str(written(tmp_path, kind)), ["word7", "▁WORD9", "absent"])
    assert torch.equal(embedding.weight[:2], TABLE.vectors[[7, 9]])


@pytest.mark.parametrize("kind", ["text", "binary", "glove"])
def test_compressed_files_are_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(written(tmp_path, kind).read_bytes()))
    assert torch.equal(read_vectors(tmp_path / "a.gz").vectors, TABLE.vectors)
    assert bool(read_word_vectors(tmp_path / "a.gz", ["word3"])[1])


@pytest.mark.parametrize("values", [np.float32([1, 2]), np.float32([0, 0]), np.float32([1e-30, -3e30])])
def test_binary_values_are_not_taken_for_text(tmp_path: Path, values: np.ndarray) -> None:
    write_vectors(tmp_path / "a", WordTable(["a"], torch.from_numpy(values)[None]), "binary")
    assert vector_format(tmp_path / "a") == "binary"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "has no words"),
        ("2 2\nthe 1 2\n", "1 words, its header says 2"),
        ("1 2\nthe 1 2\nof 3 4\n", "2 words, its header says 1"),
        ("1 3\nthe 1 2\n", "row 2: 2 values, 3 wanted"),
        ("the 1 2\nof 1 2 3\n", "row 2: 3 values, 2 wanted"),
        ("the 1 2\nof 1 x\n", "row 2: a value of 'of' is not a finite number"),
        ("1 0\nthe\n", "the header must be"),
    ],
)
def test_a_bad_text_is_named_with_its_row(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError, match=problem) as caught:
        read_vectors(tmp_path / "a.txt")
    assert str(tmp_path / "a.txt") in str(caught.value)


@pytest.mark.parametrize("digits", [1, 40])
def test_text_in_another_encoding_is_not_taken_for_binary(tmp_path: Path, digits: int) -> None:
    values = " ".join([f"0.{'5' * digits}"] * 200)  # the second row is longer than what is looked at
    text = f"2 200\ncaf\xe9 {values}\nthe {values}\n"
    (tmp_path / "a.txt").write_bytes(text.encode("latin-1"))
    found = read_vectors(tmp_path / "a.txt")
    assert found.words == ["caf\ufffd", "the"] and found.vectors.shape == (2, 200)


def test_gensims_files_are_told_by_their_beginning_whatever_their_name(tmp_path: Path) -> None:
    model = Word2Vec([["a", "b"]] * 9, vector_size=3, min_count=1)
    model.wv.save(str(tmp_path / "a.wv"))
    model.save(str(tmp_path / "a.model"))
    assert torch.equal(read_vectors(tmp_path / "a.wv").vectors, torch.from_numpy(model.wv.vectors))
    with pytest.raises(DataError, match=r"a\.model is not what KeyedVectors\.save.*model\.wv\.save"):
        read_vectors(tmp_path / "a.model")
    KeyedVectors(3).save(str(tmp_path / "empty.kv"))
    with pytest.raises(DataError, match=r"empty\.kv has no words"):
        read_vectors(tmp_path / "empty.kv")


def test_what_is_no_file_of_vectors_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.bz2").write_bytes(bz2.compress(b"the 1 2\n"))
    with pytest.raises(DataError, match=r"a\.bz2 is no file of vectors: unpack it"):
        read_vectors(tmp_path / "a.bz2")
    (tmp_path / "a.txt").write_text("the\t1\t2\n")
    with pytest.raises(DataError, match=r"row 1: 0 values, 1 wanted: .* with one space between"):
        read_vectors(tmp_path / "a.txt")


def test_of_a_word_that_is_there_twice_the_first_vector_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_text("a 1 2\nb 3 4\na 5 6\n")
    assert read_vectors(tmp_path / "a.txt").vectors.tolist() == [[1, 2], [3, 4]]
    assert "1 words are there twice" in caplog.text


def test_a_binary_cut_short_is_named_by_the_reader_of_embeddings(tmp_path: Path) -> None:
    path = written(tmp_path, "binary")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match="cut short: it ends at word 300 of the 300"):
        read_word_vectors(path, ["word1"])


def test_the_example_of_the_docs_runs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "word_vectors.md").read_text()
    exec(page.split("```python\n")[1].split("```")[0], {})


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_vectors(tmp_path / "file" / "a.txt", TABLE)

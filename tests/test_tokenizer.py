"""Tokenizers and word vectors: the same in, the same out; broken ones are named."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest
import torch

from lightning_rnn.data.tokenizer import BOS, EOS, PAD, UNK, ModelType, SentencePieceTokenizer
from lightning_rnn.data.vectors import read_word_vectors
from lightning_rnn.errors import ConfigError, DataError

TEXTS = ["The cat sat on the mat", "a dog ran far away", "", "cats and dogs and mats", "the End"] * 4
KINDS: list[ModelType] = ["unigram", "bpe", "word", "char"]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> SentencePieceTokenizer:
    return SentencePieceTokenizer.train(TEXTS, 30, request.param)


def test_two_trainings_give_the_same_bytes(tokenizer: SentencePieceTokenizer) -> None:
    again = [SentencePieceTokenizer.train(iter(TEXTS), 30, kind) for kind in KINDS]
    assert tokenizer.model in [other.model for other in again]
    assert len({other.digest for other in again}) == len(KINDS)


def test_special_pieces_have_fixed_ids(tokenizer: SentencePieceTokenizer) -> None:
    assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    assert tokenizer.pieces[:4] == ["<pad>", "<unk>", "<s>", "</s>"]
    assert len(tokenizer.pieces) == tokenizer.vocab_size <= 30


def test_text_comes_back(tokenizer: SentencePieceTokenizer) -> None:
    rows = tokenizer.encode(TEXTS)
    assert rows.values.dtype == torch.int64
    texts = [tokenizer.decode(rows[row].tolist()) for row in (0, 1, 3)]
    assert texts == [TEXTS[row] for row in (0, 1, 3)]


def test_each_text_alone_equals_all_together(tokenizer: SentencePieceTokenizer) -> None:
    rows = tokenizer.encode(TEXTS)
    for row, text in enumerate(TEXTS):
        assert torch.equal(tokenizer.encode([text])[0], rows[row])


@pytest.mark.parametrize("text", ["", "   ", "\u200b"])
def test_a_text_without_tokens_is_one_unknown(tokenizer: SentencePieceTokenizer, text: str) -> None:
    assert tokenizer.encode([text, "cat"])[0].tolist() == [UNK]


def test_no_texts_give_no_rows(tokenizer: SentencePieceTokenizer) -> None:
    assert len(tokenizer.encode([])) == 0


def test_bytes_carry_the_whole_tokenizer(tokenizer: SentencePieceTokenizer) -> None:
    for copy in (SentencePieceTokenizer(tokenizer.model), pickle.loads(pickle.dumps(tokenizer))):
        assert copy.digest == tokenizer.digest
        assert torch.equal(copy.encode(TEXTS).values, tokenizer.encode(TEXTS).values)


@pytest.mark.parametrize("lower", [False, True])
def test_lower_folds_case_in_use_too(lower: bool) -> None:
    rows = SentencePieceTokenizer.train(TEXTS, 100, "word", lower=lower).encode(["THE CAT", "the cat"])
    assert torch.equal(rows[0], rows[1]) == lower


def test_long_texts_are_trained_on() -> None:
    assert "z" in SentencePieceTokenizer.train(["a" * 5000 + "z"], 10, "char").pieces


@pytest.mark.parametrize("model", [b"", b"junk", b"\x0a\x05"])
def test_bytes_that_are_no_model_are_refused(model: bytes) -> None:
    with pytest.raises(DataError, match=f"these {len(model)} bytes are no SentencePiece model"):
        SentencePieceTokenizer(model)


def test_a_model_that_is_cut_is_refused(tokenizer: SentencePieceTokenizer) -> None:
    with pytest.raises(DataError, match="no SentencePiece model"):
        SentencePieceTokenizer(tokenizer.model[:-20])


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_too_large_a_vocabulary_names_the_largest(kind: ModelType) -> None:
    with pytest.raises(ConfigError, match=r"vocab_size 9999 is too high .* at most \d+") as caught:
        SentencePieceTokenizer.train(TEXTS, 9999, kind)
    largest = int(str(caught.value).rsplit(" ", 1)[1])
    assert SentencePieceTokenizer.train(TEXTS, largest, kind).vocab_size == largest


def test_too_small_a_vocabulary_names_the_smallest() -> None:
    with pytest.raises(ConfigError, match=r"vocab_size 6 is too low .* at least \d+"):
        SentencePieceTokenizer.train(TEXTS, 6)
    with pytest.raises(ConfigError, match="above 3"):
        SentencePieceTokenizer.train(TEXTS, 0)
    with pytest.raises(ConfigError, match="'words'"):
        SentencePieceTokenizer.train(TEXTS, 30, "words")  # type: ignore[arg-type]


@pytest.mark.parametrize("texts", [[], [""], ["  ", "\n"]])
def test_no_text_cannot_be_trained_on(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no text to train"):
        SentencePieceTokenizer.train(texts, 30)


def test_half_a_surrogate_pair_is_named(tokenizer: SentencePieceTokenizer) -> None:
    with pytest.raises(DataError, match="text 1"):
        tokenizer.encode(["cat", "\ud800 dog"])
    with pytest.raises(DataError, match="text 1"):
        SentencePieceTokenizer.train(["cat", "\ud800 dog"], 30)


@pytest.mark.parametrize("index", [-1, 30, 10**6])
def test_an_id_of_another_tokenizer_is_named(tokenizer: SentencePieceTokenizer, index: int) -> None:
    with pytest.raises(DataError, match=f"id {index} is not one"):
        tokenizer.decode([4, index])


VECTORS = "the 1 2\n. . . 9 9\nParis 3 4\nparis 5 6\nthe 7 7\ncaf\u00e9 -1 0.5 \n"


@pytest.mark.parametrize("first", ["", "6 2\n"])
@pytest.mark.parametrize("name", ["a.txt", "a.vec.gz"])
def test_words_get_their_vectors(tmp_path: Path, name: str, first: str) -> None:
    raw = (first + VECTORS).encode()
    (tmp_path / name).write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)
    words = ["<unk>", "▁the", "the", "paris", "PARIS", "café", "▁"]
    vectors, found = read_word_vectors(tmp_path / name, words)
    assert found.tolist() == [False, True, True, True, True, True, False]
    assert vectors[1:6].tolist() == [[1, 2], [1, 2], [5, 6], [3, 4], [-1, 0.5]]
    assert vectors.dtype == torch.float32


def test_words_not_found_are_drawn_like_those_found(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a " + "3 5 " * 50 + "\n")
    words = ["a", *(f"w{i}" for i in range(99))]
    vectors, _ = read_word_vectors(tmp_path / "a.txt", words, seed=1)
    assert vectors[1:].mean().item() == pytest.approx(4, abs=0.05)
    assert vectors[1:].std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(read_word_vectors(tmp_path / "a.txt", words, seed=1)[0], vectors)
    assert not torch.equal(read_word_vectors(tmp_path / "a.txt", words, seed=2)[0], vectors)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "none of the 1 words"),
        ("other 1 2\n", "none of the 1 words"),
        ("the 1 2\nof 1\n", "row 2: 1 values, 2 wanted"),
        ("the 1 2\nof 1 2 3\n", "row 2: 3 values, 2 wanted"),
        ("6 2\nthe\n", "row 2: 0 values"),
        ("the 1 x\n", "row 1: a value of 'the' is not a finite number"),
        ("the 1 nan\n", "row 1: a value of 'the' is not a finite number"),
    ],
)
def test_a_bad_file_of_vectors_is_named_with_its_row(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError, match=problem) as caught:
        read_word_vectors(tmp_path / "a.txt", ["the"])
    assert str(tmp_path / "a.txt") in str(caught.value)

"""Tokenizers and word vectors: the same in, the same out; broken ones are named."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from pathlib import Path
from typing import get_args

import pytest
import torch

from lightning_rnn.data.sentencepiece import SentencePieceTokenizer, drawn_evenly
from lightning_rnn.data.tokenizer import BOS, EOS, KINDS, PAD, UNK, Kind, Tokenizer, train_tokenizer
from lightning_rnn.data.vectors import read_word_vectors
from lightning_rnn.errors import ConfigError, DataError
from tasks.sequence_classification import ClassificationData

TEXTS = ["The cat sat on the mat", "a dog ran far away", "", "cats and dogs and mats", "the End"] * 4
ALL: list[Kind] = list(get_args(Kind))
PIECES: list[Kind] = ["unigram", "bpe", "word", "char"]


def trained(kind: Kind, texts: list[str] = TEXTS, size: int = 30, lower: bool = False) -> Tokenizer:
    return train_tokenizer(iter(texts), kind, max(size, 260) if kind == "bytes" else size, lower)


@pytest.fixture(scope="module", params=ALL)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return trained(request.param)


def test_one_table_names_the_kinds() -> None:
    assert list(KINDS) == ALL
    assert all(trained(kind).kind == kind for kind in ALL)


def test_two_trainings_give_the_same_tokenizer(tokenizer: Tokenizer) -> None:
    again = [trained(kind) for kind in ALL]
    assert [other.to_dict() for other in again].count(tokenizer.to_dict()) == 1
    assert len({other.digest for other in again}) == len(ALL)


def test_special_pieces_have_fixed_ids(tokenizer: Tokenizer) -> None:
    assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    assert tokenizer.pieces[:4] == ["<pad>", "<unk>", "<s>", "</s>"]
    assert len(tokenizer.pieces) == tokenizer.vocab_size <= (260 if tokenizer.kind == "bytes" else 30)


def test_text_comes_back(tokenizer: Tokenizer) -> None:
    rows = tokenizer.encode(TEXTS)
    assert rows.values.dtype == torch.int64
    texts = [tokenizer.decode(rows[row].tolist()) for row in (0, 1, 3)]
    assert texts == [TEXTS[row] for row in (0, 1, 3)]


@pytest.mark.parametrize("kind", ALL)
def test_real_text_comes_back(data_root: Path, kind: Kind) -> None:
    with gzip.open(data_root / "multi30k/raw/train.de.gz", "rt", encoding="utf-8") as stream:
        texts = [" ".join(line.split()) for line, _ in zip(stream, range(2000), strict=False)]
    tokenizer = trained(kind, texts, 3000 if kind in ("unigram", "bpe") else 10_000)
    rows = tokenizer.encode(texts)
    assert [tokenizer.decode(row.tolist()) for row in (rows[i] for i in range(len(texts)))] == texts
    assert int(rows.values.max()) < tokenizer.vocab_size and int(rows.values.min()) > EOS


def test_each_text_alone_equals_all_together(tokenizer: Tokenizer) -> None:
    rows = tokenizer.encode(TEXTS * 20)  # enough for threads
    for row, text in enumerate(TEXTS):
        assert torch.equal(tokenizer.encode([text])[0], rows[row])


@pytest.mark.parametrize("text", ["", "   ", "\u200b"])
def test_a_text_without_tokens_is_one_unknown(tokenizer: Tokenizer, text: str) -> None:
    empty = {"words": "  ", "characters": "", "bytes": ""}.get(tokenizer.kind, text)
    assert tokenizer.encode(["cat", empty, empty, "cat", empty]).offsets.diff().tolist()[1:3] == [1, 1]
    assert tokenizer.encode([empty, "cat"])[0].tolist() == [UNK]


def test_no_texts_give_no_rows(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode([])) == 0


def test_plain_values_carry_the_whole_tokenizer(tokenizer: Tokenizer) -> None:
    stream = io.BytesIO()
    torch.save({"tokenizer": tokenizer.to_dict()}, stream)
    stream.seek(0)
    states = [torch.load(stream, weights_only=True)["tokenizer"], json.loads(json.dumps(tokenizer.to_dict()))]
    for copy in (*map(Tokenizer.from_dict, states), pickle.loads(pickle.dumps(tokenizer))):
        assert (copy.digest, copy.pieces) == (tokenizer.digest, tokenizer.pieces)
        assert torch.equal(copy.encode(TEXTS).values, tokenizer.encode(TEXTS).values)


@pytest.mark.parametrize("state", [{"kind": "wordz"}, {}, "AAAA", None])
def test_plain_values_of_no_tokenizer_are_refused(state: object) -> None:
    with pytest.raises(DataError, match=r"is not one of unigram, bpe"):
        Tokenizer.from_dict(state)  # type: ignore[arg-type]


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("kind", ["word", "char", "characters", "words", "bytes"])
def test_lower_folds_case_in_use_too(kind: Kind, lower: bool) -> None:
    tokenizer = Tokenizer.from_dict(trained(kind, TEXTS, 100, lower).to_dict())
    rows = tokenizer.encode(["THE CAT", "the cat"])
    assert torch.equal(rows[0], rows[1]) == lower


def test_units_are_those_frequent_enough_most_frequent_first() -> None:
    texts = ["b a b", "c b <unk>", "a c d", "<unk> <unk>"]
    assert train_tokenizer(texts, "words", 100).pieces[4:] == ["b", "a", "c", "d"]
    assert train_tokenizer(texts, "words", 100, min_count=2).pieces[4:] == ["b", "a", "c"]
    assert train_tokenizer(texts, "words", 6).pieces[4:] == ["b", "a"]
    assert train_tokenizer(texts, "words", 6).encode(["d <unk> b </s>"])[0].tolist() == [UNK, UNK, 4, UNK]
    with pytest.raises(ConfigError, match="min_count 4 leaves no words: the most frequent is there 3 times"):
        train_tokenizer(texts, "words", 100, min_count=4)


@pytest.mark.parametrize("kind", [*PIECES, "bytes"])
def test_min_count_is_refused_where_nothing_is_counted(kind: Kind) -> None:
    with pytest.raises(ConfigError, match="min_count goes with the tokenizers words and characters"):
        train_tokenizer(TEXTS, kind, 300, min_count=2)


def test_long_texts_are_trained_on() -> None:
    assert "z" in SentencePieceTokenizer.train(["a" * 5000 + "z"], 10, "char").pieces


def test_of_many_texts_a_fair_share_is_drawn() -> None:
    texts = [str(number) for number in range(20_000)]
    drawn = drawn_evenly(iter(texts), 2000)
    assert drawn == drawn_evenly(texts, 2000) and drawn == sorted(set(drawn), key=int) and len(drawn) == 2000
    counts = torch.histc(torch.tensor([float(text) for text in drawn]), 10, 0, 20_000)
    assert float(((counts - 200) ** 2 / 200).sum()) < 27.9  # chi-squared with 9 degrees, 0.1 %
    assert drawn_evenly(texts, 20_000) == drawn_evenly(texts, 30_000) == texts


def test_a_cap_on_training_texts_is_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_rnn.data.sentencepiece.MOST_TEXTS", 5)
    with caplog.at_level("INFO"):
        SentencePieceTokenizer.train(iter(TEXTS), 30, "char")
    assert caplog.messages == ["tokenizer: trained on 5 of 20 texts, drawn evenly"]


@pytest.mark.parametrize("model", [b"", b"junk", b"\x0a\x05"])
def test_bytes_that_are_no_model_are_refused(model: bytes) -> None:
    with pytest.raises(DataError, match=f"these {len(model)} bytes are no SentencePiece model"):
        SentencePieceTokenizer(model, "unigram")


def test_a_model_that_is_cut_or_has_other_special_ids_is_refused() -> None:
    with pytest.raises(DataError, match="no SentencePiece model"):
        SentencePieceTokenizer(SentencePieceTokenizer.train(TEXTS, 30).model[:-20], "unigram")
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=25, minloglevel=2)
    with pytest.raises(DataError, match=r"has pad, unk, bos and eos at \(-1, 0, 1, 2\)"):
        SentencePieceTokenizer(model.getvalue(), "unigram")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_too_large_a_vocabulary_names_the_largest(kind: Kind) -> None:
    with pytest.raises(ConfigError, match=r"vocab_size 9999 is too high .* at most \d+") as caught:
        SentencePieceTokenizer.train(TEXTS, 9999, kind)
    largest = int(str(caught.value).rsplit(" ", 1)[1])
    assert SentencePieceTokenizer.train(TEXTS, largest, kind).vocab_size == largest


def test_too_small_a_vocabulary_names_the_smallest() -> None:
    with pytest.raises(ConfigError, match=r"vocab_size 6 is too low .* at least \d+"):
        SentencePieceTokenizer.train(TEXTS, 6)
    with pytest.raises(ConfigError, match="above 3"):
        SentencePieceTokenizer.train(TEXTS, 0)
    with pytest.raises(ConfigError, match="above 4"):
        train_tokenizer(TEXTS, "words", 4)
    with pytest.raises(ConfigError, match="at least 260 with bytes, got 100"):
        train_tokenizer(TEXTS, "bytes", 100)
    with pytest.raises(ConfigError, match="'subword' is not one of unigram, bpe"):
        train_tokenizer(TEXTS, "subword")  # type: ignore[arg-type]


@pytest.mark.parametrize("texts", [[], [""], ["  ", "\n"]])
@pytest.mark.parametrize("kind", [*PIECES, "words"])
def test_no_text_cannot_be_trained_on(kind: Kind, texts: list[str]) -> None:
    with pytest.raises(DataError, match="no text to train"):
        train_tokenizer(texts, kind, 30)


@pytest.mark.parametrize("bad", ["\ud800 dog", None, float("nan"), b"dog"])
def test_what_is_no_text_is_named(tokenizer: Tokenizer, bad: str) -> None:
    with pytest.raises(DataError, match=r"text 1 \(counted from 0\)"):
        tokenizer.encode(["cat", bad])
    if tokenizer.kind != "bytes":
        with pytest.raises(DataError, match=r"text 1 \(counted from 0\)"):
            train_tokenizer(["cat", bad], tokenizer.kind, 30)


@pytest.mark.parametrize("index", [-1, 260, 10**6])
def test_an_id_of_another_tokenizer_is_named(tokenizer: Tokenizer, index: int) -> None:
    with pytest.raises(DataError, match=f"id {index} is not one"):
        tokenizer.decode([4, index])


@pytest.mark.parametrize(("kind", "sampling"), [("unigram", 0.1), ("bpe", 0.3), ("words", 0.0), ("bytes", 0.0)])
def test_the_classification_data_carry_every_kind(tmp_path: Path, kind: Kind, sampling: float) -> None:
    from lightning_rnn.data.text import LabelledText

    rows = [f"{text or 'nothing here'}\t{row % 2}" for row, text in enumerate(TEXTS)]
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    source = LabelledText(train=str(tmp_path / "a.tsv"))
    data = ClassificationData(source, tokenizer=kind, vocab_size=300 if kind == "bytes" else 30, sampling=sampling)
    data.setup("fit")
    assert data.spec is not None
    tokenizer, split = data.spec.load_tokenizer(), data.split("train")
    assert tokenizer.kind == kind and data.spec.features == tokenizer.vocab_size
    whole = [split.__getitems__([row]).inputs[0].tolist() for row in range(len(split))]
    plain = [split.inputs[row].tolist() for row in range(len(split))]
    assert (whole == plain) == (not sampling)
    assert list(map(tokenizer.decode, whole)) == list(map(tokenizer.decode, plain))
    assert data.split("val").drawn is None


def test_sampling_is_refused_where_there_is_nothing_to_sample() -> None:
    with pytest.raises(ConfigError, match="not with words"):
        ClassificationData(tokenizer="words", sampling=0.1)
    with pytest.raises(ConfigError, match="the data are series"):
        ClassificationData(sampling=0.1).setup("fit")


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

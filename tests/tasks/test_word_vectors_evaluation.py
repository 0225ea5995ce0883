"""Questions to vectors and their evaluation have gensim's answers, on made and on published questions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors, Word2Vec

from lightning_rnn.errors import DataError
from lightning_rnn.interop.word2vec import WordTable, from_gensim, to_gensim
from tasks.word_vectors.evaluation import analogies, ranks, similarity
from tasks.word_vectors.figures import draw_neighbors, far_apart, plane
from tasks.word_vectors.queries import WordQueries, predict_center

EVALUATION = Path(os.environ.get("LIGHTNING_RNN_DATA", "data")) / "word2vec" / "eval"
published = pytest.mark.skipif(not EVALUATION.is_dir(), reason="no word2vec/eval in LIGHTNING_RNN_DATA")


def some_table(words: list[str], size: int = 6, seed: int = 0) -> WordTable:
    random = torch.Generator().manual_seed(seed)
    return WordTable(words, torch.randn(len(words), size, generator=random) + 0.3)


WORDS = ["Paris", "france", "France", "PARIS", "rome", "Italy", "boy", "girl", "Boy", "man", "woman", "king", "queen"]
QUESTIONS = """: capitals
Paris France Rome Italy
Rome Italy Paris France
paris france rome nowhere
Paris France Rome
: family
boy girl man woman
man woman king queen
king queen boy girl
girl boy queen king
"""


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("dummy", [True, False])
@pytest.mark.parametrize("restrict", [8, 300_000])
def test_analogies_are_gensims_question_by_question(
    tmp_path: Path, seed: int, fold: bool, dummy: bool, restrict: int
) -> None:
    (tmp_path / "q.txt").write_text(QUESTIONS)
    table = some_table(WORDS, 3, seed)
    score, theirs = to_gensim(table).evaluate_word_analogies(str(tmp_path / "q.txt"), restrict, fold, dummy)
    ours = analogies(WordQueries(table), tmp_path / "q.txt", restrict, fold, dummy)
    found = [*ours.sections, ours.total]
    assert [one.correct for one in found] == [one["correct"] for one in theirs]
    assert [sorted(one.incorrect) for one in found] == [sorted(one["incorrect"]) for one in theirs]
    assert [one.name for one in ours.sections] == [one["section"] for one in theirs[:-1]]
    assert ours.total.accuracy == (score if ours.total.questions else 0.0)


@pytest.mark.parametrize("dummy", [True, False])
def test_similarity_is_gensims(tmp_path: Path, dummy: bool) -> None:
    rows = ["# words", "word one\tword two\thuman", *(f"{a}\t{b}\t{i % 4}" for i, (a, b) in enumerate(_some_pairs()))]
    (tmp_path / "p.tsv").write_text("\n".join([*rows, "boy\tunknown\t9", "boy girl 3"]) + "\n")
    table = some_table(WORDS)
    pearson, spearman, oov = to_gensim(table).evaluate_word_pairs(str(tmp_path / "p.tsv"), dummy4unknown=dummy)
    (tmp_path / "p.tsv").write_text("\n".join([*rows, "boy\tunknown\t9"]) + "\n")
    ours = similarity(WordQueries(table), tmp_path / "p.tsv", dummy4unknown=dummy)
    assert (ours.pearson, ours.spearman) == pytest.approx((pearson[0], spearman[0]), abs=1e-6)
    assert 100 * ours.oov == pytest.approx(oov)
    assert ours.pairs == len(_some_pairs()) + dummy


def _some_pairs() -> list[tuple[str, str]]:
    apart = list(
        {word.upper(): word for word in reversed(WORDS)}.values()
    )  # equal words would be ties but for rounding
    return [(a, b) for i, a in enumerate(apart) for b in apart[i + 1 :]][::2]


@published
def test_on_the_published_sets_the_numbers_are_gensims() -> None:
    lines = (EVALUATION / "questions-words.txt").read_text().splitlines()
    words = list(dict.fromkeys(word for line in lines if line[:1] != ":" for word in line.split()))
    for line in (EVALUATION / "gensim_wordsim353.tsv").read_text().splitlines()[2:]:
        words += [word for word in line.split("\t")[:2] if word not in words]
    random = np.random.default_rng(0)
    base = random.standard_normal((len(words), 20)).astype(np.float32)
    half = torch.from_numpy(base[random.permutation(len(words) // 3 + 1)[np.arange(len(words)) // 3]] + 0.3 * base)
    table = WordTable(words, half)
    few = EVALUATION / "questions-words.txt"
    score, theirs = to_gensim(table).evaluate_word_analogies(str(few), restrict_vocab=300)
    ours = analogies(WordQueries(table), few, 300)
    assert ours.total.accuracy == score and ours.total.questions > 0
    assert [one.correct for one in ours.sections] == [one["correct"] for one in theirs[:-1]]
    pearson, spearman, oov = to_gensim(table).evaluate_word_pairs(str(EVALUATION / "gensim_wordsim353.tsv"))
    found = similarity(WordQueries(table), EVALUATION / "gensim_wordsim353.tsv")
    assert (found.pearson, found.spearman) == pytest.approx((pearson[0], spearman[0]), abs=1e-6)
    assert 100 * found.oov == pytest.approx(oov) and found.pairs == 353


@pytest.mark.filterwarnings("ignore:Call to deprecated `init_sims`:DeprecationWarning")  # by cosmul itself
def test_questions_have_gensims_answers() -> None:
    table = some_table(WORDS)
    ours, theirs = WordQueries(table), to_gensim(table)

    def same(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
        assert [word for word, _ in found] == [word for word, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], abs=1e-6)

    same(ours.most_similar(["king", "woman"], ["man"]), theirs.most_similar(["king", "woman"], ["man"]))
    same(ours.most_similar(["boy"], topn=3, restrict_vocab=9), theirs.most_similar("boy", topn=3, restrict_vocab=9))
    same(ours.cosmul(["king", "woman"], ["man"]), theirs.most_similar_cosmul(["king", "woman"], ["man"]))
    same(ours.nearest([3], 5)[0], theirs.most_similar("PARIS", topn=5))
    assert ours.similarity("boy", "girl") == pytest.approx(float(theirs.similarity("boy", "girl")), abs=1e-6)
    for word in WORDS[1:]:
        assert ours.rank("Paris", word) == theirs.rank("Paris", word)
    for words in (WORDS[:4], WORDS[3:9], WORDS):
        assert ours.doesnt_match(words) == theirs.doesnt_match(words)


@pytest.mark.parametrize("mean", [0, 1])
def test_the_centre_is_predicted_as_gensim_does(mean: int) -> None:
    texts = [[f"w{i % 7}", f"w{(i + 1) % 7}", f"w{(i * 3) % 7}"] for i in range(200)]
    model = Word2Vec(texts, vector_size=8, min_count=1, negative=3, cbow_mean=mean, workers=1, epochs=3)
    table = from_gensim(model.wv)
    found = predict_center(table, torch.from_numpy(model.syn1neg), ["w1", "unknown", "w3"], 4, bool(mean))
    expected = model.predict_output_word(["w1", "unknown", "w3"], 4)
    assert [word for word, _ in found] == [word for word, _ in expected]
    assert [value for _, value in found] == pytest.approx([float(value) for _, value in expected], rel=1e-4)


def test_bad_questions_are_named(tmp_path: Path) -> None:
    queries = WordQueries(some_table(WORDS))
    with pytest.raises(DataError, match=r"the word 'quen' is not among the 13 words.*did you mean 'queen'"):
        queries.most_similar(["quen"])
    with pytest.raises(DataError, match="none of the words x, y"):
        predict_center(some_table(WORDS), torch.ones(13, 6), ["x", "y"])
    for content, problem in (
        ("a b c d\n", "row 1: a question before the first section"),
        (": a\nb c\n", "no questions"),
    ):
        (tmp_path / "q.txt").write_text(content)
        with pytest.raises(DataError, match=problem):
            analogies(queries, tmp_path / "q.txt")
    (tmp_path / "p.txt").write_text("x y 1\nboy girl 2\n")
    with pytest.raises(DataError, match="1 pairs of words that have vectors"):
        similarity(queries, tmp_path / "p.txt")
    (tmp_path / "p.txt").write_text("x y 1\nboy girl 2\nman woman 3\n")  # white space in place of tabs
    assert similarity(queries, tmp_path / "p.txt").pairs == 2


def test_ranks_of_ties_are_their_mean() -> None:
    from scipy.stats import rankdata

    values = np.random.default_rng(0).integers(0, 5, 40).astype(float)
    assert ranks(values).tolist() == rankdata(values).tolist()


def test_the_plane_is_that_of_principal_components() -> None:
    from sklearn.decomposition import PCA

    vectors = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    ours, theirs = plane(vectors).numpy(), PCA(2).fit_transform(vectors.numpy())
    assert np.abs(ours) == pytest.approx(np.abs(theirs), abs=1e-4)


def test_the_figure_shows_each_word_once_with_its_neighbors() -> None:
    queries = WordQueries(some_table([f"word{chr(97 + i)}{chr(97 + j)}" for i in range(10) for j in range(10)]))
    words = far_apart(queries, 4)
    assert len(set(words)) == 4
    figure = draw_neighbors(queries, words, "four words", 3)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == len(set(texts)) and set(words) <= set(texts) and len(texts) <= 16
    assert isinstance(to_gensim(some_table(WORDS)), KeyedVectors)


def test_words_are_drawn_as_they_are_and_not_read_as_formulas(tmp_path: Path) -> None:
    words = ["$_$", "$^", "$\\frac$", "a$b$c", "{", "%"]
    figure = draw_neighbors(WordQueries(some_table(words)), words[:2], "dollars", 3)
    figure.savefig(tmp_path / "a.png")
    assert {text.get_text() for text in figure.axes[0].texts} <= set(words)

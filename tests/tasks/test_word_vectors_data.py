"""Text to pairs: counts, phrases and subsampling are gensim's, windows keep to their text, pairs to their row."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import Word2Vec
from gensim.models.phrases import Phrases
from matplotlib.figure import Figure

from lightning_rnn.cli import main
from lightning_rnn.data import Ragged, TextLines
from lightning_rnn.data.manual import python_manual
from lightning_rnn.errors import ConfigError, DataError
from tasks.word_vectors import WordVectorData
from tasks.word_vectors.pairs import PairMaker
from tasks.word_vectors.tokens import held_out, join_phrases, learn_phrases, read_tokens, sentences
from tasks.word_vectors.vocabulary import choose_words, encode, keep_chances, noise_steps

TEXTS = [text for topic in list(python_manual().values())[:12] for text in topic]


def test_vocabulary_and_subsampling_are_gensims() -> None:
    tokens = read_tokens(TEXTS, "spaces")
    words, counts = choose_words(tokens, 5, None)
    model = Word2Vec(vector_size=2, min_count=5, sample=1e-3)
    model.build_vocab([text.split() for text in TEXTS])
    assert dict(zip(words, counts, strict=True)) == {w: model.wv.get_vecattr(w, "count") for w in model.wv.index_to_key}
    assert counts == sorted(counts, reverse=True)
    theirs = [model.wv.get_vecattr(word, "sample_int") / (2**32 - 1) for word in words]
    assert keep_chances(counts, 1e-3).tolist() == pytest.approx(theirs, abs=1e-8)
    other = Word2Vec(vector_size=2, min_count=5, sample=7)  # a count, not a share
    other.build_vocab([text.split() for text in TEXTS])
    theirs = [other.wv.get_vecattr(word, "sample_int") / (2**32 - 1) for word in words]
    assert keep_chances(counts, 7).tolist() == pytest.approx(theirs, abs=1e-8)
    drawn = np.diff(noise_steps(counts, 0.75), prepend=0)
    assert drawn.tolist() == pytest.approx((np.array(counts) ** 0.75 / (np.array(counts) ** 0.75).sum()).tolist())


def test_phrases_of_two_passes_are_gensims() -> None:
    tokens, theirs = read_tokens(TEXTS, "spaces"), [text.split() for text in TEXTS]
    for _ in range(2):
        tokens = join_phrases(tokens, learn_phrases(tokens, 3, 5.0))
        phrases = Phrases(theirs, min_count=3, threshold=5.0)
        theirs = [phrases[text] for text in theirs]
        assert list(sentences(tokens)) == [text for text in theirs if text]
    assert any(word.count("_") > 1 for text in theirs for word in text)


def test_windows_are_those_of_a_loop_and_keep_to_their_text() -> None:
    rows = Ragged.from_list([torch.tensor([1, 2, 3, 0, 4, 5, 0, 6]), torch.tensor([7, 8])])
    maker = PairMaker(np.ones(9), np.linspace(0.1, 1, 9), 2, False, 1, seed=0)
    pairs = maker.make(rows, [0, 1], epoch=3)
    found = {
        int(c): [w for w in around if w >= 0] for c, around in zip(pairs.center, pairs.contexts.tolist(), strict=True)
    }
    expected = {}
    for text in ([0, 1, 2], [3, 4], [6, 7]):
        for i, word in enumerate(text):
            expected[word] = text[max(0, i - 2) : i] + text[i + 1 : i + 3]
    assert found == expected  # word 5 is alone, and has no pair
    assert pairs.row.tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_a_row_whose_words_are_all_left_out_has_no_pairs() -> None:
    rows = Ragged.from_list([torch.tensor([1, 2, 0, 1]), torch.tensor([3, 3])])
    maker = PairMaker(np.array([0.0, 0.0, 1.0]), np.linspace(0.1, 1, 3), 2, True, 1, seed=0)
    assert maker.make(rows, [0], epoch=0).contexts.shape == (0, 4)
    assert maker.make(rows, [0, 1], epoch=0).center.tolist() == [2, 2]


def test_dynamic_windows_are_uniform_and_subsampling_keeps_its_share() -> None:
    text = torch.randint(1, 3, (20_000,), generator=torch.Generator().manual_seed(0))
    maker = PairMaker(np.array([0.3, 1.0]), np.array([0.2, 1.0]), 4, True, 3, seed=0)
    pairs = maker.make(Ragged.from_list([text]), [0], epoch=0)
    assert torch.bincount(pairs.reach)[1:].tolist() == pytest.approx([len(pairs.reach) / 4] * 4, rel=0.06)
    kept = torch.bincount(pairs.center).tolist()
    assert kept[0] / int((text == 1).sum()) == pytest.approx(0.3, abs=0.02) and kept[1] >= int((text == 2).sum()) - 2
    assert float((pairs.noise == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert bool(((pairs.contexts >= 0).sum(1) <= 2 * pairs.reach).all())


def test_a_rows_pairs_do_not_depend_on_the_batch_and_change_with_the_epoch() -> None:
    data = WordVectorData()
    data.setup("fit")
    rows = data.split("train")

    def of(row: int, keys: list[int]) -> Counter[tuple[object, ...]]:
        pairs = rows.__getitems__(keys).targets
        mine = pairs.row == keys.index(row)
        each = zip(pairs.center[mine].tolist(), pairs.contexts[mine].tolist(), pairs.noise[mine].tolist(), strict=True)
        return Counter((c, *around, *noise) for c, around, noise in each)

    assert of(3, [3]) == of(3, [5, 3, 1])
    before = of(3, [3])
    rows.set_epoch(1)
    assert of(3, [3]) != before


@pytest.mark.parametrize("epoch", [0, 1])
def test_rows_are_shuffled_or_in_the_order_of_the_text(tmp_path: Path, epoch: int) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"w{i} " * (2 + i % 3) for i in range(30)))
    source, sizes = TextLines(str(tmp_path / "a.txt")), {"piece_words": 7, "min_count": 1, "val_fraction": 0.0}
    words = {}
    for shuffle in (False, True):
        data = WordVectorData(source, **sizes, batch_size=2, subsample=0, shuffle=shuffle)  # type: ignore[arg-type]
        data.setup("fit")
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        ids = torch.cat([batch.inputs[row] for batch in loader for row in range(len(batch.inputs))])
        words[shuffle] = [data.spec.words[number - 1] for number in ids[ids > 0].tolist()]
    assert words[False] == (tmp_path / "a.txt").read_text().split() != words[True]
    assert sorted(words[False]) == sorted(words[True])


def test_unknown_words_are_left_out_and_the_held_out_part_is_apart() -> None:
    tokens = read_tokens([f"w{i} w{i}" for i in range(40)])
    rest, part = held_out(tokens, 0.25, 100, seed=1)
    first, second = ({word for text in sentences(one) for word in text} for one in (rest, part))
    assert len(first) == 30 and len(second) == 10 and not first & second
    assert encode(part, sorted(second)[:3], 50).values.tolist().count(0) == 2
    long = read_tokens([" ".join(f"w{i}" for i in range(100))])
    rest, part = held_out(long, 0.2, 10, seed=0)
    assert len(list(sentences(part))) == 2 and sum(map(len, sentences(rest))) == 80


def test_the_manuals_spec_and_words_to_predict() -> None:
    data = WordVectorData(phrases=1, max_vocab=50)
    data.setup("fit")
    assert data.spec is not None and len(data.spec.words) == 50 and len(data.spec.phrases) == 1
    data.setup("predict")
    rows = data.split("predict")
    assert [rows.row_id(i) for i in range(50)] == data.spec.words
    assert rows.__getitems__([4]).inputs.tolist() == [[5]]


BAD = {
    "": "has no rows",
    "\n  \n": "the train text has no words",
    "a a a a a a a a\n" * 3: "has 1 different words, only 'a' of them 5 times or more",
    "a b c d e f g h\n": "has 8 different words, none of them 5 times or more",
    "b a\na b\na b\n": "has 2 different words, none of them 5",
    "b a b\n": "3 words of the vocabulary, fewer than a window of 5 and its centre",
}


@pytest.mark.parametrize("text", BAD)
def test_text_that_gives_no_pairs_is_named(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text(text)
    least = 1 if "window" in BAD[text] else 5
    data = WordVectorData(TextLines(str(tmp_path / "a.txt")), val_fraction=0, min_count=least)
    with pytest.raises(DataError, match=BAD[text]):
        data.setup("fit")
    code = main(
        f"fit --model tasks.word_vectors.WordVectors --data tasks.word_vectors.WordVectorData --data.val_fraction 0 "
        f"--data.source lightning_rnn.data.TextLines --data.source.train {tmp_path}/a.txt --data.min_count {least} "
        f"--trainer.default_root_dir {tmp_path}/run --trainer.accelerator cpu --trainer.max_epochs 1".split()
    )
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 1 and BAD[text] in said[-1] and "Traceback" not in "".join(said)


def test_a_part_without_a_pair_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nb\n" * 9)
    (tmp_path / "text.txt").write_text("a b a b b a\n" * 9)
    words, text = str(tmp_path / "words.txt"), str(tmp_path / "text.txt")
    with pytest.raises(DataError, match=r"the train text has no two words.*set data\.joined true"):
        WordVectorData(TextLines(words), min_count=1, val_fraction=0).setup("fit")
    WordVectorData(TextLines(words), min_count=1, val_fraction=0, joined=True, subsample=0).setup("fit")
    with pytest.raises(DataError, match=r"the val text has no two words.*data\.val_fraction 0"):
        WordVectorData(TextLines(text, val=words), min_count=1).setup("fit")
    with pytest.raises(DataError, match=r"once data\.subsample has left some out"):
        WordVectorData(TextLines(text), min_count=1, subsample=1e-9).setup("fit")


def test_a_row_is_drawn_with_its_words_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("$_$ $^ $_$ $^ b b\n" * 9)
    data = WordVectorData(TextLines(str(tmp_path / "a.txt")), "spaces", val_fraction=0)
    data.setup("fit")
    figure = Figure()
    data.draw(figure.add_subplot(), "train", 0)
    figure.savefig(tmp_path / "a.png")
    assert figure.axes[0].texts[0].get_text().startswith("$_$ $^ $_$ $^ b b | $_$")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_one_short_text_cannot_be_split_and_options_are_checked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a b " * 20)
    with pytest.raises(DataError, match=r"nothing can be held out.*data\.val_fraction 0"):
        WordVectorData(TextLines(str(tmp_path / "a.txt"))).setup("fit")
    for options in ({"window": 0}, {"subsample": -1.0}, {"val_fraction": 1.0}, {"max_vocab": 1}, {"cut": "letters"}):
        with pytest.raises(ConfigError, match=f"data.{next(iter(options))}"):
            WordVectorData(**options)  # type: ignore[arg-type]

"""The datamodule of translation: what a batch is, and what is refused before it is one."""

from __future__ import annotations

import json
import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonargparse
import matplotlib.pyplot as plt
import pytest
import torch

from lightning_rnn.data.tokenizer import EOS, PAD, UNK
from lightning_rnn.errors import ConfigError, DataError, UserError
from lightning_rnn.types import SequenceBatch
from tasks.translation.data import TranslationData, TranslationRows
from tasks.translation.sources import Numbers, ParallelFiles
from tasks.translation.spec import TranslationSpec
from tasks.translation.text import Codec

SMALL = Numbers(train=300, val=40, test=40)


def ready(stage: str = "fit", spec: TranslationSpec | None = None, **options: Any) -> TranslationData:
    data = TranslationData(**{"source": SMALL, "vocab_size": 80, **options})
    data.spec = spec
    data.prepare_data()
    data.setup(stage)
    return data


def rows(data: TranslationData, name: str = "train") -> TranslationRows:
    split = data.split(name)
    assert isinstance(split, TranslationRows)
    return split


def message(action: Callable[[], object], kind: type[UserError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small corpus of files, whose third line is long on the source side and whose fifth is on the target side."""
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    english = ["a dog runs", "a cat sleeps", "a dog and a cat and a cow run", "the dog sleeps", "cows", "the cat runs"]
    french = ["un chien court", "un chat dort", "ils courent", "le chien dort", "ce sont les vaches de la ferme", "Là"]
    (tmp_path / "a.en").write_text("".join(f"{line}\n" for line in english))
    (tmp_path / "a.fr").write_text("".join(f"{line}\n" for line in french))
    return tmp_path


def from_files(**options: Any) -> TranslationData:
    source = ParallelFiles(train="a.{}", val="a.{}", test="a.{}")
    return TranslationData(source, **{"tokenizer": "words", "vocab_size": 50, **options})


# Batches


def test_a_batch_has_the_pairs_of_its_ids() -> None:
    data = ready()
    codec = Codec(data.spec)
    split = rows(data, "val")
    for batch in data.val_dataloader():
        assert batch.inputs.dtype == batch.targets.dtype == torch.int64
        for row, ids, length, target, target_length in zip(
            batch.ids.tolist(), batch.inputs, batch.lengths, batch.targets, batch.target_lengths, strict=True
        ):
            assert codec.source.decode(ids[: length - 1].tolist()) == split.sources[row]
            assert codec.decode(target.tolist()) == split.references[row]
            assert ids[length - 1] == target[target_length - 1] == EOS
            assert not {0, 2, 3} & {*ids[: length - 1].tolist(), *target[: target_length - 1].tolist()}
            assert (ids[length:] == PAD).all() and (target[target_length:] == PAD).all()


def test_no_side_of_a_batch_has_more_tokens_than_the_budget() -> None:
    data = ready(batch_size=1000, max_tokens=200)
    batches = list(data.train_dataloader())
    assert max(max(batch.inputs.numel(), batch.targets.numel()) for batch in batches) <= 200
    assert sorted(row for batch in batches for row in batch.ids.tolist()) == list(range(300))
    assert rows(data).lengths.tolist() == [
        max(len(one), len(other)) for one, other in zip(rows(data).inputs, rows(data).targets, strict=False)
    ]


def test_a_reversed_source_is_the_source_backwards_with_its_end_last() -> None:
    plain, reverse = ready(), ready(reverse_source=True)
    for row in range(300):
        one, other = rows(plain).inputs[row].tolist(), rows(reverse).inputs[row].tolist()
        assert other == [*one[-2::-1], EOS]
        assert torch.equal(rows(plain).targets[row], rows(reverse).targets[row])


def test_a_source_without_its_end_is_one_token_shorter() -> None:
    plain, without = ready(), ready(source_eos=False)
    assert torch.equal(rows(plain).inputs.lengths, rows(without).inputs.lengths + 1)
    assert without.spec.longest_source == plain.spec.longest_source - 1 == int(rows(without).inputs.lengths.max())


def test_the_tokenizers_know_their_own_side_of_the_training_part_alone(files: Path) -> None:
    source = ParallelFiles(train="a.{}", val="b.{}")
    (files / "b.en").write_text("a zebra\n")
    (files / "b.fr").write_text("un zèbre\n")
    data = ready(source=source, tokenizer="words", joint=False, vocab_size=50)
    codec = Codec(data.spec)
    assert "dog" in codec.source_pieces and "dog" not in codec.target_pieces
    assert data.spec.source_size == len(codec.source_pieces) != data.spec.target_size == len(codec.target_pieces)
    assert rows(data, "val").inputs[0].tolist()[1:] == [UNK, EOS]
    joint = Codec(ready(source=source, tokenizer="words", vocab_size=50).spec)
    assert joint.source is joint.target and {"dog", "chien"} < set(joint.target_pieces)


def test_lower_case_is_of_the_ids_not_of_the_references(files: Path) -> None:
    (files / "a.fr").write_text("DIE STRASSE\nDie Straße\nÀ\nC\nd\nE\n")
    data = ready(source=ParallelFiles(train="a.{}", val="a.{}"), tokenizer="characters", lower=True)
    codec = Codec(data.spec)
    assert rows(data).references[1] == "Die Straße"
    assert codec.decode(rows(data).targets[1].tolist()) == "die straße"


@pytest.mark.parametrize(("kind", "alpha"), [("unigram", 0.2), ("bpe", 0.2)])
def test_sampled_pairs_follow_from_seed_and_epoch_and_say_the_same(kind: str, alpha: float) -> None:
    def epoch(number: int, **options: Any) -> dict[int, tuple[list[int], list[int]]]:
        data = ready(tokenizer=kind, sampling=alpha, reverse_source=True, vocab_size=70, **options)
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(number)
        codec, found = Codec(data.spec), {}
        for batch in loader:
            for row, ids, target in zip(batch.ids.tolist(), batch.inputs, batch.targets, strict=True):
                assert codec.decode(target.tolist()) == rows(data).references[row]
                found[row] = [i for i in ids.tolist() if i], [i for i in target.tolist() if i]
                assert codec.source.decode(found[row][0][-2::-1]) == rows(data).sources[row]
        return found

    first = epoch(0)
    assert first == epoch(0, batch_size=7) != epoch(1)
    assert first != epoch(0, seed=1)
    data = ready(tokenizer=kind, sampling=alpha, vocab_size=70)
    plain = ready(tokenizer=kind, vocab_size=70)
    assert torch.equal(rows(data, "val").__getitems__([3, 1]).inputs, rows(plain, "val").__getitems__([3, 1]).inputs)


def test_a_split_sent_to_another_process_gives_the_same_batch() -> None:
    split = rows(ready(sampling=0.2))
    other = pickle.loads(pickle.dumps(split))
    assert torch.equal(split.__getitems__([5, 2]).targets, other.__getitems__([5, 2]).targets)


def test_other_translations_are_other_data(files: Path) -> None:
    before = rows(ready(source=ParallelFiles(train="a.{}"), tokenizer="words")).digest()
    text = (files / "a.fr").read_text()
    (files / "a.fr").write_text(text.replace("un chat dort", "un chien dort"))
    assert before != rows(ready(source=ParallelFiles(train="a.{}"), tokenizer="words")).digest()


def test_rows_are_drawn_as_both_sentences() -> None:
    _, axes = plt.subplots()
    data = ready()
    data.draw(axes, "val", 3)
    text = " ".join(axes.texts[0].get_text().split())  # lines are broken
    assert rows(data, "val").sources[3] in text and rows(data, "val").references[3] in text
    plt.close("all")


# The spec


def test_a_spec_is_plain_and_makes_the_same_ids_without_the_training_part(files: Path) -> None:
    trained = ready(reverse_source=True, lower=True, joint=False, vocab_size=60)
    spec = TranslationSpec(**json.loads(json.dumps(trained.spec.to_dict())))
    assert spec == trained.spec
    (files / "in.txt").write_text("Twenty-one\n")
    data = ready("predict", spec, predict="in.txt", vocab_size=99)
    assert "train" not in data._splits
    expected = Codec(trained.spec).encode_source(["twenty-one"])[0]
    batch = next(iter(data.predict_dataloader()))
    assert torch.equal(batch.inputs[0], expected)
    assert batch.targets is None and batch.target_lengths is None and rows(data, "predict").references is None


def test_the_test_part_is_predicted_where_there_is_no_file() -> None:
    spec = ready().spec
    data = ready("predict", spec)
    assert rows(data, "predict").ids == SMALL.read("test").ids
    assert rows(data, "predict").references == SMALL.read("test").target


def test_ids_beyond_the_vocabulary_are_refused_on_both_sides() -> None:
    data = ready()
    good = rows(data).__getitems__([0, 1])
    data.spec.check(good)
    for side in ("inputs", "targets"):
        batch = SequenceBatch(good.inputs.clone(), good.targets.clone(), good.lengths, ids=good.ids)
        getattr(batch, side)[1, 2] = 80
        assert "row 1 of the part, step 3: the token id 80" in message(lambda batch=batch: data.spec.check(batch))


def test_another_pair_of_languages_is_said(caplog: pytest.LogCaptureFixture) -> None:
    spec = ready().spec
    ready("test", spec, source=Numbers(20, 2, 2, languages=("en", "de")))
    assert "the data are en-de, the model was trained on en-fr" in caplog.text


def test_sentences_in_another_script_are_said(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    (files / "in.txt").write_text("двадцать один\n")
    ready("predict", ready().spec, predict="in.txt")
    assert "in.txt" in caplog.text and "are unknown to the tokenizer" in caplog.text


# What is refused or cut


@pytest.mark.parametrize(("joint", "file"), [(True, "a.en and"), (False, "a.en")])
def test_a_vocabulary_too_large_names_the_option_and_the_limit(files: Path, joint: bool, file: str) -> None:
    data = from_files(tokenizer="unigram", vocab_size=5000, joint=joint)
    text = message(lambda: data.setup("fit"), ConfigError)
    assert text.startswith("data.vocab_size 5000 is too high for this text with unigram: at most ") and file in text
    limit = int(text.split("at most ")[1].split()[0])
    from_files(tokenizer="unigram", vocab_size=limit, joint=joint).setup("fit") if joint else None


@pytest.mark.parametrize(("limit", "where"), [(6, "a.en, line 3: 9 tokens"), (9, None), (5, "a.en, line 3")])
def test_a_sentence_over_the_limit_is_refused_by_file_and_line(files: Path, limit: int, where: str | None) -> None:
    data = from_files(max_length=limit, longer="refuse")
    if where is None:
        data.setup("fit")
    else:
        assert where in message(lambda: data.setup("fit"))
    (files / "a.en").write_text("a\n" * 6)
    if limit < 7:
        assert "a.fr, line 5: 7 tokens" in message(lambda: from_files(max_length=limit, longer="refuse").setup("fit"))


def test_a_sentence_over_the_limit_is_cut_with_a_count(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = from_files(max_length=None)
    whole.setup("fit")
    data = from_files(max_length=3, reverse_source=True)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    assert "a.en: 1 of 6 sentences cut to max_length 3" in caplog.text
    assert "a.fr: 1 of 6 sentences cut to max_length 3" in caplog.text
    first = rows(whole).inputs[2].tolist()
    assert rows(data).inputs[2].tolist() == [*first[2::-1], EOS]
    assert rows(data).targets[4].tolist() == [*rows(whole).targets[4].tolist()[:3], EOS]
    assert (data.spec.longest_source, data.spec.longest_target) == (4, 4)
    assert rows(data).references[4] == "ce sont les vaches de la ferme"


@pytest.mark.parametrize(
    ("kind", "unit"), [("unigram", "un chat "), ("unigram", "chat"), ("bpe", "chat"), ("characters", "x")]
)
def test_a_line_of_100_000_characters_takes_seconds_and_a_batch_of_the_limit(files: Path, kind: str, unit: str) -> None:
    for name in ("a.en", "a.fr"):
        (files / name).write_text(f"{(unit * 100_000)[:100_000]}\n{(files / name).read_text()}")
    begun = time.process_time()
    sampling = 0.0 if kind == "characters" else 0.2
    data = from_files(tokenizer=kind, vocab_size=30, max_length=50, sampling=sampling)
    data.setup("fit")
    for name in ("train", "val"):
        batch = rows(data, name).__getitems__([0, 1])
        assert batch.inputs.shape == batch.targets.shape == (2, 51)
    assert time.process_time() - begun < 20


def test_an_empty_line_is_refused_or_dropped(files: Path) -> None:
    (files / "a.fr").write_text("un\n\ntrois\nquatre\ncinq\nsix\n")
    assert "a.fr, line 2: the sentence is empty" in message(lambda: from_files().setup("fit"))
    data = from_files(empty="drop")
    data.setup("fit")
    assert rows(data).ids == [0, 2, 3, 4, 5]


def test_no_training_pairs_is_said(files: Path) -> None:
    data = TranslationData(ParallelFiles(test="a.{}"))
    assert "has no training pairs" in message(lambda: data.setup("test"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"vocab_size": 5}, "data.vocab_size must be at least 8"),
        ({"max_length": 0}, "data.max_length must be at least 1"),
        ({"sampling": 0.1, "tokenizer": "words"}, "sampling goes with"),
        ({"sampling": -0.1}, "sampling must be above 0"),
        ({"max_tokens": 0}, "data.max_tokens"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], text: str) -> None:
    assert text in message(lambda: TranslationData(**options), ConfigError)


def test_a_config_gives_sources_with_one_path_or_two(files: Path) -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TranslationData, "data")
    path = "tasks.translation.sources.ParallelFiles"
    given = {"class_path": path, "init_args": {"train": "a.{}", "val": ["a.en", "a.fr"], "languages": ["en", "fr"]}}
    data = parser.instantiate_classes(parser.parse_object({"data": {"source": given, "tokenizer": "words"}})).data
    data.setup("fit")
    assert rows(data).references == rows(data, "val").references

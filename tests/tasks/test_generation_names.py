"""Names by class: parts that share no name, one form of writing, n-grams to beat, and what is wrong in files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars
import pytest

from lightning_rnn.cli import main
from lightning_rnn.data.tokenizer import EOS, UNK
from lightning_rnn.errors import ConfigError, DataError, UserError
from lightning_rnn.paths import data_path
from lightning_rnn.training.loading import load_trained
from tasks.generation import Generator
from tasks.generation.data import GenerationData
from tasks.generation.name_baselines import ORDERS, Letters, best_ngrams, ngram_losses
from tasks.generation.names import NamesByClass, normalized
from tasks.generation.reports import novelty, sample_classes
from tasks.generation.sources import Items

PARTS = ("train", "val", "test")
CONFIG = """
model:
  class_path: tasks.generation.Generator
  init_args: {hidden_size: 8, decode: sample, candidates: 4, keep: 4, max_length: 9}
data:
  class_path: tasks.generation.GenerationData
  init_args: {source: {class_path: tasks.generation.names.NamesByClass}}
trainer: {accelerator: cpu, max_epochs: 1}
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    (tmp_path / "names").mkdir()
    return tmp_path / "names"


def write(folder: Path, **names: str | bytes) -> None:
    for name, text in names.items():
        (folder / f"{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())


def many(start: str, count: int = 60) -> str:
    return "".join(f"{start}{'aeiou'[i % 5]}{'klmnprst'[i % 8]}{'aeiou'[i // 8 % 5]}\n" for i in range(count))


def message(action: Callable[[], object], kind: type[UserError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_no_name_is_in_two_parts_whatever_its_class(data: Path) -> None:
    write(data, Greek=many("A") + many("B"), Irish=many("B") + many("C"), Dutch=many("b"))
    source = NamesByClass()
    parts = [source.read(part) for part in PARTS]
    texts = [{text.lower() for text in part.texts} for part in parts if part is not None and part.texts]
    assert len(texts) == 3 and not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    pairs = [pair for part in parts if part and part.texts for pair in zip(part.given, part.texts, strict=True)]
    assert len(pairs) == len(set(pairs))
    assert {name for name, _ in pairs} == {"Greek", "Irish", "Dutch"}


def test_a_name_stays_in_its_part_when_files_grow(data: Path) -> None:
    write(data, Greek=many("A"))
    before = NamesByClass().read("test")
    write(data, Greek=many("Z") + many("A"), Irish=many("C"))
    after = NamesByClass().read("test")
    assert before is not None and after is not None and before.texts and after.texts
    assert set(before.texts) <= set(after.texts)


def test_repeated_names_count_once_or_as_often_as_asked(data: Path) -> None:
    write(data, Arabic="Nahas\nDaher\nNahas\n")
    counts = [len(NamesByClass(repeats=r, val_share=0, test_share=0).read("train") or ()) for r in (False, True)]
    assert counts == [2, 3]


def test_files_that_are_no_class_are_left_out(data: Path) -> None:
    write(data, Irish="Daly\n", makemore_names="emma\n", Greek="Adamou\n")
    assert list(NamesByClass().names()) == ["Greek", "Irish"]
    assert list(NamesByClass(classes=["Irish"]).names()) == ["Irish"]


@pytest.mark.parametrize(
    ("name", "accents", "lower", "expected"),
    [
        ("See ", True, False, "See"),
        ("Béringer", True, False, "Béringer"),
        ("Be\u0301ringer", True, False, "Béringer"),
        ("Béringer", False, False, "Beringer"),
        ("Groß", False, True, "gross"),
        ("Żałęcki", False, False, "Zalecki"),
        ("De  la Cruz", True, True, "de la cruz"),
    ],
)
def test_names_have_one_form(name: str, accents: bool, lower: bool, expected: str) -> None:
    assert normalized(name, accents, lower) == expected


def test_every_class_is_asked_for_once_in_predict(data: Path) -> None:
    write(data, Greek=many("A"), Irish=many("C"))
    part = NamesByClass().read("predict")
    assert part is not None and part.given == ["Greek", "Irish"] and part.texts is None and part.ids == part.given


def test_targets_are_the_letters_and_the_end(data: Path) -> None:
    write(data, Greek="Ada\n", Irish="Ódra\n")
    module = GenerationData(NamesByClass(val_share=0, test_share=0))
    module.setup("fit")
    rows = module.split("train").__getitems__([0, 1])
    assert module.spec is not None and rows.targets is not None
    assert [module.spec.decode(ids) for ids in rows.targets.tolist()] == ["Ada", "Ódra"]
    assert rows.targets[0, 3] == EOS and not bool((rows.targets == UNK).any())
    assert rows.inputs[:, 0].tolist() == [[1, 0], [0, 1]]


# n-grams


def test_a_name_begins_anew_and_its_end_is_predicted() -> None:
    """By hand, bigrams: ``a`` begins every name and what is after it comes from two; unigrams are 3 continuations."""
    letters = Letters(["ab", "a"])
    model = letters.count(["ab", "a"], 2)
    unigram = np.array([1, 1, 2, 0]) - np.array([0.5, 0.5, 1, 0])  # a, b, the end, all others
    unigram = unigram / 4 + 2 / 4 / 4
    first = np.array([(2 - 1) / 2, 0, 0, 0]) + 1 / 2 * unigram
    np.testing.assert_allclose(model.probabilities(np.array([], np.int64)), first)
    np.testing.assert_allclose(model.log_probs(*letters.encode(["a", "é"]))[[0, 2]], np.log(first[[0, 3]]))


def test_classes_that_differ_are_worth_knowing() -> None:
    train = Items(["x", "y"] * 30, ["aaa", "bbb"] * 30)
    losses = ngram_losses(train, Items(["x", "y"], ["aaa", "bbb"]), 3)
    assert losses["each class"] < 0.8 * losses["all classes"]
    assert losses["each class"] < losses["both"] < losses["all classes"]
    swapped = ngram_losses(train, Items(["y", "x"], ["aaa", "bbb"]), 3)
    assert swapped["each class"] > swapped["all classes"]


def test_characters_never_seen_have_a_finite_cost() -> None:
    assert all(map(math.isfinite, ngram_losses(Items(["x"], ["ab"]), Items(["x"], ["éß"])).values()))


def test_the_mean_of_both_is_of_probabilities() -> None:
    found = ngram_losses(Items(["x", "y"], ["aa", "b"]), Items(["x"], [""]), 1)
    p = [math.exp(-found[of]) for of in ("all classes", "each class")]
    assert found["both"] == pytest.approx(-math.log(sum(p) / 2))


def test_the_length_of_ngrams_is_chosen_by_the_validation_part() -> None:
    train = Items(["x"] * 4, ["abcdefgh"] * 4)
    found = best_ngrams(train, Items(["x"], ["abcdefgh"]), Items(["x"], ["zzz"]))
    order = min(ORDERS, key=lambda size: min(ngram_losses(train, Items(["x"], ["abcdefgh"]), size).values()))
    assert list(found) == [f"{order}-grams, {of}" for of in ("all classes", "each class", "both")]


def test_novelty_is_the_share_of_texts_not_trained_on() -> None:
    assert novelty(["a", "b", "b", "c"], ["a", "c"]) == {"new": 0.5, "different": 0.75}


# Sampling, through the command line


def test_samples_are_a_function_of_the_seed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(data, Greek=many("A"), Irish=many("C"))
    config, run = tmp_path / "names.yaml", tmp_path / "run"
    config.write_text(CONFIG)
    assert main(["fit", "--config", str(config), "--trainer.default_root_dir", str(run)]) == 0
    module = load_trained(Generator, run / "checkpoints" / "last.ckpt")
    first, again = sample_classes(module, 5), sample_classes(module, 5)
    assert first == again and len(first) == 10
    module.sample_seed = 1
    assert sample_classes(module, 5) != first
    for stage in ("test", "predict"):
        command = [stage, "--config", str(run / "config.yaml"), "--ckpt_path", "last"]
        assert main([*command, "--trainer.default_root_dir", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "grams, each class" in shown and "of 50 sampled names of each class" in shown
    table = polars.read_parquet(run / "predictions.parquet")
    assert table["id"].to_list() == ["Greek", "Irish"]
    assert [len(json.loads(names)) for names in table["samples"]] == [4, 4]


@pytest.mark.parametrize(("irish", "said"), [("", "has no names"), ("S\xe9aghdha\n", "is not utf-8")])
def test_a_broken_file_ends_the_command_with_its_sentence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], irish: str, said: str
) -> None:
    write(data, Greek=many("A"), Irish=irish.encode("latin-1"))
    (tmp_path / "names.yaml").write_text(CONFIG)
    assert main(["fit", "--config", str(tmp_path / "names.yaml")]) == 1
    shown = capsys.readouterr().err
    assert said in shown and "Irish.txt" in shown and "Traceback" not in shown


# What is wrong


def test_broken_files_are_named(data: Path) -> None:
    said = message(lambda: NamesByClass(folder="absent").read("train"))
    assert "no folder" in said and "absent" in said
    assert "has no file of names" in message(lambda: NamesByClass().read("train"))
    write(data, Greek=many("A"), Irish="")
    assert "Irish.txt has no names: put some in, or take the class Irish out" in message(
        lambda: NamesByClass().read("train")
    )
    write(data, Irish="Séaghdha\n".encode("latin-1"))
    said = message(lambda: NamesByClass().read("train"))
    assert "Irish.txt, line 1: byte 1 (0xe9) is not utf-8" in said
    write(data, Irish="Daly\n \nFarrell\n")
    assert "Irish.txt, line 2: the name is empty" in message(lambda: NamesByClass().read("train"))
    assert "Dutch.txt for the class Dutch" in message(lambda: NamesByClass(classes=["Dutch"]).read("train"))


def test_a_class_without_training_names_is_named(data: Path) -> None:
    write(data, Greek=many("A"), Irish="Daly\n")
    seed = next(seed for seed in range(100) if NamesByClass(seed=seed).part_of("Daly") != "train")
    assert "the class Irish has no names in the training part" in message(lambda: NamesByClass(seed=seed).read("train"))


def test_shares_that_leave_nothing_are_refused() -> None:
    assert "below 1 together" in message(lambda: NamesByClass(val_share=0.5, test_share=0.5), ConfigError)


# The set itself


def test_the_well_known_set_is_read_whole() -> None:
    if not data_path("names/Arabic.txt").is_file():
        pytest.skip("no names in LIGHTNING_RNN_DATA")
    names = NamesByClass().names()
    assert len(names) == 18 and len(names["Arabic"]) == 108
    assert sum(map(len, NamesByClass(repeats=True).names().values())) == 20_050


def test_n_grams_of_the_well_known_set_are_as_the_page_says() -> None:
    if not data_path("names/Arabic.txt").is_file():
        pytest.skip("no names in LIGHTNING_RNN_DATA")
    train, test = (NamesByClass().read(part) for part in ("train", "test"))
    assert train is not None and test is not None
    assert ngram_losses(train, test, 6)["each class"] == pytest.approx(1.815, abs=1e-3)

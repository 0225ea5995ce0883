"""Sources of sentence pairs: what they give, and the sentence for what is wrong in them."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from num2words import num2words

from lightning_rnn.errors import ConfigError, DataError, UserError
from tasks.translation import multi30k
from tasks.translation.pairs import Pairs, PairSource, cleaned
from tasks.translation.sources import TSV, Multi30k, Numbers, ParallelFiles, Tatoeba, read_sources

PARTS = ("train", "val", "test")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    monkeypatch.setenv("LIGHTNING_RNN_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write(data: Path, en: str | bytes, fr: str | bytes) -> ParallelFiles:
    for name, text in (("a.en", en), ("a.fr", fr)):
        (data / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return ParallelFiles(train="a.{}")


def message(action: Callable[[], object], kind: type[UserError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    return text


# Parallel files


@pytest.mark.parametrize("end", ["", ".gz", ".xz", ".zst"])
def test_compressed_files_give_the_same_pairs(data: Path, end: str) -> None:
    import lzma

    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}[end]
    for language, text in (("en", "Go.\nRun!\n"), ("fr", "Va !\nCours !")):
        (data / f"a.{language}{end}").write_bytes(pack(text.encode()))
    pairs = ParallelFiles(train=f"a.{{}}{end}").read("train")
    assert pairs is not None and (pairs.source, pairs.target) == (["Go.", "Run!"], ["Va !", "Cours !"])


def test_two_paths_stand_for_one_with_braces(data: Path) -> None:
    source = write(data, "Go.\n", "Va !\n")
    other = ParallelFiles(train=("a.en", "a.fr"))
    assert source.read("train") == other.read("train")
    assert source.read("val") is None
    assert "put {} in" in message(lambda: ParallelFiles(train="a.en"), ConfigError)


@pytest.mark.parametrize(("en", "fr", "line"), [("a\nb\nc\n", "x\n", 2), ("", "x\n", 1), ("a\nb\n", "x\ny\n\n", 3)])
def test_files_of_unequal_length_name_the_first_line_without_a_partner(data: Path, en: str, fr: str, line: int) -> None:
    text = message(lambda: write(data, en, fr).read("train"))
    assert str(data / "a.en") in text and str(data / "a.fr") in text
    assert f"line {line} has no partner" in text


def test_only_a_line_feed_ends_a_line(data: Path) -> None:
    odd = "a\x85b\u2028c\x0bd\x0ce\x1cf\rg"
    pairs = write(data, f"{odd}\nnext\r\n", "x\ny\n").read("train")
    assert pairs is not None and pairs.source == [odd, "next"]


def test_bytes_that_are_not_utf_8_and_nul_are_named_by_file_and_line(data: Path) -> None:
    assert f"{data / 'a.en'}, line 2: byte 5" in message(lambda: write(data, b"abc\nd\xe9f\n", "x\ny\n").read("train"))
    assert f"{data / 'a.fr'}, line 2: a NUL" in message(lambda: write(data, "a\nb\n", "x\ny\0\n").read("train"))


def test_a_missing_file_and_an_empty_pair_of_files_are_named(data: Path) -> None:
    assert "b.en" in message(lambda: ParallelFiles(train="b.{}").read("train"))
    assert "has no rows" in message(lambda: write(data, "", "").read("train"))


def test_sentences_to_predict_have_no_translations(data: Path) -> None:
    (data / "in.txt").write_text("Go.\nRun!\n")
    pairs = read_sources("in.txt")
    assert pairs.target is None and pairs.source == ["Go.", "Run!"]


# What is mended or refused in any source


@pytest.mark.parametrize(
    ("en", "fr", "where"),
    [
        ("a\n\nc\n", "x\ny\nz\n", "a.en, line 2"),
        ("a\nb\nc\n", "x\ny\n \t\n", "a.fr, line 3"),
        ("\x85\n", "x\n", "a.en"),
    ],
)
def test_an_empty_line_is_refused_by_file_and_line_or_dropped(
    data: Path, en: str, fr: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = write(data, en, fr).read("train")
    assert pairs is not None
    assert where in message(lambda: cleaned(pairs))
    with caplog.at_level(logging.INFO):
        kept = cleaned(pairs, "drop")
    assert len(kept) == len(pairs) - 1 and f"1 of {len(pairs)} pairs" in caplog.text


def test_dropped_pairs_leave_names_and_lines_of_the_others() -> None:
    pairs = Pairs(["a", "", "c"], ["x", "y", "z"], ("a.en", "a.fr"), tokenized=["1", "2", "3"])
    kept = cleaned(pairs, "drop")
    assert (kept.source, kept.target, kept.tokenized) == (["a", "c"], ["x", "z"], ["1", "3"])
    assert kept.ids == [0, 2] and kept.where(1) == "a.en, line 3"
    assert kept.select([1]).ids == [2] and kept.select([1]).where(0, "target") == "a.fr, line 3"


def test_control_characters_become_spaces_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    pairs = Pairs(["a\rb\x85c", "d\te\u2029f"], ["x\x1by", "z\u00a0ß"], ("a.en", "a.fr"))
    with caplog.at_level(logging.INFO):
        found = cleaned(pairs)
    assert found.source == ["a b c", "d\te f"] and found.target == ["x y", "z\u00a0ß"]
    assert "a.en: 3 control characters in 2 lines" in caplog.text
    assert "a.fr: 1 control characters in 1 lines" in caplog.text


# Tables and Tatoeba


def test_a_table_names_its_faults_by_row_and_column(data: Path) -> None:
    (data / "a.tsv").write_text("en\tfr\nGo.\tVa !\nRun!\n")
    assert f"{data / 'a.tsv'}, row 3" in message(lambda: TSV(train="a.tsv").read("train"))
    (data / "a.tsv").write_text("en\tfr\nGo.\tVa !\n")
    assert "no column 'de'" in message(lambda: TSV(train="a.tsv", columns=("en", "de")).read("train"))
    (data / "a.tsv").write_text("en\tfr\nGo.\tVa !\n\t\nRun!\tCours !\n")
    pairs = TSV(train="a.tsv").read("train")
    assert pairs is not None and "a.tsv, line 3" in message(lambda: cleaned(pairs))


def tatoeba(data: Path) -> list[tuple[str, str]]:
    rows = [(f"Sentence {n % 700}.", f"Phrase {n}.") for n in range(1000)]
    (data / "fra.txt").write_text("".join(f"{en}\t{fr}\tCC-BY {n}\n" for n, (en, fr) in enumerate(rows)))
    return rows


def test_tatoeba_has_every_pair_once_and_no_sentence_in_two_parts(data: Path) -> None:
    rows = tatoeba(data)
    parts = {part: Tatoeba("fra.txt", 0.1, 0.2).read(part) for part in PARTS}
    there = {part: list(zip(pairs.source, pairs.target, strict=True)) for part, pairs in parts.items()}
    assert sorted(itertools.chain.from_iterable(there.values())) == sorted(rows)
    sentences = {part: set(pairs.source) for part, pairs in parts.items()}
    assert sum(map(len, sentences.values())) == 700
    assert 40 < len(sentences["val"]) < 100 and 100 < len(sentences["test"]) < 180
    assert rows[parts["val"].ids[3]] == there["val"][3]


def test_tatoebas_parts_follow_from_sentence_and_seed_alone(data: Path) -> None:
    tatoeba(data)
    before = Tatoeba("fra.txt", 0.1, 0.2).read("test")
    text = (data / "fra.txt").read_text().splitlines(keepends=True)
    (data / "fra.txt").write_text("Newer.\tNeuf.\tCC\n" + "".join(reversed(text)))
    after = Tatoeba("fra.txt", 0.1, 0.2).read("test")
    assert set(after.source) - {"Newer."} == set(before.source)
    assert set(Tatoeba("fra.txt", 0.1, 0.2, seed=1).read("test").source) != set(after.source)


def test_tatoeba_turned_around_has_the_same_parts(data: Path) -> None:
    tatoeba(data)
    there, back = Tatoeba("fra.txt", 0.1, 0.2).read("val"), Tatoeba("fra.txt", 0.1, 0.2, reverse=True).read("val")
    assert (back.source, back.target, back.ids) == (there.target, there.source, there.ids)
    assert Tatoeba("fra.txt", 0.0, 0.2).read("val") is None
    assert "below 1 together" in message(lambda: Tatoeba("fra.txt", 0.5, 0.5), ConfigError)


# Numbers


@pytest.fixture(scope="module")
def numbers() -> list[Pairs]:
    return [Numbers().read(part) for part in PARTS]


def test_numbers_are_spelled_right_and_in_one_part_alone(numbers: list[Pairs]) -> None:
    parts = numbers
    assert [len(part) for part in parts] == [4000, 200, 200]
    drawn = [number for part in parts for number in part.ids]
    assert len(set(drawn)) == 4400 and min(drawn) >= 0 and max(drawn) <= 9_999_999
    for part in parts:
        for row in (0, 17, 199):
            number = part.ids[row]
            assert part.source[row] == num2words(number) and part.target[row] == num2words(number, lang="fr")


def test_all_words_of_the_numbers_are_in_the_training_part(numbers: list[Pairs]) -> None:
    def words(pairs: Pairs) -> set[str]:
        return set(" ".join([*pairs.source, *(pairs.target or [])]).replace("-", " ").replace(",", " ").split())

    train, val, test = numbers
    assert words(val) | words(test) <= words(train)


def test_numbers_follow_from_their_seed_and_have_all_lengths() -> None:
    small = {"train": 300, "val": 5, "test": 5}
    assert Numbers(**small).read("train") == Numbers(**small).read("train")
    assert Numbers(**small).read("train").ids != Numbers(**small, seed=1).read("train").ids
    lengths = [len(str(number)) for number in Numbers(**small).read("train").ids]
    assert all(lengths.count(digits) >= 20 for digits in (3, 4, 5, 6))


@pytest.mark.parametrize("form", ["cardinal", "ordinal", "year", "currency"])
@pytest.mark.parametrize("languages", [("en", "fr"), ("fr", "de")])
def test_every_form_is_spelled_in_both_languages(form: str, languages: tuple[str, str]) -> None:
    pairs = Numbers(20, 2, 2, highest=3000, form=form, languages=languages).read("train")
    assert all(pairs.source) and all(pairs.target) and pairs.source != pairs.target


def test_numbers_that_cannot_be_are_refused() -> None:
    assert "at most 500" in message(lambda: Numbers(600, 1, 1, highest=999), ConfigError)
    assert "val must be at least 1" in message(lambda: Numbers(val=0), ConfigError)
    assert "'xx'" in message(lambda: Numbers(2, 1, 1, languages=("en", "xx")).read("train"), ConfigError)


# Multi30k


def fake(root: Path, form: str, part: str, lines: int, languages: tuple[str, ...] = ("en", "fr")) -> None:
    (root / form).mkdir(parents=True, exist_ok=True)
    for language in languages:
        text = "".join(f"{form} {part} {language} {n}\n" for n in range(lines)).encode()
        name = f"{part}.{language}.gz" if form == "raw" else f"{part}.lc.norm.tok.{language}"
        (root / form / name).write_bytes(gzip.compress(text) if form == "raw" else text)


def test_multi30k_reads_its_own_names(data: Path) -> None:
    for part in ("train", "val", "test_2017_mscoco"):
        fake(data / "multi30k", "raw", part, 3)
        fake(data / "multi30k", "tok", part, 3)
    source = Multi30k(test="test_2017_mscoco")
    source.prepare()  # nothing is absent
    train, test = source.read("train"), source.read("test")
    assert train is not None and train.tokenized is None and train.target[2] == "raw train fr 2"
    assert test is not None and test.source[0] == "raw test_2017_mscoco en 0"
    assert test.tokenized == [f"tok test_2017_mscoco fr {n}" for n in range(3)]
    assert Multi30k("fr-en", form="tok").read("val").target[0] == "tok val en 0"
    fake(data / "multi30k", "tok", "val", 2)
    assert "line 3 has no partner" in message(lambda: source.read("val"))


def test_multi30k_downloads_what_is_absent_and_refuses_another_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mirror"
    for part in ("train", "val", "test_2016_flickr"):
        fake(mirror, "raw", part, 2)
        fake(mirror, "tok", part, 2)
    fake(data / "multi30k", "raw", "val", 5)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in mirror.rglob("*.*")}
    monkeypatch.setattr(multi30k, "MIRROR", mirror.as_uri())
    monkeypatch.setattr(multi30k, "CHECKSUMS", sums)
    source = Multi30k()
    text = message(lambda: source.read("train"))
    assert "train.en.gz" in text and str(data / "multi30k") in text
    fake(data / "multi30k", "tok", "val", 5)
    source.prepare()
    assert [len(source.read(part)) for part in PARTS] == [2, 5, 2]
    fetched = sorted(path.name for path in (data / "cache" / "multi30k").rglob("t*.*"))
    assert "test_2016_flickr.lc.norm.tok.fr" in fetched and "train.lc.norm.tok.fr" not in fetched
    (data / "cache" / "multi30k" / "raw" / "train.en.gz").unlink()
    (mirror / "raw" / "train.en.gz").write_bytes(b"other")
    assert "train.en.gz" in message(source.prepare)


def test_multi30ks_checksums_are_those_of_the_files(data_root: Path) -> None:
    files = sorted((data_root / "multi30k").rglob("*.*"))
    assert len(files) == 30
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == multi30k.CHECKSUMS[path.name], path


def test_multi30k_has_the_published_sizes(data_root: Path) -> None:
    assert [len(Multi30k("en-de").read(part)) for part in PARTS] == [29_000, 1_014, 1_000]
    assert [len(Multi30k(test=test).read("test")) for test in ("test_2017_flickr", "test_2017_mscoco")] == [1_000, 461]
    assert "such as en-fr" in message(lambda: Multi30k("en-en"), ConfigError)


def test_every_source_names_its_languages(data: Path) -> None:
    sources: list[PairSource] = [Numbers(), Multi30k("de-en"), Tatoeba(), TSV(), ParallelFiles()]
    assert [source.languages for source in sources] == [("en", "fr"), ("de", "en"), *[("en", "fr")] * 3]

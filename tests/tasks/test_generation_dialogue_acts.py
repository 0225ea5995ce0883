"""Dialogue acts: read, delexicalised and lexicalised again; RNNLG's files; what is wrong in them."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from lightning_rnn.errors import ConfigError, DataError
from tasks.generation.conditions import encode_conditions
from tasks.generation.dialogue_acts import Act, act_vector, entries, parse_act
from tasks.generation.lexicalize import Lexicon, delexicalized, lexicalized
from tasks.generation.normalize import normalized
from tasks.generation.realized import counted, realized
from tasks.generation.rnnlg import Rnnlg, read_rows, references_of
from tasks.generation.rows import rows_of

ARCHIVE = Path(os.environ.get("LIGHTNING_RNN_DATA", "data")) / "rnnlg" / "rnnlg_original.tar.xz"
real = pytest.mark.skipif(not ARCHIVE.is_file(), reason="needs RNNLG")
DETECTION = {"general": {"name": "SLOT_NAME", "food": "SLOT_FOOD"}, "binary": {"kidsallowed": ["kid", "child"]}}
TEMPLATE = ["a.?request", "a.goodbye", "a.inform", "sv.NONE.NONE", "sv.food.?", "sv.food._1", "sv.kidsallowed.no",
            "sv.kidsallowed.yes", "sv.name._1", "sv.name._2", "sv.pool.yes"]  # fmt: skip
ROWS = {
    "train": [
        ["inform(name='the eagle';food=thai)", "The Eagle serves thai food.", ""],
        ["inform(name=zen;food='fish and chips')", "zen has chips and fish", ""],
        ["inform(name=zen;kids_allowed='false')", "zen does not take kids", ""],
        ["?request(food)", "what food ?", ""],
        ["goodbye()", "goodbye", ""],
    ],
    "valid": [["inform(name=pho;food=thai)", "pho serves thai", ""]],
    "test": [
        ["inform(name=x1;food=thai)", "x1 serves thai food", ""],
        ["inform(food=greek;name='the spot')", "greek food is at the spot", ""],
    ],
}


def benchmark(root: Path, rows: dict[str, list[list[str]]] = ROWS, domain: str = "restaurant") -> Path:
    """A folder like the benchmark's."""
    folder = root / "rnnlg" / "data" / "original" / domain
    resource = root / "rnnlg" / "resource"
    folder.mkdir(parents=True)
    resource.mkdir()
    (resource / "detect.pair").write_text(json.dumps(DETECTION))
    (resource / "feat_template.txt").write_text("\n".join(TEMPLATE))
    for part, content in rows.items():
        (folder / f"{part}.json").write_text("#####\n# c #\n#####\n" + json.dumps(content, indent=1))
    return root / "rnnlg"


@pytest.mark.parametrize(
    ("text", "kind", "slots"),
    [
        ("inform(name='the eagle';pricerange=moderate)", "inform",
         (("name", "the eagle"), ("pricerange", "moderate"))),
        ('inform(name="the eagle")', "inform", (("name", "the eagle"),)),
        ("goodbye()", "goodbye", ()),
        ("?request(area)", "?request", (("area", "?"),)),
        ("inform(dogs_allowed='true';has internet=false;area=dont_care;near=none)", "inform",
         (("dogsallowed", "yes"), ("hasinternet", "no"), ("area", "dontcare"), ("near", "none"))),
        (" inform_only_match(name=a;name=b) ", "inform_only_match", (("name", "a"), ("name", "b"))),
        ("inform( name = 'the eagle' ; kids_allowed = true )", "inform",
         (("name", "the eagle"), ("kidsallowed", "yes"))),
    ],
)  # fmt: skip
def test_an_act_is_read(text: str, kind: str, slots: tuple[tuple[str, str], ...]) -> None:
    assert parse_act(text) == Act(kind, slots)


NO_ACTS = ["", "inform", "inform(name=x", "(name=x)", "inform(a=b=c)", "inform(=x)", "name=x)", "inform(name='')"]


@pytest.mark.parametrize("text", NO_ACTS)
def test_what_is_no_act_is_refused_by_row(text: str) -> None:
    with pytest.raises(DataError, match=r"a.txt, row 7: .* is no dialogue act: write it like"):
        parse_act(text, "a.txt, row 7")


def test_values_are_numbered_within_their_slot_and_special_ones_named() -> None:
    act = parse_act("?compare(name=a;price=1;name=b;price=2;battery=none;utility)")
    assert entries(act) == ["a.?compare", "sv.battery.none", "sv.name._1", "sv.name._2", "sv.price._1", "sv.price._2",
                            "sv.utility.?"]  # fmt: skip
    assert act_vector(TEMPLATE, "inform(name=a;name=b)").sum() == 3


def test_an_unknown_slot_is_named_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"row 2: the slot 'parking' .* is unknown: use food, kidsallowed, name, pool$"):
        act_vector(TEMPLATE, "inform(name=x;parking=yes)", "row 2")
    with pytest.raises(DataError, match=r"row 2: the act 'deny' .* is unknown: use \?request, goodbye, inform$"):
        act_vector(TEMPLATE, "deny(name=x)", "row 2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "inform(kidsallowed=maybe)",
            r"row 2: the model has no kidsallowed=\.\.\. as in .*maybe.*: use kidsallowed=no",
        ),
        ("inform(name=a;name=b;name=c)", r"no name=\.\.\. 3 times as in .*: use name=\.\.\., name=\.\.\. 2 times$"),
        ("inform(name)", r"no name as in .*: use name=\.\.\., name=\.\.\. 2 times$"),
    ],
)
def test_what_no_entry_says_is_not_left_out_silently(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        act_vector(TEMPLATE, text, "row 2")


@pytest.mark.parametrize(
    ("text", "act", "expected"),
    [
        ("zen has chips and fish", "inform(name=zen;food='fish and chips')", "SLOT_NAME has SLOT_FOOD"),
        ("zen has chips or fish", "inform(name=zen;food='fish and chips')", "SLOT_NAME has SLOT_FOOD"),
        ("thai thai", "inform(name='thai thai';food=thai)", "SLOT_NAME"),  # the longer value first
        ("zen and zen", "inform(name=zen)", "SLOT_NAME and zen"),  # once
        ("zenith", "inform(name=zen)", "zenith"),  # whole tokens alone
        ("yes it has yes", "inform(pool=yes)", "yes it has yes"),  # special values stay
        ("goodbye", "goodbye()", "goodbye"),
    ],
)
def test_values_become_tokens(text: str, act: str, expected: str) -> None:
    assert delexicalized(text, act, Lexicon()) == expected


def test_tokens_become_values_and_the_type_the_domain() -> None:
    act = "inform(name=zen;name=pho;food=thai)"
    assert lexicalized("SLOT_NAME and SLOT_NAME are SLOT_TYPE -s of SLOT_AREA", act, Lexicon("hotel")) == (
        "zen and pho are hotel -s of SLOT_AREA"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's CHEAP , isn't it ?", "it is cheap , is not it"),
        ("there are 3 hotels, and 2.5 inches .", "there are 3 hotel -s , and 2.5 inch -s"),
        ("call (415) 555-1234, or 510 555 9876", "call 4155551234 , or 5105559876"),
        ("the inn's kids/dogs", "the inn 's kid -s and dogs"),
        ("on 5th ave & 12 34 st", "on 5th avenue and 1234 street"),
        ('say "hi": <there> @x', "say hi there x"),
    ],
)
def test_sentences_are_tokenized_as_the_benchmark_does(text: str, expected: str) -> None:
    assert normalized(text) == expected


def test_a_rows_references_are_those_of_its_kind_with_its_values() -> None:
    acts = [parse_act(text) for text in ("inform(name=a)", "inform(name=b)", "inform(food=c)")]
    found = references_of(acts, ["it is SLOT_NAME", "SLOT_NAME", "eat SLOT_FOOD"], Lexicon())
    assert found == [["it is a", "a"], ["it is b", "b"], ["eat c"]]


@pytest.mark.parametrize("packed", [False, True])
def test_the_benchmark_is_read_from_a_folder_and_from_an_archive(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_CACHE", str(tmp_path / "cache"))
    path = folder = benchmark(tmp_path)
    if packed:
        path = tmp_path / "rnnlg.tar.xz"
        with tarfile.open(path, "w:xz") as archive:
            archive.add(folder, "rnnlg")
    source = Rnnlg(str(path))
    source.prepare()
    train, test = source.read("train"), source.read("test")
    assert train is not None and test is not None and test.references is not None
    texts = ["SLOT_NAME serves SLOT_FOOD food .", "SLOT_NAME has SLOT_FOOD", "SLOT_NAME does not take kid -s"]
    assert train.texts == [*texts, "what food", "goodbye"]
    assert test.references[1] == ["the spot serves greek food", "greek food is at the spot"]
    assert source.read("predict") is None


def test_the_spec_has_the_slots_of_the_training_part(tmp_path: Path) -> None:
    source = Rnnlg(str(benchmark(tmp_path)))
    train = source.read("train")
    assert train is not None
    spec = source.describe(train)
    assert spec.condition_names == [name for name in TEMPLATE if name != "sv.pool.yes"]
    assert spec.extra["kept"] == 3 and spec.extra["domain"] == "restaurant" and "SLOT_NAME" in spec.vocabulary
    rows = rows_of(spec, train)
    assert rows.inputs[2].flatten().nonzero().flatten().tolist() == [2, 6, 8]  # inform, kidsallowed.no, name._1
    names = encode_conditions(spec, ["goodbye()"])[0].nonzero().flatten().tolist()
    assert [spec.condition_names[i] for i in names] == ["a.goodbye", "sv.NONE.NONE"]


def test_texts_get_their_values_and_are_counted_by_the_text_with_them(tmp_path: Path) -> None:
    source = Rnnlg(str(benchmark(tmp_path)))
    train = source.read("train")
    assert train is not None
    spec, act = source.describe(train), "inform(name=zen;kids_allowed=no)"
    texts = realized(spec, act, ["SLOT_NAME has SLOT_FOOD", "SLOT_NAME takes no child"])
    assert texts == ["zen has SLOT_FOOD", "zen takes no child"]
    assert [one.errors for one in counted(spec, act, texts)] == [2, 0]


# What is wrong with files.


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*absent.tar.xz .*: put it there"):
        Rnnlg(str(tmp_path / "absent.tar.xz")).prepare()


def test_a_broken_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "broken.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        archive.add(benchmark(tmp_path), "rnnlg")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        DataError, match=r"broken.tar.xz is not a whole (archive|xz file) .*: download or copy it again"
    ):
        Rnnlg(str(path)).prepare()


def test_a_folder_that_is_another_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no resource/detect.pair: give the RNNLG benchmark"):
        Rnnlg(str(tmp_path)).prepare()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("# c\n[[1, 2", r"train.json is no whole JSON file .*: download it again"),
        ('[["inform(name=x)"]]', r"train.json, row 1: .* is not a dialogue act and its sentence"),
        ('{"acts": []}', r"train.json is no list of rows: download it again"),
        ("[]", r"train.json has no rows"),
        ('[["inform(name=x)", "x"], ["inform(name=", "x"]]', r"train.json, row 2: .* is no dialogue act"),
    ],
)
def test_a_broken_part_is_named_with_its_row(content: str, words: str, tmp_path: Path) -> None:
    folder = benchmark(tmp_path)
    (folder / "data" / "original" / "restaurant" / "train.json").write_text(content)
    with pytest.raises(DataError, match=words):
        Rnnlg(str(folder)).read("train")


def test_a_missing_part_and_an_unknown_domain_are_named(tmp_path: Path) -> None:
    folder = benchmark(tmp_path)
    with pytest.raises(DataError, match=r"cannot read .*hotel.train.json"):
        Rnnlg(str(folder), "hotel").read("train")
    with pytest.raises(ConfigError, match="domain 'bar' is not one of restaurant, hotel, laptop, tv"):
        Rnnlg(str(folder), "bar")  # type: ignore[arg-type]


# The benchmark itself.


@real
def test_the_benchmarks_parts_have_the_published_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_CACHE", str(tmp_path))
    sizes = {"restaurant": (3114, 1039, 1039), "hotel": (3223, 1075, 1075), "laptop": (7944, 2649, 2649),
             "tv": (4221, 1407, 1407)}  # fmt: skip
    for domain, expected in sizes.items():
        folder = Rnnlg(domain=domain).folder / "data" / "original" / domain  # type: ignore[arg-type]
        assert tuple(len(read_rows(folder / f"{part}.json")) for part in ("train", "valid", "test")) == expected


@real
def test_texts_come_back_whole_from_tokens_to_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_CACHE", str(tmp_path))
    source = Rnnlg()
    items, rows = source.read("val"), read_rows(source.folder / "data" / "original" / "restaurant" / "valid.json")
    assert items is not None and items.texts is not None
    back = [
        lexicalized(text, act, Lexicon()) == normalized(given)
        for text, (act, given) in zip(items.texts, rows, strict=True)
    ]
    assert sum(back) / len(back) > 0.95  # but for values of several parts in another order, and the word for the type

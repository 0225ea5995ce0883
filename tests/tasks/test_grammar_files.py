"""Grammars that a user writes: read as text, and named where they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_rnn.errors import ConfigError, DataError
from tasks.grammar_acceptance.grammars.automaton import Arc, Automaton
from tasks.grammar_acceptance.grammars.counters import Blocks, Dyck
from tasks.grammar_acceptance.grammars.definitions import continual, embed, grammar, read_automaton


def even() -> Automaton:
    """An even number of a, any number of b: it may stop in a state that goes on."""
    arcs = [Arc("0", "a", "1"), Arc("1", "a", "0"), Arc("0", "b", "0"), Arc("1", "b", "1")]
    return Automaton("even", "0", ["0"], arcs)


@pytest.mark.parametrize(
    ("arcs", "start", "accepting", "message"),
    [
        ([], "0", ["0"], "no arcs"),
        ([("0", "a", "1"), ("0", "a", "0")], "0", ["1"], "non-deterministic: state '0' has two arcs.*symbol 'a'"),
        ([("0", "a", "1"), ("2", "a", "1")], "0", ["1"], "state '2' cannot be reached"),
        ([("0", "a", "1"), ("0", "b", "2")], "0", ["1"], "state '2' leads to no accepting state"),
        ([("0", "a", "1")], "x", ["1"], "start state 'x'"),
        ([("0", "a", "1")], "0", ["y"], "accepting state 'y'"),
        ([("0", "a", "1")], "0", [], "state '0' leads to no accepting state"),
        ([("0", "ab", "1")], "0", ["1"], "state '0' has the symbol 'ab'"),
        ([("0", "a", "1", 0.5), ("0", "b", "1", 0.4)], "0", ["1"], "state '0'.*sum of 1, got 0.5 for 'a', 0.4 for 'b'"),
        ([("0", "a", "1", 0.5), ("0", "b", "1")], "0", ["1"], "state '0' gives some probabilities only"),
        ([("0", "a", "1"), ("1", "a", "1", 1.2)], "0", ["1"], "state '1'.*at most 1"),
        ([("0", "a", "1", 1.5), ("0", "b", "1", -0.5)], "0", ["1"], "must be positive"),
        (
            [("0", "a", "1", 0.5), ("0", "b", "1", float("nan"))],
            "0",
            ["1"],
            "must be positive.* nan for 'b'",
        ),
    ],
)
def test_a_wrong_automaton_is_named(arcs: list[Any], start: str, accepting: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"mine: .*{message}"):
        Automaton("mine", start, accepting, [Arc(*arc) for arc in arcs])


GOOD = "start: 0\naccepting: [1]\nstates:\n  0: {y: [1, 0.75], n: [0, 0.25]}\n  1: {}\n"


def test_a_yaml_is_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("start: no\naccepting: [on]\nstates:\n  no: {y: [on, 0.75], 1: [no, 0.25]}\n  on: {}\n")
    found = grammar(str(path))
    assert found.alphabet == "1y" and list(found.strings(3)) == ["y", "1y", "11y"]
    drawn = [len(found.sample(np.random.default_rng(seed))) for seed in range(2000)]
    assert np.mean(drawn) == pytest.approx(1 / 0.75, abs=0.06)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", n: [0, 0.25]", ", y: 0", "non-deterministic: state '0' has two arcs with the symbol 'y'"),
        ("  1: {}\n", "  1: {}\n  1: {}\n", "state '1' stands there twice"),
        ("start: 0\n", "start: 0\nstart: 1\n", "key 'start' stands there twice"),
        ("start: 0\n", "", "key 'start' is missing"),
        ("start: 0\n", "start: 0\nbegin: 0\n", "key 'begin' is unknown"),
        ("  1: {}\n", "", "state '0': symbol 'y' leads to the state '1', which is not under states"),
        ("  1: {}\n", "  1: {}\n  2: {}\n", "state '2' cannot be reached"),
        ("[0, 0.25]", "[0, much]", "state '0', symbol 'n': .state, probability. is expected"),
        ("[0, 0.25]", "[0]", "state '0', symbol 'n': .state, probability. is expected"),
        ("accepting: [1]", "accepting: 1", "accepting: a list"),
        ("  1: {}", "  1:", "state '1': a mapping"),
        ("start: 0", "start: [0]", "start: a name is expected, line 1"),
        ("y: [1", "y: [{1", "is no YAML"),
        (GOOD, "", "a mapping"),
    ],
)
def test_a_wrong_yaml_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert read_automaton(path).count(2) == 1
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=f"mine.yaml.*{message}"):
        read_automaton(path)


def test_other_wrong_names_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*none\.yaml"):
        grammar(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="no grammar 'rebel'"):
        grammar("rebel")
    with pytest.raises(ConfigError, match="depth from 1 to 8, got 9"):
        grammar("nested_reber_9")
    with pytest.raises(DataError, match=r"symbol 'Q' at place 2 \(the first is 0\) of 'BTQ'"):
        grammar("embedded_reber").check("BTQ")
    with pytest.raises(ConfigError, match="embedded_reber has no accepted string of length 8"):
        grammar("embedded_reber").sample_of_length(np.random.default_rng(0), 8)
    with pytest.raises(ConfigError, match="1 to 4 types of brackets, got 5"):
        Dyck(5)
    with pytest.raises(ConfigError, match="each once, got 'aa'"):
        Blocks("aa")
    with pytest.raises(ConfigError, match="mean_size must be above 1, got 1"):
        Blocks("ab", mean_size=1)
    with pytest.raises(ConfigError, match="its end cannot be seen"):
        continual(even(), "mine")
    with pytest.raises(ConfigError, match="non-deterministic"):
        embed(even(), "mine", choices="ab")

"""Negatives are rejected, of the kind they say, complete where they are listed, and nothing simple tells them apart."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lightning_rnn.errors import ConfigError
from tasks.grammar_acceptance.grammars.automaton import Arc, Automaton
from tasks.grammar_acceptance.grammars.definitions import grammar
from tasks.grammar_acceptance.grammars.languages import Grammar
from tasks.grammar_acceptance.grammars.negatives import (
    EDITS,
    KINDS,
    Kind,
    all_negatives,
    negative,
    negatives_of,
    one_edit_negatives,
    twins,
)
from tasks.grammar_acceptance.grammars.sampler import SHARES, BalancedSampler, Sample, disjoint, held_out
from tasks.grammar_acceptance.grammars.tables import accuracies, blind, ngrams

NAMES = ["embedded_reber", "reber", "nested_reber_2", "continual_embedded_reber", "anbn", "anbncn", "dyck1", "dyck2"]


def features(found: Grammar[Any], samples: list[Sample]) -> tuple[npt.NDArray[np.float64], list[bool]]:
    """Length and symbol counts, and the labels."""
    rows = [[len(s.string), *(s.string.count(symbol) for symbol in found.alphabet)] for s in samples]
    return np.array(rows, dtype=float), [s.accepted for s in samples]


def distance(one: str, other: str) -> int:
    """Levenshtein's."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def test_exhaustive_sets_have_the_sizes_of_the_reference() -> None:
    embedded = grammar("embedded_reber")
    assert len(list(embedded.strings(14))) == 86 and len(list(embedded.strings(13))) == 54
    for longest, edits, mismatches, wraps in ((13, 7_482, 54, 162), (14, 12_524, 86, 258)):
        assert len(set(one_edit_negatives(embedded, longest))) == edits
        assert len({other for _, other in all_negatives(embedded, longest, "mismatch")}) == mismatches
        assert len({other for _, other in all_negatives(embedded, longest, "wraps")}) == wraps
        assert len(list(all_negatives(embedded, longest, "nesting"))) == wraps  # a string within is shared by two


def test_one_edit_negatives_are_one_edit_away_and_none_is_accepted() -> None:
    embedded = grammar("embedded_reber")
    accepted = set(embedded.strings(14))
    edits, complete = one_edit_negatives(embedded, 10), one_edit_negatives(embedded, 14, complete=True)
    assert not any(embedded.accepts(string) for string in complete)
    assert set(one_edit_negatives(embedded, 14)) < set(complete) and len(complete) == len(set(complete)) == 13_714
    assert all(min(distance(string, other) for other in accepted) == 1 for string in edits[::7])


def test_wrong_wraps_look_right_to_trigrams() -> None:
    embedded = grammar("embedded_reber")
    local, strings = ngrams(embedded, 3), {other for _, other in all_negatives(embedded, 14, "wraps")}
    assert all(local(string) and not embedded.accepts(string) for string in strings)


def test_a_mismatch_is_the_outer_pair_of_embedded_reber() -> None:
    embedded = grammar("embedded_reber")
    for string, other in all_negatives(embedded, 16, "mismatch"):
        assert other[2:-2] == string[2:-2] and {other[1], other[-2]} == {"T", "P"}


@pytest.mark.parametrize("name", NAMES)
def test_a_mismatch_looks_right_to_trigrams(name: str) -> None:
    found = grammar(name)
    local, unseeing = ngrams(found, 3), blind(found)
    for _, other in all_negatives(found, {"dyck2": 8}.get(name, 14), "mismatch"):
        assert local(other) and unseeing(other) and not found.accepts(other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_verified_and_has_the_length_asked_for(name: str, kind: Kind) -> None:
    found, rng = grammar(name), np.random.default_rng(0)
    for length in found.lengths(12, 26)[:3]:
        try:
            strings = [negative(found, rng, kind, length) for _ in range(5)]
        except ConfigError:
            assert kind not in ("replace", "truncation", "random")
            continue
        assert all(len(string) == length and not found.accepts(string) for string in strings)


@pytest.mark.parametrize(
    ("name", "kind", "length"),
    [
        ("embedded_reber", "mismatch", 8),
        ("embedded_reber", "insert", 9),
        ("reber", "mismatch", 10),
        ("dyck1", "wraps", 10),
        ("dyck2", "insert", 10),
        ("anbn", "delete", 10),
        ("dyck1", "random", 0),
    ],
)
def test_a_kind_that_is_absent_is_named_with_the_length(name: str, kind: Kind, length: int) -> None:
    with pytest.raises(ConfigError, match=f"no negatives of the kind '{kind}' at length {length}"):
        negative(grammar(name), np.random.default_rng(0), kind, length)


def test_a_verified_negative_of_every_kind_of_edit_is_found_by_listing() -> None:
    embedded, rng = grammar("embedded_reber"), np.random.default_rng(0)
    for kind in EDITS:
        string = negative(embedded, rng, kind, 13)
        bases = [base for base in embedded.strings(21) if string in negatives_of(embedded, base, kind)]
        assert bases, (kind, string)
    with pytest.raises(ConfigError, match="'random' have no list"):
        negatives_of(embedded, "BTBTXSETE", "random")


@pytest.mark.parametrize("lengths", [(50, 75), (100, 150), (200, 300), (500, 750)])
def test_twins_differ_in_one_symbol_and_in_acceptance(lengths: tuple[int, int]) -> None:
    embedded = grammar("embedded_reber")
    pairs = twins(embedded, np.random.default_rng(0), *lengths, pairs=20)
    assert len({pair.accepted for pair in pairs}) == 20
    for accepted, rejected in pairs:
        assert embedded.accepts(accepted) and not embedded.accepts(rejected)
        assert lengths[0] <= len(accepted) == len(rejected) <= lengths[1]
        assert sum(a != b for a, b in zip(accepted, rejected, strict=True)) == 1


@pytest.mark.parametrize(
    ("name", "lengths"),
    [*((name, None) for name in NAMES if name[0] != "c"), ("embedded_reber", (9, 60)), ("dyck2", (10, 30))],
)
def test_length_and_symbol_counts_do_not_give_the_label_away(name: str, lengths: tuple[int, int] | None) -> None:
    found = grammar(name)
    samples = BalancedSampler(found, lengths=lengths).draw(np.random.default_rng(0), 2000)
    rows, labels = features(found, samples)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=100, max_iter=1000))
    assert cross_val_score(model, rows, labels).mean() < 0.55
    assert model.fit(rows, labels).score(rows, labels) < 0.57


def test_unbalanced_negatives_would_give_the_label_away() -> None:
    """The same regression finds what the sampler balances: it is no blunt tool."""
    embedded, rng = grammar("embedded_reber"), np.random.default_rng(0)
    samples = [Sample(embedded.sample_of_length(rng, 14), True, "accepted") for _ in range(500)]
    samples += [Sample(negative(embedded, rng, "truncation", 14), False, "truncation") for _ in range(500)]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    assert cross_val_score(model, *features(embedded, samples)).mean() > 0.8


@pytest.mark.parametrize("lengths", [None, (9, 40)])
def test_classes_have_the_same_lengths_and_the_kinds_their_shares(lengths: tuple[int, int] | None) -> None:
    embedded = grammar("embedded_reber")
    samples = BalancedSampler(embedded, lengths=lengths).draw(np.random.default_rng(0), 1000)
    classes = [Counter(len(s.string) for s in samples if s.accepted == accepted) for accepted in (True, False)]
    assert classes[0] == classes[1] and sum(classes[0].values()) == 500
    assert all(embedded.accepts(s.string) == s.accepted == (s.kind == "accepted") for s in samples)
    kinds = Counter(s.kind for s in samples)
    assert {kind: kinds[kind] / 500 for kind in SHARES} == pytest.approx(SHARES, abs=0.005)


def test_drawing_follows_from_the_generator_alone() -> None:
    embedded = grammar("embedded_reber")
    drawn = [BalancedSampler(embedded).draw(np.random.default_rng(seed), 51) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 51


def test_parts_share_no_string() -> None:
    embedded, share = grammar("embedded_reber"), 0.3
    test = BalancedSampler(embedded, keep=lambda string: held_out(string, share))
    train = BalancedSampler(embedded, keep=lambda string: not held_out(string, share))
    parts = [{s.string for s in part.draw(np.random.default_rng(0), 600)} for part in (test, train)]
    assert parts[0] and parts[1] and not parts[0] & parts[1]
    assert np.mean([held_out(str(i), share) for i in range(10_000)]) == pytest.approx(share, abs=0.02)


def test_hochreiter_and_schmidhubers_sets_share_no_string() -> None:
    embedded = grammar("embedded_reber")
    train, test = disjoint(embedded, np.random.default_rng(0), 256, 256)
    assert len(train) == len(test) == 256 and not set(train) & set(test)
    assert all(embedded.accepts(string) for string in train + test)
    with pytest.raises(ConfigError, match="too few strings for 1 that"):
        disjoint(Automaton("one", "0", ["1"], [Arc("0", "a", "1")]), np.random.default_rng(0), 1, 1)


def test_distinct_strings_are_given_once_and_run_out_with_a_message() -> None:
    embedded = grammar("embedded_reber")
    sampler = BalancedSampler(embedded, {"mismatch": 1}, lengths=(9, 12))
    strings = [sample.string for sample in sampler.draw(np.random.default_rng(0), 40, distinct=True)]
    assert len(set(strings)) == 40
    with pytest.raises(ConfigError, match="no more strings of such lengths"):
        sampler.draw(np.random.default_rng(0), 70, distinct=True)


@pytest.mark.parametrize(
    ("name", "shares", "lengths", "message"),
    [
        ("embedded_reber", {"mismatch": 0}, None, "share of the kind 'mismatch' must be positive, got 0"),
        ("embedded_reber", {"typo": 1}, None, "no kind of negatives 'typo': use mismatch"),
        ("embedded_reber", {}, None, "at least one kind"),
        ("embedded_reber", None, (3, 8), "no accepted string of lengths 3 to 8"),
        ("dyck1", {"mismatch": 1, "wraps": 1}, (4, 9), "dyck1 has no negatives of the kind 'wraps' at length 4"),
        ("reber", {"mismatch": 1}, None, "reber has no negatives of the kind 'mismatch' at length 5"),
    ],
)
def test_wrong_options_are_named(name: str, shares: Any, lengths: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BalancedSampler(grammar(name), shares, lengths)


def test_tables_and_the_blind_are_as_good_as_the_reference_says() -> None:
    embedded = grammar("embedded_reber")
    samples = BalancedSampler(embedded).draw(np.random.default_rng(0), 2000)
    for size, expected in ((2, 0.69), (3, 0.75), (5, 0.8)):
        found = accuracies(ngrams(embedded, size), samples)
        assert found["all"] == pytest.approx(expected, abs=0.015)
        assert found["accepted"] == 1 and found["mismatch"] == 0
    assert accuracies(blind(embedded), samples)["all"] == pytest.approx(0.8, abs=0.015)
    assert accuracies(embedded.accepts, samples)["all"] == 1

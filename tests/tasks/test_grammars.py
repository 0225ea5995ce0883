"""Grammars are exact: what they accept, allow, count and draw equals brute force and the published figures."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from lightning_rnn.errors import ConfigError
from tasks.grammar_acceptance.grammars.automaton import Arc, Automaton
from tasks.grammar_acceptance.grammars.counters import Dyck
from tasks.grammar_acceptance.grammars.definitions import grammar, nested_reber, reber
from tasks.grammar_acceptance.grammars.languages import BEGIN, END, Grammar, below, cut

SMALL = {"anbn": 12, "anbncn": 12, "dyck1": 12, "dyck2": 8, "even": 8}  # longest strings that are all looked at
BLOCKS = {symbols: {"".join(c * n for c in symbols) for n in range(1, 13)} for symbols in ("ab", "abc")}


def reber_by_regex(string: str) -> bool:
    """The Reber grammar written down a second way: the loop 3 → 5 → 4 → 3 as a regular expression."""
    loop = "T*V"  # state 3 to state 5
    back = f"(?:X{loop}P)*"  # state 4 to itself
    from_four = f"{back}(?:S|X{loop}V)"
    from_three = f"{loop}(?:V|P{from_four})"
    return re.fullmatch(f"B(?:TS*X{from_four}|P{from_three})E", string) is not None


def embedded_by_regex(string: str) -> bool:
    return len(string) > 4 and re.fullmatch("B([TP]).*\\1E", string) is not None and reber_by_regex(string[2:-2])


def even() -> Automaton:
    """An even number of a, any number of b: it may stop in a state that goes on."""
    arcs = [Arc("0", "a", "1"), Arc("1", "a", "0"), Arc("0", "b", "0"), Arc("1", "b", "1")]
    return Automaton("even", "0", ["0"], arcs)


def small(name: str) -> Grammar[Any]:
    return even() if name == "even" else grammar(name)


def brute(name: str, string: str) -> bool:
    """The small languages by their definitions, sharing nothing with the recognisers."""
    if name == "even":
        return string.count("a") % 2 == 0
    if name.startswith("a"):
        return string in BLOCKS["abc" if name == "anbncn" else "ab"]
    while any(pair in string for pair in ("()", "[]")):
        string = string.replace("()", "").replace("[]", "")
    return not string


def every_string(alphabet: str, longest: int) -> list[str]:
    return ["".join(symbols) for n in range(longest + 1) for symbols in product(alphabet, repeat=n)]


ORR = ("BTSSXXTVVE", "BPVVE", "BTXXVPSE", "BPVPXVPXVPXVVE", "BTSXXVPSE")  # Jenny Orr's page
COUNTS = [4, 6, 8, 14, 22, 32, 48, 72, 106, 156, 230, 338, 496, 728, 1068, 1566]


def test_embedded_reber_has_the_counts_of_its_transition_matrix() -> None:
    embedded = grammar("embedded_reber")
    assert isinstance(embedded, Automaton)
    assert [embedded.count(n) for n in range(9)] == [0] * 9
    assert [embedded.count(n) for n in range(9, 25)] == COUNTS
    assert sum(embedded.count(n) for n in range(31)) == 48_858
    assert sum(embedded.count(n) for n in range(61)) == 4_673_295_440
    live = [state for state, out in embedded.table.items() if out]
    assert len(live) == 19 and len(embedded.table) == 20


def test_sampled_embedded_reber_strings_have_the_exact_law_of_lengths() -> None:
    rng = np.random.default_rng(0)
    embedded = grammar("embedded_reber")
    lengths = np.array([len(embedded.sample(rng)) for _ in range(20_000)])
    assert lengths.min() == 9
    assert abs(lengths.mean() - 12) < 4 * 3.37 / 20_000**0.5
    assert lengths.std() == pytest.approx(3.37, abs=0.12)
    assert (lengths > 20).mean() == pytest.approx(0.0284, abs=0.005)


@pytest.mark.parametrize(
    ("name", "string", "illegal_at"),
    [
        ("embedded_reber", "BTBTXSETE", None),
        ("embedded_reber", "BPBTSXXVPSEPE", None),
        ("embedded_reber", "BPBPTVSEPE", 6),
        ("embedded_reber", "BPBTSSSSSSSXXTTVPXVPXTTTTTVVEPE", None),
        ("embedded_reber", "BPBTSSSSSSSXXTTVPXVPXTTTTTVVETE", 29),
        ("embedded_reber", "BTBTXSE", 7),
        ("embedded_reber", "", 0),
        ("embedded_reber", "BTQ", 2),
        ("embedded_reber", "BTBTXSETEB", 9),
        *(("reber", valid, None) for valid in ORR),
        ("reber", "BTSSPXSE", 4),
        ("reber", "BPTVVB", 5),
        ("reber", "BTXXVVSE", 6),
        ("reber", "BPVSPSE", 3),
        ("reber", "BTSSSE", 5),
        ("nested_reber_2", "BPBTBTXSETEPE", None),
        ("nested_reber_2", "BPBTBTXSETETE", 11),
        ("dyck1", "", None),
        ("dyck2", "([)]", 2),
        ("dyck2", "([]", 3),
        ("anbncn", "aabbc", 5),
        ("anbncn", "", 0),
        ("anbncn", "aac", 2),
    ],
)
def test_known_strings(name: str, string: str, illegal_at: int | None) -> None:
    found = grammar(name)
    assert found.illegal_at(string) == illegal_at
    assert found.accepts(string) == (illegal_at is None)


def test_only_the_outer_symbol_is_legal_after_the_inner_string() -> None:
    embedded = grammar("embedded_reber")
    assert embedded.legal_next("BTBTXSE") == ({"T"}, False)
    assert embedded.legal_next("BPBTXSE") == ({"P"}, False)
    assert embedded.legal_next("BPBTXSEPE") == (set(), True)
    assert embedded.legal_next("BPBTXSET") == (set(), False) and not embedded.legal_next("BPBTXSET").alive


def test_reber_is_its_regular_expression() -> None:
    plain, embedded = grammar("reber"), grammar("embedded_reber")
    for string in every_string("BEPSTVX", 6):
        assert plain.accepts(string) == reber_by_regex(string)
    found = list(embedded.strings(16))
    assert all(embedded_by_regex(string) for string in found) and len(set(found)) == sum(COUNTS[:8])
    for string in found:
        for other in ("B" + string, string[1:], string.replace("T", "P"), string[:4] + "X" + string[4:]):
            assert embedded.accepts(other) == embedded_by_regex(other)


@pytest.mark.parametrize("name", SMALL)
def test_small_languages_equal_brute_force(name: str) -> None:
    found, longest = small(name), SMALL[name]
    accepted = [string for string in every_string(found.alphabet, longest) if brute(name, string)]
    assert list(found.strings(longest)) == accepted
    assert [found.count(n) for n in range(longest + 1)] == [
        sum(len(string) == n for string in accepted) for n in range(longest + 1)
    ]
    assert set(accepted) == {s for s in every_string(found.alphabet, longest) if found.accepts(s)}


@pytest.mark.parametrize("name", SMALL)
def test_what_is_legal_equals_brute_force(name: str) -> None:
    found, longest = small(name), SMALL[name]
    accepted = [string for string in every_string(found.alphabet, longest) if brute(name, string)]
    prefixes = {string[:i] for string in accepted for i in range(len(string) + 1)}
    for prefix in every_string(found.alphabet, longest // 3 - 1):  # short enough to be completed within the bound
        following = {symbol for symbol in found.alphabet if prefix + symbol in prefixes}
        assert found.legal_next(prefix) == (following, brute(name, prefix))
        broken = [i for i in range(len(prefix)) if prefix[: i + 1] not in prefixes]
        early = None if brute(name, prefix) else len(prefix)
        assert found.illegal_at(prefix) == (broken[0] if broken else early)


@pytest.mark.parametrize("name", ["embedded_reber", "nested_reber_2", "dyck2", "continual_embedded_reber"])
def test_the_mask_of_a_string_says_what_is_legal_after_each_prefix(name: str) -> None:
    found = grammar(name)
    string = found.sample_of_length(np.random.default_rng(1), found.lengths(18, 30)[0])
    for wrong in (string, string[:7] + "E)"[name == "dyck2"] + string[8:]):
        mask = found.legal_mask(wrong)
        assert mask.shape == (len(wrong) + 1, len(found.alphabet) + 1)
        for place in range(len(wrong) + 1):
            symbols, end = found.legal_next(wrong[:place])
            assert {s for s, there in zip(found.alphabet, mask[place], strict=False) if there} == symbols
            assert mask[place, -1] == end


@pytest.mark.parametrize(("name", "length"), [("embedded_reber", 14), ("dyck2", 6), ("even", 6)])
def test_strings_of_a_length_are_equally_likely(name: str, length: int) -> None:
    found, rng = small(name), np.random.default_rng(0)
    drawn = Counter(found.sample_of_length(rng, length) for _ in range(100 * found.count(length)))
    assert len(drawn) == found.count(length)
    assert chisquare(list(drawn.values())).pvalue > 1e-3


def test_branches_have_their_probabilities() -> None:
    arcs = [Arc("0", "a", "0", 0.2), Arc("0", "b", "1", 0.5), Arc("1", "c", "0", 1)]
    found, rng = Automaton("abc", "0", ["0"], arcs), np.random.default_rng(0)
    drawn = Counter(found.sample(rng)[:1] for _ in range(10_000))
    assert chisquare([drawn["a"], drawn["b"], drawn[""]], [2000, 5000, 3000]).pvalue > 1e-3


def test_numbers_below_a_large_bound_are_uniform() -> None:
    rng = np.random.default_rng(0)
    bound = 3 * 2**70
    thirds = Counter(below(rng, bound) // 2**70 for _ in range(3000))
    assert chisquare([thirds[i] for i in range(3)]).pvalue > 1e-3


def test_long_strings_are_drawn_by_counting() -> None:
    embedded, rng = grammar("embedded_reber"), np.random.default_rng(0)
    for length in (75, 300, 750):
        string = embedded.sample_of_length(rng, length)
        assert len(string) == length and embedded.accepts(string)


@pytest.mark.parametrize("name", ["embedded_reber", "dyck1", "anbncn", "nested_reber_3"])
def test_drawing_follows_from_the_generator_alone(name: str) -> None:
    first, again = ([grammar(name).sample(np.random.default_rng(seed)) for seed in range(5)] for _ in range(2))
    assert first == again and len(set(first)) > 1 and all(grammar(name).accepts(string) for string in first)


def test_a_continual_stream_is_embedded_strings_one_after_the_other() -> None:
    found = grammar("continual_embedded_reber")
    assert isinstance(found, Automaton)
    stream = found.stream(np.random.default_rng(0), 100_000)
    assert len(stream) == 100_000 and len(found.states_along(stream)) == 100_001
    embedded, strings, rest = grammar("embedded_reber"), 0, stream
    while len(rest) > 200:
        end = next(n for n in range(9, 200) if embedded.accepts(rest[:n]))
        rest, strings = rest[end:], strings + 1
        if strings == 200:
            break
    assert (100_000 - len(rest)) / strings == pytest.approx(12, abs=1)
    assert found.accepts("BTBTXSETE" * 2) and not found.accepts("BTBTXSETEBPBTXSETE")
    with pytest.raises(ConfigError, match="never stop"):
        found.sample(np.random.default_rng(0))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_nested_reber_is_a_wrap_around_the_depth_below(depth: int) -> None:
    inner = reber() if depth == 1 else nested_reber(depth - 1)
    expected = sorted(f"B{c}{string}{c}E" for string in inner.strings(13) for c in "TP")
    assert sorted(nested_reber(depth).strings(17)) == expected and expected


@pytest.mark.parametrize("name", ["embedded_reber", "even", "dyck1", "dyck2", "anbn", "anbncn"])
@pytest.mark.parametrize("size", [2, 3])
def test_windows_are_those_of_longer_strings_too(name: str, size: int) -> None:
    found = small(name)
    longest = {"dyck2": 10, "even": 9}.get(name, 18)
    assert found.windows(size) >= {window for string in found.strings(longest) for window in cut(string, size)}


@pytest.mark.parametrize(("name", "longest"), [("embedded_reber", 18), ("even", 9), ("reber", 14)])
def test_windows_of_an_automaton_are_no_others(name: str, longest: int) -> None:
    found = small(name)
    assert found.windows(3) == {window for string in found.strings(longest) for window in cut(string, 3)}


def locally_right(found: Grammar[Any], longest: int) -> list[str]:
    """All strings whose trigrams all occur in accepted strings, ends included."""
    legal, front, strings = found.windows(3), [BEGIN * 2], []
    while front:
        text = front.pop()
        front += [text + c for c in found.alphabet if text[-2:] + c in legal and len(text) < longest + 2]
        if {text[-2:] + END, text[-1:] + END * 2} <= legal:
            strings.append(text[2:])
    return strings


def test_what_trigrams_do_not_see_is_the_outer_pair_and_the_number_of_wraps() -> None:
    embedded = grammar("embedded_reber")
    wrong = [string for string in locally_right(embedded, 14) if not embedded.accepts(string)]
    mismatched = {s for s in wrong if embedded.accepts(s[:-2] + s[1] + "E")}
    assert len(mismatched) == sum(COUNTS[:6]) == 86
    for string in set(wrong) - mismatched:
        wraps = [
            (opened, closed)
            for opened, closed in product(range(6), repeat=2)
            if re.fullmatch("(B[TP])*", string[: 2 * opened])
            and re.fullmatch("([TP]E)*", string[len(string) - 2 * closed :])
            and reber_by_regex(string[2 * opened : len(string) - 2 * closed])
        ]
        assert wraps and (1, 1) not in wraps


def test_dyck_counts_are_catalan_numbers_times_types() -> None:
    for types in (1, 2, 3):
        found = Dyck(types)
        assert [found.count(2 * n) for n in range(7)] == [c * types**n for n, c in enumerate([1, 1, 2, 5, 14, 42, 132])]
    strings = list(grammar("dyck2").strings(12))
    assert len(set(strings)) == len(strings) and all(brute("dyck2", string) for string in strings)


def test_embedded_reber_is_local_but_for_the_outer_pair_and_the_wraps() -> None:
    language, legal = grammar("embedded_reber"), grammar("embedded_reber").windows(3)
    found, front = list[str](), [BEGIN * 2]
    while front:
        string = front.pop()
        if string[-2:] + END in legal and string[-1] + END * 2 in legal:
            found.append(string[2:])
        if len(string) < 18 + 2:
            front += [string + symbol for symbol in language.alphabet if string[-2:] + symbol in legal]
    rejected, inner = [string for string in found if not language.accepts(string)], grammar("reber")

    def opened(string: str) -> set[int]:
        """How many openings stand before a Reber string, with one closing after it."""
        most = len(re.match("(B[TP])*", string)[0]) // 2  # type: ignore[index]  # matches the empty string
        return {n for n in range(most + 1) if inner.accepts(string[2 * n : -2])}

    mismatches = [string for string in rejected if opened(string) == {1}]
    wraps = [string for string in rejected if opened(string) and 1 not in opened(string)]
    assert (len(found), len(rejected), len(mismatches), len(wraps)) == (4316, 3848, 468, 3380)

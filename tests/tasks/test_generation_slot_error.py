"""The slot error and the BLEU of RNNLG on cases whose answer is known by hand, and by other programs."""

from __future__ import annotations

import random

import pytest
import torch
from sacrebleu.metrics.bleu import BLEU

from tasks.generation.decoding import Written
from tasks.generation.judging import Judge, SacreBleu
from tasks.generation.metrics import BenchmarkBleu, bleu, statistics
from tasks.generation.rerank import ranked
from tasks.generation.slot_error import Detection, SlotCount, SlotError, slot_count
from tasks.generation.spec import GenerationSpec

DETECTION: Detection = {
    "general": {"name": "SLOT_NAME", "food": "SLOT_FOOD", "price": "SLOT_PRICE", "area": "SLOT_AREA"},
    "binary": {"kidsallowed": ["child", "kid", "kids", "children"], "hasinternet": ["internet", "wifi"]},
}


@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (["a.inform", "sv.name._1", "sv.food._1"], "SLOT_NAME serves SLOT_FOOD", (2, 0, 0)),
        (["a.inform", "sv.name._1", "sv.food._1"], "SLOT_NAME is nice", (2, 1, 1)),  # one missing
        (["a.inform", "sv.name._1"], "SLOT_NAME serves SLOT_FOOD", (1, 1, 1)),  # one too many
        (["a.inform", "sv.name._1"], "SLOT_NAME , SLOT_NAME and SLOT_NAME", (1, 2, 2)),  # each repetition counts
        (["a.?compare", "sv.name._1", "sv.name._2"], "SLOT_NAME or SLOT_NAME", (2, 0, 0)),
        (["a.?compare", "sv.name._1", "sv.name._2", "sv.name._3"], "SLOT_NAME or SLOT_NAME", (3, 1, 1)),
        (["a.inform", "sv.kidsallowed.no"], "no child -s", (1, 0, 0)),
        (["a.inform", "sv.kidsallowed.no"], "kids and children", (1, 1, 0)),  # two words: one too many, not categorical
        (["a.inform", "sv.kidsallowed.dontcare"], "anything", (1, 1, 0)),
        (["a.inform"], "with internet", (0, 1, 0)),
        (["a.inform", "sv.area.dontcare"], "anywhere", (0, 0, 0)),  # cannot be detected
        (["a.?request", "sv.area.?"], "what area", (0, 0, 0)),
        (["a.inform", "sv.name._1"], "(SLOT_NAME)", (1, 1, 1)),  # a token is what stands between spaces
        (["a.?select", "sv.name._1"], "nothing", (0, 0, 0)),  # acts of which nothing counts
        (["a.suggest", "sv.name._1"], "nothing", (0, 0, 0)),
        (["a.goodbye", "sv.NONE.NONE"], "bye", (0, 0, 0)),
    ],
)
def test_slots_are_counted_as_by_hand(names: list[str], text: str, expected: tuple[int, int, int]) -> None:
    assert slot_count(names, text, DETECTION) == SlotCount(*expected)


def test_the_rate_is_errors_over_slots_of_all_texts() -> None:
    whole, parts = SlotError(), SlotError()
    counts = [SlotCount(3, 1, 1), SlotCount(0, 2, 0), SlotCount(5, 0, 0)]
    whole.update(counts)
    for count in counts:
        parts.update([count])
    assert float(whole.compute()) == float(parts.compute()) == 3 / 8
    none = SlotError()
    none.update([SlotCount(0, 0, 0)])
    assert float(none.compute()) == 0


def test_a_slot_costs_its_weight_and_yes_and_no_cost_nothing() -> None:
    spec = GenerationSpec(form="act", extra={"detection": DETECTION})
    names = ["a.inform", "sv.name._1", "sv.kidsallowed.no"]
    texts = [Written("a place", -0.1, -1.0), Written("SLOT_NAME", -0.4, -1.0), Written("SLOT_NAME no kids", -0.5, -1.0)]
    assert [one.text for one in ranked(names, texts, spec, (0.2, 0.0))] == ["a place", "SLOT_NAME", "SLOT_NAME no kids"]
    best = ranked(names, texts, spec, (2.0, 0.0))
    assert [one.text for one in best] == ["SLOT_NAME", "SLOT_NAME no kids", "a place"]
    assert [one.score for one in best] == pytest.approx([-0.4, -0.5, -2.1])
    assert ranked(names, texts, spec, (2.0, 0.5))[0].text == "SLOT_NAME no kids"


def test_bleu_of_a_case_by_hand() -> None:
    # 6 words; unigrams 5 of 6, pairs 3 of 5, triples 1 of 4, fours 0 of 3; shorter than the nearer reference by 1
    references = ["the cat sat on a mat today", "the dog"]
    sums = statistics(("the", "cat", "sat", "on", "mat", "today"), [tuple(one.split()) for one in references])
    assert sums == [6, 6, 5, 4, 4, 2, 3, 1, 6, 7]
    by_hand = (
        torch.tensor([6 / 6, 4 / 5, 2 / 4, 1 / 3]).double().log().mean().exp() * torch.tensor(-1 / 6).double().exp()
    )
    assert bleu(sums) == pytest.approx(float(by_hand), rel=1e-5)


def test_a_word_matches_as_often_as_in_the_reference_that_has_most() -> None:
    sums = statistics(["the", "the", "the", "the"], [["the", "cat", "the"], ["the"]])
    assert sums[:2] == [4, 2]


@pytest.mark.parametrize("seed", range(5))
def test_bleu_equals_sacrebleus_where_both_are_unsmoothed(seed: int) -> None:
    drawn, words = random.Random(seed), ["a", "b", "c", "d"]
    hypotheses = [" ".join(drawn.choices(words, k=drawn.randint(4, 9))) for _ in range(40)]
    lengths = [drawn.randint(4, 9) for _ in hypotheses]  # of references as near as others the two take different ones
    references = [[" ".join(drawn.choices(words, k=length)) for _ in range(3)] for length in lengths]
    ours, beside = BenchmarkBleu(), SacreBleu()
    for hypothesis, others in zip(hypotheses, references, strict=True):
        ours.update([[hypothesis]], [others])
        beside.update([[hypothesis]], [others])
    streams = [[others[i] for others in references] for i in range(3)]
    expected = BLEU(tokenize="none", force=True, smooth_method="none").corpus_score(hypotheses, streams).score
    assert 100 * float(ours.compute()) == pytest.approx(expected, rel=1e-4)
    assert float(beside.compute()) == pytest.approx(expected, rel=1e-9)


def test_every_kept_text_counts_in_bleu_and_the_best_alone_beside_it() -> None:
    spec = GenerationSpec(form="act", extra={"detection": DETECTION})
    judge = Judge(spec, full=True)
    judge.update([["a b c d e", "x y z w v"]], [["a b c d e"]], [[SlotCount(2, 0, 0), SlotCount(2, 2, 0)]])
    scores = {name: float(value) for name, value in judge.compute().items()}
    assert scores["exact"] == 1 and scores["bleu_best"] == pytest.approx(1) and scores["bleu"] < 0.6
    assert scores["slot_error"] == 0.5 and scores["slot_error_best"] == 0
    assert scores["sacrebleu"] == pytest.approx(100)


def test_without_a_match_bleu_is_next_to_nothing() -> None:
    assert bleu(statistics(["x"], [["y"]])) < 1e-6
    assert bleu([0.0] * 10) == 0

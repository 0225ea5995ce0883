"""Scores of translations: equal to sacreBLEU's own, whatever the batches and processes; and the LIUM protocol."""

from __future__ import annotations

import builtins
import pickle
import random
from collections.abc import Sequence
from typing import Any

import pytest
import sacrebleu
import torch

from lightning_rnn.errors import ConfigError
from lightning_rnn.training.running_metrics import counted, restore
from tasks.translation.lium import LiumTokenizer
from tasks.translation.metrics import CorpusScore, corpus_scores, lium_bleu
from tasks.translation.sources import Multi30k

OWN = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf, "ter": sacrebleu.corpus_ter}
TESTS = ("test_2016_flickr", "test_2017_flickr", "test_2017_mscoco")


def corpus(size: int = 60) -> tuple[list[str], list[str]]:
    """Hypotheses that are references with words changed, cut or turned, an empty one among them."""
    random_ = random.Random(0)
    words = ["Le", "chat,", "noir;", "dort", "sur", "l'arbre", "vert", "avec", "3,5", "amis", "(ou", "4)", "!"]
    references = [" ".join(random_.choices(words, k=random_.randint(1, 15))) for _ in range(size)]
    hypotheses = []
    for reference in references:
        parts = [word for word in reference.split() if random_.random() < 0.85]
        if random_.random() < 0.3:
            parts.reverse()
        hypotheses.append(" ".join(parts).replace("vert", "bleu"))
    hypotheses[7] = ""
    return hypotheses, references


def fed(score: CorpusScore, hypotheses: Sequence[str], references: Sequence[str], size: int) -> CorpusScore:
    for start in range(0, len(hypotheses), size):
        score.update(hypotheses[start : start + size], references[start : start + size])
    return score


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("size", [1, 7, 60])
def test_batches_give_sacrebleus_score_of_the_corpus(name: str, size: int) -> None:
    hypotheses, references = corpus()
    expected = OWN[name](hypotheses, [references])
    score = fed(corpus_scores()[name], hypotheses, references, size)
    assert 5 < expected.score < 95
    assert score.compute().item() == expected.score
    assert str(score.detail()) == str(expected)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_give_the_score_of_one(name: str, processes: int) -> None:
    hypotheses, references = corpus()
    one = fed(corpus_scores()[name], hypotheses, references, 10)
    parts = [
        fed(corpus_scores()[name], hypotheses[rank::processes], references[rank::processes], 4)
        for rank in range(processes)
    ]
    reduced = one._reductions["sums"](torch.stack([part.sums for part in parts]))  # as torchmetrics joins processes
    assert torch.equal(reduced, one.sums)
    joined = corpus_scores()[name]
    restore([joined], [counted([part]) for part in parts], rank=0, world=1)
    assert joined.compute() == one.compute()


def test_a_reset_score_begins_anew_and_copies_are_independent() -> None:
    hypotheses, references = corpus()
    scores = corpus_scores()
    scores.update(hypotheses, references)
    whole = scores.compute()
    other = pickle.loads(pickle.dumps(scores.clone()))
    scores.reset()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert [value.item() for value in scores.compute().values()] == [0.0, 0.0, 0.0]
    assert other.compute() == whole
    scores.update(hypotheses, references)
    assert scores.compute() == whole


def test_nothing_taken_in_changes_nothing_and_each_needs_its_reference() -> None:
    score = corpus_scores()["bleu"]
    score.update(["le chat noir dort"], ["le chat noir dort"])
    before = score.sums.clone()
    score.update([], [])
    assert torch.equal(score.sums, before)
    with pytest.raises(ValueError, match="2 hypotheses, 1 references"):
        score.update(["a", "b"], ["a"])


def test_signatures_are_sacrebleus() -> None:
    hypotheses, references = corpus()
    for name, kind in (("bleu", sacrebleu.BLEU), ("chrf", sacrebleu.CHRF), ("ter", sacrebleu.TER)):
        own = kind()
        own.corpus_score(hypotheses, [references])
        assert corpus_scores()[name].signature == str(own.get_signature())
    assert "tok:none" in lium_bleu("fr").signature and "sacremoses" in lium_bleu("fr").signature


# The LIUM protocol


@pytest.mark.parametrize("language", ["fr", "de"])
@pytest.mark.parametrize("test", TESTS)
def test_raw_references_become_the_tokenized_ones(data_root: object, language: str, test: Any) -> None:
    pairs = Multi30k(f"en-{language}", test=test).read("test")
    assert pairs is not None and pairs.target is not None and pairs.tokenized is not None
    tokenize = LiumTokenizer(language)
    wrong = [
        (raw, found, wanted)
        for raw, wanted in zip(pairs.target, pairs.tokenized, strict=True)
        if (found := tokenize(raw)) != wanted
    ]
    assert not wrong, f"{len(wrong)} of {len(pairs)} lines differ from tok, first {wrong[0]}"


@pytest.mark.parametrize(  # as Moses 3a0631a's Perl scripts have them
    ("language", "raw", "tokens"),
    [
        ("fr", 'Il dit "32 De Neude."', "il dit &quot; 32 de neude &quot; ."),
        ("fr", "un coup d’œil", "un coup d &quot; œil"),
        ("fr", "l’été ‘a’ ‚b‘", "l &quot; été &quot; a &quot; &quot; b &quot;"),
        ("de", "„Ja.“ T-Shirt & Co.", "&quot; ja &quot; . t-shirt &amp; co ."),
        ("fr", "à 1\u00a0000 m [x] : oui…", "à 1,000 m &#91; x &#93; : oui ..."),
        ("fr", "", ""),
    ],
)
def test_lines_are_tokenized_as_the_scripts_do(language: str, raw: str, tokens: str) -> None:
    assert LiumTokenizer(language)(raw) == tokens


def test_the_lium_score_is_bleu_of_prepared_hypotheses_and_untouched_references() -> None:
    hypotheses = ["L’homme regarde la grande ville.", "Deux chiens jouent dans l'herbe verte."]
    references = ["l&apos; homme regarde une grande ville .", "deux chiens jouent dans l&apos; herbe ."]
    prepared = [
        "l &quot; homme regarde la grande ville .".replace("l &quot;", "l&apos;"),
        "deux chiens jouent dans l&apos; herbe verte .",
    ]
    expected = sacrebleu.corpus_bleu(prepared, [references], tokenize="none", force=True)
    score = fed(lium_bleu("fr"), hypotheses, references, 1)
    assert score.compute().item() == expected.score < 100
    assert pickle.loads(pickle.dumps(score)).compute() == score.compute()


def test_without_sacremoses_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name == "sacremoses":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"pip install 'lightning-rnn\[lium\]'"):
        lium_bleu("fr")

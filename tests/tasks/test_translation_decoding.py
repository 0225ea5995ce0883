"""Decoding: step by step equals one pass, beam 1 equals greedy, and neighbours in a batch change no translation."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch
from torch import Tensor

from lightning_rnn.data.tokenizer import BOS
from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.attention import AttentionKind
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.decoders import DecoderKind
from lightning_rnn.seq2seq.generate import generate
from lightning_rnn.seq2seq.losses import shifted
from tasks.translation import TranslationData
from tasks.translation.decoding import BLANK, DecodingOptions, TextTranslator, Translation, in_order, search
from tasks.translation.network import NetworkOptions, TranslationNetwork
from tasks.translation.spec import TranslationSpec
from tasks.translation.text import Codec
from tasks.translation.words import merged, replace_unknown, word_groups

SOURCE = torch.tensor([[4, 5, 6, 7, 3], [8, 9, 3, 0, 0], [9, 3, 0, 0, 0]])
LENGTHS = torch.tensor([5, 3, 2])
TARGET = torch.tensor([[7, 8, 9, 3], [6, 3, 0, 0], [5, 5, 3, 0]])
KINDS: list[tuple[DecoderKind, AttentionKind]] = [
    ("none", "dot"),
    *itertools.product(("luong", "input_feeding", "bahdanau", "gnmt"), get_args(AttentionKind)),
]
GREEDY = DecodingOptions(BeamOptions(1, stop="count"))


def network(**options: object) -> TranslationNetwork:
    torch.manual_seed(0)
    sizes = {"embedding_size": 6, "hidden_size": 4}
    made = TranslationNetwork(12, 12, NetworkOptions(**{**sizes, **options}))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)  # far from even probabilities: no near-ties
    return made.eval()


@pytest.fixture(scope="session")
def spec() -> TranslationSpec:
    data = TranslationData()
    data.setup("fit")
    assert data.spec is not None
    return data.spec


def numbers(spec: TranslationSpec, **options: object) -> TextTranslator:
    """An untrained network that writes numbers."""
    torch.manual_seed(0)
    made = TranslationNetwork(spec.source_size, spec.target_size, NetworkOptions(embedding_size=8, hidden_size=8))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)
    return TextTranslator([made], Codec(spec), DecodingOptions(BeamOptions(3, 2)), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("decoder", "attention"), KINDS, ids="-".join)
def test_step_by_step_equals_one_pass(decoder: DecoderKind, attention: AttentionKind) -> None:
    made = network(decoder=decoder, attention=attention)
    words = shifted(TARGET, BOS)
    with torch.no_grad():
        whole = made.head.log_probs(made(SOURCE, LENGTHS, words))
        state, constants = made.begin(SOURCE, LENGTHS)
        for time in range(words.shape[1]):
            out = made.decode_step(words[:, time], state, constants)
            state = out.state
            torch.testing.assert_close(out.log_probs, whole[:, time], rtol=1e-4, atol=1e-5)
            if decoder != "none" and "monotonic" not in attention:
                assert out.alignment is not None
                torch.testing.assert_close(out.alignment.sum(1), torch.ones(3))
                assert not out.alignment[1, 3:].any(), "attention to padding"


@pytest.mark.parametrize("decoder", get_args(DecoderKind))
def test_beam_of_one_is_greedy(decoder: DecoderKind) -> None:
    made = network(decoder=decoder)
    found = search([made], SOURCE, LENGTHS, GREEDY)
    expected = generate(made.decode_step, *made.begin(SOURCE, LENGTHS), GREEDY.request(LENGTHS))
    for row, best in enumerate(found):
        assert best[0].tokens.tolist() == expected.tokens[row, : expected.lengths[row]].tolist()
        assert best[0].log_prob == pytest.approx(float(expected.log_probs[row].double().sum()), abs=1e-5)


@pytest.mark.parametrize("decoder", get_args(DecoderKind))
def test_a_sentence_alone_is_translated_as_in_a_batch(decoder: DecoderKind) -> None:
    made, options = network(decoder=decoder), DecodingOptions(BeamOptions(3, 3))
    together = search([made], SOURCE, LENGTHS, options)
    for row in range(3):
        alone = search([made], SOURCE[row : row + 1, : LENGTHS[row]], LENGTHS[row : row + 1], options)[0]
        assert [one.tokens.tolist() for one in alone] == [one.tokens.tolist() for one in together[row]]
        assert [one.score for one in alone] == pytest.approx([one.score for one in together[row]], abs=1e-5)


def test_ensemble_of_one_network_twice_is_that_network() -> None:
    made = network()
    one, two = (search([made] * count, SOURCE, LENGTHS, GREEDY) for count in (1, 2))
    assert [best[0].tokens.tolist() for best in one] == [best[0].tokens.tolist() for best in two]
    assert [best[0].score for best in one] == pytest.approx([best[0].score for best in two], abs=1e-5)


def test_scheduled_sampling_reads_what_the_network_writes() -> None:
    made = network()
    forced = made(SOURCE, LENGTHS, shifted(TARGET, BOS), forced=1 - 1e-9)
    torch.testing.assert_close(forced, made(SOURCE, LENGTHS, shifted(TARGET, BOS)), rtol=1e-4, atol=1e-5)
    greedy = generate(made.decode_step, *made.begin(SOURCE, LENGTHS), GREEDY.request(LENGTHS))
    words = torch.zeros(3, 4, dtype=torch.int64)
    words[:, 0] = 2
    written = made.head.log_probs(made(SOURCE, LENGTHS, words, forced=0.0)).argmax(-1)
    for row, length in enumerate(greedy.lengths.clamp(max=4).tolist()):
        assert written[row, :length].tolist() == greedy.tokens[row, :length].tolist()


@pytest.mark.parametrize("tying", ["none", "embeddings", "output", "all"])
def test_tying_shares_the_vectors_it_names(tying: str) -> None:
    made = network(tying=tying)
    assert (made.source_embedding is made.target_embedding) == (tying in ("embeddings", "all"))
    assert (made.head.weight is made.target_embedding.weight) == (tying in ("output", "all"))


def test_one_embedding_for_two_vocabularies_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"12 source tokens and 13 target tokens: set data\.joint true"):
        TranslationNetwork(12, 13, NetworkOptions(tying="all"))


def test_order_and_batch_size_change_no_translation(spec: TranslationSpec) -> None:
    texts = ["twenty-one", "one thousand and two", "", "seven", "three million, four hundred and five"]
    expected = numbers(spec).translate(texts)
    backwards = numbers(spec, batch_size=1).translate(texts[::-1])[::-1]
    assert [[one.text for one in found] for found in backwards] == [[one.text for one in found] for found in expected]
    assert expected[2] == [BLANK]
    for one, other in zip(itertools.chain(*expected), itertools.chain(*backwards), strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_alignment_is_of_target_pieces_by_source_pieces(spec: TranslationSpec) -> None:
    found = numbers(spec).translate(["twenty-one"])[0]
    for one in found:
        assert one.alignment is not None and one.alignment.shape == (len(one.pieces), len(one.source_pieces))
        assert "".join(one.source_pieces) == "▁twenty-one</s>" and "</s>" not in one.pieces
        torch.testing.assert_close(one.alignment.sum(1), torch.ones(len(one.pieces)))


def test_source_pieces_of_a_reversed_source_are_in_the_order_of_the_text(spec: TranslationSpec) -> None:
    turned = TranslationSpec(**{**spec.to_dict(), "reverse_source": True})
    plain, translator = numbers(spec), numbers(turned)
    ids = translator.codec.encode_source(["seventy-nine"])[0]
    assert ids[:-1].tolist() == plain.codec.encode_source(["seventy-nine"])[0][:-1].flip(0).tolist()
    one = translator.translate(["seventy-nine"])[0][0]
    assert "".join(one.source_pieces) == "▁seventy-nine</s>"
    raw = search(translator.networks, ids[None], torch.tensor([len(ids)]), translator.options)[0][0]
    assert raw.alignment is not None and one.alignment is not None
    words = len(ids) - 1
    torch.testing.assert_close(one.alignment[:, :words].flip(1), raw.alignment[: len(one.pieces), :words])


def test_scoring_a_translation_gives_its_score() -> None:
    made, options = network(), DecodingOptions(BeamOptions(4), min_length=2)
    for row, best in enumerate(search([made], SOURCE, LENGTHS, options)):
        words = best[0].tokens[None]
        with torch.no_grad():
            log_probs = made.head.log_probs(made(SOURCE[row : row + 1], LENGTHS[row : row + 1], shifted(words, BOS)))
        total = float(log_probs[0].gather(1, words.T).double().sum())
        assert total == pytest.approx(best[0].log_prob, abs=1e-4)
        assert total / words.shape[1] == pytest.approx(best[0].score, abs=1e-5)


def test_the_translator_scores_given_texts_in_their_order(spec: TranslationSpec) -> None:
    translator = numbers(spec, batch_size=2)
    texts, targets = ["one", "twenty-one", "six hundred"], ["un", "vingt et un", "six cents"]
    together = translator.score(texts, targets)
    for text, target, one in zip(texts, targets, together, strict=True):
        alone = translator.score([text], [target])[0]
        assert one.log_prob == pytest.approx(alone.log_prob, abs=1e-5)
        assert one.tokens == len(translator.codec.encode_target([target])[0])
        assert one.score == pytest.approx(one.log_prob / one.tokens)
        assert one.alignment is not None and one.alignment.shape[0] == one.tokens - 1


@pytest.mark.parametrize("order", [in_order(5, True), in_order(4, False)])
def test_turning_twice_is_the_text(order: list[int]) -> None:
    assert [order[place] for place in order] == list(range(len(order)))


def test_words_of_subwords() -> None:
    pieces = ["▁A", "▁rain", "coat", ".", "</s>"]
    assert word_groups(pieces, "unigram") == [[0], [1, 2, 3], [4]]
    assert word_groups([*list("a b"), "</s>"], "characters") == [[0], [2], [3]]
    assert word_groups(["a.", "b"], "words") == [[0], [1]]


def attended(pieces: list[str], weights: Tensor | None) -> Translation:
    return BLANK._replace(text="x ⁇", pieces=pieces, source_pieces=["▁the", "▁Zw", "eig", "</s>"], alignment=weights)


def test_an_unknown_becomes_the_source_word_looked_at_or_its_translation() -> None:
    one = attended(["le", "<unk>"], torch.tensor([[0.9, 0.0, 0.0, 0.1], [0.2, 0.3, 0.3, 0.2]]))
    assert replace_unknown(one, "the Zweig", ("unigram", "words"), {}).text == "le Zweig"
    assert replace_unknown(one, "the Zweig", ("unigram", "words"), {"zweig": "rameau"}).text == "le rameau"


def test_a_translation_without_unknowns_stays_as_it_is() -> None:
    one = attended(["▁le", "▁mot"], None)
    assert replace_unknown(one, "the Zweig", ("unigram", "unigram"), {}) is one


def test_replacing_unknowns_needs_attention() -> None:
    with pytest.raises(ConfigError, match="this model has none"):
        replace_unknown(attended(["<unk>"], None), "the", ("unigram", "unigram"), {})


def test_word_weights_still_sum_to_one() -> None:
    weights = torch.rand(3, 4).softmax(1)
    one = attended(["▁un", "▁ra", "meau"], weights)
    source, target, merged_weights = merged(one, ("unigram", "unigram"))
    assert (source, target) == (["the", "Zweig", "</s>"], ["un", "rameau"])
    assert merged_weights is not None
    torch.testing.assert_close(merged_weights.sum(1), torch.ones(2))

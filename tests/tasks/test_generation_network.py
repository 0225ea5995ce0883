"""The generator's network: teacher forcing equals steps, the condition matters, each way in and each cell runs."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch

from lightning_rnn.data.tokenizer_base import BOS, EOS, SPECIAL
from lightning_rnn.errors import ConfigError
from lightning_rnn.layers.conditioned_cells import reading_loss
from lightning_rnn.layers.table import CellName
from lightning_rnn.seq2seq.losses import shifted
from tasks.generation.decoding import DecodingOptions, write
from tasks.generation.encoders import build_encoder
from tasks.generation.network import Entry, GeneratorNetwork, NetworkOptions
from tasks.generation.spec import GenerationSpec, vocabulary_of

C, B, T = 6, 4, 5
SPEC = GenerationSpec(condition_size=C, vocabulary=[*SPECIAL, *"abcdef"], extra={"kept": 2})
CELLS: dict[str, dict[str, Any]] = {name: {"cell": name} for name in get_args(CellName)} | {
    "sc_lstm": {"cell": "sc_lstm", "encoder": "identity", "condition": "state"},
    "sc_lstm-as-written": {"cell": "sc_lstm", "encoder": "identity", "condition": "state", "peek": True,
                           "keep_first": True, "reading_bias": 1.0},
    "sc_lstm-input": {"cell": "sc_lstm", "condition": "input"},
    "two-layers": {"cell": "lstm", "num_layers": 2},
}  # fmt: skip


def network(**options: Any) -> GeneratorNetwork:
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_size": 10, "encoder_size": 7}
    return GeneratorNetwork(SPEC, NetworkOptions(**(sizes | options))).double().eval()


def conditions() -> torch.Tensor:
    return torch.rand(B, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def targets() -> torch.Tensor:
    ids = torch.randint(4, 10, (B, T), generator=torch.Generator().manual_seed(2))
    ids[:, -1] = EOS
    return ids


@pytest.mark.parametrize("name", CELLS)
def test_steps_equal_teacher_forcing(name: str) -> None:
    net, words = network(**CELLS[name]), shifted(targets(), BOS)
    whole = net(conditions(), words).hidden
    state, constants = net.begin(conditions())
    for time in range(T):
        hidden, state = net.advance(words[:, time], state, constants)
        torch.testing.assert_close(whole[:, time], hidden)


@pytest.mark.parametrize("entry", get_args(Entry))
def test_the_condition_matters_by_each_way_in(entry: Entry) -> None:
    net, words = network(cell="gru", condition=entry), shifted(targets(), BOS)
    one, other = (net(given, words).hidden for given in (conditions(), conditions().flip(1)))
    assert not torch.allclose(one[:, 0], other[:, 0]) and not torch.allclose(one[:, -1], other[:, -1])
    assert (net.bridge is None) == (entry == "input")


def test_rows_of_a_beam_share_their_condition() -> None:
    net = network(cell="lstm", condition="input")
    state, constants = net.begin(conditions()[:1])
    alone = net.decode_step(torch.tensor([5]), state, constants)
    state, constants = net.begin(conditions())
    twice = tuple(leaf.repeat_interleave(2, 0) for leaf in state)
    many = net.decode_step(torch.full((2 * B,), 5), type(state)(*twice), constants)
    torch.testing.assert_close(many.log_probs[:2], alone.log_probs.expand(2, -1))


def test_only_words_and_the_end_are_written() -> None:
    net = network(cell="gru")
    state, constants = net.begin(conditions())
    log_probs = net.decode_step(torch.full((B,), 2), state, constants).log_probs
    assert torch.isneginf(log_probs[:, :3]).all() and torch.isfinite(log_probs[:, 3:]).all()


def test_the_cost_of_reading_is_of_what_may_be_read() -> None:
    net, words = network(**CELLS["sc_lstm-as-written"]), shifted(targets(), BOS)
    lengths = torch.tensor([T, 3, 1, T])
    cost = net(conditions(), words, lengths).reading
    state, _ = net.begin(conditions())
    left = net.rnn(net.embedding(words), state).all_states.d
    assert torch.equal(left[:, -1, :2], conditions()[:, :2])
    for row, length in enumerate(lengths.tolist()):
        expected = reading_loss(conditions()[row : row + 1, 2:], left[row : row + 1, :length, 2:])
        torch.testing.assert_close(cost[row : row + 1], expected)
    assert network(cell="gru")(conditions(), words).reading is None


def test_conditions_that_are_alike_are_written_of_once_and_alike() -> None:
    net, options = network(cell="gru").float(), DecodingOptions(max_length=6)
    given = conditions().float()[[0, 1, 0, 2]]
    together = write([net], SPEC, given, options)
    assert together[0] == together[2]
    for row in range(4):
        alone = write([net], SPEC, given[row : row + 1], options)[0]
        assert [one.text for one in alone] == [one.text for one in together[row]]


def test_shifted_strokes_begin_with_the_pen_on_the_paper() -> None:
    strokes = torch.rand(2, 3, 5)
    first = shifted(strokes, GenerationSpec(kind="strokes").first)
    assert first[:, 0].tolist() == [[0, 0, 1, 0, 0]] * 2 and torch.equal(first[:, 1:], strokes[:, :-1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cell": "sc_lstm", "num_layers": 2}, "sc_lstm has one layer"),
        ({"cell": "sc_lstm", "initializer": "keras"}, "sc_lstm has no model.initializer"),
        ({"cell": "sc_lstm", "keep_first": True}, "keep_first .* needs model.encoder identity"),
        ({"encoder": "cnn"}, "cnn is for conditions that are images"),
        ({"cell": "wild"}, "model.cell is 'wild': use sc_lstm, simple_rnn, lstm, gru"),
        ({"encoder": "deep"}, "model.encoder is 'deep': use identity, dense, cnn"),
        ({"condition": "input "}, "model.condition is 'input ': use state, input, both"),
        ({"cell": "lstm", "peek": True}, "model.peek is of model.cell sc_lstm, not of lstm"),
        ({"keep_first": True}, "model.keep_first is of model.cell sc_lstm, not of gru"),
        ({"eta": -1.0}, "model.eta must not be negative"),
        ({"xi": 0.0}, "model.xi must be more than 0"),
    ],
)
def test_options_that_do_not_go_together_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        network(**options)


def test_encoders_have_the_size_they_say() -> None:
    for kind, size in (("identity", C), ("dense", 3)):
        encoder = build_encoder(kind, SPEC, 3)  # type: ignore[arg-type]
        assert encoder(torch.zeros(2, C)).shape == (2, size) and encoder.output_size == size


def test_the_vocabulary_is_by_frequency_and_texts_come_back() -> None:
    spec = GenerationSpec(vocabulary=vocabulary_of(["b a b", "c b a"], " ", 2))
    assert spec.vocabulary[4:] == ["b", "a"]
    ids = spec.encode(["a b c"])[0].tolist()
    assert ids == [5, 4, 1, EOS] and spec.decode(ids) == "a b <unk>"

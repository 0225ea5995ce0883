"""Text in chunks equals text at once, wherever it is cut and saved; what is shown in pieces equals the whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnn.data.tokenizer import BOS, PAD, UNK, Kind, train_tokenizer
from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.seq2seq.output import LinearHead
from tasks.language_modeling.generation import GenerationOptions, TextGenerator
from tasks.language_modeling.network import LanguageModelNetwork, NetworkOptions
from tasks.language_modeling.pieces import TextCodec, Written
from tasks.language_modeling.spec import LanguageSpec
from tasks.language_modeling.state_files import load_run, save_run

LINES = [
    "the naïve café of Zoë opened — at last — in spring",
    "she sold 12 kinds of tea 🍵 and no coffee",
    "  two spaces, and a tab\there; she sold the café",
    "naïve readers read on, and on, and on ... the end",
]
SIZES: dict[Kind, int] = {"characters": 200, "bytes": 260, "words": 60, "unigram": 52, "bpe": 70, "word": 40}


def codec_of(kind: Kind) -> TextCodec:
    ended = "\n" if kind in ("characters", "bytes") else ""
    return TextCodec(LanguageSpec.of(train_tokenizer([line + ended for line in LINES], kind, SIZES[kind])))


CODECS = {kind: codec_of(kind) for kind in SIZES}


def generator(kind: Kind = "characters", seed: int = 0, **options: Any) -> TextGenerator:
    torch.manual_seed(seed)
    spec = CODECS[kind].spec
    sizes = {"embedding_size": 12, "hidden_size": 12}
    network = LanguageModelNetwork(spec, NetworkOptions(**{**sizes, **options}))
    with torch.no_grad():
        if isinstance(network.head, LinearHead):
            network.head.bias.add_(torch.randn(spec.vocab_size))
        network.embedding.weight.mul_(20)
    return TextGenerator(network, spec)


@pytest.mark.parametrize("kind", SIZES)
def test_text_is_read_back_as_it_was_written(kind: Kind) -> None:
    codec = CODECS[kind]
    text = "\n".join(" ".join(line.split()) for line in LINES)
    assert codec.decode(codec.encode(text)) == text
    assert codec.encode("") == [] and codec.encode("\n\n") == [codec.spec.end] * 2


@pytest.mark.parametrize("kind", SIZES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_shown_in_pieces_equals_the_whole_text(kind: Kind, data: st.DataObject) -> None:
    codec = CODECS[kind]
    some = st.integers(min_value=0, max_value=codec.spec.vocab_size - 1)
    before, ids = data.draw(st.lists(some, max_size=40)), data.draw(st.lists(some, max_size=90))
    ids = [*data.draw(st.lists(st.just(UNK), max_size=3)), *ids]
    whole, written = codec.decode([codec.spec.end, *before, *ids]), Written.after([codec.spec.end, *before], codec)
    shown = "".join([*(written.push(index, codec) for index in ids), written.rest(codec)])
    assert whole.endswith(shown) and len(whole) - len(shown) == len(codec.decode([codec.spec.end, *before]))


@given(
    text=st.text("ab\n", max_size=30),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_a_text_ends_before_the_first_stop_that_is_complete(text: str, stops: list[str]) -> None:
    codec = TextCodec(LanguageSpec.of(train_tokenizer(["ab\n"], "characters")))
    written, shown = Written(), ""
    for index in codec.encode(text):
        shown += written.push(index, codec, stops)
        if written.ended:
            break
    shown += written.rest(codec)
    ends = {text.find(stop) + len(stop): text.find(stop) for stop in stops if stop in text}
    assert written.ended == bool(ends)
    first = min(ends, default=0)
    places = [text[:first].find(stop) for stop in stops if stop in text[:first]]
    assert shown == (text[: min(places)] if ends else text)


@pytest.mark.parametrize(("kind", "cell"), [("characters", "lstm"), ("bytes", "gru"), ("unigram", "layer_norm_lstm")])
def test_text_in_chunks_equals_text_at_once(kind: Kind, cell: str, tmp_path: Path) -> None:
    writer = generator(kind, cell=cell)
    for options in ({}, {"greedy": True}, {"temperature": 0.7, "top_k": 20, "top_p": 0.9}):
        whole = writer.begin("she sold", samples=3, seed=5)
        expected = writer.write(whole, GenerationOptions(max_tokens=31, **options))
        run, texts = writer.begin("she sold", samples=3, seed=5), ["", "", ""]
        for size in (1, 0, 12, 18):
            new = writer.write(run, GenerationOptions(max_tokens=size, **options))
            texts = [text + more for text, more in zip(texts, new, strict=True)]
            save_run(run, writer.network, tmp_path / "run.state")
            run = load_run(tmp_path / "run.state", writer.network)
        assert texts == expected and run.drawn.tolist() == [31] * 3
        assert writer.rest(run) == writer.rest(whole)


OPTIONS: list[dict[str, Any]] = [
    {"num_layers": 3},
    {"tied": False, "hidden_size": 20, "last_size": 7},
    {"scale_embedding": False, "last_size": 9},
    {"cell": "gru", "head": "adaptive", "tied": False, "cutoffs": [20]},
    {"cell": "layer_norm_lstm", "head": "sampled"},
    {
        "input_dropout": 0.5,
        "layer_dropout": 0.5,
        "output_dropout": 0.5,
        "embedding_dropout": 0.5,
        "weight_dropout": 0.5,
    },
]


@pytest.mark.parametrize("options", OPTIONS)
def test_writing_step_by_step_equals_reading_at_once(options: dict[str, Any]) -> None:
    writer = generator("words", **options)
    new = list(writer.stream(writer.begin("she sold the", seed=1), GenerationOptions(max_tokens=20, unknown=True)))
    before = [CODECS["words"].spec.end, *CODECS["words"].encode("she sold the")]
    ids = torch.tensor([[*before, *(one.token for one in new)]])
    with torch.no_grad():
        log_probs = writer.network.head.log_probs(writer.network(ids[:, :-1]).hidden[0])
    expected = log_probs.gather(1, ids[0, 1:, None]).flatten()[len(before) - 1 :]
    torch.testing.assert_close(torch.tensor([one.log_prob for one in new]), expected, atol=1e-5, rtol=1e-5)


def test_a_sample_is_what_it_is_alone() -> None:
    writer, options = generator(), GenerationOptions(max_tokens=20, stop=("e",))
    together = writer.generate("on", options, samples=4, seed=3)
    assert together == [writer.generate("on", options, seed=3 + i)[0] for i in range(4)]
    assert len(set(together)) > 1


def test_a_sample_that_has_stopped_is_left_where_it_is() -> None:
    writer = generator()
    run = writer.begin("on", samples=4, seed=3)
    first = writer.write(run, GenerationOptions(max_tokens=15, stop=("e", "\n")))
    ended, drawn = [one.ended for one in run.written], run.drawn.tolist()
    assert any(ended) and not all(ended) and all(text.find("e") < 0 for text in first)
    again = writer.write(run, GenerationOptions(max_tokens=15))
    assert all((text == "") == over for text, over in zip(again, ended, strict=True))
    assert [a - b for a, b in zip(run.drawn.tolist(), drawn, strict=True)] == [0 if over else 15 for over in ended]


def test_a_half_character_is_completed_in_the_next_chunk() -> None:
    writer = generator("bytes")
    codec, run = writer.codec, writer.begin("x")
    for token in codec.encode("é")[:1]:
        assert run.written[0].push(token, codec) == ""
    assert run.written[0].push(codec.encode("é")[1], codec) == "é" and writer.rest(run) == [""]


def test_padding_begin_and_unknown_are_never_written() -> None:
    writer = generator("words")
    with torch.no_grad():
        writer.network.head.bias[[PAD, UNK, BOS]] = 50.0
    tokens = [new.token for new in writer.stream(writer.begin(), GenerationOptions(max_tokens=30))]
    assert len(tokens) == 30 and not {PAD, UNK, BOS} & set(tokens)
    assert "⁇" in writer.generate(options=GenerationOptions(max_tokens=3, unknown=True))[0]


def test_draws_follow_the_models_probabilities() -> None:
    writer = generator("words")
    run = writer.begin("she", samples=4000)
    counts = np.zeros(CODECS["words"].spec.vocab_size)
    for new in writer.stream(run, GenerationOptions(max_tokens=1, unknown=True)):
        counts[new.token] += 1
    ids = torch.tensor([[CODECS["words"].spec.end, *CODECS["words"].encode("she")]])
    with torch.no_grad():
        p = writer.network.head.log_probs(writer.network(ids).hidden[0, -1]).exp().double().numpy()
    p[[PAD, BOS]] = 0
    p /= p.sum()
    assert np.abs(counts / 4000 - p).max() < 4 * np.sqrt(0.25 / 4000)


def test_a_state_belongs_to_its_model(tmp_path: Path) -> None:
    writer, other = generator(), generator(seed=1)
    save_run(writer.begin("a"), writer.network, tmp_path / "a.state")
    with pytest.raises(DataError, match=r"a\.state is the state of another model: give the checkpoint it was"):
        load_run(tmp_path / "a.state", other.network)
    with pytest.raises(DataError, match=r"no state file .*b\.state"):
        load_run(tmp_path / "b.state", writer.network)
    torch.save({"state_dict": {}}, tmp_path / "c.state")
    with pytest.raises(DataError, match=r"c\.state is no state of a text"):
        load_run(tmp_path / "c.state", writer.network)
    (tmp_path / "d.state").write_bytes((tmp_path / "a.state").read_bytes()[:100])
    with pytest.raises(DataError, match=r"d\.state is no whole state of a text: give a file that --state_out wrote"):
        load_run(tmp_path / "d.state", writer.network)


def test_a_state_file_holds_plain_values(tmp_path: Path) -> None:
    writer = generator(cell="gru")
    save_run(writer.begin("a", samples=2), writer.network, tmp_path / "a.state")
    contents = torch.load(tmp_path / "a.state", weights_only=True)
    assert contents["tokens"].shape == (2,) and [leaf.shape for leaf in contents["state"]] == [(2, 12)] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": -1}, "max_tokens is -1: give 0 or more"),
        ({"stop": ("",)}, "stop is an empty text"),
        ({"stop": "cat"}, r"stop is one text: give a list of them, such as \['cat'\]"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": math.inf}, "temperature is inf: give a finite number"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": -2}, "top_k is -2"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GenerationOptions(**options)


def test_a_temperature_near_nothing_is_greedy_and_a_huge_one_draws_all_alike() -> None:
    writer = generator()
    best = writer.generate("a", GenerationOptions(max_tokens=20, greedy=True))
    assert writer.generate("a", GenerationOptions(max_tokens=20, temperature=1e-300)) == best
    run, many = writer.begin("a", samples=400), GenerationOptions(max_tokens=1, temperature=1e300)
    drawn = {new.token for new in writer.stream(run, many)}
    assert drawn == set(range(writer.codec.spec.vocab_size)) - {PAD, UNK, BOS}


@pytest.mark.parametrize(("seed", "samples"), [(2**63, 1), (2**63 - 2, 3), (-(2**63) - 1, 1)])
def test_a_seed_that_is_not_one_of_64_bits_is_refused(seed: int, samples: int) -> None:
    with pytest.raises(ConfigError, match=r"give -2.63 or more, and below 2.63 with all samples"):
        generator().begin("a", samples, seed)
    edge = 2**63 - samples if seed > 0 else -(2**63)
    assert len(generator().generate("a", GenerationOptions(max_tokens=2), samples, edge)) == samples


def test_no_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match="samples is 0: give 1 or more"):
        generator().begin("a", samples=0)

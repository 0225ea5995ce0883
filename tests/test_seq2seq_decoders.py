"""Decoders: one pass against step by step, against torch.nn in float64; padding, beams, bridges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from layer_checks import close, leaves
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError
from lightning_rnn.layers import quantize_dynamic
from lightning_rnn.layers.cell import map_tensors
from lightning_rnn.layers.table import CELLS
from lightning_rnn.seq2seq.attention import ATTENTIONS
from lightning_rnn.seq2seq.bridges import BRIDGES
from lightning_rnn.seq2seq.decoders import DECODERS, Decoder, DecoderOptions, Encoded, EncoderSizes, build_decoder
from lightning_rnn.seq2seq.layered import build_cell
from lightning_rnn.seq2seq.states import by_layer
from lightning_rnn.types import LSTMState, Nest

B, T, S, D, H, M = 3, 5, 6, 4, 8, 8
LENGTHS = torch.tensor([6, 2, 0])
KINDS: list[Any] = list(DECODERS)
ATTENDING = [kind for kind in KINDS if kind != "none"]
SIZES = EncoderSizes(4, bidirectional=True)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
ENTRIES: list[Any] = ["lstm", "gru", "simple_rnn", "layer_norm_lstm"]
REST: list[Any] = [name for name in CELLS if name not in ENTRIES]


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


def made(kind: Any, dtype: torch.dtype = torch.float64, **options: Any) -> Decoder:
    torch.manual_seed(0)
    defaults = {"cell": "lstm", "hidden_size": H, "num_layers": 2, "bridge": "mean"}
    return build_decoder(kind, D, SIZES, DecoderOptions(**(defaults | options))).to(dtype).eval()


def encoded(dtype: torch.dtype = torch.float64, lengths: Tensor = LENGTHS) -> Encoded:
    return Encoded(drawn(B, S, M, dtype=dtype), None, lengths)


def check_steps(decoder: Decoder, x: Tensor, state: Nest, constants: Nest, atol: float) -> None:
    whole = decoder(x, state, constants)
    for t, one in enumerate(x.unbind(1)):
        output, weights, state = decoder.step(one, state, constants)
        assert output.shape[1] == decoder.output_size
        close(output, whole.sequence[:, t], atol)
        if whole.weights is not None:
            close(weights, whole.weights[:, t], atol)
    close(state, whole.state, atol)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", ENTRIES)
@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_equals_one_pass(kind: Any, cell: Any, layers: int, dtype: torch.dtype) -> None:
    decoder = made(kind, dtype, cell=cell, num_layers=layers, residual=True)
    state, constants = decoder.start(encoded(dtype))
    margin = 5 if cell == "layer_norm_lstm" else 1  # it divides by small deviations
    check_steps(decoder, drawn(B, T, D, dtype=dtype), state, constants, margin * TOLERANCE[dtype])


@pytest.mark.parametrize("cell", REST)
@pytest.mark.parametrize("kind", KINDS)
def test_every_other_cell_decodes_too(kind: Any, cell: Any) -> None:
    decoder = made(kind, cell=cell, readout_size=3)
    state, constants = decoder.start(encoded())
    check_steps(decoder, drawn(B, T, D), state, constants, 1e-12)


@pytest.mark.parametrize("attention", list(ATTENTIONS))
@pytest.mark.parametrize("kind", ATTENDING)
def test_every_attention_decodes(kind: Any, attention: Any) -> None:
    decoder = made(kind, attention=attention)
    state, constants = decoder.start(encoded())
    check_steps(decoder, drawn(B, T, D), state, constants, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_output_depends_on_later_inputs_or_on_padding(kind: Any) -> None:
    decoder, source, x = made(kind), encoded(), drawn(B, T, D)
    lengths = torch.tensor([5, 3, 0])
    other = torch.where(torch.arange(T)[:, None] < lengths[:, None, None], x, drawn(B, T, D))
    one = decoder(x, *decoder.start(source), lengths=lengths)
    two = decoder(other, *decoder.start(source), lengths=lengths)
    free = decoder(other, *decoder.start(source))
    for row, length in enumerate(lengths.tolist()):
        close(one.sequence[row, :length], two.sequence[row, :length])
        close(one.sequence[row, :length], free.sequence[row, :length])
    short = decoder(x[:, :3], *decoder.start(source))  # the state is that after the last real step of a row
    for found, expected, row in ((one.state, short.state, 1), (one.state, decoder.start(source)[0], 2)):
        close([leaf[row] for leaf in leaves(found)], [leaf[row] for leaf in leaves(expected)])


@pytest.mark.parametrize("kind", ATTENDING)
def test_padding_of_the_source_changes_nothing(kind: Any) -> None:
    decoder, source, x = made(kind), encoded(), drawn(B, T, D)
    longer = Encoded(torch.cat([source.sequence, drawn(B, 2, M)], 1), None, LENGTHS)
    one, two = decoder(x, *decoder.start(source)), decoder(x, *decoder.start(longer))
    close(one.sequence, two.sequence)
    assert (two.weights[1, :, 2:] == 0).all() and (two.weights[2] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_batch_changes_nothing(kind: Any) -> None:
    decoder, source, x, order = made(kind), encoded(), drawn(B, T, D), torch.tensor([2, 0, 1])
    turned = Encoded(source.sequence[order], None, LENGTHS[order])
    one, two = decoder(x, *decoder.start(source)), decoder(x[order], *decoder.start(turned))
    close(two.sequence, one.sequence[order])


@pytest.mark.parametrize("kind", KINDS)
def test_beams_share_the_constants_and_are_reordered_by_their_state_alone(kind: Any) -> None:
    decoder, source, beams = made(kind, attention="coverage"), encoded(), 2
    wide = Encoded(source.sequence.repeat_interleave(beams, 0), None, LENGTHS.repeat_interleave(beams))
    state, constants = decoder.start(source)
    state = map_tensors(lambda leaf: leaf.repeat_interleave(beams, 0), state)
    states = [(state, constants), decoder.start(wide)]
    order = torch.tensor([1, 0, 3, 3, 4, 4])
    for x in drawn(3, B * beams, D):
        outs = [decoder.step(x, state, constants) for state, constants in states]
        close(outs[0][0], outs[1][0])
        moved = [map_tensors(lambda leaf: leaf.index_select(0, order), out[2]) for out in outs]
        states = [(moved[0], states[0][1]), (moved[1], states[1][1])]


def softmax_read(query: Tensor, memory: Tensor) -> Tensor:
    """Luong's dot attention, ``[B, T, M]``."""
    return torch.einsum("bth,bsh->bts", query, memory).softmax(2) @ memory


@torch.no_grad()
def test_gnmt_is_attention_between_two_lstms_of_torch() -> None:
    decoder, memory, x = made("gnmt", attention="dot", bridge="zero", residual=True), drawn(B, S, M), drawn(B, T, D)
    low, high = nn.LSTM(D, H, batch_first=True).double(), nn.LSTM(H + M, H, batch_first=True).double()
    for mine, layer in zip(decoder.layers, (low, high), strict=True):  # type: ignore[call-overload]
        layer.load_state_dict(mine.state_dict())
    h = low(x)[0]
    context = softmax_read(h, memory)
    expected = high(torch.cat([h, context], 2))[0] + h
    close(decoder(x, *decoder.start(Encoded(memory, None))).sequence, expected)


@torch.no_grad()
def test_luong_is_two_lstms_of_torch_attention_and_a_tanh() -> None:
    decoder, memory, x = made("luong", attention="dot", bridge="zero"), drawn(B, S, M), drawn(B, T, D)
    low, high = nn.LSTM(D, H, batch_first=True).double(), nn.LSTM(H, H, batch_first=True).double()
    for mine, layer in zip(decoder.layers, (low, high), strict=True):  # type: ignore[call-overload]
        layer.load_state_dict(mine.state_dict())
    h = high(low(x)[0])[0]
    read = decoder.readout.linear  # type: ignore[union-attr]
    expected = torch.tanh(torch.cat([h, softmax_read(h, memory)], 2) @ read.weight.t() + read.bias)  # type: ignore
    close(decoder(x, *decoder.start(Encoded(memory, None))).sequence, expected)


@torch.no_grad()
def test_input_feeding_is_the_loop_of_luong_over_cells_of_torch() -> None:
    decoder, memory, x = (
        made("input_feeding", attention="dot", bridge="zero", residual=True),
        drawn(B, S, M),
        drawn(B, T, D),
    )
    low, high = nn.LSTMCell(D + H, H).double(), nn.LSTMCell(H, H).double()
    layers: Any = decoder.cell.cell.cells  # type: ignore[union-attr]
    low.load_state_dict(layers[0].state_dict())
    high.load_state_dict(layers[1].state_dict())
    weight: Any = decoder.cell.attention_layer.weight  # type: ignore[union-attr]
    one = two = (torch.zeros(B, H).double(), torch.zeros(B, H).double())
    fed, outputs = torch.zeros(B, H).double(), []
    for t in range(T):
        one = low(torch.cat([x[:, t], fed], 1), one)
        two = high(one[0], two)
        h = two[0] + one[0]
        fed = torch.tanh(torch.cat([h, softmax_read(h.unsqueeze(1), memory).squeeze(1)], 1) @ weight.t())
        outputs.append(fed)
    close(decoder(x, *decoder.start(Encoded(memory, None))).sequence, torch.stack(outputs, 1))


@torch.no_grad()
def test_bahdanau_is_attention_by_the_old_state_before_a_gru_cell_of_torch() -> None:
    decoder = made("bahdanau", cell="gru", num_layers=1, attention="dot", bridge="last")
    h0, memory, x = drawn(2, B, 4), drawn(B, S, M), drawn(B, T, D)
    cell = nn.GRUCell(D + M, H).double()
    cell.load_state_dict(decoder.cell.cell.cells[0].state_dict())  # type: ignore
    read: Any = decoder.readout.linear  # type: ignore[union-attr]
    h, outputs = torch.cat([h0[0], h0[1]], 1), []
    for t in range(T):
        context = softmax_read(h.unsqueeze(1), memory).squeeze(1)
        h = cell(torch.cat([x[:, t], context], 1), h)
        outputs.append(torch.tanh(torch.cat([h, context, x[:, t]], 1) @ read.weight.t() + read.bias))
    start = decoder.start(Encoded(memory, (h0[0], h0[1])))
    close(decoder(x, *start).sequence, torch.stack(outputs, 1))


def test_the_plain_decoder_knows_the_source_by_its_state_alone() -> None:
    decoder = build_decoder("none", D, EncoderSizes(H), DecoderOptions("gru", H, bridge="copy")).double()
    layer, h, x = decoder.layers[0], drawn(B, H), drawn(B, T, D)  # type: ignore[index]
    state, constants = decoder.start(Encoded(drawn(B, S, H), h, LENGTHS))
    assert constants == ()
    close(decoder(x, state, constants).sequence, layer(x, h).sequence)
    assert decoder(x, state, constants).weights is None and decoder.step(x[:, 0], state, ())[1] is None


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_drawn_in_training_alone_and_not_fed_back(kind: Any) -> None:
    noisy, source, x = made(kind, dropout=0.5, output_dropout=0.9), encoded(), drawn(B, T, D)
    quiet = made(kind)
    quiet.load_state_dict(noisy.state_dict())
    close(noisy(x, *noisy.start(source)).sequence, quiet(x, *quiet.start(source)).sequence)
    noisy.train()
    zero = noisy(x, *noisy.start(source)).sequence == 0
    assert 0.7 < zero.double().mean() < 1
    close(made(kind, output_dropout=0.9).train()(x, *quiet.start(source)).state, quiet(x, *quiet.start(source)).state)
    one, two = (noisy.step(x[:, 0], *noisy.start(source))[2] for _ in range(2))
    assert any(not torch.equal(a, b) for a, b in zip(leaves(one), leaves(two), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_move_by_state_dict(kind: Any) -> None:
    one, source, x = made(kind), encoded(), drawn(B, T, D)
    torch.manual_seed(1)
    other = build_decoder(kind, D, SIZES, DecoderOptions("lstm", H, 2, bridge="mean")).double().eval()
    assert not torch.allclose(one(x, *one.start(source)).sequence, other(x, *other.start(source)).sequence)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x, *one.start(source)).sequence, other(x, *other.start(source)).sequence)


@pytest.mark.parametrize("cell", ENTRIES)
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_autocast_stays_near_float32(kind: Any, cell: Any) -> None:
    decoder, source, x = made(kind, torch.float32, cell=cell), encoded(torch.float32), drawn(B, T, D).float()
    exact = decoder(x, *decoder.start(source)).sequence
    with torch.autocast("cpu", torch.bfloat16):
        state, constants = decoder.start(source)
        mixed = decoder(x, state, constants, lengths=torch.tensor([5, 5, 5])).sequence
        first, _, state = decoder.step(x[:, 0], state, constants)
        second, _, _ = decoder.step(x[:, 1], state, constants)
    torch.testing.assert_close(mixed.float(), exact, rtol=0, atol=0.06)
    torch.testing.assert_close(torch.stack([first, second], 1).float(), exact[:, :2], rtol=0, atol=0.06)
    mixed.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_all_parameters_learn_by_teacher_forcing_and_by_steps_alike(kind: Any) -> None:
    decoder, source, x = made(kind).train(), encoded(), drawn(B, T, D)
    state, constants = decoder.start(source)
    decoder(x, state, constants).sequence.square().sum().backward()
    whole = {name: p.grad for name, p in decoder.named_parameters()}
    decoder.zero_grad()
    state, constants = decoder.start(source)
    total = x.new_zeros(())
    for one in x.unbind(1):
        output, _, state = decoder.step(one, state, constants)
        total = total + output.square().sum()
    total.backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, whole[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["none", "gnmt", "luong"])
def test_int8_layers_decode_near_float32(kind: Any) -> None:
    decoder, source, x = made(kind, torch.float32), encoded(torch.float32), drawn(B, T, D).float()
    with torch.inference_mode():
        exact = decoder(x, *decoder.start(source)).sequence
        small = quantize_dynamic(decoder)
        state, constants = small.start(source)  # type: ignore[operator]
        close(small(x, state, constants).sequence, exact, 0.02)
        check_steps(small, x, state, constants, 1e-6)  # type: ignore[arg-type]


def test_mistakes_are_told() -> None:
    options = DecoderOptions("lstm", H, 2)
    with pytest.raises(ConfigError, match="no decoder is called 'nmt': use none"):
        build_decoder("nmt", D, SIZES, options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no bridge is called 'pass': use zero"):
        build_decoder("gnmt", D, SIZES, replace(options, bridge="pass"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no cell is called 'lstmm': use simple_rnn"):
        build_decoder("gnmt", D, SIZES, replace(options, cell="lstmm"))  # type: ignore[arg-type]
    for kind in ("input_feeding", "bahdanau"):
        with pytest.raises(ConfigError, match="no cell is called 'lstmm': use simple_rnn"):
            build_decoder(kind, D, SIZES, replace(options, cell="lstmm"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="as many layers in the encoder as in the decoder, got 1 and 2"):
        build_decoder("gnmt", D, SIZES, replace(options, bridge="copy"))
    with pytest.raises(ConfigError, match=r"have 10 features \(two directions side by side\), the decoder's 8"):
        build_decoder("gnmt", D, EncoderSizes(5, bidirectional=True), replace(options, bridge="last"))
    with pytest.raises(ConfigError, match="num_layers of the decoder must be at least 1"):
        DecoderOptions(num_layers=0)
    with pytest.raises(ConfigError, match="dropout of the decoder must be at least 0 and below 1"):
        DecoderOptions(dropout=1.0)
    lacking = build_decoder("gnmt", D, EncoderSizes(H), replace(options, bridge="last"))
    with pytest.raises(ValueError, match="the decoder's state has c, which the encoder's lacks"):
        lacking.start(Encoded(torch.zeros(B, S, H), torch.zeros(B, H)))
    dense = build_decoder("gnmt", D, SIZES, replace(options, bridge="dense"))
    with pytest.raises(ValueError, match=r"must be a pair \(forward, backward\), got a Tensor"):
        dense.start(Encoded(torch.zeros(B, S, M), torch.zeros(B, 4)))
    two = build_decoder("gnmt", D, EncoderSizes(H, 2), replace(options, bridge="dense"))
    with pytest.raises(ValueError, match="a tuple of 2 layers, got a LSTMState of 2"):
        two.start(Encoded(torch.zeros(B, S, H), LSTMState(torch.zeros(B, H), torch.zeros(B, H))))
    with pytest.raises(TypeError, match="expected the state of one layer"):
        by_layer([1], 1, False)
    with pytest.raises(ConfigError, match="has no initializer to choose"):
        build_cell("nas", D, H, "keras")
    assert set(BRIDGES) == {"zero", "copy", "last", "mean", "dense"}

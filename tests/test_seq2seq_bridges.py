"""Bridges: how the encoder's final state becomes the decoder's first one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_checks import close
from torch import Tensor

from lightning_rnn import GRU, LSTM
from lightning_rnn.layers.table import recurrent
from lightning_rnn.seq2seq.bridges import BridgeKind, build_bridge
from lightning_rnn.seq2seq.decoders import DecoderOptions, Encoded, EncoderSizes, build_decoder
from lightning_rnn.seq2seq.states import by_layer
from lightning_rnn.types import LSTMState

B, T, S, D, H, M = 3, 5, 6, 4, 8, 8
LENGTHS = torch.tensor([6, 2, 0])


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_copy_and_last_hand_on_the_encoders_states(cell: str, bidirectional: bool, layers: int) -> None:
    size = H // 2 if bidirectional else H
    layer = {"lstm": LSTM, "gru": GRU}[cell](D, size, layers, bidirectional=bidirectional).double()
    sequence, state = layer(drawn(B, S, D), lengths=LENGTHS)
    sizes = EncoderSizes(size, layers, bidirectional)
    for bridge in ("copy", "last"):
        options = DecoderOptions(cell, H, layers, bridge=bridge)  # type: ignore[arg-type]
        (states, _), _ = build_decoder("gnmt", D, sizes, options).double().start(Encoded(sequence, state, LENGTHS))
        for i, found in enumerate(states):
            given = state if layers == 1 else state[i if bridge == "copy" else -1]
            sides = given if bidirectional else (given,)
            if cell == "lstm":
                assert isinstance(found, LSTMState)
                close(found, (torch.cat([s.h for s in sides], 1), torch.cat([s.c for s in sides], 1)))
            else:
                close(found, torch.cat(sides, 1))


def test_dense_is_a_tanh_layer_of_the_layer_below_or_of_the_top() -> None:
    state = tuple(LSTMState(drawn(B, 5), drawn(B, 5)) for _ in range(2))
    template = tuple(LSTMState(torch.zeros(1, 3), torch.zeros(1, 3)) for _ in range(3))
    bridge = build_bridge("dense", EncoderSizes(5, 2), template).double()
    states = bridge(Encoded(drawn(B, S, 5), state), tuple(LSTMState(drawn(B, 3), drawn(B, 3)) for _ in range(3)))
    maps: Any = bridge.maps
    for i, found in enumerate(states):
        source = state[min(i, 1)]
        close(found.h, torch.tanh(source.h @ maps[i]["h"].weight.t() + maps[i]["h"].bias))
        close(found.c, torch.tanh(source.c @ maps[i]["c"].weight.t() + maps[i]["c"].bias))


def test_mean_is_a_tanh_layer_of_the_mean_over_the_real_steps() -> None:
    bridge = build_bridge("mean", EncoderSizes(M), (torch.zeros(1, 3),)).double()
    sequence = drawn(B, S, M)
    (h,) = bridge(Encoded(sequence, None, torch.tensor([6, 2, 1])), (drawn(B, 3),))
    linear: Any = bridge.maps[0]["h"]  # type: ignore[index]
    close(h[1], torch.tanh(linear.weight @ sequence[1, :2].mean(0) + linear.bias))
    close(h[2], torch.tanh(linear.weight @ sequence[2, 0] + linear.bias))


@pytest.mark.parametrize("bridge", ["zero", "dense", "mean"])
@pytest.mark.parametrize("cells", [("gru", "lstm"), ("lstm", "gru"), ("nas", "slstm"), ("slstm", "nas")])
def test_cells_may_differ_between_encoder_and_decoder(cells: Any, bridge: BridgeKind) -> None:
    reading, writing = cells
    layer = recurrent(reading, D, 5).double()
    sequence, state = layer(drawn(B, S, D), lengths=LENGTHS)
    options = DecoderOptions(writing, H, 2, bridge=bridge)
    decoder = build_decoder("input_feeding", D, EncoderSizes(5), options).double()
    start, memory = decoder.start(Encoded(sequence, state, LENGTHS))
    found = start.cell_state
    assert decoder(drawn(B, T, D), start, memory).sequence.isfinite().all()
    if writing == "slstm":
        assert (found[0].n == 0).all() and (bridge == "zero") == (not found[0].h.any())


def test_a_state_is_given_by_layer_with_its_directions_side_by_side() -> None:
    h = [drawn(B, 2) for _ in range(4)]
    (one,) = by_layer((h[0], h[1]), 1, True)
    close(one["h"], torch.cat([h[0], h[1]], 1))
    two = by_layer((h[0], h[1]), 2, False)
    close([layer["h"] for layer in two], [h[0], h[1]])
    four = by_layer(((h[0], h[1]), (h[2], h[3])), 2, True)
    close(four[1]["h"], torch.cat([h[2], h[3]], 1))

"""Operations of networks: by formula where kernels hide them, held to torch's own counter; the speed of products."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

from lightning_rnn import GRU, LSTM, RNN, Bidirectional, LSTMCell, SimpleRNN, StepOptions
from lightning_rnn.training.flops import TRAINING, counting, layer_flops, product_speed

B, T, D, H = 4, 6, 3, 8
LAYERS: dict[str, Any] = {
    "simple_rnn": lambda engine: SimpleRNN(D, H, engine=engine),
    "lstm": lambda engine: LSTM(D, H, engine=engine),
    "gru": lambda engine: GRU(D, H, engine=engine),
    "gru_before": lambda engine: GRU(D, H, step_options=StepOptions(reset_after=False), engine=engine),
    "no_bias": lambda engine: GRU(D, H, bias=False, engine=engine),
    "stacked": lambda engine: LSTM(D, [5, 7], engine=engine),
    "bidirectional": lambda engine: GRU(D, H, num_layers=2, bidirectional=True, engine=engine),
    "projected": lambda engine: LSTM(D, H, proj_size=2, engine=engine),
    "peepholes": lambda engine: LSTM(D, H, step_options=StepOptions(peephole=True), engine=engine),
    "cell": lambda engine: RNN(LSTMCell(D, H), engine=engine),
    "both_ways": lambda engine: Bidirectional(RNN(LSTMCell(D, H), engine=engine)),
}


def torchs(network: nn.Module, *args: Any) -> int:
    """What torch's own counter sees of a forward pass."""
    with FlopCounterMode(display=False) as counter:
        network(*args)
    return counter.get_total_flops()


def ours(network: nn.Module, *args: Any, **options: Any) -> int:
    with counting(network) as count:
        network(*args, **options)
    return count.total


@pytest.mark.parametrize("name", LAYERS)
def test_operations_are_those_that_torch_counts_in_the_loop(name: str) -> None:
    x = torch.randn(B, T, D)
    expected = torchs(LAYERS[name]("scan"), x)
    assert expected > 0
    assert ours(LAYERS[name]("scan"), x) == expected
    assert ours(LAYERS[name]("auto"), x) == expected  # whatever engine that is, its kernel cannot be seen into


def test_a_layer_of_another_kind_has_no_formula() -> None:
    assert layer_flops(nn.Linear(3, 4), 10) is None
    assert layer_flops(RNN([LSTMCell(D, H), LSTMCell(H, H)]), 10) is None  # in the loop: seen as it runs
    x, stacked = torch.randn(B, T, D), RNN([LSTMCell(D, H), LSTMCell(H, H)])
    assert ours(stacked, x) == torchs(stacked, x) > 0


def test_training_takes_three_times_the_operations_of_a_forward_pass() -> None:
    layer, x = LSTM(D, H, engine="scan"), torch.randn(B, T, D, requires_grad=True)
    state = torch.randn(B, H, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layer(x, (state, state)).sequence.sum().backward()
    assert counter.get_total_flops() == TRAINING * ours(layer, x)


def test_what_is_around_a_recurrent_layer_is_counted_once() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.rnn, self.head = nn.Conv1d(D, D, 3, padding=1), GRU(D, H), nn.Linear(H, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sequence = self.rnn(self.mix(x.transpose(1, 2)).transpose(1, 2)).sequence
            scores = sequence @ sequence.transpose(1, 2)  # no module of its own
            logits: torch.Tensor = self.head(scores @ sequence)
            return logits

    parts = [2 * B * T * D * D * 3, 2 * B * T * 3 * H * (D + H), 2 * 2 * B * T * T * H, 2 * B * T * H * 10]
    assert ours(Network(), torch.randn(B, T, D)) == sum(parts)


def test_packed_steps_are_counted_without_padding() -> None:
    layer, x = LSTM(D, H), torch.randn(3, T, D)
    packed = pack_padded_sequence(x, torch.tensor([6, 2, 1]), batch_first=True)
    assert ours(layer, packed) == layer_flops(layer, 9)


@pytest.mark.parametrize("engine", ["auto", "native", "fused", "scan", "loop"])
def test_counting_changes_nothing(engine: Any) -> None:
    layer, x = LSTM(D, H, engine=engine), torch.randn(B, T, D)
    plain = torch.autograd.grad(layer(x).sequence.square().sum(), list(layer.parameters()))
    with counting(layer):
        loss = layer(x).sequence.square().sum()
    counted = torch.autograd.grad(loss, list(layer.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))
    assert not layer._forward_hooks and not layer._forward_pre_hooks


def test_an_error_in_a_forward_pass_leaves_nothing_behind() -> None:
    layer = LSTM(D, H)
    with pytest.raises(ValueError, match="expected x of shape"), counting(layer):
        layer(torch.randn(B, T, D + 1))
    assert not layer._forward_hooks and not layer._forward_pre_hooks
    assert ours(layer, torch.randn(B, T, D)) > 0


def test_the_speed_of_products_is_measured_without_drawing_random_numbers() -> None:
    before = torch.get_rng_state()
    speeds = [product_speed(torch.device("cpu"), dtype, 0.01) for dtype in (torch.float32, torch.float64)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(1e8 < speed < 1e14 for speed in speeds)

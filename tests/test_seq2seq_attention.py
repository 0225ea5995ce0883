"""Attention: every kind against its equation in numpy, masks, beams, steps against all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from attentions import made
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError
from lightning_rnn.layers.config import from_config, to_config
from lightning_rnn.seq2seq.attention import (
    ATTENTIONS,
    Attention,
    AttentionOutput,
    Memory,
    build_attention,
    coverage_loss,
)
from lightning_rnn.seq2seq.attention_located import LocatedAttention
from lightning_rnn.seq2seq.energies import AdditiveEnergy, DotEnergy
from lightning_rnn.seq2seq.monotonic import MonotonicAttention, monotonic_weights

B, T, S, Q, M, A = 3, 4, 6, 5, 7, 8
LENGTHS = torch.tensor([6, 2, 0])
KINDS = list(ATTENTIONS)
STATELESS = [kind for kind in KINDS if kind not in ("location", "coverage", "bahdanau_monotonic", "luong_monotonic")]
Array = Any


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


def stepped(attention: Attention, queries: Tensor, memory: Memory) -> AttentionOutput:
    """All steps one by one."""
    state = attention.initial_state(memory, len(queries))
    outs = []
    for query in queries.unbind(1):
        outs.append(attention(query, memory, state))
        state = outs[-1].state
    return AttentionOutput(
        torch.stack([out.context for out in outs], 1), torch.stack([out.weights for out in outs], 1), state
    )


def numbers(attention: nn.Module) -> dict[str, Array]:
    return {name.removeprefix("energy."): p.detach().numpy() for name, p in attention.named_parameters()}


def additive(p: dict[str, Array], q: Array, m: Array, more: Array = 0.0) -> Array:
    v = p["v"]
    if "g" in p:
        v = p["g"] * v / np.sqrt((v**2).sum())
    return np.tanh(p["query.weight"] @ q + m @ p["key.weight"].T + p.get("b", 0.0) + more) @ v


def general(p: dict[str, Array], q: Array, m: Array) -> Array:
    return np.array([q @ p["key.weight"] @ one for one in m]) * p.get("g", 1.0)


def concat(p: dict[str, Array], q: Array, m: Array) -> Array:
    return np.array([p["v"] @ np.tanh(p["both.weight"] @ np.concatenate([q, one])) for one in m])


def dot(p: dict[str, Array], q: Array, m: Array) -> Array:
    return np.array([(p["query.weight"] @ q) @ (p["key.weight"] @ one) for one in m])


EQUATIONS: dict[str, Callable[..., Array]] = {
    "dot": dot,
    "scaled_dot": lambda p, q, m: dot(p, q, m) / np.sqrt(A),
    "general": general,
    "scaled_general": general,
    "concat": concat,
    "bahdanau": additive,
    "normed_bahdanau": additive,
}


def softmax(energy: Array) -> Array:
    exp = np.exp(energy - energy.max())
    return exp / exp.sum()


@pytest.mark.parametrize("kind", STATELESS)
@torch.no_grad()
def test_stateless_kinds_are_a_softmax_of_their_energy(kind: str) -> None:
    attention, query, values = made(kind), drawn(B, Q), drawn(B, S, M)
    out = attention(query, attention.remember(values, lengths=LENGTHS))
    p = numbers(attention)
    for row, length in enumerate(LENGTHS.tolist()[:2]):
        m = values[row, :length].numpy()
        weights = softmax(EQUATIONS[kind](p, query[row].numpy(), m))
        np.testing.assert_allclose(out.weights[row, :length], weights, atol=1e-12)
        np.testing.assert_allclose(out.context[row], weights @ m, atol=1e-12)


@torch.no_grad()
def test_plain_dot_has_no_parameters_and_is_the_inner_product() -> None:
    attention, query, values = build_attention("dot", Q, Q).double(), drawn(1, Q), drawn(1, S, Q)
    assert not list(attention.parameters())
    weights = attention(query, attention.remember(values)).weights[0]
    np.testing.assert_allclose(weights, softmax(values[0].numpy() @ query[0].numpy()), atol=1e-12)


@pytest.mark.parametrize("kind", ["bahdanau_monotonic", "luong_monotonic"])
@torch.no_grad()
def test_monotonic_kinds_follow_the_recurrence_of_the_paper(kind: str) -> None:
    attention, queries, values = made(kind), drawn(1, T, Q), drawn(1, S, M)
    weights = stepped(attention, queries, attention.remember(values)).weights[0].numpy()
    p, equation = numbers(attention), additive if kind == "bahdanau_monotonic" else general
    previous = np.eye(S)[0]
    for t in range(T):
        chance = 1 / (1 + np.exp(-equation(p, queries[0, t].numpy(), values[0].numpy()) - p["r"]))
        expected = np.zeros(S)
        for j in range(S):  # equation 8 of Raffel et al.
            for k in range(j + 1):
                expected[j] += previous[k] * np.prod(1 - chance[k:j]) * chance[j]
        np.testing.assert_allclose(weights[t], expected, atol=1e-12)
        previous = expected


@torch.no_grad()
def test_location_sees_the_convolved_weights_of_the_step_before() -> None:
    attention, queries, values = made("location"), drawn(1, T, Q), drawn(1, S, M)
    weights = stepped(attention, queries, attention.remember(values)).weights[0].numpy()
    p, previous = numbers(attention), np.zeros(S)
    for t in range(T):
        padded = np.pad(previous, 1)
        windows = np.stack([padded[j : j + 3] for j in range(S)])
        located = windows @ p["convolution.weight"][:, 0].T @ p["location.weight"].T
        previous = softmax(additive(p, queries[0, t].numpy(), values[0].numpy(), located))
        np.testing.assert_allclose(weights[t], previous, atol=1e-12)


@torch.no_grad()
def test_coverage_sees_the_sum_of_all_earlier_weights() -> None:
    attention, queries, values = made("coverage"), drawn(1, T, Q), drawn(1, S, M)
    weights = stepped(attention, queries, attention.remember(values)).weights[0].numpy()
    p, covered = numbers(attention), np.zeros(S)
    for t in range(T):
        more = np.outer(covered, p["convolution.weight"][:, 0, 0])
        now = softmax(additive(p, queries[0, t].numpy(), values[0].numpy(), more))
        np.testing.assert_allclose(weights[t], now, atol=1e-12)
        covered = covered + now


@torch.no_grad()
def test_location_can_see_both_the_last_weights_and_their_sum() -> None:
    attention = LocatedAttention(Q, M, looked="both", filters=2, width=3).double()
    memory = attention.remember(drawn(2, S, M))
    out = stepped(attention, drawn(2, T, Q), memory)
    torch.testing.assert_close(out.state[:, 0], out.weights[:, -1])
    torch.testing.assert_close(out.state[:, 1], out.weights.sum(1))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_has_weight_zero_and_a_row_without_a_real_step_reads_nothing(kind: str) -> None:
    attention, values = made(kind), drawn(B, S, M).requires_grad_()
    out = attention.attend_all(drawn(B, T, Q), attention.remember(values, lengths=LENGTHS))
    for row, length in enumerate(LENGTHS.tolist()):
        assert (out.weights[row, :, length:] == 0).all()
    assert (out.weights[2] == 0).all() and (out.context[2] == 0).all()
    assert (out.weights[:2, 0, :2] > 0).all()
    out.context.square().sum().backward()
    assert values.grad is not None and values.grad.isfinite().all() and (values.grad[1, 2:] == 0).all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in attention.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_at_padding_and_how_much_of_it_changes_nothing(kind: str) -> None:
    attention, queries, values = made(kind), drawn(B, T, Q), drawn(B, S, M)
    padding = torch.full((B, 3, M), float("nan"), dtype=torch.float64)
    wide = torch.cat(
        [torch.where(torch.arange(S)[:, None] < LENGTHS[:, None, None], values, padding[:, :1]), padding], 1
    )
    short = attention.attend_all(queries, attention.remember(values, lengths=LENGTHS))
    long = attention.attend_all(queries, attention.remember(wide, lengths=LENGTHS))
    torch.testing.assert_close(long.context, short.context, rtol=0, atol=1e-12)
    torch.testing.assert_close(long.weights[..., :S], short.weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_that_says_what_lengths_say_gives_the_same(kind: str) -> None:
    attention, queries, values = made(kind), drawn(B, T, Q), drawn(B, S, M)
    mask = torch.arange(S) < LENGTHS[:, None]
    by_lengths = attention.attend_all(queries, attention.remember(values, lengths=LENGTHS))
    by_mask = attention.attend_all(queries, attention.remember(values, mask=mask))
    assert torch.equal(by_lengths.weights, by_mask.weights)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_batch_changes_nothing(kind: str) -> None:
    attention, queries, values = made(kind), drawn(B, T, Q), drawn(B, S, M)
    order = torch.tensor([2, 0, 1])
    one = attention.attend_all(queries, attention.remember(values, lengths=LENGTHS))
    other = attention.attend_all(queries[order], attention.remember(values[order], lengths=LENGTHS[order]))
    torch.testing.assert_close(other.context, one.context[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_beams_that_share_a_memory_equal_beams_with_copies_of_it(kind: str) -> None:
    attention, beams = made(kind), 4
    values, queries = drawn(B, S, M), drawn(B * beams, T, Q)
    shared = attention.remember(values, lengths=LENGTHS)
    copied = attention.remember(values.repeat_interleave(beams, 0), lengths=LENGTHS.repeat_interleave(beams))
    one = {"shared": attention.initial_state(shared, B * beams), "copied": attention.initial_state(copied, B * beams)}
    for query in queries.unbind(1):
        a, b = attention(query, shared, one["shared"]), attention(query, copied, one["copied"])
        one = {"shared": a.state, "copied": b.state}
        torch.testing.assert_close(a.context, b.context, rtol=0, atol=1e-12)
        torch.testing.assert_close(a.weights, b.weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_all_steps_at_once_equal_step_by_step(kind: str) -> None:
    attention, queries = made(kind), drawn(B, T, Q)
    memory = attention.remember(drawn(B, S, M), lengths=LENGTHS)
    whole, steps = attention.attend_all(queries, memory), stepped(attention, queries, memory)
    torch.testing.assert_close(whole.context, steps.context, rtol=0, atol=1e-12)
    torch.testing.assert_close(whole.weights, steps.weights, rtol=0, atol=1e-12)
    first = attention.attend_all(queries[:, :2], memory)
    rest = attention.attend_all(queries[:, 2:], memory, first.state)
    torch.testing.assert_close(torch.cat([first.weights, rest.weights], 1), whole.weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_steps_and_no_rows_are_legal(kind: str) -> None:
    attention = made(kind)
    memory = attention.remember(drawn(B, S, M))
    assert attention.attend_all(drawn(B, 0, Q), memory).context.shape == (B, 0, M)
    nobody = attention.remember(drawn(0, S, M))
    assert attention(drawn(0, Q), nobody, attention.initial_state(nobody, 0)).context.shape == (0, M)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_differences(kind: str) -> None:
    attention = made(kind)

    def function(queries: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        out = attention.attend_all(queries, attention.remember(values, lengths=torch.tensor([3, 2])))
        return out.context, out.weights

    assert torch.autograd.gradcheck(
        function, (drawn(2, 2, Q).requires_grad_(), drawn(2, 3, M).requires_grad_()), fast_mode=True
    )


@pytest.mark.parametrize("kind", KINDS)
def test_weights_move_by_state_dict_and_options_by_config(kind: str) -> None:
    one, other = made(kind, 0), made(kind, 1)
    queries, values = drawn(B, T, Q), drawn(B, S, M)
    before = one.attend_all(queries, one.remember(values)).context
    assert not torch.allclose(before, other.attend_all(queries, other.remember(values)).context)
    other.load_state_dict(one.state_dict())
    assert torch.equal(before, other.attend_all(queries, other.remember(values)).context)
    again = from_config(to_config(one)).double().eval()
    again.load_state_dict(one.state_dict())
    assert torch.equal(before, again.attend_all(queries, again.remember(values)).context)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_by_autocast_or_throughout_stays_near_float32(kind: str) -> None:
    attention, queries, values = made(kind, dtype=torch.float32), drawn(B, T, Q).float(), drawn(B, S, M).float()
    exact = attention.attend_all(queries, attention.remember(values, lengths=LENGTHS)).weights
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attention.attend_all(queries, attention.remember(values, lengths=LENGTHS))
    low = attention.bfloat16()
    whole = low.attend_all(queries.bfloat16(), low.remember(values.bfloat16(), lengths=LENGTHS))
    assert whole.context.dtype == torch.bfloat16
    for out in (mixed, whole):
        assert (out.weights[1, :, 2:] == 0).all()
        torch.testing.assert_close(out.weights.float(), exact, rtol=0, atol=0.06)


@torch.no_grad()
def test_normed_attention_does_not_depend_on_the_length_of_v() -> None:
    attention, queries, values = made("normed_bahdanau"), drawn(B, T, Q), drawn(B, S, M)
    before = attention.attend_all(queries, attention.remember(values)).weights
    with torch.no_grad():
        attention.energy.v.mul_(3)
    torch.testing.assert_close(attention.attend_all(queries, attention.remember(values)).weights, before)


def test_concat_is_bahdanaus_with_its_two_matrices_side_by_side() -> None:
    one, other = made("concat"), made("bahdanau")
    with torch.no_grad():
        other.energy.v.copy_(one.energy.v)
        other.energy.query.weight.copy_(one.energy.both.weight[:, :Q])
        other.energy.key.weight.copy_(one.energy.both.weight[:, Q:])
    queries, values = drawn(B, T, Q), drawn(B, S, M)
    torch.testing.assert_close(
        one.attend_all(queries, one.remember(values)).weights, other.attend_all(queries, other.remember(values)).weights
    )


def start(*shape: int) -> Tensor:
    previous = torch.zeros(*shape, dtype=torch.float64)
    previous[..., 0] = 1
    return previous


def test_mistakes_are_told() -> None:
    attention = made("bahdanau")
    with pytest.raises(ConfigError, match="no attention is called 'luong': use dot"):
        build_attention("luong", Q, M)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="queries of 5 features with a memory of 7: set a size"):
        build_attention("dot", Q, M)
    with pytest.raises(ConfigError, match="general has no size"):
        build_attention("general", Q, M, A)
    with pytest.raises(ValueError, match="give a size to project both to"):
        DotEnergy(Q, M)
    with pytest.raises(ValueError, match="query_size must be at least 1"):
        LocatedAttention(0, M)
    with pytest.raises(ValueError, match="width must be odd"):
        LocatedAttention(Q, M, width=2)
    with pytest.raises(ValueError, match="looked must be one of"):
        LocatedAttention(Q, M, looked="ahead")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a mode is one of"):
        MonotonicAttention(Q, M, AdditiveEnergy(Q, M), mode="soft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="noise must not be negative"):
        MonotonicAttention(Q, M, AdditiveEnergy(Q, M), noise=-1.0)
    with pytest.raises(ValueError, match="mode must be one of"):
        monotonic_weights(start(2), start(2), "soft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"values of shape \[B, S, 7\]"):
        attention.remember(drawn(B, S, M + 1))
    with pytest.raises(ValueError, match="lengths or mask, not both"):
        attention.remember(drawn(B, S, M), lengths=LENGTHS, mask=torch.ones(B, S, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"lengths of shape \[3\]"):
        attention.remember(drawn(B, S, M), lengths=LENGTHS[:2])
    with pytest.raises(ValueError, match=r"mask of shape \[3, 6\]"):
        attention.remember(drawn(B, S, M), mask=torch.ones(B, S + 1, dtype=torch.bool))
    with pytest.raises(TypeError, match="must be bool"):
        attention.remember(drawn(B, S, M), mask=torch.ones(B, S))
    memory = attention.remember(drawn(B, S, M))
    with pytest.raises(ValueError, match="N a multiple of the memory's 3 rows"):
        attention(drawn(B + 1, Q), memory)
    with pytest.raises(ValueError, match=r"queries of shape \[3, T, 5\]"):
        attention.attend_all(drawn(2, T, Q), memory)
    with pytest.raises(ValueError, match="lengths or mask, not both"):
        coverage_loss(drawn(B, T, S), lengths=LENGTHS, mask=torch.ones(B, T, dtype=torch.bool))

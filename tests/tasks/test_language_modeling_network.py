"""The network: chunks equal the whole, vectors are tied, every head is asked in the same way."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch.nn import functional as F

from lightning_rnn.errors import ConfigError
from lightning_rnn.layers.table import CellName
from tasks.language_modeling import LanguageModel
from tasks.language_modeling.losses import token_losses
from tasks.language_modeling.network import LanguageModelNetwork, NetworkOptions
from tasks.language_modeling.spec import LanguageSpec

V = 12
SPEC = LanguageSpec(vocab_size=V, counts=[0, 3, 0, 40, *range(20, 12, -1)])
TOKENS = torch.randint(1, V, (3, 9), generator=torch.Generator().manual_seed(1))


def network_of(**options: Any) -> LanguageModelNetwork:
    torch.manual_seed(2)
    return LanguageModelNetwork(SPEC, NetworkOptions(**{"embedding_size": 6, "hidden_size": 8} | options))


def test_tied_vectors_are_one_parameter_that_learns_from_both_sides() -> None:
    network = network_of()
    assert network.head.weight is network.embedding.weight and network.layers[-1].hidden_size == 6
    assert sum(parameter.shape == (V, 6) for parameter in network.parameters()) == 1
    hidden = network(TOKENS).hidden
    network.head.loss(hidden.detach(), TOKENS).backward()
    of_head = network.embedding.weight.grad.clone()
    hidden.sum().backward()
    assert float(of_head.abs().sum()) > 0
    assert not torch.equal(network.embedding.weight.grad, of_head)


def test_tied_vectors_of_another_size_are_reached_through_a_projection() -> None:
    network = network_of(last_size=10).eval()
    hidden = network(TOKENS).hidden
    assert hidden.shape[-1] == 10
    projected = hidden @ network.head.projection.weight.T
    expected = (projected @ network.embedding.weight.T + network.head.bias).log_softmax(-1)
    torch.testing.assert_close(network.head.log_probs(hidden), expected)


@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru", "min_gru", "mgu", "layer_norm_lstm"])
def test_chunks_with_carried_state_equal_one_run(cell: CellName) -> None:
    network = network_of(cell=cell).eval()
    whole, state, parts = network(TOKENS), None, []
    for chunk in TOKENS.split([4, 3, 2], dim=1):
        output = network(chunk, state)
        state = output.state
        parts.append(output.hidden)
    torch.testing.assert_close(torch.cat(parts, 1), whole.hidden, rtol=1e-4, atol=1e-5)
    assert isinstance(state, tuple) and len(state) == 2


@pytest.mark.parametrize("head", ["full", "sampled", "nce", "adaptive"])
def test_every_head_is_asked_in_the_same_way(head: Literal["full", "sampled", "nce", "adaptive"]) -> None:
    options = {"adaptive": {"tied": False, "cutoffs": [6]}, "full": {}}.get(head, {"candidates": 5})
    network = network_of(head=head, **options)
    hidden = network(TOKENS).hidden
    network.head.loss(hidden, TOKENS).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.eval()
    hidden = network(TOKENS).hidden.detach()
    log_probs = network.head.log_probs(hidden)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 9))
    targets = TOKENS.masked_fill(TOKENS == 5, 0)
    losses = token_losses(network.head, hidden, targets)
    expected = F.nll_loss(log_probs.double().flatten(0, 1), targets.flatten(), ignore_index=0, reduction="none")
    torch.testing.assert_close(losses.double().flatten(), expected, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(token_losses(network.head, hidden, targets), losses), "losses lose digits under autocast"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hidden_size": 0}, "model.hidden_size must be at least 1"),
        ({"last_size": 0}, "model.last_size must be at least 1"),
        ({"weight_dropout": 1.5}, "model.weight_dropout must be between 0 and 1"),
        ({"alpha": -1.0}, "model.alpha must not be negative"),
        ({"head": "adaptive"}, "model.head adaptive has no tied vectors: set model.tied to false"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LanguageModel(**options)


def test_a_cell_without_a_recurrent_matrix_to_drop_is_refused() -> None:
    with pytest.raises(ConfigError, match="the cell mgu has no weight_dropout or engine to choose"):
        network_of(cell="mgu", weight_dropout=0.5)

"""The head that draws: its loss against the paper's equations, what it samples, and drawing as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.losses import shifted
from tasks.generation import Generator
from tasks.generation.drawing import sketch
from tasks.generation.mixture import MixtureHead
from tasks.generation.network import GeneratorNetwork, NetworkOptions
from tasks.generation.spec import UNMOVED, GenerationSpec


def drawings(lengths: list[int], seed: int = 0) -> Tensor:
    """Random strokes ``[B, T, 5]``, each ending at its length, zero after it."""
    random = torch.Generator().manual_seed(seed)
    strokes = torch.zeros(len(lengths), max(lengths), 5)
    for row, length in enumerate(lengths):
        strokes[row, : length - 1, :2] = torch.randn(length - 1, 2, generator=random)
        lifted = torch.rand(length - 1, generator=random) < 0.3
        strokes[row, : length - 1, 2], strokes[row, : length - 1, 3] = (~lifted).float(), lifted.float()
        strokes[row, length - 1, 4] = 1
    return strokes


def network(hidden: int = 8) -> GeneratorNetwork:
    torch.manual_seed(0)
    spec = GenerationSpec(kind="strokes", form="class", condition_size=2, condition_names=["a", "b"], joiner="")
    options = NetworkOptions(cell="lstm", hidden_size=hidden, encoder="identity", condition="both", mixtures=3)
    model = GeneratorNetwork(spec, options).eval()
    with torch.no_grad():
        model.head.projection.bias[-1] = -2  # ends are rare
    return model


def test_loss_is_equation_9_per_valid_step() -> None:
    """Ha and Eck 2017, equation 9, by scipy in float64, over a drawing's own steps."""
    torch.manual_seed(0)
    head, lengths = MixtureHead(6, 3, min_std=0.0).double(), [5, 3]
    hidden, strokes = torch.randn(2, 5, 6, dtype=torch.float64), drawings(lengths).double()
    raw = (hidden @ head.projection.weight.T + head.projection.bias).detach().numpy()
    total = 0.0
    for row, length in enumerate(lengths):
        for step in range(length):
            weights, x, y, log_x, log_y, slant = raw[row, step, :18].reshape(6, 3)
            pen, target = raw[row, step, 18:], strokes[row, step].numpy()
            weights, rho = np.exp(weights) / np.exp(weights).sum(), np.tanh(slant)
            density = 0.0
            for k in range(3):
                sx, sy = np.exp(log_x[k]), np.exp(log_y[k])
                covariance = [[sx**2, rho[k] * sx * sy], [rho[k] * sx * sy, sy**2]]
                density += weights[k] * multivariate_normal.pdf(target[:2], [x[k], y[k]], covariance)
            total -= np.log(density) if step < length - 1 else 0.0
            total -= (target[2:] * (pen - np.log(np.exp(pen).sum()))).sum()
    found = head.loss(hidden, strokes, torch.tensor(lengths))
    assert found.item() == pytest.approx(total / sum(lengths), rel=1e-10)


def test_gradient_of_the_loss_is_the_numerical_one() -> None:
    head, strokes = MixtureHead(3, 2).double(), drawings([3, 2]).double()
    hidden = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda h: head.loss(h, strokes, torch.tensor([3, 2])), (hidden,))


def test_padding_and_order_change_no_loss() -> None:
    head, lengths = MixtureHead(6, 3), torch.tensor([5, 3])
    hidden, strokes = torch.randn(2, 5, 6), drawings([5, 3])
    loss = head.loss(hidden, strokes, lengths)
    more = torch.randn(2, 4, 6), torch.ones(2, 4, 5)
    padded = head.loss(torch.cat([hidden, more[0]], 1), torch.cat([strokes, more[1]], 1), lengths)
    torch.testing.assert_close(padded, loss)
    torch.testing.assert_close(head.loss(hidden.flip(0), strokes.flip(0), lengths.flip(0)), loss)


def test_no_valid_step_costs_nothing_and_has_a_gradient() -> None:
    head = MixtureHead(6, 3)
    loss = head.loss(torch.randn(1, 2, 6), torch.zeros(1, 2, 5), torch.tensor([0]))
    loss.backward()
    assert loss.item() == 0 and bool((head.projection.weight.grad == 0).all())  # type: ignore[union-attr]


def test_cold_samples_are_the_most_probable_step() -> None:
    torch.manual_seed(0)
    head, hidden = MixtureHead(6, 4), torch.randn(50, 6)
    mixture, log_pen = head(hidden)
    drawn = head.sample(hidden, 1e-4, torch.rand(50, 4, dtype=torch.float64))
    best = mixture.log_weights.argmax(1)
    expected = mixture.mean[torch.arange(50), best] * (1 - drawn[:, 4:])
    torch.testing.assert_close(drawn[:, :2], expected, atol=0.1, rtol=0)
    assert torch.equal(drawn[:, 2:].argmax(1), log_pen.argmax(1))


def test_sampled_pens_have_their_probabilities_at_a_temperature() -> None:
    torch.manual_seed(0)
    head, hidden = MixtureHead(6, 2), torch.randn(1, 6)
    uniform = torch.rand(40_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = head.sample(hidden.expand(len(uniform), -1), 0.5, uniform)
    expected = (head(hidden)[1][0] / 0.5).softmax(0)
    torch.testing.assert_close(drawn[:, 2:].mean(0), expected, atol=0.01, rtol=0)
    assert bool((drawn[drawn[:, 4] == 1, :2] == 0).all())


def test_drawing_step_by_step_reads_what_training_reads() -> None:
    """The loss's hidden states of a drawing are those that drew it."""
    model, condition = network(), torch.eye(2)[:1]
    drawn = sketch(model, condition, torch.tensor([5]), 10, 1.0)[0]
    hidden = model(condition, shifted(drawn[None], UNMOVED)).hidden[0]
    state, encoded = model.begin(condition)
    previous = torch.tensor([[0.0, 0, 1, 0, 0]])
    for step, stroke in enumerate(drawn):
        one, state = model.advance(previous, state, encoded)
        torch.testing.assert_close(one[0], hidden[step])
        previous = stroke[None]


def test_a_drawing_depends_on_its_seed_and_condition_alone() -> None:
    model, conditions, seeds = network(), torch.eye(2)[[0, 1, 0, 1]], torch.tensor([8, 4, 6, 8])
    together = sketch(model, conditions, seeds, 12, 0.8)
    for row in range(4):
        alone = sketch(model, conditions[row : row + 1], seeds[row : row + 1], 12, 0.8)[0]
        torch.testing.assert_close(alone, together[row])
    assert len({str(strokes.tolist()) for strokes in together}) == 4


def test_a_drawing_stops_at_its_end_or_at_the_limit() -> None:
    drawn = sketch(network(), torch.eye(2)[[0] * 40], torch.arange(40), 6, 1.0)
    for strokes in drawn:
        ends = strokes[:, 4].nonzero().flatten().tolist()
        assert ends in ([], [len(strokes) - 1]) and (ends or len(strokes) == 6)
    assert len({len(strokes) for strokes in drawn}) > 1
    assert sketch(network(), torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 6, 1.0) == []


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="mixtures must be at least 1"):
        MixtureHead(6, 0)
    with pytest.raises(ConfigError, match="temperature must be more than 0"):
        sketch(network(), torch.eye(2), torch.arange(2), 3, 0.0)


def test_a_temperature_of_zero_is_not_taken_for_none() -> None:
    model = Generator(mixtures=3)
    model.spec = GenerationSpec(kind="strokes", form="class", condition_size=2, condition_names=["cat", "dog"])
    model.network = model.build(model.spec)
    assert len(model.draw(["dog"])) == 1
    with pytest.raises(ConfigError, match="temperature must be more than 0"):
        model.draw(["dog"], temperature=0.0)

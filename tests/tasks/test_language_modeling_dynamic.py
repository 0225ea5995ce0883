"""Dynamic evaluation equals its equations, learns, and leaves the trained weights as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_rnn.data.tokenizer import train_tokenizer
from lightning_rnn.types import SequenceBatch
from tasks.language_modeling import LanguageData, LanguageModel
from tasks.language_modeling.dynamic import DynamicOptions, mean_squares
from tasks.language_modeling.evaluation import AdaptiveTest, Evaluation
from tasks.language_modeling.network import LanguageModelNetwork, NetworkOptions
from tasks.language_modeling.sources import TextShares
from tasks.language_modeling.spec import LanguageSpec

Weights = list[np.ndarray]
NAMES = ("embedding.weight", "layers.0.weight_ih_l0", "layers.0.weight_hh_l0", "layers.0.bias_ih_l0")
NAMES += ("layers.0.bias_hh_l0", "head.weight", "head.bias")


def small() -> LanguageModelNetwork:
    """In float64, of few weights."""
    torch.manual_seed(0)
    spec = LanguageSpec.of(train_tokenizer(["a b c"], "words"))
    options = NetworkOptions(cell="simple_rnn", embedding_size=2, hidden_size=3, num_layers=1, tied=False)
    network = LanguageModelNetwork(spec, options).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return network


def batch(ids: Tensor, start: int = 0, stop: int | None = None) -> SequenceBatch:
    part = ids[:, start : None if stop is None else stop + 1]
    return SequenceBatch(part[:, :-1], {"tokens": part[:, 1:]}, starts=torch.full((len(ids),), start == 0))


def forward(weights: Weights, h: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Losses of one row and its last state, step by step."""
    embedding, w_ih, w_hh, b_ih, b_hh, out, bias = weights
    losses = []
    for token, target in zip(inputs, targets, strict=True):
        h = np.tanh(w_ih @ embedding[token] + b_ih + w_hh @ h + b_hh)
        logits = out @ h + bias
        losses.append(np.log(np.exp(logits).sum()) - logits[target])
    return np.array(losses), h


def gradients(weights: Weights, h: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> Weights:
    """Of the mean loss of a segment by central differences; the state before it is constant."""
    found = []
    for weight in weights:
        gradient = np.zeros_like(weight)
        for place in np.ndindex(weight.shape):
            old, values = weight[place], []
            for shift in (1e-5, -1e-5):
                weight[place] = old + shift
                values.append(forward(weights, h, inputs, targets)[0].mean())
            weight[place] = old
            gradient[place] = (values[0] - values[1]) / 2e-5
        found.append(gradient)
    return found


def by_the_equations(weights: Weights, ids: np.ndarray, options: DynamicOptions, squares: Weights | None) -> np.ndarray:
    trained, h, found = [weight.copy() for weight in weights], np.zeros(3), []
    for start in range(0, len(ids) - 1, options.steps):
        inputs, targets = ids[start : start + options.steps], ids[start + 1 : start + options.steps + 1]
        inputs = inputs[: len(targets)]
        changes = gradients(weights, h, inputs, targets)
        losses, h = forward(weights, h, inputs, targets)
        found.append(losses)
        mean = 1.0 if squares is None else np.concatenate([np.sqrt(one).ravel() for one in squares]).mean()
        for i, (weight, change) in enumerate(zip(weights, changes, strict=True)):
            root = np.ones_like(weight) if squares is None else np.sqrt(squares[i])
            scale = root if squares is None else root + options.epsilon
            back = np.minimum(options.decay * root / mean, 1)
            weight += back * (trained[i] - weight) - options.rate * change / scale
    return np.concatenate(found)


def arrays(network: LanguageModelNetwork) -> Weights:
    state = network.state_dict()
    return [state[name].numpy().copy() for name in NAMES]


@pytest.mark.parametrize("rule", ["sgd", "rms"])
@pytest.mark.parametrize("decay", [0.0, 0.4])
def test_dynamic_evaluation_equals_its_equations(rule: Any, decay: float) -> None:
    network, ids = small(), torch.randint(3, 7, (1, 14))
    options = DynamicOptions(rate=0.1, rule=rule, steps=4, decay=decay, epsilon=0.01)
    squares = mean_squares(network, [batch(ids)], 4) if rule == "rms" else None
    evaluation = Evaluation(network, dynamic=options, squares=squares)
    found = torch.cat([evaluation.losses(batch(ids, 0, 8)), evaluation.losses(batch(ids, 8))], 1)
    order = [name for name, _ in network.named_parameters()]
    given = None if squares is None else [squares[order.index(name)].numpy() for name in NAMES]
    expected = by_the_equations(arrays(network), ids[0].numpy(), options, given)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-6)
    plain = Evaluation(network).losses(batch(ids))
    assert torch.equal(found[0, :4], plain[0, :4]) and not torch.allclose(found[0, 4:], plain[0, 4:])


def test_mean_squares_are_those_of_each_segment() -> None:
    network, ids = small(), torch.randint(3, 7, (1, 9))
    found = mean_squares(network, [batch(ids, 0, 4), batch(ids, 4)], 2)
    weights, h, total = arrays(network), np.zeros(3), [np.zeros(())] * len(NAMES)
    for start in range(0, 8, 2):
        inputs, targets = ids[0, start : start + 2].numpy(), ids[0, start + 1 : start + 3].numpy()
        total = [a + g**2 for a, g in zip(total, gradients(weights, h, inputs, targets), strict=True)]
        _, h = forward(weights, h, inputs, targets)
    order = [name for name, _ in network.named_parameters()]
    for name, expected in zip(NAMES, total, strict=True):
        np.testing.assert_allclose(found[order.index(name)].numpy(), expected / 4, rtol=1e-5, atol=1e-12)


def test_the_network_given_stays_as_it_is() -> None:
    network, ids = small(), torch.randint(3, 7, (2, 20))
    before = arrays(network)
    evaluation = Evaluation(network, dynamic=DynamicOptions(rate=0.5, rule="sgd"))
    evaluation.losses(batch(ids))
    assert all(np.array_equal(a, b) for a, b in zip(before, arrays(network), strict=True))
    changed = evaluation.network.state_dict()
    assert not any(np.array_equal(a, changed[name].numpy()) for a, name in zip(before, NAMES, strict=True))


def test_the_whole_way_back_is_the_trained_weights() -> None:
    network, ids = small(), torch.randint(3, 7, (1, 20))
    evaluation = Evaluation(network, dynamic=DynamicOptions(rate=1e-30, rule="sgd", decay=1.0))
    torch.testing.assert_close(evaluation.losses(batch(ids)), Evaluation(network).losses(batch(ids)))


@pytest.mark.parametrize("rule", ["sgd", "rms"])
def test_a_test_learns_from_repetition_and_keeps_the_modules_weights(tmp_path: Path, rule: Any) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(["one two three four five six seven eight nine ten"] * 60) + "\n")
    pl.seed_everything(0, verbose=False)
    data = LanguageData(TextShares(str(path), 0.2, 0.2), batch_size=4, chunk=10, eval_chunk=12)
    data.setup("fit")
    model = LanguageModel(embedding_size=8, hidden_size=8, weight_dropout=0.5, output_dropout=0.5)
    model.spec = data.spec
    model.configure_model()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    plain = evaluated(model, data)
    rate = {"sgd": 1.0, "rms": 0.01}[rule]
    callback = AdaptiveTest(dynamic_rate=rate, dynamic_rule=rule, dynamic_decay=0.001, dynamic_batches=5)
    learned = evaluated(model, data, callback)
    assert learned["test_perplexity"] < 0.98 * plain["test_perplexity"]
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())
    assert all(value.requires_grad for value in model.network.parameters()) and model.evaluation is None
    assert evaluated(model, data, callback, precision="bf16-mixed") == learned
    assert evaluated(model, data) == plain == evaluated(model, data, AdaptiveTest(dynamic_rate=0.0, dynamic_rule=rule))


def evaluated(
    model: LanguageModel, data: LanguageData, *callbacks: pl.Callback, precision: Any = "32-true"
) -> dict[str, float]:
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    (found,) = pl.Trainer(accelerator="cpu", precision=precision, callbacks=list(callbacks), **quiet).test(
        model, data, verbose=False
    )
    return dict(found)

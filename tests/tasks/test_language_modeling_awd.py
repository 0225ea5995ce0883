"""The regularization of AWD-LSTM (Merity et al. 2018): each part does what the paper says, and reaches the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from processes import QUIET
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.data import TextLines
from lightning_rnn.layers.embedding import drop_words
from tasks.language_modeling import LanguageData, LanguageModel
from tasks.language_modeling.losses import activation_loss, temporal_loss
from tasks.language_modeling.module import scaled_rate
from tasks.language_modeling.network import LanguageModelNetwork, NetworkOptions
from tasks.language_modeling.spec import LanguageSpec

V = 12
SPEC = LanguageSpec(vocab_size=V, counts=[0, 3, 0, 40, *range(20, 12, -1)])
TOKENS = torch.randint(1, V, (3, 9), generator=torch.Generator().manual_seed(1))


def network_of(**options: Any) -> LanguageModelNetwork:
    torch.manual_seed(2)
    return LanguageModelNetwork(SPEC, NetworkOptions(**{"embedding_size": 6, "hidden_size": 8} | options))


def torch_lstms(network: LanguageModelNetwork) -> list[nn.LSTM]:
    """The layers as ``torch.nn`` has them, with the raw weights."""
    layers = []
    for layer in network.layers:
        lstm = nn.LSTM(layer.input_size, layer.hidden_size, batch_first=True)
        lstm.load_state_dict(layer.state_dict())
        layers.append(lstm)
    return layers


# Weight drop: the known silent failure of the old recipe is that nothing is dropped, or that the raw weight learns
# nothing.


@pytest.mark.parametrize("engine", ["auto", "fused", "native", "scan"])
def test_two_training_passes_with_dropped_weights_differ_and_evaluation_is_the_plain_lstm(engine: Any) -> None:
    network = network_of(weight_dropout=0.5, engine=engine)
    first, second = network(TOKENS).hidden, network(TOKENS).hidden
    assert not torch.allclose(first, second)
    network.eval()
    x = network.embedding(TOKENS)
    for lstm in torch_lstms(network):
        x, _ = lstm(x)
    torch.testing.assert_close(network(TOKENS).hidden, x)
    torch.testing.assert_close(network(TOKENS).hidden, network(TOKENS).hidden, rtol=0, atol=0)


@pytest.mark.parametrize("engine", ["auto", "fused", "native", "scan"])
def test_the_gradient_of_dropped_weights_reaches_the_raw_ones_of_every_layer(engine: Any) -> None:
    """The equations with weights dropped by hand, by the same draw, have the same outputs and gradients."""
    network = network_of(weight_dropout=0.4, engine=engine, num_layers=3)
    torch.manual_seed(5)
    hidden = network(TOKENS).hidden
    hidden.square().sum().backward()
    torch.manual_seed(5)
    x, raw = network.embedding(TOKENS).detach(), []
    for layer in network.layers:
        weight = layer.weight_hh_l0.detach().clone().requires_grad_()
        raw.append(weight)
        x = equations(layer, x, F.dropout(weight, 0.4))
    torch.testing.assert_close(x, hidden)
    x.square().sum().backward()
    for layer, weight in zip(network.layers, raw, strict=True):
        assert weight.grad is not None and float(weight.grad.abs().sum()) > 0
        torch.testing.assert_close(layer.weight_hh_l0.grad, weight.grad, rtol=1e-4, atol=1e-5)


def equations(layer: nn.Module, x: Tensor, recurrent: Tensor) -> Tensor:
    """Hochreiter and Schmidhuber's LSTM with forget gates, step by step (torch.nn.LSTM's order of gates)."""
    weight, *biases = (getattr(layer, f"{name}_l0").detach() for name in ("weight_ih", "bias_ih", "bias_hh"))
    h, c, outputs = torch.zeros(len(x), recurrent.shape[1]), torch.zeros(len(x), recurrent.shape[1]), []
    for t in range(x.shape[1]):
        i, f, g, o = (x[:, t] @ weight.T + h @ recurrent.T + sum(biases)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs, 1)


def test_the_raw_weights_are_what_is_trained_and_saved() -> None:
    network = network_of(weight_dropout=0.5)
    assert {name for name, _ in network.layers[0].named_parameters()} == set(nn.LSTM(6, 8).state_dict())
    before = network.layers[0].weight_hh_l0.detach().clone()
    network(TOKENS)
    assert torch.equal(network.layers[0].weight_hh_l0, before), "a forward pass changed the raw weight"
    network(TOKENS).hidden.sum().backward()
    torch.optim.SGD(network.parameters(), lr=1.0).step()
    assert not torch.equal(network.layers[0].weight_hh_l0, before)


# Dropout of words and of features.


def test_dropped_words_are_rows_of_the_matrix_that_are_dropped() -> None:
    """Section 4.3: the mask over words, broadcast over the vectors, then a look-up."""
    weight = torch.randn(V, 6, requires_grad=True)
    torch.manual_seed(3)
    ours = drop_words(F.embedding(TOKENS, weight), TOKENS, V, 0.5)
    torch.manual_seed(3)
    mask = F.dropout(torch.ones(V), 0.5).unsqueeze(1)
    torch.testing.assert_close(ours, F.embedding(TOKENS, weight * mask))
    ours.sum().backward()
    dropped = (mask == 0).flatten()
    assert bool(dropped.any()) and weight.grad is not None and not weight.grad[dropped].any()


def test_locked_dropout_has_one_mask_for_all_steps_and_plain_dropout_has_not() -> None:
    torch.manual_seed(4)
    for locked in (True, False):
        network = network_of(output_dropout=0.5, locked=locked, num_layers=1, tied=False)
        output = network(TOKENS)
        zero = output.hidden == 0
        assert bool((zero == zero[:, :1]).all()) == locked
        assert not bool((zero == zero[:1]).all()), "all rows have one mask"
        kept = ~zero
        torch.testing.assert_close(output.hidden[kept], 2 * output.raw[kept])


@pytest.mark.parametrize("name", ["embedding_dropout", "input_dropout", "layer_dropout", "output_dropout"])
def test_every_dropout_is_heard_in_training_alone(name: str) -> None:
    network = network_of(**{name: 0.5})
    assert not torch.allclose(network(TOKENS).hidden, network(TOKENS).hidden)
    network.eval()
    plain = network_of().eval()
    torch.testing.assert_close(network(TOKENS).hidden, plain(TOKENS).hidden)


# Activation regularization.


def test_activation_losses_are_the_papers_means() -> None:
    rng = np.random.default_rng(0)
    h, lengths = rng.standard_normal((3, 5, 4)), [5, 2, 1]
    valid = np.arange(5) < np.array(lengths)[:, None]
    active = np.mean([h[b, t] ** 2 for b in range(3) for t in range(lengths[b])])
    temporal = np.mean([(h[b, t + 1] - h[b, t]) ** 2 for b in range(3) for t in range(lengths[b] - 1)])
    hidden, mask = torch.tensor(h), torch.tensor(valid)
    assert float(activation_loss(hidden, mask)) == pytest.approx(active, rel=1e-6)
    assert float(temporal_loss(hidden, mask)) == pytest.approx(temporal, rel=1e-6)
    nothing = torch.zeros(3, 5, dtype=torch.bool)
    assert float(activation_loss(hidden, nothing)) == float(temporal_loss(hidden, nothing)) == 0


def test_both_are_in_the_training_loss_alone_and_not_in_its_perplexity() -> None:
    model = LanguageModel(embedding_size=6, hidden_size=8, output_dropout=0.5, alpha=2.0, beta=3.0)
    model.spec = SPEC
    torch.manual_seed(2)
    model.configure_model()
    rows = LanguageData(layout="rows")
    rows.setup("fit")
    batch = rows.split("train").__getitems__([0, 1])
    batch.inputs, batch.targets["tokens"] = batch.inputs % V, batch.targets["tokens"] % V
    valid = batch.targets["tokens"] != 0
    torch.manual_seed(7)
    result = model.step(batch)
    torch.manual_seed(7)
    output = model.network(batch.inputs, None, batch.lengths)
    plain = model.network.head.loss(output.hidden, batch.targets["tokens"])
    expected = plain + 2 * activation_loss(output.hidden, valid) + 3 * temporal_loss(output.raw, valid)
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(result.predictions.sum() / valid.sum(), plain)
    model.eval()
    after = model.step(batch)
    torch.testing.assert_close(after.loss, after.predictions.sum() / valid.sum())


# Chunks of random length.


class Noted(pl.Callback):
    """Keeps the learning rate that each step was made with, and the length of its batch."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        assert isinstance(pl_module, LanguageModel)
        self.steps.append((optimizer.param_groups[0]["lr"], pl_module._steps))


@pytest.mark.parametrize("rescale", [True, False])
def test_the_learning_rate_of_a_chunk_is_by_its_length(rescale: bool, tmp_path: Path) -> None:
    noted, model = Noted(), _small(rescale=rescale)
    model.use_optimizer({"class_path": "torch.optim.SGD", "init_args": {"lr": 2.0}})
    trainer = pl.Trainer(
        max_steps=6, accelerator="cpu", default_root_dir=tmp_path, limit_val_batches=0, callbacks=[noted], **QUIET
    )
    trainer.fit(model, _short(tmp_path, chunk=10, chunk_std=3.0, half_probability=0.3))
    lengths = [length for _, length in noted.steps]
    assert len(set(lengths)) > 1
    expected = [2.0 * (length / 10 if rescale else 1) for length in lengths]
    assert [rate for rate, _ in noted.steps] == pytest.approx(expected)


def test_a_scaled_rate_is_put_back_after_an_error() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3.0)
    with pytest.raises(ZeroDivisionError), scaled_rate(optimizer, 0.5):
        raise ZeroDivisionError
    assert optimizer.param_groups[0]["lr"] == 3.0


def _short(folder: Path, **options: Any) -> LanguageData:
    lines = ["to be or not to be", "that is the question", "whether it is nobler"] * 12
    (folder / "a.txt").write_text("\n".join(lines))
    file = str(folder / "a.txt")
    return LanguageData(TextLines(file, file, file), **{"batch_size": 2, "chunk": 10} | options)


def _small(**options: Any) -> LanguageModel:
    return LanguageModel(**{"embedding_size": 6, "hidden_size": 8} | options)

"""The neural cache equals its equations; in chunks as at once; of size 0 it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_rnn.data.tokenizer import train_tokenizer
from lightning_rnn.errors import ConfigError
from lightning_rnn.types import SequenceBatch
from tasks.language_modeling import LanguageData, LanguageModel
from tasks.language_modeling.cache import CacheOptions, Memory, cached
from tasks.language_modeling.evaluation import AdaptiveTest, Evaluation
from tasks.language_modeling.network import LanguageModelNetwork, NetworkOptions
from tasks.language_modeling.sources import TextShares
from tasks.language_modeling.spec import LanguageSpec

V = 7


def by_the_equations(
    p: np.ndarray, hidden: np.ndarray, targets: np.ndarray, size: int, theta: float, weight: float
) -> np.ndarray:
    """Probabilities of the targets of one row, one step at a time."""
    found = []
    for t in range(len(targets)):
        mass = dict.fromkeys(range(V), 0.0)
        for i in range(max(0, t - size), t):
            mass[int(targets[i])] += np.exp(theta * hidden[t] @ hidden[i])
        total = sum(mass.values())
        share = mass[int(targets[t])] / total if total else None
        found.append(p[t] if share is None else (1 - weight) * p[t] + weight * share)
    return np.array(found)


def drawn(rows: int, steps: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    p = torch.rand(rows, steps, generator=draw)
    return p.log(), torch.randn(rows, steps, 5, generator=draw), torch.randint(V, (rows, steps), generator=draw)


@pytest.mark.parametrize(("size", "theta", "weight"), [(1, 0.7, 0.3), (4, 0.0, 0.1), (9, 1.3, 0.6), (50, 0.3, 0.9)])
def test_the_cache_equals_its_equations_in_chunks_of_any_length(size: int, theta: float, weight: float) -> None:
    log_probs, hidden, targets = drawn(3, 23)
    options, lengths = CacheOptions(size, theta, weight), torch.tensor([23, 17, 5])
    memory, parts, start = Memory.empty(hidden, size), [], 0
    for steps in (1, 6, 2, 14):
        part = slice(start, start + steps)
        valid = (lengths - start).clamp(0, steps)
        found, memory = cached(log_probs[:, part], hidden[:, part], targets[:, part], valid, memory, options)
        parts.append(found)
        start += steps
    whole = torch.cat(parts, 1).exp().double().numpy()
    for row, length in enumerate(lengths.tolist()):
        arrays = [x[row, :length].double().numpy() for x in (log_probs.exp(), hidden)]
        expected = by_the_equations(*arrays, targets[row, :length].numpy(), size, theta, weight)
        np.testing.assert_allclose(whole[row, :length], expected, rtol=2e-5)
        np.testing.assert_array_equal(whole[row, length:], log_probs[row, length:].exp().numpy())


def test_probabilities_of_all_words_sum_to_one() -> None:
    _, hidden, targets = drawn(1, 10)
    total = torch.zeros(())
    for word in range(V):
        last = torch.cat([targets[:, :-1], torch.tensor([[word]])], 1)
        found, _ = cached(
            torch.full((1, 10), 1 / V).log(), hidden, last, torch.tensor([10]), Memory.empty(hidden, 6), CacheOptions(6)
        )
        total = total + found[0, -1].exp()
    assert float(total) == pytest.approx(1, abs=1e-6)


def test_a_row_that_begins_anew_has_forgotten() -> None:
    log_probs, hidden, targets = drawn(2, 8)
    options, lengths = CacheOptions(5), torch.tensor([8, 8])
    _, memory = cached(log_probs, hidden, targets, lengths, Memory.empty(hidden, 5), options)
    again, _ = cached(log_probs, hidden, targets, lengths, memory.forget(torch.tensor([True, False])), options)
    first, _ = cached(log_probs, hidden, targets, lengths, Memory.empty(hidden, 5), options)
    torch.testing.assert_close(again[0], first[0])
    assert not torch.allclose(again[1], first[1])


def small() -> LanguageModelNetwork:
    torch.manual_seed(0)
    spec = LanguageSpec.of(train_tokenizer(["a b c d e f g"], "words"))
    return LanguageModelNetwork(spec, NetworkOptions(embedding_size=6, hidden_size=6)).eval()


def test_an_evaluation_reads_on_from_batch_to_batch() -> None:
    network = small()
    ids = torch.randint(4, 11, (2, 31))
    whole = batch(ids, [True, True])
    expected = Evaluation(network, CacheOptions(7)).losses(whole)
    parts = Evaluation(network, CacheOptions(7))
    found = [parts.losses(batch(ids[:, start : start + 11], [not start] * 2)) for start in (0, 10, 20)]
    torch.testing.assert_close(torch.cat(found, 1), expected)


def batch(ids: Tensor, starts: list[bool]) -> SequenceBatch:
    return SequenceBatch(ids[:, :-1], {"tokens": ids[:, 1:]}, starts=torch.tensor(starts))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    lines = [f"the {a} {b} of the {a} is {b} and {a}" for a in ("cat", "dog", "owl", "fox") for b in "qrstuvwxyz"]
    path.write_text("\n".join(lines * 3) + "\n")
    return path


def evaluated(
    model: LanguageModel, data: LanguageData, *callbacks: pl.Callback, verb: str = "test"
) -> dict[str, float]:
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    trainer = pl.Trainer(accelerator="cpu", callbacks=list(callbacks), **quiet)
    (found,) = getattr(trainer, verb)(model, data, verbose=False)
    return dict(found)


def system(text: Path, **options: Any) -> tuple[LanguageModel, LanguageData]:
    pl.seed_everything(0, verbose=False)
    data = LanguageData(TextShares(str(text), 0.2, 0.2), batch_size=4, chunk=10, eval_chunk=13, **options)
    data.setup("fit")
    model = LanguageModel(embedding_size=8, hidden_size=8)
    model.spec = data.spec
    model.configure_model()
    return model, data


@pytest.mark.parametrize("verb", ["test", "validate"])
def test_size_nothing_is_the_plain_test_and_another_is_the_cache(text: Path, verb: str) -> None:
    model, data = system(text)
    plain = evaluated(model, data, verb=verb)
    assert evaluated(model, data, AdaptiveTest(), verb=verb) == plain
    name = f"{'val' if verb == 'validate' else verb}_perplexity"
    with_cache = evaluated(model, data, AdaptiveTest(cache_size=100, cache_theta=0.0, cache_weight=0.5), verb=verb)
    assert with_cache[name] < plain[name]
    assert model.evaluation is None and evaluated(model, data, verb=verb) == plain


def test_lanes_and_batches_of_any_length_give_the_whole_texts_loss(text: Path) -> None:
    model, data = system(text)
    data.setup("test")
    ids = data.split("test").inputs[0][None, :, 0].long()
    losses = Evaluation(model.network.eval(), CacheOptions(20)).losses(batch(ids, [True]))
    found = evaluated(model, data, AdaptiveTest(cache_size=20))
    assert found["test_loss"] == pytest.approx(float(losses.mean()), rel=1e-5)


def test_lines_in_no_order_are_refused(text: Path) -> None:
    model, data = system(text, layout="rows")
    with pytest.raises(ConfigError, match=r"reads a text in order: set data\.layout to stream"):
        evaluated(model, data, AdaptiveTest(cache_size=10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_size": -1}, "cache_size is -1: give 0"),
        ({"cache_weight": 1.0}, "cache_weight is 1.0: give 0 or more, below 1"),
        ({"cache_theta": -0.5}, "cache_theta is -0.5"),
        ({"dynamic_rate": -1.0}, "dynamic_rate is -1.0"),
        ({"dynamic_steps": 0}, "dynamic_steps is 0: give 1 or more"),
        ({"dynamic_decay": 2.0}, "dynamic_decay is 2.0"),
        ({"dynamic_epsilon": 0.0}, "dynamic_epsilon is 0.0"),
        ({"dynamic_rule": "adam"}, "dynamic_rule must be sgd or rms, got 'adam'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaptiveTest(**options)

"""The language model on small texts: its numbers are those of the text, on any cut and number of processes."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import pytorch_lightning as pl
import torch
from processes import QUIET, quiet_trainer
from torch import nn
from torch.nn import functional as F

from lightning_rnn.data import TextLines
from lightning_rnn.errors import ConfigError
from lightning_rnn.training.predictions import PredictionWriter
from tasks.language_modeling import LanguageData, LanguageModel
from tasks.language_modeling.figures import LossByFrequency
from tasks.language_modeling.metrics import collection
from tasks.language_modeling.text import TOKEN

LINES = ["to be or not to be", "", "that is the question", "whether it is nobler in the mind"] * 6


def text(folder: Path, lines: list[str] = LINES) -> str:
    path = folder / "a.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def pair(folder: Path, seed: int = 3, model: dict[str, Any] | None = None, **data: Any) -> Any:
    """A model that was not trained, and data."""
    file = text(folder)
    loaded = LanguageData(TextLines(file, file, file), **{"batch_size": 2, "chunk": 5} | data)
    loaded.setup("fit")
    made = LanguageModel(**{"embedding_size": 8, "hidden_size": 12, **(model or {})})
    made.spec = loaded.spec
    torch.manual_seed(seed)
    made.configure_model()
    with torch.no_grad():  # so that what comes before a token matters
        for parameter in made.network.parameters():
            parameter.mul_(4)
    return made, loaded


def test_scores_are_those_of_the_text_by_its_words_and_characters() -> None:
    """Of given losses, by NumPy: L / W and L / C, whatever batches they come in."""
    rng = np.random.default_rng(0)
    losses, words, characters = rng.random((6, 7)), rng.integers(0, 3, (6, 7)), rng.integers(0, 9, (6, 7))
    scores = collection()
    for rows in ([0, 1, 2, 3], [4, 5]):
        targets = {"words": torch.tensor(words[rows]), "characters": torch.tensor(characters[rows])}
        scores.update(torch.tensor(losses[rows]), targets)
    found = scores.compute()
    assert float(found["perplexity"]) == pytest.approx(np.exp(losses.sum() / words.sum()))
    assert float(found["bits_per_character"]) == pytest.approx(losses.sum() / characters.sum() / np.log(2))


@pytest.mark.parametrize("options", [{}, {"eval_chunk": 7}, {"eval_chunk": 1}])
def test_test_perplexity_is_that_of_torchs_lstm_over_the_whole_text_at_once(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model, data = pair(tmp_path, **options)
    found = quiet_trainer(tmp_path, 1).test(model, data, verbose=False)[0]
    tokens = data.split("test").inputs.values[:, TOKEN].long()
    x = model.network.embedding(tokens[None, :-1]).double()
    for layer in model.network.layers:
        lstm = nn.LSTM(layer.input_size, layer.hidden_size, batch_first=True)
        lstm.load_state_dict(layer.state_dict())
        x, _ = lstm.double()(x)
    head = model.network.head
    logits = x[0] @ head.weight.double().T + head.bias.double()
    loss = float(F.cross_entropy(logits, tokens[1:]).detach())
    assert found["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert found["test_perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    characters = len((tmp_path / "a.txt").read_text())
    assert found["test_bits_per_character"] == pytest.approx(loss * (len(tokens) - 1) / characters / math.log(2))


@pytest.mark.parametrize("options", [{}, {"eval_lanes": 3}, {"layout": "rows"}])
def test_two_processes_test_as_one(options: dict[str, Any], tmp_path: Path) -> None:
    found = []
    for processes in (1, 2):
        model, data = pair(tmp_path, **options)
        found.append(quiet_trainer(tmp_path, processes).test(model, data, verbose=False)[0])
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_words_and_pieces_are_scored_by_the_same_words(tmp_path: Path) -> None:
    """A model that gives every token 1 / V: its perplexity is V to the power of tokens a word."""
    for options in ({"tokenizer": "words"}, {"tokenizer": "unigram", "vocab_size": 28}, {"tokenizer": "characters"}):
        model, data = pair(tmp_path, layout="rows", **options)
        nn.init.zeros_(model.network.embedding.weight)
        nn.init.zeros_(model.network.head.bias)
        found = quiet_trainer(tmp_path, 1).test(model, data, verbose=False)[0]
        size, tokens = data.spec.vocab_size, int(data.split("test").lengths.sum())
        content = (tmp_path / "a.txt").read_text()
        words = len(content.split()) + content.count("\n")
        assert found["test_perplexity"] == pytest.approx(size ** (tokens / words), rel=1e-4)
        assert found["test_bits_per_character"] == pytest.approx(tokens * math.log2(size) / len(content), rel=1e-5)


def test_predictions_are_the_lines_own(tmp_path: Path) -> None:
    model, data = pair(tmp_path)
    model.run_callbacks()
    trainer = pl.Trainer(accelerator="cpu", default_root_dir=tmp_path, callbacks=[PredictionWriter()], **QUIET)
    trainer.predict(model, data, return_predictions=False)
    table = polars.read_parquet(tmp_path / "predictions.parquet")
    assert table.columns == ["id", "tokens", "log_prob", "perplexity"] and table["id"].to_list() == list(range(24))
    assert table["tokens"].to_list() == [len(line.split()) + 1 for line in LINES]
    alone = model.score([LINES[2]])
    assert table["log_prob"][2] == pytest.approx(float(alone["log_prob"][0]), rel=1e-5)
    assert table["perplexity"][2] == pytest.approx(math.exp(-table["log_prob"][2] / 5), rel=1e-5)
    first, second = (float(value) for value in model.score(["to be", "to be or"])["log_prob"])
    assert first != second
    with pytest.raises(ConfigError, match="there is no network to score with"):
        LanguageModel().score(["to be"])


def test_one_text_where_lines_are_asked_for_is_refused(tmp_path: Path) -> None:
    model, _ = pair(tmp_path)
    with pytest.raises(ConfigError, match="score takes a list of lines and got one text"):
        model.score("the king")


def test_it_learns_more_than_how_often_words_are(tmp_path: Path) -> None:
    file = text(tmp_path)
    data = LanguageData(TextLines(file, file, file), batch_size=4, chunk=5)
    model = LanguageModel(embedding_size=16, hidden_size=16, scale_embedding=True)
    model.use_optimizer({"class_path": "torch.optim.Adam", "init_args": {"lr": 0.02}})
    trainer = quiet_trainer(tmp_path, 1, epochs=12)
    trainer.fit(model, data)
    words = [word for line in LINES for word in (*line.split(), "</s>")]
    unigrams = -sum(n / len(words) * math.log(n / len(words)) for n in Counter(words).values())
    assert float(trainer.callback_metrics["val_loss"]) < 0.5 * unigrams


def test_the_embedding_starts_from_vectors(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("be 1 2 3 4\nnobler 5 6 7 8\n")
    model, data = pair(tmp_path, model={"vectors": str(tmp_path / "glove.txt"), "embedding_size": 4})
    model.trainer = pl.Trainer(accelerator="cpu", default_root_dir=tmp_path, **QUIET)
    model.on_fit_start()
    pieces = data.spec.load_tokenizer().pieces
    vectors = model.network.embedding.weight
    assert vectors[pieces.index("be")].tolist() == [1, 2, 3, 4]
    assert vectors[pieces.index("nobler")].tolist() == [5, 6, 7, 8]
    assert model.network.head.weight is vectors


def test_the_figure_has_the_whole_loss(tmp_path: Path) -> None:
    model, data = pair(tmp_path)
    figure = LossByFrequency()
    trainer = pl.Trainer(accelerator="cpu", default_root_dir=tmp_path, callbacks=[figure], **QUIET)
    found = trainer.test(model, data, verbose=False)[0]
    assert figure.state is not None
    mean = figure.state.loss.sum() / figure.state.times.sum()
    assert mean == pytest.approx(found["test_loss"], rel=1e-5)
    assert (tmp_path / "figures" / "loss_by_frequency_test.png").is_file()

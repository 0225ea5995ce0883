"""The translator on numbers: it trains in every form, its scores are sacreBLEU's, a run holds what it should."""

from __future__ import annotations

import itertools
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args

import polars
import pytest
import pytorch_lightning as pl
import sacrebleu
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch.nn import functional as F

from lightning_rnn.cli import main
from lightning_rnn.data.tokenizer import BOS
from lightning_rnn.errors import ConfigError
from lightning_rnn.plugins import Task
from lightning_rnn.seq2seq.attention import AttentionKind
from lightning_rnn.seq2seq.bridges import BridgeKind
from lightning_rnn.seq2seq.decoders import DecoderKind
from lightning_rnn.seq2seq.heads import HeadKind
from lightning_rnn.seq2seq.losses import shifted
from lightning_rnn.testing.contract import check_resume
from tasks.translation import TranslationData, Translator
from tasks.translation.callbacks import chosen, figures
from tasks.translation.figures import Bucket, Heat, bucket_of, draw_attention, draw_lengths
from tasks.translation.network import NetworkOptions, TranslationNetwork
from tasks.translation.numbers import Numbers

NUMBERS = "--model tasks.translation.Translator --data tasks.translation.TranslationData"
NUMBERS += " --data.source tasks.translation.sources.Numbers --data.source.train 300 --data.source.val 40"
NUMBERS += " --data.source.test 30 --data.source.highest 999 --data.vocab_size 60 --data.batch_size 16"
NUMBERS += " --model.embedding_size 32 --model.hidden_size 32 --model.val_sentences 25"
NUMBERS += " --optimizer Adam --optimizer.lr 0.01"
NUMBERS += " --checkpoint.monitor val_bleu --checkpoint.mode max --trainer.max_epochs 6 --trainer.accelerator cpu"
SOURCE, LENGTHS = torch.tensor([[4, 5, 6, 3], [8, 3, 0, 0]]), torch.tensor([4, 2])
TARGET = torch.tensor([[7, 29, 12, 3], [16, 3, 0, 0]])  # of all clusters of an adaptive softmax


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: fit for a few epochs, tested, predicted."""
    root = tmp_path_factory.mktemp("numbers")
    for verb in ("fit", "test", "predict"):
        assert main(f"{verb} {NUMBERS} --trainer.default_root_dir {root}".split()) == 0
    return root


def references() -> list[str]:
    pairs = Numbers(train=300, val=40, test=30, highest=999).read("test")
    assert pairs.target is not None
    return pairs.target


def trains(head: HeadKind = "full", **options: Any) -> None:
    torch.manual_seed(0)
    sizes = {"embedding_size": 16, "hidden_size": 4, "decoder_layers": 2}
    network = TranslationNetwork(30, 30, NetworkOptions(head=head, **{**sizes, **options}))
    loss = network.head.loss(network(SOURCE, LENGTHS, shifted(TARGET, BOS)), TARGET)
    loss.backward()
    assert torch.isfinite(loss)
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not still, f"no finite gradient: {still}"


@pytest.mark.parametrize("decoder", get_args(DecoderKind)[1:])
def test_every_attention_trains(decoder: DecoderKind) -> None:
    for attention in get_args(AttentionKind):
        trains(decoder=decoder, attention=attention)


@pytest.mark.parametrize("decoder", get_args(DecoderKind))
def test_every_head_and_bridge_trains(decoder: DecoderKind) -> None:
    for head, tying in itertools.product(get_args(HeadKind), ("none", "all")):
        if (head, tying) != ("adaptive", "all"):
            trains(head, decoder=decoder, tying=tying, candidates=9 if head in ("sampled", "nce") else None)
    for bridge in get_args(BridgeKind):
        if (decoder, bridge) != ("none", "zero"):
            trains(decoder=decoder, bridge=bridge, bidirectional=False, encoder_layers=2)


def test_a_decoder_that_would_know_nothing_of_the_source_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.bridge must not be zero"):
        trains(decoder="none", bridge="zero")


@pytest.mark.parametrize("cell", ["gru", "simple_rnn", "mgu", "slstm", "min_gru", "layer_norm_lstm"])
@pytest.mark.parametrize("layers", [1, 2])
def test_every_cell_encodes_in_both_directions(cell: str, layers: int) -> None:
    trains(cell=cell, encoder_layers=layers)


def test_loss_is_the_mean_cross_entropy_of_the_targets_up_to_the_end() -> None:
    data = TranslationData(Numbers(train=60, val=5, test=5), vocab_size=60)
    data.setup("fit")
    model = Translator(label_smoothing=0.3)
    model.spec = data.spec
    model.configure_model()
    model.eval()
    batch = data.split("val").__getitems__([0, 1, 2, 3, 4])
    with torch.no_grad():
        result = model.step(batch)
        assert batch.targets is not None and batch.lengths is not None and batch.target_lengths is not None
        scores = model.network.head.log_probs(model.network(batch.inputs, batch.lengths, shifted(batch.targets, BOS)))
    rows = zip(scores, batch.targets, batch.target_lengths, strict=True)
    total = sum(F.nll_loss(row[:length], words[:length], reduction="sum") for row, words, length in rows)
    torch.testing.assert_close(result.loss, total / batch.target_lengths.sum())
    assert result.weight == int(batch.target_lengths.sum())


@pytest.mark.parametrize("decoder", get_args(DecoderKind))
def test_sentences_without_translations_are_predicted(decoder: DecoderKind, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("twenty-one\nseven\n")
    numbers = Numbers(train=60, val=5, test=5)
    data = TranslationData(numbers, predict=str(tmp_path / "new.txt"), vocab_size=60)
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(max_steps=1, accelerator="cpu", enable_checkpointing=False, limit_val_batches=0, **quiet)
    model = Translator(embedding_size=8, hidden_size=8, decoder=decoder)
    trainer.fit(model, data)
    (rows,) = trainer.predict(model, data) or []
    assert rows["source"] == ["seven", "twenty-one"] and len(rows["translation"]) == 2  # type: ignore[index]


def test_run_folder_holds_everything(run: Path) -> None:
    expected = {"config.yaml", "metrics.csv", "predictions.csv", "predictions.parquet", "translations.csv"}
    expected |= {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "figures/learning_curves.png"}
    expected |= {f"figures/{name}_{part}.png" for name in ("attention", "bleu_by_length") for part in ("val", "test")}
    assert expected <= {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def test_predictions_are_rows_of_source_translation_and_score(run: Path) -> None:
    table = polars.read_csv(run / "predictions.csv")
    assert table.columns == ["id", "source", "translation", "score"]
    pairs = Numbers(train=300, val=40, test=30, highest=999).read("test")
    assert (table["id"].to_list(), table["source"].to_list()) == (pairs.ids, pairs.source)
    assert (table["score"] <= 0).all()


def test_test_scores_are_those_of_sacrebleu_on_the_predictions(run: Path) -> None:
    hypotheses = polars.read_csv(run / "predictions.csv")["translation"].fill_null("").to_list()
    metrics = polars.read_csv(run / "metrics.csv")
    said = {name: metrics[f"test_{name}"].drop_nulls()[-1] for name in ("bleu", "chrf", "ter", "exact")}
    given = [references()]
    assert said["bleu"] == pytest.approx(sacrebleu.corpus_bleu(hypotheses, given).score, abs=1e-3)
    assert said["chrf"] == pytest.approx(sacrebleu.corpus_chrf(hypotheses, given).score, abs=1e-3)
    assert said["ter"] == pytest.approx(sacrebleu.corpus_ter(hypotheses, given).score, abs=1e-3)
    same = [one == other for one, other in zip(hypotheses, references(), strict=True)]
    assert said["exact"] == pytest.approx(sum(same) / len(same), abs=1e-6)


def test_best_checkpoint_is_of_the_epoch_with_the_highest_bleu(run: Path) -> None:
    metrics = polars.read_csv(run / "metrics.csv").drop_nulls("val_bleu")
    best = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == metrics["epoch"][int(metrics["val_bleu"].arg_max())]


def test_table_keeps_the_first_sentences_of_every_epoch(run: Path) -> None:
    table = polars.read_csv(run / "translations.csv")
    assert table.columns == ["epoch", "step", "id", "source", "reference", "translation"]
    assert table.group_by("epoch").len().sort("epoch").rows() == [(epoch, 8) for epoch in range(1, 7)]


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "linear", "schedule_k": 0.9, "schedule_c": 0.1, "decoder": "input_feeding"},
        {"head": "sampled", "candidates": 20, "dropout": 0.2, "embedding_dropout": 0.2},
    ],
    ids=["scheduled sampling", "sampled softmax"],
)
def test_a_resumed_run_ends_with_the_same_weights(options: dict[str, Any], tmp_path: Path) -> None:
    data = partial(TranslationData, Numbers(train=100, val=10, test=10), vocab_size=60, sampling=0.2)
    model = partial(Translator, embedding_size=8, hidden_size=8, val_sentences=4, **options)
    check_resume(Task("translation", model, data), tmp_path)  # type: ignore[arg-type]  # made as the classes are


def test_translations_are_scored_and_drawn_the_same_on_two_processes(tmp_path: Path) -> None:
    results = []
    for processes in (1, 2):
        data = TranslationData(Numbers(train=60, val=7, test=15), vocab_size=60, eval_batch_size=4)
        data.setup("fit")
        model = Translator(embedding_size=8, hidden_size=8)
        model.spec = data.spec
        torch.manual_seed(3)
        model.configure_model()
        forked = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=60))
        quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=processes,
            strategy=forked if processes > 1 else "auto",
            enable_checkpointing=False,
            use_distributed_sampler=False,
            inference_mode=False,
            callbacks=figures(attention=True),
            default_root_dir=tmp_path / str(processes),
            **quiet,
        )
        results.append(trainer.test(model, data, verbose=False)[0])
        drawn = {path.name for path in (tmp_path / str(processes) / "figures").iterdir()}
        assert drawn == {"attention_test.png", "bleu_by_length_test.png"}
    assert results[1] == pytest.approx(results[0], abs=1e-4)


def test_validation_translates_only_the_first_rows() -> None:
    data = TranslationData(Numbers(train=60, val=30, test=5), vocab_size=60, batch_size=2)
    model = Translator(embedding_size=8, hidden_size=8, val_sentences=4)
    rows: set[int] = set()

    class Watch(pl.Callback):
        def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            rows.update(outputs.translations)

    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    pl.Trainer(max_steps=1, accelerator="cpu", enable_checkpointing=False, callbacks=[Watch()], **quiet).validate(
        model, data, verbose=False
    )
    assert rows == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "model.hidden_size must be at least 1"),
        ({"dropout": 1.5}, "model.dropout must be between 0 and 1"),
        ({"head": "nce", "label_smoothing": 0.1}, "goes with model.head full, not with nce"),
        ({"val_sentences": -1}, "model.val_sentences must not be negative"),
        ({"schedule": "exponential", "schedule_k": 1.0}, "more than 0, less than 1"),
        ({"length_constant": 0}, "length_constant is 0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1, got 1.0"),
        ({"decoder": "none", "coverage_beta": 0.2}, "model.coverage_beta is 0.2: a model without attention"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")) as caught:
        Translator(**options)
    assert "\n" not in str(caught.value)


def test_a_translator_without_weights_does_not_translate() -> None:
    with pytest.raises(ConfigError, match="load a checkpoint, or train first"):
        Translator().translator()


def test_figures_show_all_words_and_lengths() -> None:
    heat = Heat("greedy", ["a", "cat"], ["un", "chat"], torch.eye(2).numpy())
    axes = draw_attention([[heat], [heat]], "val").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "cat"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["un", "chat"]
    bars = draw_lengths([Bucket("1–5", 40.0, 3), Bucket("6–10", 20.0, 5)], "val").axes[0]
    assert [patch.get_height() for patch in bars.patches] == [40.0, 20.0]
    assert [bucket_of(words) for words in (0, 5, 6, 11)] == [0, 0, 1, 2]


def test_a_translation_without_words_is_drawn_too() -> None:
    none = Heat("greedy", ["a", "cat"], [], torch.zeros(0, 2).numpy())
    assert draw_attention([[none]], "val").axes[0].get_yticklabels() == []


def test_few_sentences_are_all_drawn() -> None:
    assert chosen(["one", "two"]) == ["one", "two"] and len(chosen([f"a b c d {i}" for i in range(9)])) == 4

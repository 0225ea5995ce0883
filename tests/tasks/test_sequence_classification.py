"""The classifier on real digits and tiny texts: it trains, loads without the command line, and names bad input."""

from __future__ import annotations

import gzip
import os
import signal
from pathlib import Path

import polars
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss

from lightning_rnn.cli import main
from lightning_rnn.data import LabelledText, TimeSeries
from lightning_rnn.errors import CheckpointError, ConfigError, DataError
from lightning_rnn.types import SequenceBatch
from tasks.sequence_classification import ClassificationData, SequenceClassifier
from tasks.sequence_classification.network import distort_images, shift_images

CONFIGS = Path(__file__).parents[2] / "configs"
DIGITS = f"--config {CONFIGS}/sequence_classification/digits.yaml"
TEXT = "--model tasks.sequence_classification.SequenceClassifier --model.hidden_size 8 --model.embedding_size 4"
TEXT += " --data tasks.sequence_classification.ClassificationData --data.tokenizer char --data.vocab_size 64"
TEXT += " --data.batch_size 4 --data.source lightning_rnn.data.LabelledText"
TEXT += " --trainer.max_epochs 1 --trainer.accelerator cpu"


def rows(n: int = 24) -> str:
    return "text,label\n" + "".join(
        f"a {'good' if i % 2 else 'bad'} film number {i},{'pos' if i % 2 else 'neg'}\n" for i in range(n)
    )


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: fit for two epochs, tested, predicted."""
    root = tmp_path_factory.mktemp("digits")
    for verb in ("fit", "test", "predict"):
        assert main(f"{verb} {DIGITS} --trainer.max_epochs 2 --trainer.default_root_dir {root}".split()) == 0
    return root


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of texts that LIGHTNING_RNN_DATA names."""
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text(rows())
    return tmp_path


def fit_text(folder: Path, options: str = "", train: str = "train.csv") -> int:
    source = f"--data.source.train {train} --data.source.test test.csv"
    return main(f"fit {TEXT} {source} --trainer.default_root_dir {folder}/run {options}".split())


def test_run_folder_holds_everything(digits_run: Path) -> None:
    expected = {"config.yaml", "metrics.csv", "predictions.csv", "predictions.parquet"}
    expected |= {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "figures/learning_curves.png"}
    expected |= {f"figures/{name}_test.png" for name in ("confusion_matrix", "worst_mistakes")}
    found = {str(path.relative_to(digits_run)) for path in digits_run.rglob("*") if path.is_file()}
    assert expected <= found
    assert not [name for name in found if "version_" in name or "lightning_logs" in name]


def test_metrics_equal_scikit_learn_on_the_predictions(digits_run: Path) -> None:
    table = polars.read_csv(digits_run / "predictions.csv", schema_overrides={"label": str, "prediction": str})
    metrics = polars.read_csv(digits_run / "metrics.csv")
    test = {name: metrics[name].drop_nulls()[-1] for name in ("test_accuracy", "test_f1", "test_loss")}
    label, prediction = table["label"].to_list(), table["prediction"].to_list()
    assert test["test_accuracy"] == pytest.approx(accuracy_score(label, prediction), abs=1e-6)
    assert test["test_f1"] == pytest.approx(f1_score(label, prediction, average="macro"), abs=1e-6)
    probabilities = table.select([f"p_{i}" for i in range(10)]).to_numpy().astype("float64")
    probabilities /= probabilities.sum(1, keepdims=True)
    assert test["test_loss"] == pytest.approx(log_loss(label, probabilities), abs=1e-4)


def test_model_loads_and_predicts_without_the_command_line(digits_run: Path) -> None:
    path = digits_run / "checkpoints" / "best.ckpt"
    torch.load(path, weights_only=True)
    model = SequenceClassifier.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    data = ClassificationData()
    data.setup("predict")
    split = data.split("predict")
    said = model.classify([split.inputs[row] for row in range(len(split))])
    table = polars.read_parquet(digits_run / "predictions.parquet")
    assert list(said["prediction"]) == table["prediction"].to_list()


def test_saved_config_repeats_the_run(digits_run: Path, tmp_path: Path) -> None:
    config = f"--config {digits_run}/config.yaml --trainer.default_root_dir {tmp_path}"
    assert main(f"fit {config}".split()) == 0
    columns = ["epoch", "val_loss", "val_accuracy", "train_loss"]
    runs = [polars.read_csv(folder / "metrics.csv").select(columns).drop_nulls() for folder in (digits_run, tmp_path)]
    assert runs[0].equals(runs[1])


def test_second_fit_into_a_run_is_refused_and_last_goes_on(
    digits_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(f"fit {DIGITS} --trainer.default_root_dir {digits_run}".split()) == 2
    assert "already holds a run: go on with --ckpt_path last" in capsys.readouterr().err
    command = f"fit {DIGITS} --trainer.default_root_dir {tmp_path} --ckpt_path last --trainer.max_epochs"
    assert main([*command.split(), "1"]) == 0
    assert main([*command.split(), "2"]) == 0
    columns = ["epoch", "step", "val_loss", "train_loss"]
    runs = [polars.read_csv(folder / "metrics.csv").select(columns).drop_nulls() for folder in (digits_run, tmp_path)]
    assert runs[0].equals(runs[1]), "a resumed run differs from the one that was not stopped"


def test_a_checkpoint_is_tested_whatever_order_the_rows_would_be_trained_in(digits_run: Path, tmp_path: Path) -> None:
    checkpoint = f"--ckpt_path {digits_run}/checkpoints/best.ckpt --trainer.default_root_dir {tmp_path}"
    assert main(f"test {DIGITS} {checkpoint} --data.seed 9 --data.batch_size 50".split()) == 0


def test_pooling_and_cells_train(tmp_path: Path) -> None:
    data = ClassificationData()
    for cell, pooling in (("simple_rnn", "mean"), ("gru", ["max", "attention"]), ("lstm", "last")):
        module = SequenceClassifier(
            cell=cell,  # type: ignore[arg-type]
            pooling=pooling,  # type: ignore[arg-type]
            hidden_size=12,
            num_layers=2,
            bidirectional=True,
            batch_norm="pooled",
            conv_channels=[6],
            conv_kernels=[3],
            label_smoothing=0.1,
            class_weights="balanced",
            shift=1,
            distort=0.1,
        )
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=tmp_path,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, data)
        assert trainer.callback_metrics["val_accuracy"] > 0.15


def test_weighted_loss_does_not_depend_on_the_batches() -> None:
    data = ClassificationData(batch_size=16)
    data.setup("fit")
    module = SequenceClassifier(hidden_size=8, class_weights=[float(i + 1) for i in range(10)])
    module.spec = data.spec
    module.configure_model()
    module.eval()
    split = data.split("val")
    whole = module.step(split.__getitems__(list(range(len(split)))))
    parts = [module.step(split.__getitems__(list(range(i, min(i + 7, len(split)))))) for i in range(0, len(split), 7)]
    mean = sum(part.loss * part.weight for part in parts) / sum(part.weight for part in parts)
    torch.testing.assert_close(mean, whole.loss)


def test_training_loss_ignores_padding_with_convolutions() -> None:
    data = ClassificationData()
    data.setup("fit")
    module = SequenceClassifier(
        cell="gru", hidden_size=8, conv_channels=[6, 6], conv_kernels=[4, 3], bidirectional=True
    )
    module.spec = data.spec
    module.configure_model()
    inputs, lengths = torch.rand(6, 8, 8), torch.tensor([8, 3, 5, 1, 8, 2])
    targets = torch.arange(6)
    longer = torch.cat([inputs, torch.rand(6, 5, 8)], dim=1)
    losses = [module.train().step(SequenceBatch(x, targets, lengths)).loss for x in (inputs, longer)]
    torch.testing.assert_close(losses[0], losses[1])


def test_distortion_keeps_the_middle_and_moves_the_rest() -> None:
    image = torch.zeros(8, 9, 9)
    image[:, 4, 4] = 1.0
    assert torch.equal(distort_images(image, 0.0), image)
    torch.testing.assert_close(distort_images(image, 0.2)[:, 4, 4], torch.ones(8))
    image = torch.rand(8, 9, 9)
    assert len(torch.unique(distort_images(image[:1].expand(8, -1, -1), 0.2).flatten(1), dim=0)) == 8


def test_shift_moves_whole_images() -> None:
    image = torch.zeros(50, 6, 5)
    image[:, 3, 2] = 1
    moved = shift_images(image, 1)
    assert bool((moved.flatten(1).sum(1) == 1).all())
    where = moved.flatten(1).argmax(1)
    assert {divmod(int(i), 5) for i in where} <= {(r, c) for r in (2, 3, 4) for c in (1, 2, 3)}
    assert len(where.unique()) > 4


def test_text_trains_and_classifies_raw_text(texts: Path) -> None:
    assert fit_text(texts) == 0
    model = SequenceClassifier.load_from_checkpoint(texts / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    said = model.classify(["a good film", "a bad film"])
    assert set(said["prediction"]) <= {"pos", "neg"}
    assert len(said["p_pos"]) == 2


def test_checkpoint_predicts_on_another_machine_without_the_training_data(texts: Path) -> None:
    assert fit_text(texts) == 0
    (texts / "train.csv").unlink()
    (texts / "new.csv").write_text("id,text\nx7,a good film\nx9,something else\n")
    source = "--data.source.predict new.csv --data.source.id_column id"
    assert main(f"predict {TEXT} {source} --trainer.default_root_dir {texts}/run".split()) == 0
    table = polars.read_csv(texts / "run" / "predictions.csv")
    assert table["id"].to_list() == ["x7", "x9"]
    assert "label" not in table.columns


def test_vectors_start_the_embedding(
    texts: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (texts / "vectors.txt").write_text("good 1 2 3 4\nbad -1 -2 -3 -4\n")
    options = f"--data.tokenizer word --model.vectors {texts}/vectors.txt"
    assert fit_text(texts, options) == 0
    assert "embedding: 2 of" in caplog.text
    assert fit_text(texts, f"{options} --model.embedding_size 5 --trainer.default_root_dir {texts}/other") == 2
    assert "set model.embedding_size=4" in capsys.readouterr().err


def test_unseen_label_is_named(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "val.csv").write_text("text,label\nfine,neg\nso so,meh\n")
    assert fit_text(texts, "--data.source.val val.csv") == 1
    error = capsys.readouterr().err
    assert "val.csv" in error and "row 1" in error and "'meh'" in error and "neg, pos" in error


BAD_TEXT = [
    ("missing.csv", None, "missing.csv"),
    ("train.csv", b"text,klass\na,b\n", "label"),
    ("train.csv", b"text,label\ncaf\xe9,neg\n", "encoding"),
    ("train.csv", b"text,label\ngood,pos\n  ,neg\n", "3"),
    ("train.csv", b"text,label\n", "no rows"),
    ("train.csv", b"", "no rows"),
    ("train.csv", b"text,label\na,pos\nb,pos\n", "two classes"),
    ("train.csv.gz", gzip.compress(rows().encode(), mtime=0)[:-9], "train.csv.gz"),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD_TEXT)
def test_bad_text_ends_with_one_sentence_and_1(
    texts: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (texts / name).write_bytes(content)
    assert fit_text(texts, train=name) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    assert words in error and (name in error or "missing" in error)


BAD_OPTIONS = [
    (f"{DIGITS} --trainer.max_epoch 3", "Did you mean 'max_epochs'"),
    (f"{DIGITS} --model.hidden_sise 3", "Did you mean 'hidden_size'"),
    (f"{DIGITS} --model.cell lstn", "simple_rnn"),
    (f"{DIGITS} --data.batch_size 0", "data.batch_size must be at least 1, got 0"),
    (f"{DIGITS} --model.dropout 1.5", "model.dropout must be between 0 and 1"),
    (f"{DIGITS} --model.conv_channels [8]", "give one kernel each"),
    (f"{DIGITS} --model.class_weights [1.0,2.0]", "2 entries, the data has 10 classes"),
    ("--config nowhere.yaml", "nowhere.yaml"),
]


@pytest.mark.parametrize(("options", "words"), BAD_OPTIONS)
def test_wrong_option_ends_with_one_sentence_and_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, words: str
) -> None:
    assert main(f"fit {options} --trainer.default_root_dir {tmp_path}/run".split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert words in error


def test_key_misspelt_in_yaml_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tasks.forecasting  # noqa: F401  # whose option refit is much like the verb fit

    text = (CONFIGS / "sequence_classification" / "digits.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("max_epochs", "max_epoch"))
    assert main(["fit", "--config", str(path)]) == 2
    assert "Did you mean 'max_epochs'" in capsys.readouterr().err


class Interrupt(pl.Callback):
    """Ctrl-C in the second epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_an_interrupted_run_ends_with_130_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(SequenceClassifier, "run_callbacks", lambda self: [Interrupt()])
    run = f"fit {DIGITS} --trainer.max_epochs 2 --trainer.limit_train_batches 1 --trainer.default_root_dir {tmp_path}"
    assert main(run.split()) == 130
    signal.signal(signal.SIGINT, handler)  # Lightning lets no second one disturb the end
    assert capsys.readouterr().err.splitlines()[-1].startswith("interrupted: --ckpt_path last goes on")
    monkeypatch.undo()
    assert main([*run.split(), "--ckpt_path", "last"]) == 0


def test_run_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(f"fit {DIGITS} --trainer.default_root_dir {tmp_path}/file/run".split()) == 1
    assert "cannot write to the run folder" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_run_folder_without_permission_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    assert main(f"fit {DIGITS} --trainer.default_root_dir {tmp_path}/run".split()) == 1
    assert "Permission denied" in capsys.readouterr().err


def test_checkpoints_of_other_things_are_refused(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.ckpt"
    good = torch.load(digits_run / "checkpoints" / "best.ckpt", weights_only=True)
    broken = {
        "of the task tasks.translation": good
        | {"lightning_rnn": good["lightning_rnn"] | {"task": "tasks.translation"}},
        "names no task": {key: value for key, value in good.items() if key != "lightning_rnn"},
        "its class_names is": good
        | {"lightning_rnn": good["lightning_rnn"] | {"spec": good["lightning_rnn"]["spec"] | {"class_names": ["a"]}}},
    }
    for words, checkpoint in broken.items():
        torch.save(checkpoint, path)
        verb = "fit" if "class" in words else "test"
        run = f"{verb} {DIGITS} --trainer.default_root_dir {tmp_path}/run --ckpt_path {path}"
        assert main(run.split()) == 1
        assert words in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="names no task"):
        torch.save(broken["names no task"], path)
        SequenceClassifier.load_from_checkpoint(path)
    for content, words in ((b"", "not a whole"), (b"text", "checkpoint"), (None, "no checkpoint")):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        assert main(f"test {DIGITS} --trainer.default_root_dir {tmp_path}/run --ckpt_path {path}".split()) == 1
        assert words in capsys.readouterr().err


def test_checkpoint_of_another_shape_is_refused(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = f"test {DIGITS} --model.hidden_size 9 --trainer.default_root_dir {digits_run}"
    assert main(run.split()) == 1
    assert "network.head.weight: (10, 150) there, (10, 9) here" in capsys.readouterr().err


def test_series_of_another_width_are_refused(data_root: Path) -> None:
    data = ClassificationData(TimeSeries("GunPoint"))
    data.setup("test")
    other = ClassificationData(TimeSeries("BasicMotions", folder="ucr"))
    other.spec = data.spec
    with pytest.raises(DataError, match="6 features, the training part has 1"):
        other.setup("test")


def test_vectors_need_text(tmp_path: Path) -> None:
    module = SequenceClassifier(vectors="x.txt")
    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False
    )
    with pytest.raises(ConfigError, match="it needs text"):
        trainer.fit(module, ClassificationData())


def test_unequal_lengths_and_their_order_change_nothing(data_root: Path) -> None:
    data = ClassificationData(TimeSeries("JapaneseVowels", folder="ucr"), val_fraction=0.2)
    data.setup("fit")
    module = SequenceClassifier(hidden_size=8, pooling=["last", "mean"], bidirectional=True, scale="train")
    module.spec = data.spec
    module.configure_model()
    module.eval()
    split = data.split("val")
    with torch.no_grad():
        whole = module(split.__getitems__(list(range(len(split)))))
        alone = torch.cat([module(split[row]) for row in range(len(split))])
    torch.testing.assert_close(whole, alone)


def test_missing_text_part_is_named() -> None:
    with pytest.raises(DataError, match="train"):
        ClassificationData(LabelledText()).setup("fit")

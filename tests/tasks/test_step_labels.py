"""A label for each step: aligned with its words, padding changes nothing, and what does not fit is named."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import polars
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import accuracy_score, log_loss

from lightning_rnn.cli import main
from lightning_rnn.data import Examples, LabelledText, RunningTrees
from lightning_rnn.data.trees import parse_tree, running_labels
from lightning_rnn.errors import DataError
from lightning_rnn.types import SequenceBatch
from tasks.sequence_classification import ClassificationData, SequenceClassifier
from tasks.sequence_classification.baselines import label_of_word, majority

CONFIGS = Path(__file__).parents[2] / "configs"
TASK = "--model tasks.sequence_classification.SequenceClassifier --model.hidden_size 16 --model.embedding_size 8"
TASK += " --data tasks.sequence_classification.ClassificationData --data.labels step --data.tokenizer words"
TASK += " --data.source lightning_rnn.data.LabelledText --data.source.train train.csv --data.source.test test.csv"
TASK += " --trainer.accelerator cpu"


def rows(n: int = 60) -> str:
    """Words with the tag ``after_not`` where the word before is ``not``: the word alone does not tell."""
    lines = ["text,label"]
    draw = np.random.default_rng(0)
    for _ in range(n):
        words = draw.choice(["not", "good", "bad", "film"], size=draw.integers(1, 9)).tolist()
        tags = ["after_not" if i and words[i - 1] == "not" else "plain" for i in range(len(words))]
        lines.append(f"{' '.join(words)},{' '.join(tags)}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    (tmp_path / "train.csv").write_text(rows())
    (tmp_path / "test.csv").write_text(rows(20))
    return tmp_path


def trained(folder: Path, options: str = "") -> int:
    return main(f"fit {TASK} --trainer.max_epochs 1 --trainer.default_root_dir {folder}/run {options}".split())


def model_and_batch(folder: Path) -> tuple[SequenceClassifier, SequenceBatch]:
    data = ClassificationData(LabelledText("train.csv", "test.csv"), labels="step", tokenizer="words")
    data.setup("fit")
    model = SequenceClassifier(hidden_size=8, embedding_size=4)
    model.spec = data.spec
    model.configure_model()
    return model.eval(), data.split("val").__getitems__([0, 1, 2])


def test_a_run_learns_what_the_word_before_says(folder: Path) -> None:
    options = "--data.batch_size 4 --optimizer torch.optim.Adam --optimizer.lr 0.02 --trainer.max_epochs 12"
    assert trained(folder, options) == 0
    run = f"{TASK} --trainer.default_root_dir {folder}/run"
    assert main(f"predict {run}".split()) == 0
    table = polars.read_csv(folder / "run/predictions.csv")
    said, true = ([tags.split() for tags in table[name]] for name in ("prediction", "label"))
    assert [len(tags) for tags in said] == [len(tags) for tags in true]
    assert accuracy_score(list(chain(*true)), list(chain(*said))) > 0.97
    assert (folder / "run/figures/confusion_matrix_val.png").is_file()


def test_loss_and_accuracy_are_those_of_all_valid_steps(folder: Path) -> None:
    model, batch = model_and_batch(folder)
    with torch.no_grad():
        result = model.step(batch)
        scores = model.network(batch.inputs, batch.lengths)
    assert batch.targets is not None and batch.lengths is not None
    lengths = batch.lengths.tolist()
    true = np.concatenate([batch.targets[i, :n].numpy() for i, n in enumerate(lengths)])
    probabilities = np.concatenate([scores[i, :n].double().softmax(-1).numpy() for i, n in enumerate(lengths)])
    expected = log_loss(true, probabilities, labels=[0, 1])
    assert float(result.loss) == pytest.approx(expected, abs=1e-5)
    assert result.weight == sum(lengths)
    assert result.ids is not None and result.ids.tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]


def test_padding_changes_nothing(folder: Path) -> None:
    model, batch = model_and_batch(folder)
    wider = SequenceBatch(
        torch.nn.functional.pad(batch.inputs, (0, 4)), batch.targets, batch.lengths, target_lengths=batch.lengths
    )
    torch.testing.assert_close(model.step(wider).loss, model.step(batch).loss)


def test_longer_rows_are_cut_with_their_labels(folder: Path) -> None:
    data = ClassificationData(LabelledText("train.csv", "test.csv"), labels="step", tokenizer="words", max_length=2)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs.shape == batch.targets.shape and batch.inputs.shape[1] == 2


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda d: (d / "train.csv").write_text(rows() + "good film,plain\n"), ["1 labels for 2 steps"]),
        (lambda d: (d / "test.csv").write_text("text,label\ngood,verb\n"), ["'verb'", "after_not, plain"]),
        (lambda d: (d / "train.csv").write_text("text,label\ngood film,a a\n"), ["all training steps", "'a'"]),
    ],
)
def test_bad_labels_are_named(folder: Path, change: object, parts: list[str]) -> None:
    change(folder)  # type: ignore[operator]
    with pytest.raises(DataError) as failed:
        data = ClassificationData(LabelledText("train.csv", "test.csv"), labels="step", tokenizer="words")
        data.setup("fit")
        data.setup("test")
    assert all(part in str(failed.value) for part in parts), failed.value


@pytest.mark.parametrize("option", ["--model.pooling max", "--model.frames 2", "--model.batch_norm pooled"])
def test_options_that_make_one_vector_are_refused(
    folder: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained(folder, option) == 2
    name = option.split()[0].removeprefix("--")
    assert f"{name} makes one vector of several steps" in capsys.readouterr().err


def test_sampled_tokens_and_step_labels_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(folder, "--data.tokenizer unigram --data.sampling 0.1") == 2
    assert "data.labels step needs its steps" in capsys.readouterr().err


def test_pieces_of_words_have_no_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(folder, "--data.tokenizer bpe") == 2
    assert "data.tokenizer bpe cuts words anywhere: set data.tokenizer words" in capsys.readouterr().err


def test_vectors_start_no_run_that_goes_on_from_a_checkpoint(folder: Path) -> None:
    (folder / "vectors.txt").write_text("good 1 2 3 4\n")
    source = LabelledText("train.csv", "test.csv")
    weights = []
    for path in (None, folder / "a.ckpt"):
        run = pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False, default_root_dir=folder,
        )  # fmt: skip
        model = SequenceClassifier(hidden_size=8, embedding_size=4, vectors=str(folder / "vectors.txt"))
        run.fit(model, ClassificationData(source, labels="step", tokenizer="words"), ckpt_path=path)
        run.save_checkpoint(folder / "a.ckpt")
        assert model.network.embedding is not None
        weights.append(model.network.embedding.weight.detach())
    assert torch.equal(weights[0], weights[1])  # the second had nothing left to train


def test_running_labels_are_those_of_the_largest_phrase_that_ends_there() -> None:
    tree = parse_tree("(1 (2 (3 fine) (2 but)) (0 (2 so) (1 (2 very) (1 dull))))")
    ends = {p.end: [q for q in tree.phrases if q.end == p.end] for p in tree.phrases}
    expected = [max(ends[end], key=lambda p: p.end - p.start).label for end in range(1, 6)]
    assert running_labels(tree) == expected == [3, 2, 2, 2, 1]


def test_trees_have_as_many_words_as_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    (tmp_path / "sst").mkdir()
    (tmp_path / "sst/trees_train.txt").write_text("(3 (2 2\u00a01/2) (4 Stars))\n")
    part = RunningTrees().read("train")
    assert part is not None and (part.inputs, part.labels) == (["2_1/2 stars"], ["2 3"])


def test_baselines_count_steps() -> None:
    train = Examples(["a b", "a", "b b"], ["x y", "x", "x x"], "memory")
    test = Examples(["b a c"], ["x x y"], "memory")
    assert majority(train, test, "step") == pytest.approx(2 / 3)
    assert label_of_word(train, test) == pytest.approx(2 / 3)

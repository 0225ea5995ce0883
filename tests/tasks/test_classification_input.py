"""What a classifier makes of unusual data and options: in one sentence, or as of any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from lightning_rnn.data import Examples, LabelledText, NpzSeries
from lightning_rnn.data.labels import count_classes
from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.layers.series import SeriesFeatures, spread_of
from lightning_rnn.training.classification import class_metrics
from tasks.sequence_classification import ClassificationData, SequenceClassifier
from tasks.sequence_classification.data import ClassificationSpec

UNKNOWN: Any = "middle"
SMALL, LARGE = 2.0**-40, 2.0**40  # powers of two round nothing


def data_of(folder: Path, **arrays: object) -> ClassificationData:
    np.savez(folder / "a.npz", **arrays)  # type: ignore[arg-type]
    data = ClassificationData(NpzSeries(train=str(folder / "a.npz")), val_fraction=0)
    data.setup("fit")
    return data


def built(spec: ClassificationSpec, **options: object) -> SequenceClassifier:
    model = SequenceClassifier(hidden_size=4, **options)  # type: ignore[arg-type]
    model.spec = spec
    model.configure_model()
    return model


def series_spec(features: int = 1) -> ClassificationSpec:
    return ClassificationSpec("series", features, ["no", "yes"], [1, 1], 3, [0.0] * features, [1.0] * features)


def text_spec(folder: Path) -> ClassificationSpec:
    (folder / "t.csv").write_text("text,label\n" + "good film,pos\nbad film,neg\n" * 5)
    data = ClassificationData(LabelledText(train=str(folder / "t.csv")), tokenizer="words")
    data.setup("fit")
    assert data.spec is not None
    return data.spec


@pytest.mark.parametrize("scale", ["series", "train"])
@pytest.mark.parametrize("unit", [SMALL, LARGE])
@pytest.mark.parametrize("constant", [False, True], ids=["varied", "with a constant"])
def test_the_unit_of_a_series_changes_nothing(tmp_path: Path, scale: str, unit: float, constant: bool) -> None:
    x = np.random.default_rng(0).normal(1, 2, (12, 7, 2))
    x[:, :, 1] = 3 if constant else x[:, :, 1]
    found = []
    for factor in (1.0, unit):
        spec = data_of(tmp_path, x=x * factor, y=[0, 1] * 6).spec
        assert spec is not None
        model = built(spec, scale=scale, features=["value", "difference", "residual"])
        assert model.network.features is not None
        found.append(model.network.features(torch.tensor(x * factor, dtype=torch.float32)))
    if not constant:
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
    assert all(features[..., 0].abs().max() < 10 and features[..., 1].abs().max() < 10 for features in found)


def test_a_feature_that_never_varied_in_training_does_not_drown_the_others(tmp_path: Path) -> None:
    spec = data_of(
        tmp_path, x=np.stack([np.random.default_rng(0).normal(size=(4, 5)), np.ones((4, 5))], 2), y=[0, 1] * 2
    )
    assert spec.spec is not None and spec.spec.mean is not None and spec.spec.std is not None
    scaled = SeriesFeatures("train", ["value"], mean=spec.spec.mean, std=spec.spec.std)
    assert scaled(torch.full((1, 5, 2), 3.0)).abs().max() < 10


def test_residuals_are_scaled_in_any_unit() -> None:
    rows = torch.randn(20, 6, 1, generator=torch.Generator().manual_seed(0))
    one, small = (spread_of(x, x.mean(0).tolist(), [float(x.std())]) for x in (rows, rows * SMALL))
    assert small[1][0] == pytest.approx(one[1][0] * SMALL, rel=1e-4) and small[0] == pytest.approx(one[0], rel=1e-4)


def test_auroc_leaves_out_classes_without_rows_and_equals_scikit_learn() -> None:
    rng = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(40, 4, generator=rng), torch.randint(0, 3, (40,), generator=rng)
    metric = class_metrics(4, "val")["auroc"]
    for start in (0, 25):
        metric.update(scores[start : start + 25], targets[start : start + 25])
    wanted = np.mean([roc_auc_score(targets == name, scores.softmax(1)[:, name]) for name in range(3)])
    assert float(metric.compute()) == pytest.approx(wanted, abs=1e-6)


def test_the_order_of_classes_does_not_depend_on_the_rows() -> None:
    labels = ["2", "nan", "10", "1", "nan", "b"]
    orders = [count_classes(Examples(list(rows), list(rows), "memory"), "row")[0] for rows in (labels, labels[::-1])]
    assert orders[0] == orders[1] == ["1", "2", "10", "b", "nan"]


def test_labels_keep_all_their_digits(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\na,9007199254740993.0\nb,9007199254740992.0\nc,9007199254740993\n")
    examples = LabelledText(train=str(tmp_path / "t.csv")).read("train")
    assert examples is not None and examples.labels == ["9007199254740993", "9007199254740992", "9007199254740993"]


def test_rows_that_are_alone_in_their_class_are_not_held_out(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\ngood,pos\nbad,neg\n")
    data = ClassificationData(LabelledText(train=str(tmp_path / "t.csv")))
    with pytest.raises(DataError, match=r"t\.csv: each of the 2 training rows .* data\.val_fraction 0"):
        data.setup("fit")


def test_an_id_is_not_taken_for_a_line(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("text,label\ngood,pos\nso so,meh\n")
    source = LabelledText(train=str(tmp_path / "t.csv"), val=str(tmp_path / "v.csv"))
    text_spec(tmp_path)
    with pytest.raises(DataError, match=r"row 1 \(its id, counted from 0\): the label 'meh' .*: mend it, or train"):
        ClassificationData(source, tokenizer="words").setup("fit")


def test_ids_that_rows_share_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "t.csv").write_text("text,label,id\na,x,1\nb,y,2\nc,x,1\n")
    examples = LabelledText(train=str(tmp_path / "t.csv"), id_column="id").read("train")
    assert examples is not None and examples.ids == ["1", "2", "1"]
    assert "column 'id': 1 ids stand for several rows, such as '1'" in caplog.text


def test_what_is_cut_off_does_not_shape_the_network(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "good film,pos\nbad,neg\n" * 5 + f"{'so ' * 99}good,pos\n")
    data = ClassificationData(LabelledText(train=str(tmp_path / "t.csv")), tokenizer="words", max_length=4)
    data.setup("fit")
    assert data.spec is not None and data.spec.longest == 4


def text_inputs() -> list[object]:
    return ["good film", ["good", 3], [torch.zeros(2, 1)]]


@pytest.mark.parametrize("inputs", text_inputs(), ids=["one text", "a number", "series"])
def test_texts_to_classify_that_are_none_are_named(tmp_path: Path, inputs: list[str]) -> None:
    with pytest.raises(DataError) as error:
        built(text_spec(tmp_path)).classify(inputs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (["good"], "input 0 .* is no series of numbers"),
        ([torch.zeros(2, 1), torch.zeros(5)], r"input 1 .* is \[5\], the model reads \[T, 1\]"),
        ([torch.zeros(5, 2)], r"input 0 .* is \[5, 2\]"),
        ([torch.full((2, 1), torch.inf)], "input 0 .* an infinite number"),
    ],
)
def test_series_to_classify_that_do_not_fit_are_named(inputs: list[Tensor], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        built(series_spec()).classify(inputs)


def test_nothing_is_classified_as_nothing_and_an_unbuilt_model_says_so() -> None:
    assert built(series_spec()).classify([])["prediction"] == []
    assert built(series_spec()).classify([torch.zeros(0, 1), torch.zeros(2, 1)])["prediction"] != []
    with pytest.raises(ConfigError, match="not built yet"):
        SequenceClassifier().classify([])


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: SequenceClassifier(pooling=[]), "model.pooling must name at least one"),
        (lambda: SequenceClassifier(pooling=["last", UNKNOWN]), "model.pooling must be one of last, .* got 'middle'"),
        (lambda: SequenceClassifier(cell=UNKNOWN), "model.cell must be one of simple_rnn, lstm, gru"),
        (lambda: SequenceClassifier(class_weights=[0, 0]), "nor all 0"),
        (lambda: ClassificationData(labels=UNKNOWN), "data.labels must be row or step"),
    ],
)
def test_options_that_are_wrong_in_python_are_named(make: Callable[[], object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make()


def test_batch_normalization_of_one_row_is_refused() -> None:
    model = built(series_spec(), batch_norm="pooled").train()
    with pytest.raises(ConfigError, match=r"batch_norm pooled .* data\.batch_size"):
        model.network(torch.zeros(1, 3, 1))
    assert model.network(torch.zeros(2, 3, 1)).shape == model.eval().network(torch.zeros(2, 3, 1)).shape

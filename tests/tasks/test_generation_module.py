"""The generator as a system: it learns a table by heart, its texts are judged, it draws the same samples again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.plugins import Task
from lightning_rnn.testing.contract import check_checkpoint, check_invariances, check_predictions, check_resume
from tasks.generation import GenerationData, Generator
from tasks.generation.conditions import encode_conditions
from tasks.generation.metrics import bleu, statistics
from tasks.generation.reading import read_conditions
from tasks.generation.spec import Form, GenerationSpec
from tasks.generation.tables import AttributeTable

ROWS = """color,size,count,text
red,big,1,one big red ball
red,small,2,two small red balls
blue,big,2,two big blue balls
blue,small,1,one small blue ball
green,,1,one green ball
,big,2,two big balls
"""
QUIET: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("table") / "balls.csv"
    file.write_text(ROWS)
    return str(file)


def data_of(table: str, **options: Any) -> GenerationData:
    return GenerationData(
        AttributeTable(table, table, table, numbers=["count"]), batch_size=2, min_batches=5, **options
    )


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(default_root_dir=folder, accelerator="cpu", enable_checkpointing=False, gradient_clip_val=1.0,
                      num_sanity_val_steps=0, use_distributed_sampler=False, **QUIET, **options)  # fmt: skip


def trained(table: str, folder: Path, epochs: int = 25, **options: Any) -> tuple[Generator, pl.Trainer]:
    pl.seed_everything(0, verbose=False)
    model = Generator(**({"hidden_size": 24, "embedding_size": 16, "encoder_size": 16} | options))
    model.use_optimizer({"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-2}})
    fitted = trainer(folder, max_epochs=epochs)
    fitted.fit(model, data_of(table))
    return model, fitted


@pytest.fixture(scope="session")
def fitted(table: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, pl.Trainer]:
    return trained(table, tmp_path_factory.mktemp("fitted"))


@pytest.fixture
def model(fitted: tuple[Generator, pl.Trainer]) -> Generator:
    return fitted[0]


SC_LSTM: dict[str, Any] = {"cell": "sc_lstm", "encoder": "identity", "condition": "state", "reading_bias": 1.0}


def test_a_table_is_learned_by_heart(model: Generator, fitted: tuple[Generator, pl.Trainer]) -> None:
    assert model.write([{"color": "blue", "size": "big", "count": 2}]) == [["two big blue balls"]]
    assert model.write([{"color": "green", "count": "1"}]) == [["one green ball"]]
    assert float(fitted[1].callback_metrics["val_exact"]) == 1 and float(fitted[1].callback_metrics["val_bleu"]) > 0.99


@pytest.mark.slow
def test_sc_lstm_learns_it_too(table: str, tmp_path: Path) -> None:
    _, fitted = trained(table, tmp_path, **SC_LSTM)
    assert float(fitted.callback_metrics["val_exact"]) == 1


@pytest.mark.parametrize("options", [{}, SC_LSTM])
def test_padding_order_and_size_of_a_batch_change_nothing(options: dict[str, Any], table: str) -> None:
    data, model = data_of(table), Generator(hidden_size=12, **options)
    data.setup("fit")
    model.spec = data.spec
    model.configure_model()
    check_invariances(model, data)


def test_a_stopped_run_ends_as_one_that_was_not(table: str, tmp_path: Path) -> None:
    class Balls(GenerationData):
        def __init__(self) -> None:
            super().__init__(AttributeTable(table, table, table), batch_size=2, min_batches=3)

    class Reader(Generator):
        def __init__(self) -> None:
            super().__init__(**SC_LSTM, hidden_size=12)

    check_resume(Task("balls", Reader, Balls), tmp_path)


def test_a_checkpoint_writes_the_same(fitted: tuple[Generator, pl.Trainer], table: str, tmp_path: Path) -> None:
    model, fit = fitted
    data = data_of(table)
    data.setup("fit")
    check_checkpoint(fit, model, data, tmp_path)


def test_scores_of_a_test_are_those_of_its_texts(model: Generator, table: str, tmp_path: Path) -> None:
    scores = trainer(tmp_path).test(model, data_of(table), verbose=False)[0]
    data = data_of(table)
    data.setup("test")
    items = data.split("test").items  # type: ignore[attr-defined]
    texts = model.write(items.given)
    sums = [statistics(one[0].split(), [text.split()]) for one, text in zip(texts, items.texts, strict=True)]
    expected = bleu([sum(column) for column in zip(*sums, strict=True)])
    assert scores["test_bleu"] == pytest.approx(expected, rel=1e-6) and scores["test_exact"] == 1
    assert {"test_loss", "test_bleu_best", "test_sacrebleu"} <= set(scores)


def test_samples_are_drawn_by_row_and_seed_alone(model: Generator) -> None:
    def drawn(seed: int) -> list[list[str]]:
        other = Generator(decode="sample", candidates=4, keep=4, temperature=3.0, sample_seed=seed)
        other.spec, other.network = model.spec, model.network
        return other.write([{"color": "red", "count": 1}, {"color": "blue", "count": 2}])

    first = drawn(0)
    assert first == drawn(0) != drawn(1) and [len(row) for row in first] == [4, 4]
    assert len({text for row in first for text in row}) > 4


def test_the_best_of_the_kept_texts_comes_first(model: Generator) -> None:
    given = [{"color": "red", "size": "big", "count": 1}]
    kept = model.write(given, keep=3)[0]
    assert len(kept) == 3 and kept[0] == "one big red ball" and len(set(kept)) == 3
    assert model.write(given, [model], keep=3)[0] == kept  # an ensemble of one model twice is that model
    with pytest.raises(ConfigError, match=r"model.keep is 6 of 5 texts: keep fewer, or raise"):
        model.write(given, keep=6)


def test_an_ensemble_is_of_models_of_the_same_data(model: Generator) -> None:
    assert model.spec is not None
    other = Generator()
    for spec in (None, replace(model.spec, vocabulary=[*model.spec.vocabulary, "more"])):
        other.spec = spec
        with pytest.raises(ConfigError, match="model 2 of others has other conditions or words"):
            model.write([{"color": "red"}], [model, other])


def test_a_file_of_conditions_is_predicted(fitted: tuple[Generator, pl.Trainer], table: str, tmp_path: Path) -> None:
    model, file = fitted[0], tmp_path / "given.jsonl"
    file.write_text('{"color": "red", "size": "big", "count": 1}\n{"color": "green", "count": 1}\n')
    data = data_of(table, predict=str(file))
    data.setup("predict")
    check_predictions(trainer(tmp_path, callbacks=[]), model, data, tmp_path)
    text = (tmp_path / "predictions.csv").read_text().splitlines()
    assert text[0] == "id,text,score" and text[1].startswith("0,one big red ball,")
    assert text[2].startswith("1,one green ball,")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"colour": "red"}, "condition 2 has a column 'colour', which is unknown: use color, count, size"),
        ({"color": "pink"}, "condition 2: color is 'pink', which is unknown: use blue, green, red"),
        ({"count": "many"}, "condition 2: count is 'many', no number"),
        ({"count": "nan"}, "condition 2: count is 'nan', no finite number"),
        ("red", "condition 2 is 'red': give values by column"),
    ],
)
def test_an_unknown_condition_is_named(given: Any, words: str, model: Generator) -> None:
    with pytest.raises(DataError, match=words):
        model.write([{"color": "red"}, given])


def test_one_condition_that_is_no_list_is_named(model: Generator) -> None:
    with pytest.raises(DataError, match=r"conditions are {'color': 'red'}, which is one of them: give a list"):
        model.write({"color": "red"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["given.csv", "given.txt"])
def test_a_wrong_condition_of_a_file_is_named_with_its_row(name: str, table: str, tmp_path: Path) -> None:
    rows = {"given.csv": "color,count\nred,1\npink,1\n", "given.txt": '{"color": "red"}\n\n{"color": "pink"}\n'}
    (tmp_path / name).write_text(rows[name].replace("\n\n", '\n{"count": 1}\n'))
    with pytest.raises(DataError, match=f"{name}, row 3: color is 'pink', which is unknown"):
        data_of(table, predict=str(tmp_path / name)).setup("predict")


def test_without_conditions_nothing_is_predicted(table: str) -> None:
    with pytest.raises(DataError, match=r"nothing to predict: give data.predict a file of conditions, or a test part"):
        GenerationData(AttributeTable(table)).setup("predict")


@pytest.mark.parametrize(("form", "words"), [("class", "names of classes"), ("act", "dialogue acts")])
def test_a_row_of_a_table_is_no_class_and_no_act(form: Form, words: str) -> None:
    spec = GenerationSpec(form=form, condition_size=1, condition_names=["a.bye"])
    with pytest.raises(DataError, match=f"condition 1 is {{'a': 'b'}}, values by column: this model takes {words}"):
        encode_conditions(spec, [{"a": "b"}])


def test_writing_needs_a_network_and_drawing_needs_strokes(model: Generator) -> None:
    with pytest.raises(ConfigError, match="there is no network to write with"):
        Generator().write([[1.0]])
    with pytest.raises(ConfigError, match="there is no network to draw with"):
        Generator().draw([[1.0]])
    with pytest.raises(ConfigError, match="this model writes text, it draws no strokes"):
        model.draw([{"color": "red"}])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden_size": 0}, "model.hidden_size must be at least 1"),
        ({"candidates": 0}, "model.candidates must be at least 1"),
        ({"keep": 0}, "model.keep must be at least 1"),
        ({"dropout": 1.5}, "model.dropout must be between 0 and 1"),
        ({"slot_weight": -1.0}, "model.slot_weight must not be negative"),
        ({"val_rows": -1}, "model.val_rows must not be negative"),
        ({"decode": "sample", "temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"decode": "smple"}, "model.decode is 'smple': use beam, sample"),
        ({"keep": 6}, "model.keep is 6 of 5 texts: keep fewer, or raise model.candidates or beam_size"),
        ({"decode": "sample", "candidates": 2, "keep": 3}, "model.keep is 3 of 2 texts: .* raise model.candidates$"),
        ({"candidates": 9}, "model.candidates is 9 of a beam of 5: lower it, or raise model.beam_size"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1"),
        ({"reading_weight": -1.0}, "model.reading_weight must not be negative"),
        ({"sample_seed": 2**31}, "model.sample_seed must be from 0 to 2147483647"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Generator(**options)


# Tables of one's own.


def test_numbers_are_scaled_and_values_are_entries(table: str) -> None:
    source = AttributeTable(table, numbers=["count"], columns=["size", "count"])
    train = source.read("train")
    assert train is not None and source.read("val") is None
    spec = source.describe(train)
    assert spec.condition_names == ["size=big", "size=small", "count"] and spec.extra["scales"] == {"count": [1.5, 0.5]}
    assert train.references is not None and train.references[0] == ["one big red ball"]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a,text\n", {}, "no rows"),
        ("a,b\n1,2\n", {}, "text"),
        ("a,text\n1,x\n", {"columns": ["c"]}, "has no column 'c': it has a, text"),
        ("a,text\n,y\nx,y\n", {"numbers": ["a"]}, "a.csv, row 3: a is 'x', no number"),
        ("a,text\n1,y\ninf,y\n", {"numbers": ["a"]}, "a.csv, row 3: a is 'inf', no finite number"),
        ("text\nx\n", {}, "has no attributes beside 'text'"),
    ],
)
def test_a_broken_table_is_named(text: str, options: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    source = AttributeTable(str(tmp_path / "a.csv"), **options)
    with pytest.raises((DataError, ConfigError), match=words):
        source.describe(source.read("train"))  # type: ignore[arg-type]


def test_a_line_of_numbers_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("[1, 2]\n[1,\n")
    with pytest.raises(DataError, match=r"a.txt, row 2: not JSON"):
        read_conditions(str(tmp_path / "a.txt"))


def test_conditions_of_another_size_are_refused(model: Generator) -> None:
    assert model.spec is not None
    with pytest.raises(DataError, match="conditions of 2 entries"):
        from lightning_rnn.types import SequenceBatch

        model.spec.check(SequenceBatch(torch.zeros(1, 1, 2)))

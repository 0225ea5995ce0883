"""Whole runs by the command line: without a validation part, over given columns, on new series, and with mistakes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars
import pytest
import torch
from PIL import Image

from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError, DataError
from tasks.forecasting import Forecaster, ForecastingData
from tasks.forecasting.callbacks import table
from tasks.forecasting.embedded import AIRLINE, Airline
from tasks.forecasting.figures import shown_intervals
from tasks.forecasting.frames import from_arrays, from_frame
from tasks.forecasting.metrics import Truth
from tasks.forecasting.predictions import forecast_frame
from tasks.forecasting.source import GivenSeries
from tasks.forecasting.spec import ForecastSpec

CLASSES = "model: {class_path: tasks.forecasting.Forecaster, init_args: {hidden_size: 8, head: normal}}\n"
COLUMNS = "static: [size], categories: [shop], past: [heat], future: [promo]"


def rows(names: str, steps: int, shop: str = "north") -> list[str]:
    """A daily table of series with missing values, known for 6 days beyond their ends."""
    rng, found = np.random.default_rng(0), ["unique_id,ds,y,size,shop,heat,promo"]
    for place, name in enumerate(names):
        for step in range(steps + 6):
            day, ahead = date(2024, 1, 1) + timedelta(days=step), step >= steps
            value = "" if ahead or step % 13 == 5 else f"{50 + rng.normal():.3f}"
            heat = "" if ahead else f"{rng.normal():.3f}"
            found.append(f"{name},{day},{value},{place},{shop if place else 'south'},{heat},{step % 7 == 0:d}")
    return found


def written(folder: Path, name: str, lines: list[str]) -> Path:
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


@pytest.fixture
def shops(tmp_path: Path) -> list[str]:
    """Arguments for a run over such a table."""
    path = written(tmp_path, "shops.csv", rows("abc", 50))
    config = tmp_path / "shops.yaml"
    source = f"{{class_path: tasks.forecasting.sources.LongTable, init_args: {{path: {path}, {COLUMNS}}}}}"
    config.write_text(
        f"{CLASSES}data:\n  class_path: tasks.forecasting.ForecastingData\n"
        f"  init_args: {{horizon: 6, calendar: auto, source: {source}}}\ntrainer: {{accelerator: cpu, max_epochs: 1}}\n"
    )
    return ["--config", str(config), "--trainer.default_root_dir", str(tmp_path / "run")]


def test_a_run_draws_and_forecasts_new_series_by_one_command_and_refuses_unknown_names(
    shops: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *shops]) == 0
    for name in ("forecasts_val", "errors_val", "learning_curves"):
        with Image.open(tmp_path / f"run/figures/{name}.png") as image:
            assert min(image.size) > 200 and len(image.convert("RGB").getcolors(1 << 24) or []) > 20
    new = written(tmp_path, "new.csv", rows("xyz", 20))
    assert main(["predict", *shops, "--data.source.predict_path", str(new)]) == 0
    found = polars.read_parquet(tmp_path / "run/predictions.parquet")
    levels = ["q02.5", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q97.5"]
    assert found.columns == ["unique_id", "step", "ds", "mean", *levels]
    assert polars.read_csv(tmp_path / "run/predictions.csv").columns == found.columns
    assert found["unique_id"].to_list() == [name for name in "xyz" for _ in range(6)]
    assert found["step"].to_list() == [*range(1, 7)] * 3 and found["ds"][0].isoformat() == "2024-01-21T00:00:00"
    assert all(found[name].is_finite().all() for name in found.columns[3:])
    capsys.readouterr()
    west = written(tmp_path, "west.csv", rows("xyz", 20, "west"))
    assert main(["predict", *shops, "--data.source.predict_path", str(west)]) == 1
    error = capsys.readouterr().err
    assert "west.csv: series 'y', column 'shop': 'west' is not among the training series'" in error
    assert "(north, south)" in error and error.count("\n") == 1


def test_held_out_steps_are_the_test_part_and_not_trained_on() -> None:
    data = ForecastingData(Airline(), horizon=6, lookback=12, hold_out=40)
    data.setup("fit")
    train = data.split("train")
    y = train.__getitems__(list(range(len(train)))).targets["y"]  # type: ignore[index]  # these are labelled
    assert y[-1].tolist() == [float(value) for value in AIRLINE[144 - 40 - 12 : 144 - 40 - 6]]
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    assert batch.targets["y"][0].tolist() == [float(value) for value in AIRLINE[104:110]]
    assert batch.inputs[0, :12, 0].tolist() == [float(value) for value in AIRLINE[92:104]]
    assert data.to_forecast().lengths.item() == 104
    with pytest.raises(DataError, match="no series is longer than the 144 steps to hold out"):
        ForecastingData(Airline(), horizon=6, hold_out=144).setup("fit")


def test_without_validation_the_last_weights_are_named_and_nothing_else_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(
        f"{CLASSES}data: {{class_path: tasks.forecasting.ForecastingData, init_args: {{refit: true}}}}\n"
        "trainer: {accelerator: cpu, max_epochs: 1}\n"
    )
    shared = ["--config", str(config), "--trainer.default_root_dir", str(tmp_path / "run")]
    with caplog.at_level(logging.WARNING):
        assert main(["fit", *shared]) == 0
    assert "there is no validation part: no val_ metric" in caplog.text
    printed, error = capsys.readouterr()
    named = [line.split()[-1] for line in printed.splitlines() if line.startswith(("best ", "last "))]
    assert named == [str(tmp_path / "run/checkpoints/last.ckpt")] and Path(named[0]).is_file() and not error
    assert main(["test", *shared]) == 1
    assert "nothing was validated yet; take the last weights with --ckpt_path last" in capsys.readouterr().err
    assert main(["test", *shared, "--ckpt_path", "last"]) == 0


def test_the_widest_interval_is_drawn_and_the_one_nearest_80_percent() -> None:
    assert [share for _, _, share in shown_intervals([0.1, 0.2, 0.5, 0.8, 0.9])] == [0.8, 0.6]
    assert shown_intervals([0.5]) == []


def test_rolling_tests_print_naive_forecasts_beside_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = ["--model", "tasks.forecasting.Forecaster", "--data", "tasks.forecasting.ForecastingData"]
    options = ["--data.source", "tasks.forecasting.embedded.Airline", "--data.horizon", "4", "--data.eval_stride", "1"]
    shared = [*classes, *options, "--data.standardize", "true", "--trainer.default_root_dir", str(tmp_path)]
    assert main(["fit", *shared, "--trainer.max_epochs", "1", "--model.hidden_size", "8"]) == 0
    capsys.readouterr()
    assert main(["test", *shared, "--model.hidden_size", "8"]) == 0
    lines = {line.split()[-1]: line.split() for line in capsys.readouterr().out.splitlines() if "  MSE " in line}
    assert set(lines) == {"naive", "seasonal_naive", "model"}
    whole = np.array(AIRLINE, float)
    z = (whole - whole[:120].mean()) / whole[:120].std()
    naive = np.mean([(z[end : end + 4] - z[end - 1]) ** 2 for end in range(120, 141)])
    seasonal = np.mean([(z[end : end + 4] - z[end - 12 : end - 8]) ** 2 for end in range(120, 141)])
    assert float(lines["naive"][2]) == pytest.approx(naive, abs=1e-4)
    assert float(lines["seasonal_naive"][2]) == pytest.approx(seasonal, abs=1e-4)


def test_series_whose_end_stands_elsewhere_are_named_beside_the_errors() -> None:
    train = from_arrays([[1, 2, 3, 4, 5], [9, 8, 7, 6, 5]], ids=["a", "b"])
    test = from_arrays([[7, 7], [2, 3]], ids=["a", "b"], first=5)
    y = test.y.values.view(2, 2)
    truth = Truth(y, ~y.isnan(), torch.ones(2), torch.ones(2), y + 1)
    lines = list(table({"naive": y.unsqueeze(2) + 2}, truth, train, test))
    assert "without 1 overlapping series" in lines[0]
    assert lines[1].endswith("another series' training part: 1 of 2: b in a")
    alone = list(table({"naive": y.unsqueeze(2) + 2}, truth, train, from_arrays([[7, 7], [7, 7]], ids=["a", "b"])))
    assert "overlapping" not in alone[0] and alone[1].endswith("none of 2")


def test_zones_stay_with_the_forecasts() -> None:
    stamps = [f"2024-01-0{day}T00:00:00+02:00" for day in range(1, 5)]
    panel = from_frame(polars.DataFrame({"unique_id": ["a"] * 4, "ds": stamps, "y": [1.0, 2, 3, 4]}))
    frame = forecast_frame(panel, torch.ones(1, 2, 1), [])
    assert (
        frame["ds"].dtype == polars.Datetime("us", "UTC") and frame["ds"][0].isoformat() == "2024-01-04T22:00:00+00:00"
    )


def test_series_without_recent_values_and_what_is_no_panel_are_named(caplog: pytest.LogCaptureFixture) -> None:
    model = Forecaster(hidden_size=4)
    model.spec = ForecastSpec(horizon=2, lookback=3)
    model.configure_model()
    model.forecast(from_arrays([[1, 2, np.nan, np.nan], [1, 2], [1, *[np.nan] * 4], [1, *[np.nan] * 2]]))
    assert "the arrays: 1 of 4 series ('2' for one) have no value in the last 3 steps" in caplog.text
    frame = polars.DataFrame({"unique_id": ["a"], "ds": [0], "y": [1.0]})
    for call in (lambda: model.forecast(frame), lambda: GivenSeries(frame)):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="a Panel is wanted, got DataFrame: make one with from_frame"):
            call()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"levels": [0.1, 0.1], "head": "quantile"}, "has one twice"),
        ({"levels": [], "head": "quantile"}, "needs some"),
        ({"levels": [0.0, 0.5]}, "between 0 and 1"),
        ({"scale": "big"}, "model.scale must be one of"),
        ({"head": "gaussian"}, "model.head must be one of"),
        ({"loss": "owa", "head": "normal"}, "use the head point"),
        ({"dropout": 1.5}, "model.dropout"),
        ({"members": 0}, "model.members must be at least 1"),
        ({"dilations": [1, 0]}, "model.dilations must be at least 1"),
        ({"head": "negative_binomial", "log": True}, "counts, which are scaled alone: set model.log=false"),
        ({"head": "negative_binomial", "scale": "std"}, "and model.scale=mean or none"),
    ],
)
def test_options_out_of_range_are_one_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Forecaster(**options)  # type: ignore[arg-type]


def test_counts_need_no_other_option_than_their_head() -> None:
    assert Forecaster(head="negative_binomial").options.scale == "mean" and Forecaster().options.scale == "std"


BAD: list[tuple[str, Callable[[list[str]], list[str]], str]] = [
    ("between two steps", lambda lines: [*lines, "a,2024-02-15T07:00:00,3"], "series 'a' at 2024-02-15 07:00:00"),
    (
        "all missing",
        lambda lines: [*lines, *(f"b,2024-01-{day:02d}," for day in range(1, 20))],
        "series 'b' has no value",
    ),
    ("another column", lambda lines: ["unique_id,ds,value", *lines[1:]], "'y'"),
    ("minus infinity", lambda lines: [*lines, "a,2024-02-01,-inf"], "row 32, column 'y'"),
    ("a stamp twice", lambda lines: [*lines, "a,2024-01-30,4"], "stands in rows 31 and 32"),
]


@pytest.mark.parametrize(("change", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_table_ends_with_1_and_one_sentence_that_names_the_place(
    change: Callable[[list[str]], list[str]], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["unique_id,ds,y", *(f"a,2024-01-{day:02d},{day}" for day in range(1, 31))]
    path = written(tmp_path, "table.csv", change(lines))
    arguments = ["--model", "tasks.forecasting.Forecaster", "--data", "tasks.forecasting.ForecastingData"]
    source = ["--data.source", "tasks.forecasting.sources.LongTable", "--data.source.path", str(path)]
    folder = ["--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(["fit", *arguments, *source, "--data.horizon", "3", "--trainer.max_epochs", "1", *folder]) == 1
    error = capsys.readouterr().err
    assert said in error and "table.csv" in error and error.count("\n") == 1, error

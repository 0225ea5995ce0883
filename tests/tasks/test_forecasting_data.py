"""Windows, the system around the network, the files it writes, and what it says of bad input."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import pytorch_lightning as pl
import torch

from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.training.predictions import PredictionWriter
from tasks.forecasting import Forecaster, ForecastingData
from tasks.forecasting.callbacks import forecast_rows
from tasks.forecasting.embedded import Airline
from tasks.forecasting.frames import from_arrays, from_frame
from tasks.forecasting.long_format import Layout
from tasks.forecasting.panel import Panel
from tasks.forecasting.source import GivenSeries, SeriesSource


def given(*lengths: int, test: int = 0) -> GivenSeries:
    rng = np.random.default_rng(0)
    whole = from_arrays([50 + rng.normal(size=length).cumsum() for length in lengths], season=3)
    return GivenSeries(*whole.split(test)) if test else GivenSeries(whole)


def data_of(source: SeriesSource, **options: Any) -> ForecastingData:
    return ForecastingData(source, **{"horizon": 4, "lookback": 8, **options})


def trainer_of(folder: Path, epochs: int = 1, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder, accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
        callbacks=list(callbacks),
    )  # fmt: skip


def trained(source: SeriesSource, folder: Path, epochs: int = 1, **options: Any) -> tuple[Forecaster, ForecastingData]:
    torch.manual_seed(0)
    model, data = Forecaster(**{"hidden_size": 8, **options}), data_of(source)
    trainer_of(folder, epochs).fit(model, data)
    return model, data


def test_validation_is_the_last_horizon_and_training_ends_before_it() -> None:
    source = given(30, 20)
    data = data_of(source)
    data.setup("fit")
    val = data.split("val").__getitems__([0, 1])
    panel = source.read()
    for row in range(2):
        torch.testing.assert_close(val.targets["y"][row], panel.y[row][-4:].float())
        torch.testing.assert_close(val.inputs[row, :, 0], panel.y[row][-12:-4].float())
    train = data.split("train")
    batch = train.__getitems__(list(range(len(train))))
    assert not torch.isin(batch.targets["y"], torch.cat([panel.y[row][-4:].float() for row in range(2)])).any()
    assert len(train) == (26 - 4 - 4 + 1) + (16 - 4 - 4 + 1)


def test_refit_trains_on_the_validation_steps_too_and_validates_nothing() -> None:
    source = given(30, 20)
    data = data_of(source, refit=True)
    data.setup("fit")
    train = data.split("train")
    batch = train.__getitems__(list(range(len(train))))
    assert torch.isin(source.read().y[0][-4:].float(), batch.targets["y"]).all()
    assert data.val_dataloader() == []


def test_drawn_windows_are_of_every_series_equally_often_and_of_the_last_origins() -> None:
    data = data_of(given(100, 40, 30), epoch_windows=300, recent=5)
    data.setup("fit")
    train = data.split("train")
    series, end = train.rows
    assert series.bincount().tolist() == [100, 100, 100]
    last = torch.tensor([100, 40, 30])[series] - 8
    assert (end <= last).all() and (end > last - 5).all() and len(end[series == 0].unique()) == 5
    train.set_epoch(1)
    assert not torch.equal(train.rows[1], end)
    train.set_epoch(0)
    assert torch.equal(train.rows[1], end)


def test_short_series_are_neither_dropped_nor_silent(caplog: pytest.LogCaptureFixture) -> None:
    data = data_of(given(30, 4, 2))
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    assert "2 of 3 series are not longer than the 4 steps to validate on" in caplog.text
    assert set(data.split("train").rows[0].tolist()) == {0, 1, 2}
    batch = data.split("train").__getitems__([len(data.split("train")) - 1])
    assert batch.targets["y"].isnan().sum() == 3


def test_rolling_evaluation_has_a_window_at_every_origin_of_the_part() -> None:
    source = given(60, 50, test=12)
    data = data_of(source, eval_stride=1)
    data.setup("test")
    split, panel, test = data.split("test"), source.read(), source.test()
    assert len(split) == 2 * (12 - 4 + 1) and test is not None
    batch = split.__getitems__(list(range(9)))
    whole = torch.cat([panel.y[0], test.y[0]]).float()
    for place in range(9):
        torch.testing.assert_close(batch.targets["y"][place], whole[48 + place : 52 + place])
        torch.testing.assert_close(batch.inputs[place, :, 0], whole[40 + place : 48 + place])


def test_standardized_errors_are_those_of_standardized_series(tmp_path: Path) -> None:
    source = given(60, 50, test=4)
    panel, test = source.load()
    assert test is not None
    model, _ = trained(source, tmp_path)
    data = data_of(source, standardize=True)
    data.spec = replace(model.spec, standardized=True)
    found = trainer_of(tmp_path).test(model, data, verbose=False)[0]
    values = model.forecast_values(panel)[..., 0].double()
    expected = []
    for row in range(2):
        history, truth = panel.y[row], test.y[row]
        expected.append((((values[row] - truth) / history.std(correction=0)) ** 2).mean())
    assert found["test_mse"] == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)


def test_predictions_are_long_and_follow_the_training_part(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, data = Forecaster(hidden_size=8, head="normal"), ForecastingData(Airline(), lookback=24)
    trainer = trainer_of(tmp_path, 1, PredictionWriter(forecast_rows))
    trainer.fit(model, data)
    trainer.predict(model, data, return_predictions=False)
    table = polars.read_parquet(tmp_path / "predictions.parquet")
    names = ["q02.5", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q97.5"]
    assert table.columns == ["unique_id", "step", "ds", "mean", *names]
    assert table["step"].to_list() == list(range(1, 25)) and table["unique_id"].unique().to_list() == ["airline"]
    assert str(table["ds"][0]) == "1959-01-01 00:00:00" and str(table["ds"][23]) == "1960-12-01 00:00:00"
    torch.testing.assert_close(table["mean"].to_torch(), model.forecast_values(Airline().read())[0, :, 0])
    text = polars.read_csv(tmp_path / "predictions.csv")
    assert text.columns == table.columns and len(text) == 24


def test_new_series_are_forecast_without_training_again(tmp_path: Path) -> None:
    model, _ = trained(given(60), tmp_path)
    frame = model.forecast(from_arrays([np.arange(5.0), np.arange(90.0)], ["new", "other"], season=3))
    assert frame["unique_id"].to_list() == ["new"] * 4 + ["other"] * 4 and frame["mean"].is_finite().all()
    assert frame["ds"].to_list() == [5, 6, 7, 8, 90, 91, 92, 93]


def covariates(shift: float = 0.0, shop: str = "north") -> Panel:
    rows = 40
    frame = polars.DataFrame(
        {
            "unique_id": ["a"] * rows,
            "ds": list(range(rows)),
            "y": [float(i % 7) for i in range(rows - 4)] + [None] * 4,
            "price": [float(i % 5) for i in range(rows - 4)] + [i % 5 + shift for i in range(rows - 4, rows)],
            "shop": [shop] * rows,
            "size": [3.0] * rows,
        }
    )
    return from_frame(frame, Layout(static=["size"], categories=["shop"], future=["price"]))


@pytest.mark.parametrize("decode", ["segment", "direct", "recursive"])
def test_known_future_columns_reach_the_forecast_and_nothing_else(decode: str, tmp_path: Path) -> None:
    model, _ = trained(GivenSeries(covariates()), tmp_path, 3, decode=decode)
    one, other = (model.forecast_values(covariates(shift)) for shift in (0.0, 2.0))
    assert not torch.allclose(one, other)
    with pytest.raises(DataError, match="column 'price' of series 'a' has no value at 36"):
        model.forecast_values(_without_future(covariates()))


def _without_future(panel: Panel) -> Panel:
    assert panel.future is not None
    rows = panel.future.rows
    short = replace(rows, values=rows.values[:36], offsets=torch.tensor([0, 36]))
    return replace(panel, future=replace(panel.future, rows=short))


def test_an_unknown_name_and_other_columns_are_refused(tmp_path: Path) -> None:
    model, _ = trained(GivenSeries(covariates()), tmp_path)
    with pytest.raises(DataError, match="series 'a', column 'shop': 'south' is not among the training series'"):
        model.forecast_values(covariates(shop="south"))
    with pytest.raises(DataError, match=r"the known-future columns are \[\], the forecaster was trained with"):
        model.forecast_values(from_arrays([np.arange(30)]))
    with pytest.raises(DataError, match="the frequency is h, the forecaster was trained with plain numbers"):
        trained(given(60), tmp_path)[0].forecast_values(from_arrays([range(9)], first="2024-01-01", frequency="h"))


def test_a_static_name_tells_series_apart(tmp_path: Path) -> None:
    wave = np.tile([1.0, -1.0], 40)
    frame = polars.DataFrame(
        {
            "unique_id": ["up"] * 80 + ["down"] * 80,
            "ds": [*range(80)] * 2,
            "y": np.concatenate([wave, wave]),
            "kind": ["x"] * 80 + ["y"] * 80,
        }
    )
    panel = from_frame(frame, Layout(categories=["kind"]))
    model, _ = trained(GivenSeries(panel), tmp_path)
    same = model.forecast_values(panel)
    assert not torch.allclose(same[0], same[1])


def test_conformal_intervals_hold_their_share_and_stay_with_the_weights(tmp_path: Path) -> None:
    source = given(*[60] * 60, test=4)
    model, data = trained(source, tmp_path, conformal=True, levels=[0.1, 0.9])
    trainer = trainer_of(tmp_path)
    held = trainer.test(model, data, verbose=False)[0]["test_coverage_80"]
    assert 0.7 <= held <= 0.92
    path = tmp_path / "model.ckpt"
    trainer_of(tmp_path).fit(model, data)
    model.trainer.save_checkpoint(path)
    loaded = Forecaster.load_from_checkpoint(path, weights_only=True)
    panel = source.read()
    torch.testing.assert_close(loaded.forecast_values(panel), model.forecast_values(panel))
    assert (loaded.forecast_values(panel)[..., 2] > loaded.forecast_values(panel)[..., 1]).all()


@pytest.mark.filterwarnings("ignore:Total length of `list`")  # there is nothing to validate on
def test_intervals_without_a_validation_part_are_not_made_up(tmp_path: Path) -> None:
    model = Forecaster(hidden_size=8, conformal=True)
    trainer_of(tmp_path).fit(model, data_of(given(60, 60), refit=True))
    with pytest.raises(DataError, match="not calibrated"):
        model.forecast_values(given(60).read())


def test_the_run_draws_writes_and_names_its_baselines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(
        "model: {class_path: tasks.forecasting.Forecaster, init_args: {hidden_size: 8, head: normal}}\n"
        "data: {class_path: tasks.forecasting.ForecastingData, init_args: {batch_size: 64}}\n"
        "trainer: {accelerator: cpu, max_epochs: 1}\n"
    )
    arguments = ["--config", str(config), "--trainer.default_root_dir", str(tmp_path / "run"), "--debug"]
    for verb in ("fit", "test", "predict"):
        assert main([verb, *arguments]) == 0
    printed = capsys.readouterr().out
    for name in ("naive", "seasonal_naive", "naive2", "ses", "theta", "this model"):
        assert any(line.endswith(f"  {name}") for line in printed.splitlines() if "OWA" in line), name
    there = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*.*")}
    assert {"predictions.csv", "predictions.parquet", "figures/forecasts_test.png", "figures/errors_test.png"} <= there


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 400}, "the longest series has 287 steps, a horizon of 400 needs at least 401"),
        ({"horizon": 0}, "data.horizon must be at least 1"),
        ({"lookback": 0}, "data.lookback must be at least 1"),
    ],
)
def test_bad_options_are_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        ForecastingData(**options).setup("fit")


BAD: list[tuple[str, Callable[[list[str]], list[str]], str]] = [
    ("twice", lambda rows: [*rows, rows[-1]], "series 'a'"),
    ("infinite", lambda rows: [*rows[:-1], "a,2024-01-30,inf"], "finite"),
    ("zones", lambda rows: [*rows[:-1], "a,2024-01-30T00:00:00+02:00,3"], "zone"),
    ("words", lambda rows: [*rows[:-1], "a,2024-01-30,much"], "much"),
]


@pytest.mark.parametrize(("change", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_tables_are_one_sentence_on_the_command_line(
    change: Callable[[list[str]], list[str]], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"a,2024-01-{day:02d},{day}" for day in range(1, 31)]
    (tmp_path / "table.csv").write_text("\n".join(["unique_id,ds,y", *change(rows)]) + "\n")
    arguments = ["--model", "tasks.forecasting.Forecaster", "--data", "tasks.forecasting.ForecastingData"]
    source = ["--data.source", "tasks.forecasting.sources.LongTable", "--data.source.path", str(tmp_path / "table.csv")]
    folder = ["--trainer.default_root_dir", str(tmp_path / "run")]
    code = main(["fit", *arguments, *source, "--data.horizon", "3", "--trainer.max_epochs", "1", *folder])
    error = capsys.readouterr().err
    assert code == 1 and said in error and "table.csv" in error and error.count("\n") == 1

"""Backtests: what is known at each origin and no more, errors beside the baselines', the verb and its files."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars
import pytest
import pytorch_lightning as pl
import torch

from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError, DataError
from tasks.forecasting import Forecaster, ForecastingData, command
from tasks.forecasting.backtest import backtest, origins_of
from tasks.forecasting.backtest_figure import draw_backtest
from tasks.forecasting.frames import from_arrays
from tasks.forecasting.panel import Panel
from tasks.forecasting.source import GivenSeries


def walks(*lengths: int) -> Panel:
    rng = np.random.default_rng(0)
    return from_arrays([50 + rng.normal(size=length).cumsum() for length in lengths], season=3)


def trained(panel: Panel, folder: Path, **options: str) -> Forecaster:
    torch.manual_seed(0)
    model = Forecaster(hidden_size=8, **options)  # type: ignore[arg-type]  # texts alone
    trainer = pl.Trainer(
        default_root_dir=folder, accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(model, ForecastingData(GivenSeries(panel), horizon=4, lookback=8))
    return model


@pytest.mark.parametrize(("refit", "trainings"), [(True, 3), (False, 1)])
def test_a_backtest_sees_nothing_behind_its_origin(refit: bool, trainings: int, tmp_path: Path) -> None:
    seen, panel = list[int](), walks(60, 50)

    def train(part: Panel) -> Forecaster:
        seen.append(int(part.lengths[0]))
        return trained(part, tmp_path)

    found = backtest(train, panel, horizon=4, origins=3, refit=refit)
    assert len(seen) == trainings and seen == [48, 52, 56][:trainings]
    first = found.forecasts.filter((polars.col("origin") == 2) & (polars.col("unique_id") == "0"))
    assert first["ds"].to_list() == [52, 53, 54, 55] and first["y"].to_list() == panel.y[0][52:56].tolist()


def test_forecasts_of_an_origin_are_those_of_the_series_cut_there_and_its_errors_those_of_numpy(tmp_path: Path) -> None:
    panel = walks(60, 50)
    model = trained(panel, tmp_path)
    found = model.backtest(panel, origins=2, step=3)
    for origin, steps in ((1, 7), (2, 4)):
        past = panel.cut(steps)
        rows = found.forecasts.filter(polars.col("origin") == origin)
        values = model.forecast_values(past)[..., 0].flatten()
        torch.testing.assert_close(rows["mean"].to_torch(), values, rtol=0, atol=0)
        errors = found.errors.filter((polars.col("origin") == origin) & (polars.col("forecast") == "this model"))
        mase = []
        for row in range(2):
            y, f = (rows[name].to_numpy()[4 * row : 4 * row + 4] for name in ("y", "mean"))
            history = past.y[row].numpy()
            mase.append(np.abs(y - f).mean() / np.abs(history[3:] - history[:-3]).mean())
        assert errors["mase"].item() == pytest.approx(np.mean(mase), rel=1e-5)
    assert set(found.errors["forecast"]) == {
        "naive", "seasonal_naive", "naive2", "ses", "theta", "linear", "this model"
    }  # fmt: skip
    naive2 = found.errors.filter(polars.col("forecast") == "naive2")
    assert naive2["owa"].to_list() == pytest.approx([1, 1], rel=1e-5)
    assert len(list(found.lines())) == 7 * 3


def test_refit_by_the_method_trains_at_every_origin(tmp_path: Path) -> None:
    panel, seen = walks(60), list[int]()

    def train(part: Panel) -> Forecaster:
        seen.append(int(part.lengths[0]))
        return trained(part, tmp_path)

    train(panel.cut(8)).backtest(panel, origins=2, train=train)
    assert seen == [52, 52, 56]


def test_short_series_are_left_out_where_they_are_too_short_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = [past.ids for past, _ in origins_of(walks(20, 9), 4, origins=3)]
    assert found == [["0"], ["0", "1"], ["0", "1"]]
    assert "1 of 2 series ('1' for one) are not longer than the 12 steps to hold out: left out" in caplog.text
    with pytest.raises(DataError, match="no series is longer than the 40 steps"):
        list(origins_of(walks(20, 9), 4, origins=10))


def test_wrong_calls_are_named(tmp_path: Path) -> None:
    panel = walks(60)
    with pytest.raises(ConfigError, match="at least 1 origin, got 0"):
        trained(panel, tmp_path).backtest(panel, origins=0)
    with pytest.raises(ConfigError, match="step between origins must be at least 1"):
        trained(panel, tmp_path).backtest(panel, step=0)
    with pytest.raises(ConfigError, match="not trained"):
        Forecaster().backtest(panel)
    with pytest.raises(ConfigError, match="forecasts 4 steps, the backtest 5"):
        backtest(lambda part: trained(part, tmp_path), panel, horizon=5)


def test_the_figure_has_a_panel_a_series_and_one_of_the_errors(tmp_path: Path) -> None:
    panel = walks(60, 50, 40, 40, 40)
    model = trained(panel, tmp_path, head="normal")
    found = model.backtest(panel, origins=2)
    figure = draw_backtest(found, model.levels)
    assert [axes.get_title() for axes in figure.axes] == [*(f"{n}, 95 % interval" for n in "0123"), "MASE by origin"]
    forecast = figure.axes[0].get_lines()[1].get_xydata()
    assert np.asarray(forecast)[:, 0].tolist() == [52, 53, 54, 55]
    assert len(draw_backtest(found, series=["4"]).axes) == 2
    with pytest.raises(ConfigError, match="no series 'x'"):
        draw_backtest(found, series=["x"])


YAML = (
    "model: {class_path: tasks.forecasting.Forecaster, init_args: {hidden_size: 8, head: normal}}\n"
    "data: {class_path: tasks.forecasting.ForecastingData, init_args: {batch_size: 64, horizon: 10, lookback: 20}}\n"
    "trainer: {accelerator: cpu, max_epochs: 1}\n"
)


def test_the_verb_trains_writes_and_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    config, run = tmp_path / "small.yaml", tmp_path / "run"
    config.write_text(YAML)
    shared = ["--config", str(config), "--trainer.default_root_dir", str(run)]
    assert main(["backtest", *shared, "--origins", "2", "--refit"]) == 0
    printed = capsys.readouterr().out
    for origin in ("origin 1", "origin 2", "all origins"):
        for name in ("naive", "seasonal_naive", "naive2", "ses", "theta", "this model"):
            assert any(f"  {origin} " in line and line.endswith(f"  {name}") for line in printed.splitlines())
    table = polars.read_parquet(run / "backtest.parquet")
    assert table.columns[:5] == ["origin", "unique_id", "step", "ds", "mean"] and table.columns[-1] == "y"
    assert (
        table["origin"].to_list() == [1] * 10 + [2] * 10 and polars.read_csv(run / "backtest.csv").shape == table.shape
    )
    assert str(table["ds"][0]) == "1989-01-01 00:00:00" and str(table["ds"][19]) == "2008-01-01 00:00:00"
    assert len(polars.read_csv(run / "backtest_errors.csv")) == 2 * 7
    assert (run / "figures/backtest.png").is_file()
    assert {path.name for path in (run / "backtest").iterdir()} == {"held_out_20", "held_out_10"}
    assert main(["backtest", *shared]) == 2 and "holds a backtest's runs already" in capsys.readouterr().err

    checkpoint = run / "backtest/held_out_20/checkpoints/best.ckpt"
    assert main(["backtest", *shared, "--origins", "2", "--ckpt_path", str(checkpoint)]) == 0
    again = polars.read_parquet(run / "backtest.parquet")
    assert again.filter(origin=1).equals(table.filter(origin=1)) and not again.equals(table)
    assert "begin in the source's training part" not in caplog.text  # the test part has 22 steps
    assert main(["backtest", *shared, "--origins", "3", "--ckpt_path", str(checkpoint)]) == 0
    assert "1 of 3 origins begin in the source's training part" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--ckpt_path", "nowhere.ckpt"], 1, "no checkpoint nowhere.ckpt"),
        (["--ckpt_path", "nowhere.ckpt", "--refit"], 2, "leave one out"),
        (["--origins", "0"], 2, "--origins must be at least 1"),
        (["--origins", "60"], 1, "no series is longer than the 600 steps"),
        (["--trainer.devices", "2", "--trainer.strategy", "ddp"], 2, "in one process"),
        (["--orijins", "2"], 2, "orijins"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(YAML)
    assert (
        main(["backtest", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / "run"), *arguments])
        == code
    )
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_another_task_and_another_task_s_checkpoint_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = ["--model", "tasks.rainfall.RainfallRegressor", "--data", "tasks.rainfall.RainfallData"]
    assert main(["backtest", *classes, "--trainer.default_root_dir", str(tmp_path)]) == 2
    assert "a backtest is of forecasts, not of RainfallData" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--help"])
    assert "held" not in capsys.readouterr().err

"""The rainfall networks against arithmetic written out here, the winner's numbers, and runs from rows to submission."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars
import pytest
import torch
from rainfall_cases import COPIES, STEPS, module, padded
from torch import Tensor

from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError
from lightning_rnn.testing.contract import check_resume
from lightning_rnn.types import SequenceBatch
from tasks.rainfall import RainfallData, RainfallRegressor
from tasks.rainfall.augment import drop_in, fixed_draws
from tasks.rainfall.metrics import MeanAbsoluteErrorUnder
from tasks.rainfall.network import NETWORKS, RadarFeatures
from tasks.rainfall.schema import Hours
from tasks.rainfall.synthetic import synthesize, write_csv

TASK = "--model tasks.rainfall.RainfallRegressor --data tasks.rainfall.RainfallData --trainer.accelerator cpu"
SYNTHETIC = "--data.source tasks.rainfall.sources.SyntheticRain"
SMALL = f"{TASK} --model.hidden_sizes [4] --trainer.max_epochs 1 --data.batch_size 32"


# Drop-in and missing values.


def test_drop_in_keeps_every_step_once_at_least_and_their_order() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.arange(1, 20)
    x = torch.arange(1.0, 20).expand(19, 19).unsqueeze(2)
    rows, longer = drop_in(x, lengths, torch.rand(19, STEPS, generator=generator))
    assert rows.shape == (19, STEPS, 1) and longer.tolist() == [STEPS] * 19
    for row, length in zip(rows.squeeze(2), lengths.tolist(), strict=True):
        assert (row.diff() >= 0).all()
        assert row.unique().tolist() == list(range(1, length + 1))


def test_drop_in_repeats_each_step_equally_often() -> None:
    x = torch.arange(4.0).reshape(1, 4, 1).expand(20_000, -1, -1)
    rows, _ = drop_in(x, torch.full((20_000,), 4), torch.rand(20_000, 12))
    counts = torch.bincount(rows.flatten().long(), minlength=4).double() / 20_000
    torch.testing.assert_close(counts, torch.full((4,), 3.0, dtype=torch.float64), rtol=0.02, atol=0)


def test_drop_in_leaves_longer_and_empty_rows_alone() -> None:
    x = torch.randn(3, 6, 2)
    x[1, 2:], x[2] = 0, 0
    rows, lengths = drop_in(x, torch.tensor([6, 2, 0]), torch.rand(3, 4))
    assert lengths.tolist() == [6, 4, 0] and rows.shape == (3, 6, 2)
    assert torch.equal(rows[0], x[0]) and not rows[1, 4:].any() and not rows[2].any()
    assert drop_in(x[:, :0], torch.zeros(3, dtype=torch.int64), torch.rand(3, 4))[1].tolist() == [0, 0, 0]


def test_mean_over_fixed_copies_varies_less_than_over_independent_ones() -> None:
    x, lengths = torch.randn(200, 7, 1), torch.full((200,), 7)

    def mean(draws: Tensor) -> Tensor:
        return torch.stack([drop_in(x, lengths, draw.unsqueeze(0))[0].mean(1) for draw in draws]).mean(0)

    generator = torch.Generator().manual_seed(5)
    independent = mean(torch.rand(COPIES, STEPS, generator=generator)) - x.mean(1)
    assert (mean(fixed_draws(COPIES, STEPS)) - x.mean(1)).std() < 0.5 * independent.std()


def test_missing_values_are_zero_or_zero_with_a_mask() -> None:
    x = torch.randn(2, 3, 22)
    x[0, 1, 5] = torch.nan
    options: dict[str, Any] = {"mean": [0.5] * 22, "std": [2.0] * 22}
    zero, mask = (RadarFeatures(missing, True, **options)(x) for missing in ("zero", "mask"))
    assert zero.shape == (2, 3, 22) and mask.shape == (2, 3, 42) and torch.equal(mask[..., :22], zero)
    assert zero[0, 1, 5] == 0 and mask[0, 1, 22 + 3] == 1 and mask[..., 22:].sum() == 1
    torch.testing.assert_close(zero[1], (x[1] - 0.5) / 2)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("stretched", [0, STEPS])
def test_padding_and_company_change_no_prediction(network: str, stretched: int) -> None:
    model = module(network=network, drop_in=stretched, copies=3 if stretched else 1, log_target=False)
    x, lengths = padded(synthesize(8, seed=2))
    with torch.no_grad():
        whole = model.step(SequenceBatch(x, lengths=lengths)).predictions
        for row, length in enumerate(lengths.tolist()):
            alone = SequenceBatch(x[row : row + 1, :length], lengths=lengths[row : row + 1])
            torch.testing.assert_close(model.step(alone).predictions, whole[row : row + 1], rtol=1e-4, atol=1e-5)


def test_log_target_is_turned_back_to_mm() -> None:
    model, plain = module(log_target=True), module(log_target=False)
    plain.network.load_state_dict(model.network.state_dict())
    x, lengths = padded(synthesize(20, seed=2))
    gauge = torch.rand(20) * 5
    with torch.no_grad():
        log, raw = (one.step(SequenceBatch(x, gauge, lengths=lengths)) for one in (model, plain))
        numbers = model.network(x, lengths)
    torch.testing.assert_close(log.predictions, numbers.exp().sub(1).clamp(min=0))
    torch.testing.assert_close(raw.predictions, numbers.clamp(min=0))
    torch.testing.assert_close(log.loss, (numbers - (1 + gauge).log()).abs().mean())
    torch.testing.assert_close(raw.loss, (numbers - gauge).abs().mean())


def test_error_under_73_mm_is_that_of_the_hours_under_it_over_all_batches() -> None:
    metric, gauge, said = MeanAbsoluteErrorUnder(73), torch.rand(100) * 100, torch.rand(100) * 100
    for part in range(0, 100, 30):
        metric.update(said[part : part + 30], gauge[part : part + 30])
    kept = gauge < 73
    assert float(metric.compute()) == pytest.approx(float((said - gauge).abs()[kept].mean()), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "cnn"}, r"model.network must be one of lstm2, winner, gru, got 'cnn'"),
        ({"copies": 5}, r"model.copies=5 are stretched: set model.drop_in"),
        ({"hidden_sizes": []}, r"model.hidden_sizes must be at least 1 each"),
        ({"drop_in": -1}, r"model.drop_in must be at least 0"),
        ({"weights": "a.npz"}, r"set model.network=winner"),
    ],
)
def test_options_that_do_not_go_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RainfallRegressor(**options)


def test_a_run_that_draws_copies_goes_on_from_where_it_stopped(tmp_path: Path) -> None:
    def stretched() -> RainfallRegressor:
        return RainfallRegressor(network="winner", hidden_sizes=[4], drop_in=STEPS, copies=2)

    check_resume(SimpleNamespace(module=stretched, datamodule=RainfallData), tmp_path)  # type: ignore[arg-type]


# From rows to a submission.


def submitted(path: Path) -> list[tuple[int, float]]:
    with path.open() as stream:
        header, *rows = csv.reader(stream)
    assert header == ["Id", "Expected"]
    return [(int(row[0]), float(row[1])) for row in rows]


def run(root: Path, options: str, verbs: tuple[str, ...] = ("fit", "predict")) -> None:
    for verb in verbs:
        assert main(f"{verb} {SMALL} {options} --trainer.default_root_dir {root}".split()) == 0


def kaggle(train: Path, predict: Path) -> str:
    source = "--data.source tasks.rainfall.sources.KaggleRain"
    return f"{source} --data.source.train {train} --data.source.predict {predict}"


def test_files_in_the_schema_become_a_valid_submission(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    write_csv(train, [synthesize(300, seed=0)])
    made = synthesize(60, seed=1)
    order = np.random.default_rng(0).permutation(60)  # the file's order is not that of the ids
    parts = np.split(made.values, made.offsets[1:-1])
    values = np.concatenate([parts[i] for i in order])
    write_csv(test, [Hours(made.ids[order], made.lengths[order], values, made.expected[order])], labelled=False)
    run(tmp_path / "run", kaggle(train, test))
    rows = submitted(tmp_path / "run" / "submission.csv")
    assert [row[0] for row in rows] == made.ids.tolist() and min(row[1] for row in rows) >= 0
    table = polars.read_csv(tmp_path / "run" / "predictions.csv")
    assert table["id"].to_list() == made.ids[order].tolist() and table.columns == ["id", "expected"]
    assert dict(rows) == pytest.approx(dict(table.iter_rows()))


def test_baselines_stand_beside_the_model_and_equal_numpy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tasks.rainfall.baselines import marshall_palmer

    run(tmp_path, f"{SYNTHETIC} --data.source.train_hours 300 --data.source.test_hours 100", ("fit", "test"))
    out = capsys.readouterr().out
    made, train = synthesize(100, seed=1), synthesize(300, seed=0)
    gauge = made.expected[made.scored]
    formula = np.abs(marshall_palmer(made.values, made.offsets)[made.scored] - gauge)
    median = np.abs(np.median(train.expected[train.scored]) - gauge)
    for name, error in (("Marshall-Palmer", formula), ("median", median)):
        line = next(line for line in out.splitlines() if line.endswith(f"   {name}"))
        assert f"{error.mean():9.4f}" in line and f"{error[gauge < 73].mean():7.4f}" in line
    assert "this model" in out


def test_no_test_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "train.csv", [synthesize(200, seed=0)])
    source = kaggle(tmp_path / "train.csv", tmp_path / "train.csv")
    run(tmp_path / "run", source, ("fit",))
    assert main(f"test {SMALL} {source} --trainer.default_root_dir {tmp_path}/run".split()) == 1
    assert capsys.readouterr().err.endswith("there is no test part: name its file as data.source.test\n")


@pytest.mark.parametrize("network", NETWORKS)
def test_the_291_real_rows_go_through_unchanged(data_root: Path, tmp_path: Path, network: str) -> None:
    path = data_root / "rain" / "rain2_train_rows_real.csv"
    stretched = "--model.drop_in 19 --model.copies 3" if network == "winner" else ""
    run(tmp_path, f"--model.network {network} {stretched} {kaggle(path, path)}")
    ids = {int(line.split(",")[1]) for line in path.read_text().splitlines()[1:]}
    rows = submitted(tmp_path / "submission.csv")
    assert [row[0] for row in rows] == sorted(ids) and np.isfinite([row[1] for row in rows]).all()

"""The winner's networks: their arithmetic in numpy, their copies, their weights, their start."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pytorch_lightning as pl
import torch
from rainfall_cases import COPIES, PLAIN, STEPS, module, padded

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.types import SequenceBatch
from tasks.rainfall import RainfallData, RainfallRegressor
from tasks.rainfall.augment import drop_in, fixed_draws
from tasks.rainfall.network import NETWORKS, RadarFeatures, RainfallNetwork
from tasks.rainfall.reader import read_hours
from tasks.rainfall.schema import Hours, join
from tasks.rainfall.sources import SyntheticRain
from tasks.rainfall.winner import BidirectionalStack, clip_gradient, load_winner

CONFIGS = Path(__file__).parents[2] / "configs"
Array = npt.NDArray[Any]


# The winner.


@pytest.fixture(scope="module")
def real(data_root: Path) -> Hours:
    """The 19 complete hours."""
    files = ("rain2_train_complete_hours_real.csv", "rain2_train_id23513_real.csv")
    return join([part for name in files for part in read_hours(data_root / "rain" / name, labelled=True)])


def written_out(x: Array, weights: Array) -> Array:
    """The winner's network, ``x [19, 22]`` → mm, step by step in float64, from his arrays in their order."""

    def unit(z: Array) -> Array:
        return np.where(z > 0, z, 0.15 * z)

    arrays = [np.asarray(weights[name], np.float64) for name in sorted(weights.files)]  # type: ignore[attr-defined]
    if len(arrays) == 64:
        x, arrays = x @ arrays[0] + arrays[1], arrays[2:]
    while len(arrays) > 2:
        merged: Any = 0.0
        for backward in (False, True):
            (h0, w_in, b, w_hh, dense, dense_b), arrays = arrays[:6], arrays[6:]
            h, outputs = h0[0], []
            for step in x[::-1] if backward else x:
                h = unit(step @ w_in + b + h @ w_hh)
                outputs.append(unit(h @ dense + dense_b))
            merged = merged + np.stack(outputs[::-1] if backward else outputs)
        x = merged
    return np.asarray(unit(x @ arrays[0] + arrays[1]).mean())


@pytest.mark.parametrize("version", [1, 2])
def test_winner_s_networks_equal_their_arithmetic_in_numpy(real: Hours, data_root: Path, version: int) -> None:
    path = data_root / "rain" / f"winner_v{version}_plain.npz"
    stretched, lengths = drop_in(*padded(real), fixed_draws(1, STEPS))
    assert lengths.tolist() == [STEPS] * 19
    features = RadarFeatures("zero", False, mean=PLAIN.mean, std=PLAIN.std)
    with torch.no_grad():
        said = RainfallNetwork(features, load_winner(path))(stretched)
    weights = np.load(path)
    wanted = [written_out(row, weights) for row in np.nan_to_num(stretched.double().numpy())]
    np.testing.assert_allclose(said.numpy(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("version", [1, 2])
def test_mean_of_61_copies_is_the_winner_s_on_every_real_hour(real: Hours, data_root: Path, version: int) -> None:
    folder = data_root / "rain"
    with (folder / "rain2_winner_predictions_on_real_hours.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["Id"]) for row in rows] == real.ids.tolist()
    model = module(network="winner", missing="zero", scale=False, log_target=False, drop_in=STEPS, copies=COPIES)
    model.network.body = load_winner(folder / f"winner_v{version}_plain.npz")
    x, lengths = padded(real)
    with torch.no_grad():
        said = model.step(SequenceBatch(x, lengths=lengths)).predictions
    for row, amount in zip(rows, said.tolist(), strict=True):
        allowed = 4 * float(row[f"sd{version}"]) / COPIES**0.5
        assert amount == pytest.approx(float(row[f"winner_v{version}"]), abs=allowed), f"Id {row['Id']}"


def test_winner_s_weights_start_a_run_of_the_right_shape_alone(data_root: Path, tmp_path: Path) -> None:
    path = data_root / "rain" / "winner_v2_plain.npz"
    options: dict[str, Any] = {"network": "winner", "missing": "zero", "scale": False, "log_target": False}
    options |= {"drop_in": STEPS, "weights": str(path)}
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=1, logger=False,
        accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = RainfallData(SyntheticRain(100, 50))
    with pytest.raises(ConfigError, match=r"is of another network: set model.hidden_sizes"):
        trainer.fit(RainfallRegressor(**options), data)
    model = RainfallRegressor(**options, hidden_sizes=[120, 120, 120])
    model.use_optimizer({"class_path": "torch.optim.SGD", "init_args": {"lr": 0.0}})
    trainer.fit(model, data)
    for mine, theirs in zip(model.network.body.parameters(), load_winner(path).parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_example_of_the_rainfall_page(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (CONFIGS.parent / "docs" / "rainfall.md").read_text(), re.DOTALL)
    (tmp_path / "data").symlink_to(data_root)
    monkeypatch.chdir(tmp_path)
    exec(code, {})


def test_other_files_of_weights_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", p00=np.zeros((22, 12), np.float32))
    with pytest.raises(DataError, match=r"a.npz holds 1 arrays of weights, not 64 \(v1\) or 38 \(v2\)"):
        load_winner(tmp_path / "a.npz")


def test_published_sizes_have_the_published_number_of_parameters() -> None:
    winner = NETWORKS["winner"].build
    for sizes, projection, number in (((64, 128, 256, 128, 64), 12, 595_541), ((120, 120, 120), 0, 237_961)):
        assert sum(p.numel() for p in winner(22, sizes, projection).parameters()) == number


def test_gradient_is_clipped_at_every_step_of_the_recurrence() -> None:
    stack = BidirectionalStack(2, 3)
    x = torch.randn(1, 4, 2)
    cell = stack.rnn.layer.cell
    h, sums = cell.h0.expand(1, -1), []
    for t in range(4):
        sums.append(clip_gradient(x[:, t] @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T))
        sums[-1].retain_grad()
        h = torch.nn.functional.leaky_relu(sums[-1], 0.15)
    (1000 * h).sum().backward()
    by_hand = 1000 * torch.where(sums[-1] > 0, 1.0, 0.15).detach()
    wanted = torch.zeros(1, 3)
    for t in range(3, -1, -1):
        torch.testing.assert_close(sums[t].grad, by_hand)
        clipped = by_hand.clamp(-1, 1)
        wanted += clipped @ cell.weight_hh
        by_hand = (clipped @ cell.weight_hh) * torch.where(sums[t - 1] > 0, 1.0, 0.15).detach() if t else by_hand
    clipped_h0 = by_hand.clamp(-1, 1) @ cell.weight_hh
    expected, cell.h0.grad = cell.h0.grad, None
    torch.testing.assert_close(expected, clipped_h0[0])
    (1000 * stack.rnn.layer(x).sequence[:, -1]).sum().backward()
    torch.testing.assert_close(cell.h0.grad, expected)

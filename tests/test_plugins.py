"""A third party's task is found, listed, trained by YAML and held to the contract; a broken one harms no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_rnn import plugins
from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError

MODULE = '''
"""Will it rain: a plug-in of two classes."""

from acme_rain.data import RainData as RainData
from acme_rain.model import RainModule as RainModule
'''
DATA = """
from dataclasses import dataclass

import torch

from lightning_rnn.data import DataSpec, Ragged, SequenceDataModule, SequenceDataset


@dataclass(frozen=True)
class RainSpec(DataSpec):
    features: int = 1


class RainData(SequenceDataModule):
    spec_class = RainSpec

    def __init__(self, rows: int = 40, batch_size: int = 8) -> None:
        super().__init__(batch_size)
        self.rows = rows

    def load(self, stage):
        self.spec = RainSpec(2)
        generator = torch.Generator().manual_seed(0)
        series = [torch.randn(3 + i % 5, 2, generator=generator) for i in range(self.rows)]
        data = SequenceDataset(Ragged.from_list(series), torch.stack([s.sum() for s in series]), None)
        return {name: data for name in ("train", "val", "test", "predict")}
"""
MODEL = """
from torch import nn
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MetricCollection

from acme_rain.data import RainSpec
from lightning_rnn import GRU
from lightning_rnn.training.module import SequenceModule, StepResult


class Network(nn.Module):
    def __init__(self, features, hidden_size):
        super().__init__()
        self.rnn, self.head = GRU(features, hidden_size), nn.Linear(hidden_size, 1)

    def forward(self, x, lengths):
        return self.head(self.rnn(x, lengths=lengths).last).squeeze(-1)


class RainModule(SequenceModule):
    spec_class = RainSpec

    def __init__(self, hidden_size: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()

    def build(self, spec):
        return Network(spec.features, self.hparams["hidden_size"])

    def build_metrics(self, spec, stage):
        return MetricCollection({"mae": MeanAbsoluteError()})

    def step(self, batch):
        amount = self.network(batch.inputs, batch.lengths)
        return StepResult(F.mse_loss(amount, batch.targets), amount, batch.targets, len(batch))

    def to_rows(self, batch, result):
        return {"amount": result.predictions}
"""
YAML = """
model: {class_path: acme_rain.RainModule, init_args: {hidden_size: 4}}
data: {class_path: acme_rain.RainData}
trainer: {max_epochs: 1, accelerator: cpu}
"""


def distribution(folder: Path, name: str, entry: str) -> None:
    """What pip leaves in site-packages."""
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[lightning_rnn.tasks]\n{entry}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed third-party distributions: one that works, one that is broken."""
    site = tmp_path / "site"
    package = site / "acme_rain"
    package.mkdir(parents=True)
    for name, text in (("__init__", MODULE), ("data", DATA), ("model", MODEL)):
        (package / f"{name}.py").write_text(text)
    (package / "rain.yaml").write_text(YAML)
    distribution(site, "acme_rain", "rain = acme_rain")
    (site / "acme_broken.py").write_text("import not_installed_anywhere\n")
    distribution(site, "acme_broken", "broken = acme_broken")
    monkeypatch.syspath_prepend(str(site))
    return site


def run(site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", "from lightning_rnn.cli import console; console()", *args]
    return subprocess.run(command, env=environment, cwd=site.parent, capture_output=True, text=True, check=False)


def test_listing_imports_no_plugin(site: Path) -> None:
    before = set(sys.modules)
    points = plugins.available()
    assert {"rain", "broken", "sequence_classification"} <= set(points)
    assert not {name for name in set(sys.modules) - before if name.startswith("acme")}


def test_broken_plugin_is_named_and_takes_no_other_down(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--check"]) == 1
    out = capsys.readouterr().out.splitlines()
    broken = next(line for line in out if line.startswith("broken"))
    assert "not_installed_anywhere" in broken
    assert "ok: RainModule, RainData" in next(line for line in out if line.startswith("rain"))
    assert "ok: SequenceClassifier, ClassificationData" in next(line for line in out if line.startswith("sequence_"))
    with pytest.raises(ConfigError, match="no task 'rian'"):
        plugins.load("rian")


def test_third_party_task_trains_by_yaml_and_keeps_the_contract(site: Path) -> None:
    done = run(site, "fit", "--config", str(site / "acme_rain" / "rain.yaml"))
    assert done.returncode == 0, done.stderr
    assert (site.parent / "runs" / "acme_rain" / "rain" / "checkpoints" / "best.ckpt").is_file()
    from lightning_rnn.testing import check_task

    check_task("rain")


def test_file_that_hides_the_tasks_package_is_named(site: Path) -> None:
    (site / "tasks.py").write_text("")
    done = run(site, "tasks", "--check")
    assert f"{site / 'tasks.py'} hides the package 'tasks'" in done.stdout


def test_module_with_two_datamodules_is_refused(site: Path) -> None:
    (site / "acme_two.py").write_text(MODULE + "\nclass Second(RainData): ...\n")
    distribution(site, "acme_two", "two = acme_two")
    with pytest.raises(ConfigError, match="exactly one SequenceDataModule; it has RainData, Second"):
        plugins.load("two")

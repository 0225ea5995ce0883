"""Strategies through configs: what each overlay asks for, and weights spread over processes that learn as one does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from processes import forked
from tiny_tasks import TABLE, trained

from lightning_rnn.cli import main
from lightning_rnn.distributed.sharding import FullySharded, replace_folder
from lightning_rnn.errors import CheckpointError
from lightning_rnn.training.checkpoints import newest_good, read_checkpoint

ROOT = Path(__file__).parents[1]
DIGITS = str(ROOT / "configs/sequence_classification/digits.yaml")
OVERLAYS = ROOT / "configs/trainer"


def asked(overlay: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The trainer's options, as the command line understands them."""
    assert main(["fit", "--config", DIGITS, "--config", str(OVERLAYS / f"{overlay}.yaml"), "--print_config"]) == 0
    options: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)["trainer"]
    return options


def test_each_overlay_asks_for_what_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    found = {name: asked(name, capsys) for name in ("cpu", "gpu", "ddp", "fsdp")}
    kinds = {name: (one["accelerator"], one["devices"], one["strategy"]) for name, one in found.items()}
    assert kinds["cpu"] == ("cpu", 1, "auto")
    assert kinds["gpu"] == ("gpu", 1, "auto")
    for name, kind in (("ddp", "DDPStrategy"), ("fsdp", "FullySharded")):
        _, devices, strategy = kinds[name]
        assert devices == "auto" and strategy["class_path"].endswith(kind)
        assert strategy["init_args"]["timeout"] == "0:10:00"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("overlay", ["gpu", "fsdp"])
def test_an_overlay_for_gpus_is_refused_where_there_is_none(
    overlay: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["fit", "--config", DIGITS, "--config", str(OVERLAYS / f"{overlay}.yaml")]
    assert main([*argv, "--trainer.default_root_dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "gpu" in said.lower()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("strings", "streams", "owa", "rainfall")]


@pytest.mark.parametrize("name", ["classification", "translation", *SLOW])
def test_sharded_weights_learn_as_whole_ones_do(name: str, tmp_path: Path) -> None:
    row, several = TABLE[name], tmp_path / "several"
    _, metrics, gradients = trained(row, row.source(), tmp_path / "one", 1, "32-true")

    def run() -> None:
        module, found, _ = trained(row, row.source(), several, 2, "32-true", FullySharded())
        assert module.task == plain.task
        assert found["val_loss"] == pytest.approx(metrics["val_loss"], rel=1e-5)

    plain = row.module()
    assert forked(2, run, tmp_path) == [0, 0], (tmp_path / "output_0.txt").read_text()
    torch.testing.assert_close(torch.load(several / "gradients.pt"), gradients, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
def test_a_sharded_run_goes_on_and_is_tested_as_one_that_was_not_stopped(parts: bool, tmp_path: Path) -> None:
    def command(verb: str, folder: Path, *options: str) -> None:
        argv = [verb, "--config", DIGITS, "--config", str(OVERLAYS / "fsdp.yaml"), "--trainer.accelerator", "cpu"]
        argv += ["--trainer.devices", "2", "--trainer.strategy.save_distributed_checkpoint", str(parts).lower()]
        argv += ["--throughput.enabled", "false", "--trainer.default_root_dir", str(folder), *options]

        def run() -> None:
            assert main(argv) == 0

        assert forked(2, run, tmp_path) == [0, 0], (tmp_path / "output_0.txt").read_text()

    def fit(folder: Path, epochs: int) -> None:
        command("fit", folder, "--trainer.max_epochs", str(epochs), "--ckpt_path", "last")

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit(whole, 2)
    fit(stopped, 1)
    fit(stopped, 2)
    last = [newest_good(folder / "checkpoints") for folder in (whole, stopped)]
    one, other = (read_checkpoint(path) for path in last if path is not None)
    assert (whole / "checkpoints/last.ckpt").is_dir() == parts and one["global_step"] == other["global_step"]
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(other["state_dict"][name], value, rtol=0, atol=1e-6)
    command("test", stopped)  # and in one process, from the same files
    argv = ["test", "--config", DIGITS, "--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(stopped)]
    assert main(argv) == 0
    rows = (stopped / "metrics.csv").read_text().splitlines()
    assert rows[0].count("test_loss") == 1 and os.listdir(stopped / "checkpoints")


def test_a_folder_takes_the_place_of_another_and_that_is_kept(tmp_path: Path) -> None:
    part, path = tmp_path / "part", tmp_path / "last.ckpt"
    for content in ("one", "two"):
        part.mkdir()
        (part / "file").write_text(content)
        replace_folder(part, path)
    assert (path / "file").read_text() == "two" and (tmp_path / "previous.ckpt/file").read_text() == "one"
    with pytest.raises(CheckpointError, match="not a whole checkpoint in parts"):
        read_checkpoint(path)

"""What is reported of a run's speed: operations, places and times, on one process and on two."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from processes import quiet_trainer
from pytorch_lightning.loggers.logger import Logger
from torch import nn

from lightning_rnn import GRU
from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError
from lightning_rnn.training import throughput, throughput_meter
from lightning_rnn.training.flops import TRAINING, layer_flops
from lightning_rnn.training.preemption import Preempted
from lightning_rnn.training.resume import StepSeed
from lightning_rnn.training.throughput import Throughput
from lightning_rnn.training.throughput_meter import Meter, Work
from lightning_rnn.training.throughput_report import Stretch, peak_memory, sentence, summary
from lightning_rnn.types import SequenceBatch
from tasks.sequence_classification import ClassificationData, SequenceClassifier

DIGITS = Path(__file__).parents[1] / "configs/sequence_classification/digits.yaml"
B, T, D, H = 4, 6, 3, 8


def test_operations_of_batches_that_were_not_counted_follow_from_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput_meter, "COUNTED", 2)
    work, layer, found = Work(layer := GRU(D, H)), layer, []
    for steps in (4, 8, 4, 16, 8):
        x = torch.randn(B, steps, D)
        work.begin(SequenceBatch(x))
        layer(x)
        work.end()
        found.append((work.flops, work.places))
    each = layer_flops(layer, 1)
    assert found == [(each * B * steps, B * steps) for steps in (4, 8, 4, 16, 8)]
    assert len(work._known) == 2


class Clock:
    """Seconds that pass when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(throughput_meter.time, "perf_counter", lambda: self.now)


def test_waiting_stepping_and_other_callbacks_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, layer = Clock(monkeypatch), GRU(D, H)
    meter, x = Meter(layer), torch.randn(B, T, D)
    for i, lengths in enumerate(([6, 6, 6, 6], [6, 5, 1, 0], None, [1, 1, 1, 1])):
        meter.wait()
        clock.now += 2.0
        meter.at_hand()
        clock.now += 100.0  # callbacks: a checkpoint is written
        meter.begin(batch := SequenceBatch(x, lengths=None if lengths is None else torch.tensor(lengths)))
        layer(x)
        meter.forward_done()
        clock.now += 10.0 + i
        meter.done(batch)
        clock.now += 1000.0  # a validation
    found = meter.take()  # of all but the first
    assert (found.stepping, found.waiting, found.medians) == (36.0, 6.0, [(3, 12.0)])
    assert (found.valid, found.places) == (12 + 24 + 4, 3 * B * T)
    assert found.flops == 3 * TRAINING * layer_flops(layer, B * T)
    assert meter.take() == Stretch()


def test_masks_count_the_steps_that_are_marked() -> None:
    meter, layer = Meter(nn.Identity()), nn.Identity()
    mask = torch.tensor([[True, False, True], [False, False, True]])
    for _ in range(2):
        meter.begin(batch := SequenceBatch(layer(torch.zeros(2, 3, 1)), mask=mask))
        meter.forward_done()
        meter.done(batch)
    assert (found := meter.take()).valid == 3 and found.places == 6


def test_processes_are_summed_and_the_slowest_and_largest_named() -> None:
    one = Stretch(60, 80, 8e6, 1.5, 0.5, [(3, 0.4)], 2 << 20, 1e7)
    two = Stretch(20, 80, 8e6, 2.0, 0.0, [(3, 0.6)], 5 << 20, 3e7)
    found = summary([one, two])
    assert found == pytest.approx({
        "tokens_per_second": 80 / 2.0, "padding_share": 0.5, "data_wait_share": 0.25 / 2.0, "step_ms": 600.0,
        "peak_memory_mib": 5.0, "gflop_per_second": 16e6 / 2.0 * 0.5 / 1e9, "flop_share": 4e6 / 4e7, "processes": 2.0,
    })  # fmt: skip
    assert "40 tokens/s, 50.0 % padding, 12.5 % waiting" in sentence(found, "RSS")
    assert "2 processes" in sentence(found, "RSS") and "processes" not in sentence(summary([one]), "RSS")


def test_stretches_of_a_process_add_up() -> None:
    total = Stretch(1, 2, 3.0, 4.0, 5.0, [(10, 0.1)], 7, 9.0) + Stretch(1, 2, 3.0, 4.0, 5.0, [(1, 0.9)], 6, 8.0)
    assert total == Stretch(2, 4, 6.0, 8.0, 10.0, [(10, 0.1), (1, 0.9)], 7, 8.0)
    assert total.step == 0.1 and Stretch(medians=[(1, 0.1), (9, 0.3), (1, 0.9)]).step == 0.3


def test_peak_memory_stays_what_it_was_at_most() -> None:
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(before + (64 << 20), dtype=torch.uint8)  # more than all that there ever was
    during = peak_memory(torch.device("cpu"))
    assert during >= held.numel() > before
    del held
    assert peak_memory(torch.device("cpu")) >= during


# In runs.


class Kept(Logger):
    """A logger that keeps what it is given."""

    name, version = "kept", ""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **options: Any) -> None:
        return


def rows_of(folder: Path) -> list[dict[str, float]]:
    with (folder / throughput.FILE).open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def fit(folder: Path, processes: int, *callbacks: pl.Callback, logger: Any = False) -> None:
    data = ClassificationData(batch_size=128 // processes, baselines=False)
    trainer = quiet_trainer(folder, processes, epochs=2, callbacks=callbacks)
    if logger:
        trainer.loggers = [logger]
    trainer.fit(SequenceClassifier(cell="gru", hidden_size=8), data)


def test_each_epoch_is_a_row_and_the_end_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    with caplog.at_level(logging.INFO):
        fit(tmp_path, 1, Throughput(), logger=kept)
    rows = rows_of(tmp_path)
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 10), (1, 21)]
    given = [(step, found) for step, found in kept.rows if "throughput/step_ms" in found]
    assert [step for step, _ in given] == [10, 21]
    for row, (_, found) in zip(rows, given, strict=True):
        assert row | {"epoch": 0, "step": 0} == pytest.approx(
            {name.removeprefix("throughput/"): value for name, value in found.items()} | {"epoch": 0, "step": 0}
        )
        assert row["padding_share"] == 0 and 0 < row["data_wait_share"] < 1 and 0 < row["flop_share"] < 2
        assert row["tokens_per_second"] > 100 and row["peak_memory_mib"] > 50 and row["processes"] == 1
    lines = [record.message for record in caplog.records if record.message.startswith("throughput:")]
    assert len(lines) == 1 and "tokens/s" in lines[0]


def test_two_processes_report_what_both_did(tmp_path: Path) -> None:
    for processes in (1, 2):
        fit(tmp_path / str(processes), processes, Throughput(every_n_steps=4))
    one, two = (rows_of(tmp_path / str(processes)) for processes in (1, 2))
    assert [row["step"] for row in one] == [row["step"] for row in two] == [3, 7, 10, 14, 18, 21]
    assert {row["processes"] for row in two} == {2}
    for a, b in zip(one, two, strict=True):  # the same work: operations for each token
        each = [row["gflop_per_second"] / row["tokens_per_second"] for row in (a, b)]
        assert each[1] == pytest.approx(each[0], rel=1e-6)


def test_other_callbacks_time_is_neither_waiting_nor_stepping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, lost = time.perf_counter, [0.0]
    monkeypatch.setattr(throughput_meter.time, "perf_counter", lambda: real() + lost[0])

    class Slow(pl.Callback):  # by ten minutes each time
        def lose(self, *_: Any) -> None:
            lost[0] += 600.0

        on_train_batch_start = on_train_batch_end = on_validation_end = lose

    fit(tmp_path, 1, Slow(), Throughput(), Slow())
    assert lost[0] >= 600.0 * 2 * (2 * 2 * 11 + 2)
    for row in rows_of(tmp_path):
        assert row["step_ms"] < 60_000 and row["tokens_per_second"] > 10


def test_switched_off_it_does_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        fit(tmp_path, 1, Throughput(enabled=False))
    assert not (tmp_path / throughput.FILE).exists()
    assert not [record for record in caplog.records if record.message.startswith("throughput")]


def test_a_run_of_one_batch_says_that_nothing_was_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = quiet_trainer(tmp_path, 1, callbacks=[Throughput()])
    trainer.fit_loop.epoch_loop.max_steps = 1
    with caplog.at_level(logging.INFO):
        trainer.fit(SequenceClassifier(cell="gru", hidden_size=8), ClassificationData(baselines=False))
    assert "throughput: not measured" in caplog.text and not (tmp_path / throughput.FILE).exists()


def test_a_preempted_run_says_what_it_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stops(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 5:
                raise Preempted("stopped")

    with caplog.at_level(logging.INFO), pytest.raises(Preempted):
        fit(tmp_path, 1, Stops(), Throughput())
    assert [row["step"] for row in rows_of(tmp_path)] == [4]
    assert "tokens/s" in caplog.text


def test_a_wrong_interval_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"throughput\.every_n_steps must be at least 1, got 0"):
        Throughput(every_n_steps=0)


def test_measured_or_not_a_run_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    ends = []
    for enabled in (True, False):
        data = ClassificationData(baselines=False)
        module = SequenceClassifier(cell="lstm", hidden_size=8, dropout=0.3)
        trainer = quiet_trainer(tmp_path, 1, callbacks=[StepSeed(3), Throughput(enabled)])
        torch.manual_seed(1)
        trainer.fit(module, data)
        ends.append((module.network.state_dict(), {k: float(v) for k, v in trainer.callback_metrics.items()}))
    assert ends[0][1] == ends[1][1]
    assert all(torch.equal(value, ends[1][0][name]) for name, value in ends[0][0].items())


def test_the_command_line_measures_unless_told_not_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    argv = ["fit", "--config", str(DIGITS), "--trainer.max_steps", "4", "--trainer.limit_val_batches", "0"]
    for name, options in (("on", []), ("off", ["--throughput.enabled", "false"])):
        folder = tmp_path / name
        folder_option = ["--trainer.default_root_dir", str(folder)]
        assert main([*argv, "--checkpoint.monitor", "null", *folder_option, *options]) == 0
        assert ("throughput: " in caplog.text) == (name == "on")
        caplog.clear()
        assert (folder / throughput.FILE).exists() == (name == "on")
        assert "tokens" not in (folder / "metrics.csv").read_text()

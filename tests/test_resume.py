"""A run that was stopped anywhere and resumed is the run that was never stopped, to the last bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch.utils import _pytree as pytree

from lightning_rnn.training.checkpoints import AtomicCheckpointIO, read_checkpoint
from lightning_rnn.training.figures import LearningCurves
from lightning_rnn.training.loggers import CSVLogger
from lightning_rnn.training.resume import LastCheckpoint, StepSeed
from tasks.sequence_classification import ClassificationData, SequenceClassifier

pytestmark = [
    pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]
COMPARED = ("epoch", "global_step", "state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "loops")


class Stopped(BaseException):
    """Stands for SIGKILL: no callback saves anything on the way out."""


class StopAt(pl.Callback):
    """Raises at the n-th call of a hook."""

    def __init__(self, hook: str, call: int) -> None:
        self.left = call
        setattr(self, hook, self._count)

    def _count(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stopped


class Seen(pl.Callback):
    """What was trained on, by epoch and batch: rows and loss."""

    def __init__(self) -> None:
        self.batches: dict[tuple[int, int], tuple[list[int], float]] = {}
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        value = (batch.ids.tolist(), float(outputs["loss"]))
        assert self.batches.setdefault((trainer.current_epoch, batch_idx), value) == value


Options = dict[str, Any]
SETTINGS: dict[str, Options] = {
    "dropout": {},
    "accumulation": {"trainer": {"accumulate_grad_batches": 3}},
    "often_saved": {"last": {"every_n_steps": 2}},
    "workers": {"data": {"num_workers": 2}, "last": {"every_n_steps": 4}},
    "tokens": {"data": {"max_tokens": 700, "batch_size": 500}, "last": {"every_n_steps": 4}},
    "average_and_validation_in_mid_epoch": {
        "trainer": {"val_check_interval": 0.25},
        "callbacks": lambda: [EMAWeightAveraging(decay=0.9)],
    },
    "validation_by_steps": {
        "trainer": {"val_check_interval": 8, "check_val_every_n_epoch": None},
        "last": {"every_n_steps": 3},
    },
    "plateau": {"scheduler": {"class_path": "pytorch_lightning.cli.ReduceLROnPlateau",
                              "init_args": {"monitor": "val_loss", "patience": 0, "threshold": 0.2}}},
    "one_cycle": {"scheduler": {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 0.01}},
                  "trainer": {"accumulate_grad_batches": 2}},
    "early_stopping": {"callbacks": lambda: [EarlyStopping("val_loss", min_delta=9.0, patience=1)],
                       "trainer": {"max_epochs": 5}},
    "steps": {"trainer": {"max_epochs": -1, "max_steps": 33}, "last": {"every_n_steps": 4}},
}  # fmt: skip


class Run:
    """A run folder that can be trained in, again and again."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.options, self.seen = folder, options, Seen()

    def fit(self, *extra: pl.Callback, resume: bool = False) -> pl.Trainer:
        torch.manual_seed(int.from_bytes(os.urandom(4)) if resume else 7)  # nothing may depend on it later
        last = self.folder / "checkpoints" / "last.ckpt"
        path = last if resume and last.exists() else None
        if path is None:
            torch.manual_seed(7)
            self.seen = Seen()
        logger = CSVLogger(self.folder)
        logger.truncate_after(-1 if path is None else read_checkpoint(path)["global_step"] - 1)
        data = ClassificationData(**{"batch_size": 100, "seed": 3, "baselines": False, **self.options.get("data", {})})
        module = SequenceClassifier(cell="gru", hidden_size=8, dropout=0.3)
        module.use_optimizer(None, self.options.get("scheduler"))
        callbacks = [LearningCurves(), LastCheckpoint(**self.options.get("last", {})), StepSeed(5), self.seen]
        best = ModelCheckpoint(last.parent, "best", monitor="val_loss", enable_version_counter=False)
        trainer = pl.Trainer(
            **{
                "max_epochs": 3,
                "default_root_dir": self.folder,
                "accelerator": "cpu",
                "devices": 1,
                "callbacks": [*extra, *callbacks, *self.options.get("callbacks", list)(), best],
                "plugins": [AtomicCheckpointIO()],
                "logger": logger,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 0,
                **self.options.get("trainer", {}),
            }
        )
        trainer.fit(module, data, ckpt_path=path)
        return trainer

    @property
    def end(self) -> dict[str, Any]:
        """All that the run left behind."""
        last = read_checkpoint(self.folder / "checkpoints" / "last.ckpt")
        best = read_checkpoint(self.folder / "checkpoints" / "best.ckpt")
        return {
            **{key: last.get(key) for key in COMPARED},
            "callbacks": {key: state for key, state in last["callbacks"].items() if "ModelCheckpoint" not in key},
            "metrics": last["lightning_rnn_resume"]["metrics"],
            "best": best["state_dict"],
            "csv": (self.folder / "metrics.csv").read_text(),
            "batches": self.seen.batches,
        }


def assert_same(one: Any, two: Any) -> None:
    leaves, spec = pytree.tree_flatten_with_path(one)
    others, other_spec = pytree.tree_flatten_with_path(two)
    assert spec == other_spec
    for (path, a), (_, b) in zip(leaves, others, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, pytree.keystr(path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What a run with these settings leaves behind when nothing stops it."""
    known: dict[str, dict[str, Any]] = {}

    def get(name: str) -> dict[str, Any]:
        if name not in known:
            run = Run(tmp_path_factory.mktemp(name), SETTINGS[name])
            run.fit()
            known[name] = run.end
        return known[name]

    return get


MOMENTS = [
    ("on_train_batch_start", 1),
    ("on_train_batch_end", 5),
    ("on_train_batch_start", 11),
    ("on_train_batch_end", 13),  # the last one of the first epoch, before its validation
    ("on_validation_batch_end", 2),
    ("on_validation_end", 1),
    ("on_validation_end", 2),
    ("on_train_epoch_end", 1),
    ("on_train_epoch_start", 2),
    ("on_train_batch_start", 14),
    ("on_before_optimizer_step", 9),
    ("on_train_batch_end", 26),
    ("on_train_epoch_end", 2),
    ("on_save_checkpoint", 2),
]


FEW = [MOMENTS[3], MOMENTS[5], MOMENTS[9], MOMENTS[11]]
CASES = [
    (name, *moment)
    for name in SETTINGS
    for moment in (MOMENTS if name in ("dropout", "average_and_validation_in_mid_epoch") else FEW)
]


@pytest.mark.parametrize(("settings", "hook", "call"), CASES)
def test_stopped_anywhere_and_resumed_is_never_stopped(
    settings: str, hook: str, call: int, tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    run = Run(tmp_path, SETTINGS[settings])
    try:
        run.fit(StopAt(hook, call))
    except Stopped:
        run.fit(resume=True)
    assert_same(run.end, undisturbed(settings))


def test_a_run_of_so_many_steps_goes_through_all_batches_of_its_epochs(undisturbed: Callable[[str], Any]) -> None:
    batches = undisturbed("steps")["batches"]
    assert list(batches) == [(step // 13, step % 13) for step in range(33)]
    for epoch in (0, 1):
        rows = [row for step in range(13) for row in batches[epoch, step][0]]
        assert sorted(rows) == list(range(len(rows))) and len(rows) > 1200


def test_stopped_at_every_other_batch(tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]]) -> None:
    run, stops = Run(tmp_path, SETTINGS["often_saved"]), 0
    while True:
        try:
            run.fit(StopAt("on_train_batch_end", 4), resume=stops > 0)
            break
        except Stopped:
            stops += 1
    assert stops > 10
    assert_same(run.end, undisturbed("often_saved"))

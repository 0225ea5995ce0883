"""After a pass: the submission file, and the baselines beside the model."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl

from lightning_rnn.training.hooks import datamodule_of, write_atomically

from .data import HourSplit, RainfallData, RainfallSpec
from .metrics import LIMIT
from .schema import EXPECTED, ID

log = logging.getLogger(__name__)
SUBMISSION = "submission.csv"


class SubmissionWriter(pl.Callback):
    """Writes ``submission.csv`` beside the predictions: ``Id,Expected``, every hour of the part, sorted by ``Id``.

    Comes after :class:`lightning_rnn.training.predictions.PredictionWriter`, from whose file it takes the rows of all
    processes.

    Raises:
        DataError: it cannot be written.
    """

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        content = submission(folder / "predictions.csv")
        write_atomically(folder / SUBMISSION, lambda file: file.write(content))
        log.info("submission: %s", folder / SUBMISSION)


def submission(predictions: Path) -> bytes:
    """The competition's file from ``predictions.csv``, whose columns ``id`` and ``expected`` it takes."""
    with predictions.open(newline="") as stream:
        rows = sorted((int(row["id"]), row["expected"]) for row in csv.DictReader(stream))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((ID, EXPECTED))
    writer.writerows(rows)
    return text.getvalue().encode()


def measure(split: HourSplit, spec: RainfallSpec) -> dict[str, npt.NDArray[np.float64]]:
    """What each baseline says of the hours of a split, mm: ``[N]`` or ``[]`` where it is one number for all."""
    formula = split.store.marshall_palmer(split.rows)
    return {"median": np.array(spec.median), "mean": np.array(spec.average), "Marshall-Palmer": formula}


class Baselines(pl.Callback):
    """Prints the baselines' test errors beside the model's, and logs them (``baseline_*``)."""

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = datamodule_of(trainer)
        if not isinstance(data, RainfallData) or not data.baselines or not trainer.is_global_zero:
            return
        split, spec = data.split("test"), data.spec
        assert isinstance(split, HourSplit) and split.targets is not None and spec is not None
        gauge = split.targets.double().numpy()
        errors = {name: np.abs(said - gauge) for name, said in measure(split, spec).items()}
        found = {name: (error.mean(), error[gauge < LIMIT].mean()) for name, error in errors.items()}
        own = (float(trainer.callback_metrics[f"test_{name}"]) for name in ("mae", "mae_under_73"))
        for name, (mae, under) in {**found, "this model": tuple(own)}.items():
            print(f"  test MAE {mae:9.4f}   under 73 mm {under:7.4f}   {name}", flush=True)
        for logger in trainer.loggers:
            values = {f"baseline_{name}": mae for name, (mae, _) in found.items()}
            logger.log_metrics(
                values | {f"baseline_{name}_under_73": under for name, (_, under) in found.items()}, trainer.global_step
            )

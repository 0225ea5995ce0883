"""``lightning-rnn backtest``: forecasts from several origins, by one trained forecaster or one trained at each."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lightning_rnn.errors import ConfigError, require
from lightning_rnn.training.checkpoints import BEST, LAST
from lightning_rnn.training.command import RunCommand
from lightning_rnn.training.hooks import write_atomically
from lightning_rnn.training.loading import load_trained
from lightning_rnn.training.preemption import StopSignal

from .backtest import Backtest, backtest
from .backtest_figure import draw_backtest
from .data import ForecastingData
from .module import Forecaster
from .panel import Panel

log = logging.getLogger(__name__)
FOLDER = "backtest"
ABOUT = """\
Forecasts the end of all series from several origins, and measures the forecasts beside the baselines' at each.

With --ckpt_path one trained forecaster forecasts from all origins; what it has seen in training is named. Without it,
one is trained on what is known at the earliest origin; with --refit, one at every origin. All options of fit may
follow, and hold for these trainings: --config, --data.horizon, --trainer.max_epochs and so on.
"""
FILES = """\
files, in the run's folder: backtest.parquet and backtest.csv (origin, unique_id, step, ds, mean, quantiles, y),
backtest_errors.csv (every error of every forecast at each origin), figures/backtest.png, and below backtest/ the runs
of what was trained.

exit codes: 0 done; 1 something could not be read or written; 2 a wrong option.

example:
  lightning-rnn backtest --config configs/forecasting/airline.yaml --origins 4 --step 6 --refit
"""


class Asked(RunCommand):
    """What a command line asks for: module, datamodule and folder. Nothing is run, and no checkpoint read."""

    def _checkpoint(self, asked: str | None) -> str | None:
        return None

    def _run_subcommand(self, subcommand: str) -> None:
        """Not Lightning's: it would predict."""


def main(argv: list[str]) -> int:
    """``lightning-rnn backtest``: write the files and print the errors. Returns the exit code.

    Raises:
        ConfigError: an option is wrong, or the configuration is of another task.
        DataError: no series is long enough, or the data are broken.
        CheckpointError: the checkpoint is missing, broken, or of something else.
    """
    options, rest = _arguments(argv)
    asked = Asked(["predict", *rest], StopSignal())
    data = asked.datamodule
    if not isinstance(data, ForecastingData):
        raise ConfigError(f"a backtest is of forecasts, not of {type(data).__name__}: give a config of forecasting")
    require(asked.trainer.world_size == 1, "a backtest runs in one process: leave --trainer.devices and num_nodes out")
    panel, test = data.source.load()
    whole = panel if test is None else panel.append(test)
    if options.ckpt_path is None:
        horizon = data.describe(panel, test).horizon
        trainer = _Training(rest, asked.root / FOLDER, horizon, whole)
        found = backtest(trainer, whole, horizon, options.origins, options.step, options.refit)
        levels = trainer.levels
    else:
        require(not options.refit, "--refit trains at every origin, --ckpt_path is a trained forecaster: leave one out")
        model = load_trained(Forecaster, options.ckpt_path)
        _tell_of_training(panel, whole, model, options)
        found, levels = model.backtest(whole, options.origins, options.step), model.levels
    for line in found.lines():
        print(line)
    _write(asked.root, found, draw_backtest(found, levels))
    return 0


class _Training:
    """Runs ``fit`` on what is known at an origin.

    Args:
        rest: options of ``fit``.
        folder: of the runs, one each.
        horizon: steps of a forecast.
        whole: the series with what follows.

    Raises:
        ConfigError: the folder holds runs already.
    """

    def __init__(self, rest: Sequence[str], folder: Path, horizon: int, whole: Panel) -> None:
        if folder.exists():
            raise ConfigError(
                f"{folder} holds a backtest's runs already: remove it, or choose another folder with "
                "--trainer.default_root_dir"
            )
        self.rest, self.folder, self.horizon, self.whole = rest, folder, horizon, whole
        self.levels: list[float] = []

    def __call__(self, past: Panel) -> Forecaster:
        held = int((self.whole.lengths.max() - past.lengths.max()).item())
        folder = self.folder / f"held_out_{held}"
        print(f"training without the last {held} steps: {folder}", flush=True)
        own = {"trainer.default_root_dir": folder, "data.hold_out": held, "data.horizon": self.horizon}
        stop = StopSignal()
        stop.install()
        try:
            RunCommand(["fit", *self.rest, *(f"--{name}={value}" for name, value in own.items())], stop)
        finally:
            stop.restore()
        kept = [folder / "checkpoints" / name for name in (BEST, LAST)]
        model = load_trained(Forecaster, next(path for path in kept if path.is_file()))
        self.levels = model.levels
        return model


def _tell_of_training(panel: Panel, whole: Panel, model: Forecaster, options: argparse.Namespace) -> None:
    """Say which origins lie in what the source has to train on."""
    assert model.spec is not None
    horizon, tested = model.spec.horizon, int((whole.lengths - panel.lengths).min())
    starts = [horizon + later * (options.step or horizon) for later in reversed(range(options.origins))]
    inside = sum(start > tested for start in starts)
    if inside:
        log.warning(
            "the horizons of %d of %d origins begin in the source's training part: a forecaster that was trained on it "
            "has seen them; train it with --data.hold_out %d for a fair backtest, or leave --ckpt_path out",
            inside, len(starts), starts[0],
        )  # fmt: skip


def _write(root: Path, found: Backtest, figure: Figure) -> None:
    write_atomically(root / "backtest.csv", lambda file: found.forecasts.write_csv(file))
    write_atomically(root / "backtest.parquet", lambda file: found.forecasts.write_parquet(file))
    write_atomically(root / "backtest_errors.csv", lambda file: found.errors.write_csv(file))
    write_atomically(root / "figures/backtest.png", lambda file: figure.savefig(file, dpi=120, format="png"))
    print(f"forecasts  {root / 'backtest.parquet'} and .csv\nerrors     {root / 'backtest_errors.csv'}")
    print(f"figure     {root / 'figures/backtest.png'}")


def _arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        "lightning-rnn backtest",
        description=ABOUT,
        epilog=FILES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--origins", type=int, default=3, metavar="N", help="how many; 3 where none is given")
    parser.add_argument("--step", type=int, metavar="N", help="steps between two; else a horizon")
    parser.add_argument("--refit", action="store_true", help="train at every origin")
    parser.add_argument("--ckpt_path", type=Path, metavar="FILE", help="a trained forecaster, such as best.ckpt")
    options, rest = parser.parse_known_args(argv)
    for name, value in (("origins", options.origins), ("step", options.step)):
        require(value is None or value >= 1, f"--{name} must be at least 1, got {value}")
    return options, rest

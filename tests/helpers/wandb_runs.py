"""Runs of the command line with W&B's overlay, each a fork with a home, a working folder and an environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import wandb.sdk.launch  # noqa: F401  # each fork's wandb.init would import it again

import lightning_rnn.training.wandb_logger  # noqa: F401
import tasks.sequence_classification  # noqa: F401
from lightning_rnn.testing.chaos import OUTPUT, attempt

CONFIGS = Path(__file__).parents[2] / "configs"
DIGITS = ("--config", str(CONFIGS / "sequence_classification/digits.yaml"))
OVERLAY = ("--config", str(CONFIGS / "logger/wandb.yaml"))
SHORT = ("--trainer.max_epochs", "2", "--trainer.limit_train_batches", "4", "--data.baselines", "false")
TWO = ("--trainer.strategy", "ddp_fork", "--trainer.devices", "2")


def isolated(home: Path, environment: Mapping[str, str]) -> Callable[[], None]:
    """For the new process: nothing of W&B in the environment but this, an empty home, an empty working folder."""

    def prepare() -> None:
        logging.getLogger().handlers.clear()  # pytest's would keep the lines for themselves
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ.setdefault("LIGHTNING_RNN_CACHE", str(Path.home() / ".cache" / "lightning-rnn"))
        os.environ.update({"HOME": str(home), "WANDB_ERROR_REPORTING": "false", **environment})
        for folder in (home, home / "work"):
            folder.mkdir(parents=True, exist_ok=True)
        os.chdir(home / "work")

    return prepare


def launch(
    verb: str,
    root: Path,
    *options: str,
    account: Mapping[str, str] = MappingProxyType({}),
    code: int = 0,
    also: Callable[[], object] = lambda: None,
) -> str:
    """Run it with these variables of W&B's and this exit code; what it printed.

    ``also`` is called in the new process before it begins.
    """

    def prepare() -> None:
        isolated(root.with_name(f"{root.name}_home"), account)()
        also()

    argv = [verb, *DIGITS, *OVERLAY, "--trainer.default_root_dir", str(root), *options]
    found = attempt(argv, root, sabotage=prepare)
    text = (root / OUTPUT).read_text()
    assert found == code, text
    return text

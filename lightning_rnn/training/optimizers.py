"""Optimizers and schedulers from the options of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.cli import ReduceLROnPlateau, instantiate_class
from torch import nn

from lightning_rnn.errors import ConfigError

STEPWISE = ("OneCycleLR", "CyclicLR")  # schedulers that step with every batch, not every epoch
Chosen = Mapping[str, Any]  # {"class_path": ..., "init_args": {...}}


def configured(
    parameters: Iterable[nn.Parameter], optimizer: Chosen, lr_scheduler: Chosen | None, steps: Callable[[], int]
) -> Any:
    """What ``configure_optimizers`` returns; ``steps`` gives those of the run, where OneCycleLR is not told.

    Raises:
        ConfigError: the optimizer or the scheduler does not take its options.

    Example:
        >>> import torch
        >>> sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": -1.0}}
        >>> configured([nn.Parameter(torch.zeros(1))], sgd, None, lambda: 1)
        Traceback (most recent call last):
        lightning_rnn.errors.ConfigError: the optimizer does not take its options (Invalid learning rate: -1.0): ...
    """
    with _accepting("optimizer"):
        made = instantiate_class(parameters, dict(optimizer))
    if lr_scheduler is None:
        return made
    name = lr_scheduler["class_path"].rpartition(".")[2]
    init_args = dict(lr_scheduler.get("init_args", {}))
    if name == "OneCycleLR" and init_args.get("total_steps") is None and init_args.get("epochs") is None:
        init_args["total_steps"] = steps()
    with _accepting("lr_scheduler"):
        scheduler = instantiate_class(made, {**lr_scheduler, "init_args": init_args})
    settings = {"scheduler": scheduler, "interval": "step" if name in STEPWISE else "epoch"}
    if isinstance(scheduler, ReduceLROnPlateau):
        settings["monitor"] = scheduler.monitor
    return {"optimizer": made, "lr_scheduler": settings}


@contextmanager
def _accepting(option: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"the {option} does not take its options ({error}): mend them") from error

"""The networks of shipped configurations: built as the command line builds them, and what a batch of theirs takes."""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stderr
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from ddp_model import Network
from jsonargparse import ArgumentParser

from lightning_rnn import plugins
from lightning_rnn.data.module import SequenceDataModule
from lightning_rnn.errors import DataError
from lightning_rnn.layers.cell import first_tensor
from lightning_rnn.training.flops import TRAINING, counting
from lightning_rnn.training.module import SequenceModule

CONFIGS = Path(__file__).parents[1] / "configs"


def shipped() -> list[Path]:
    """The configurations of all tasks."""
    return sorted(path for path in CONFIGS.glob("*/*.yaml") if path.parent.name in plugins.available())


def build(path: Path, *, embedded: bool = False) -> tuple[SequenceModule, SequenceDataModule, dict[str, Any]]:
    """Module with its network, datamodule with its training part, and the configuration.

    Args:
        path: a YAML of ``configs``.
        embedded: take the task's embedded source, not the configured one.

    Raises:
        DataError: the data are not there.
    """
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    data_options = config["data"]
    if embedded:
        data_options = {"class_path": data_options["class_path"]}
        data_options["init_args"] = {k: v for k, v in config["data"].get("init_args", {}).items() if k == "batch_size"}
    parser = ArgumentParser()
    parser.add_subclass_arguments(SequenceModule, "model")
    parser.add_subclass_arguments(SequenceDataModule, "data")
    made = parser.instantiate_classes(parser.parse_object({"model": config["model"], "data": data_options}))
    made.data.setup("fit")
    made.model.spec = made.data.spec
    torch.manual_seed(0)
    made.model.configure_model()
    return made.model, made.data, config


def describe(path: Path) -> Network:
    """Its parameters, and the operations of a training step on the middle one, by length, of the first nine batches."""
    note = ""
    try:
        module, data, _ = build(path)
    except DataError:
        module, data, _ = build(path, embedded=True)
        note = "embedded data"
    loader = data.train_dataloader()
    sizes = [(first_tensor(batch.inputs).shape[1], batch) for batch in islice(loader, 9)]
    steps, batch = sorted(sizes, key=lambda pair: pair[0])[len(sizes) // 2]
    with counting(module.network) as count:
        module.step(batch)
    parameters = sum(one.numel() for one in module.parameters() if one.requires_grad)
    return Network(path.stem, parameters, TRAINING * count.total, steps, len(loader.batch_sampler), note)


def networks(paths: list[Path]) -> list[Network]:
    """All of them, without their words."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()):
            return [describe(path) for path in paths]
    finally:
        logging.disable(logging.NOTSET)

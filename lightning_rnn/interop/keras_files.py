"""Keras 3's files: ``Sequential`` models with their weights."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from lightning_rnn.errors import CheckpointError
from lightning_rnn.interop.keras_configs import RECURRENT, Config, layer_from_config
from lightning_rnn.interop.keras_layers import BatchNorm, Repeat
from lightning_rnn.interop.keras_weights import set_weights
from lightning_rnn.layers import Embedding, Masking, TimeDistributed
from lightning_rnn.types import RNNOutput


class Sequential(nn.Module):
    """A Keras ``Sequential`` of supported layers: masks go from layer to layer as in Keras.

    Args:
        configs: the layers' configurations.
    """

    def __init__(self, configs: list[Config]) -> None:
        super().__init__()
        self.configs = [config for config in configs if config["class_name"] != "InputLayer"]
        self.layers = nn.ModuleList([layer_from_config(config) for config in self.configs])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
        """What Keras' ``model(x)`` gives: the last layer's output."""
        output: Any = x
        for config, layer in zip(self.configs, self.layers, strict=True):
            options = config["config"]
            if isinstance(layer, (Masking, Embedding)):
                mask = layer.compute_mask(output)
                output = layer(output)
            elif config["class_name"] in RECURRENT:
                inner = options["layer"]["config"] if config["class_name"] == "Bidirectional" else options
                ran: RNNOutput = layer(output, mask=mask)
                output = ran.sequence if inner.get("return_sequences") else ran.last
                mask = mask if inner.get("return_sequences") else None
            elif isinstance(layer, TimeDistributed):
                output = layer(output, mask=mask)
            elif isinstance(layer, BatchNorm):
                output = layer(output, mask)
            else:
                output = layer(output)
                mask = None if isinstance(layer, (nn.Flatten, Repeat)) else mask
        return output


def load_model(path: str | Path) -> Sequential:
    """A ``Sequential`` of supported layers, with its weights, from a ``.keras`` file (Keras 3's format).

    Raises:
        CheckpointError: the file cannot be read or holds another kind of model.
        ImportError: ``h5py`` is not installed.
    """
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("reading .keras files needs h5py: pip install 'lightning-rnn[keras]'") from error
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            if "metadata.json" in archive.namelist():
                version = json.loads(archive.read("metadata.json")).get("keras_version", "")
                config = _with_keras2_names(config) if version.startswith("2.") else config
            stored = h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")
    except (OSError, KeyError, zipfile.BadZipFile, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a .keras file: {error}") from error
    if config.get("class_name") != "Sequential":
        raise CheckpointError(f"{path} holds a {config.get('class_name')} model; only Sequential has a counterpart")
    model = Sequential(config["config"]["layers"])
    counts: dict[str, int] = {}
    for entry, layer in zip(model.configs, model.layers, strict=True):
        name = _snake(entry["class_name"].split(">")[-1])
        number = counts[name] = counts.get(name, -1) + 1
        group = stored[f"layers/{name}_{number}" if number else f"layers/{name}"]
        arrays = [array for part in _groups(group, entry) for array in _variables(part)]
        if arrays:
            set_weights(layer, arrays)
    return model.eval()


def _with_keras2_names(config: Any) -> Any:
    """A nested config of Keras 2: its ``hard_sigmoid`` is another function than Keras 3's."""
    if isinstance(config, dict):
        return {key: _with_keras2_names(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_with_keras2_names(value) for value in config]
    return "hard_sigmoid_keras2" if config == "hard_sigmoid" else config


def _groups(group: Any, entry: Config) -> Iterator[Any]:
    """The groups that hold a layer's variables, in the order of its weights."""
    name, options = entry["class_name"], entry["config"]
    if name == "Bidirectional":
        for side in ("forward_layer", "backward_layer"):
            yield from _groups(group[side], options["layer"])
    elif name == "TimeDistributed":
        yield from _groups(group["layer"], options["layer"])
    elif name == "RNN":
        yield from _groups(group["cell"], options["cell"])
    elif name == "StackedRNNCells":
        counts: dict[str, int] = {}
        for cell in options["cells"]:
            key = _snake(cell["class_name"].split(">")[-1])
            number = counts[key] = counts.get(key, -1) + 1
            yield from _groups(group["cells"][f"{key}_{number}" if number else key], cell)
    else:
        yield group.get("cell", group)


def _variables(group: Any) -> list[np.ndarray[Any, Any]]:
    if "vars" not in group:
        return []
    return [np.asarray(group["vars"][key]) for key in sorted(group["vars"], key=int)]


def _snake(name: str) -> str:
    """Keras' names of groups: ``ConvLSTM2D`` is ``conv_lstm2d``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()

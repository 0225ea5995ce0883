"""What makes a vector of a frame: our small convolutional network, or any module by its class path."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError, DataError


class FrameCNN(nn.Sequential):
    """Convolutions of stride 2, each with batch normalization and ReLU; then one linear layer, so that places count.

    Args:
        shape: of a frame, ``[C, H, W]``.
        channels: of the convolutions; the first is 5 x 5, the others 3 x 3.
        size: features of a frame.

    Example:
        >>> FrameCNN([1, 64, 64], [8, 16], 32)(torch.zeros(5, 1, 64, 64)).shape
        torch.Size([5, 32])
    """

    def __init__(self, shape: Sequence[int], channels: Sequence[int], size: int) -> None:
        layers: list[nn.Module] = []
        before, height, width = shape
        for place, after in enumerate(channels):
            kernel = 3 if place else 5
            layers += [nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2, bias=False)]
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
            before, height, width = after, -(-height // 2), -(-width // 2)
        super().__init__(*layers, nn.Flatten(), nn.Linear(before * height * width, size), nn.ReLU())


def from_class_path(chosen: Mapping[str, Any]) -> nn.Module:
    """The module that ``{"class_path": "package.Class", "init_args": {...}}`` names.

    Raises:
        ConfigError: there is no such class, it is no ``nn.Module``, or it does not take these arguments.

    Example:
        >>> from_class_path({"class_path": "torch.nn.Linear", "init_args": {"in_features": 3, "out_features": 2}})
        Linear(in_features=3, out_features=2, bias=True)
    """
    path, arguments = chosen.get("class_path"), chosen.get("init_args") or {}
    if not isinstance(path, str) or set(chosen) - {"class_path", "init_args"} or not isinstance(arguments, Mapping):
        raise ConfigError(f"model.frame_network must be a class_path with init_args, got {dict(chosen)}")
    module, _, name = path.rpartition(".")
    try:
        found = vars(importlib.import_module(module))[name]
    except (ImportError, KeyError, ValueError) as error:
        reason = f"it has no {name}" if isinstance(error, KeyError) else str(error) or "it has no module"
        raise ConfigError(
            f"model.frame_network: {path} cannot be imported ({reason}): mend the class_path, or name its file's "
            "folder in PYTHONPATH"
        ) from error
    if not callable(found):
        raise ConfigError(f"model.frame_network: {path} is no class: name an nn.Module")
    try:
        network = found(**arguments)
    except Exception as error:  # another's code may raise any
        raise ConfigError(
            f"model.frame_network: {path} does not take its init_args ({_said(error)}): mend them"
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"model.frame_network: {path} gives a {type(network).__name__}, not an nn.Module")
    return network


def _said(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@torch.no_grad()
def features_of(network: nn.Module, shape: Sequence[int]) -> int:
    """Features that a network makes of a frame; tried on two empty frames.

    Raises:
        ConfigError: it cannot take such frames, or does not give one vector for each.

    Example:
        >>> features_of(nn.Flatten(), [1, 4, 4])
        16
    """
    name, was_training = type(network).__name__, network.training
    with torch.random.fork_rng(devices=[]):
        try:
            found = network.eval()(torch.zeros(2, *shape))
        except Exception as error:  # another's code may raise any
            raise ConfigError(
                f"model.frame_network: {name} cannot take frames [N, {', '.join(map(str, shape))}] ({_said(error)}): "
                "set its init_args for them"
            ) from error
    network.train(was_training)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
        got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(
            f"model.frame_network: {name} makes {got} of 2 frames, one vector for each is wanted, [2, features]: pool "
            "or flatten its output"
        )
    return found.shape[1]


def load_weights(network: nn.Module, path: str) -> None:
    """Give a network the weights of a file that ``torch.save(network.state_dict(), path)`` wrote.

    Raises:
        DataError: it cannot be read, or is of another network.
    """
    try:
        state = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(f"model.frame_weights: no file {path}: give its path from where this runs") from error
    except Exception as error:  # whatever unpickling meets
        raise DataError(f"model.frame_weights: {path} is no file of weights ({type(error).__name__})") from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"model.frame_weights: {path} is of another network ({reason}): give its own") from error

"""Checkpoints to what translates: one network, or several as an ensemble; in other precisions where asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from lightning_rnn.errors import CheckpointError, ConfigError
from lightning_rnn.layers.quantized import quantize_dynamic
from lightning_rnn.training.loading import load_trained

from .module import Translator
from .network import TranslationNetwork
from .spec import TranslationSpec

Precision = Literal["32", "bf16", "int8"]


def load_all(paths: Sequence[Path]) -> list[Translator]:
    """The models of an ensemble.

    Raises:
        CheckpointError: see :func:`lightning_rnn.training.loading.load_trained`; or their vocabularies differ.
    """
    models = [load_trained(Translator, path).eval() for path in paths]
    for path, model in zip(paths, models, strict=True):
        if (name := _difference(models[0], model)) is not None:
            raise CheckpointError(
                f"{path} has another {name} than {paths[0]}: an ensemble needs models of one vocabulary, as runs with "
                "other values of seed_everything on the same data have"
            )
    return models


def _difference(first: Translator, other: Translator) -> str | None:
    """What of the data must be equal and is not."""
    assert isinstance(first.spec, TranslationSpec) and isinstance(other.spec, TranslationSpec)
    for name in ("tokenizer", "target_tokenizer", "lower", "reverse_source", "source_eos"):
        if getattr(first.spec, name) != getattr(other.spec, name):
            return name
    return None


def placed(network: TranslationNetwork, device: str) -> TranslationNetwork:
    """The network on a device.

    Raises:
        ConfigError: there is no such device.
    """
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ConfigError(f"--device {device}: {str(error).splitlines()[0]}") from error


def in_precision(network: TranslationNetwork, precision: Precision) -> TranslationNetwork:
    """The network as it is (``32``), with all weights in bfloat16, or with the recurrent ones in int8.

    Raises:
        ConfigError: its cells have no int8.
    """
    if precision == "bf16":
        return network.to(torch.bfloat16)
    if precision == "int8":
        try:
            quantized: TranslationNetwork = quantize_dynamic(network)  # type: ignore[assignment]  # a copy of its class
        except ValueError as error:
            raise ConfigError(f"--precision int8: {error}") from error
        return quantized
    return network

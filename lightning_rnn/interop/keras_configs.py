"""Layers from the configs of Keras 2 and 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from lightning_rnn.functional import StepOptions
from lightning_rnn.functional.options import ACTIVATIONS
from lightning_rnn.interop.keras_layers import Activate, BatchNorm, ChannelsLast, Dense, LayerNorm, Output, Repeat
from lightning_rnn.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    ConvLSTM1d,
    ConvLSTM2d,
    ConvLSTM3d,
    Embedding,
    ESNCell,
    GRUCell,
    LSTMCell,
    Masking,
    NASCell,
    Regularization,
    SimpleRNN,
    SimpleRNNCell,
    StackedCells,
    TimeDistributed,
    TimeOptions,
)

Config = dict[str, Any]
_NAMES = {"swish": "silu", None: "linear"}


def layer_from_config(config: Config) -> nn.Module:
    """Our layer from a Keras layer's or cell's configuration, wrappers and stacks included.

    Args:
        config: ``{"class_name": ..., "config": {...}}``, as ``keras.saving.serialize_keras_object`` gives it; what says
            nothing about the function, such as initializers, is ignored. Cells of TensorFlow Addons are known as
            ``"Addons>..."``.

    Returns:
        A layer called as ``layer(x, state, mask=mask)``, which returns :class:`RNNOutput`: Keras' output is
        ``.sequence`` with ``return_sequences``, else ``.last``. The size of its input comes with :func:`set_weights` or
        the first call.

    Raises:
        ValueError: an unknown class, or an option that there is no counterpart for.

    Example:
        >>> import torch
        >>> layer = layer_from_config({"class_name": "LSTM", "config": {"units": 5, "go_backwards": True}})
        >>> layer(torch.zeros(2, 7, 3)).last.shape
        torch.Size([2, 5])
    """
    name = str(config.get("class_name", "")).split(">")[-1].split(".")[-1]
    if name not in BUILDERS:
        raise ValueError(
            f"no counterpart for the Keras layer {config.get('class_name')!r}; known: {', '.join(BUILDERS)}"
        )
    options = dict(config.get("config", {}))
    if "axis" in options:
        options["axis"] = _from_end(options["axis"], config.get("build_config"))
    return BUILDERS[name](options)


def _from_end(axis: Any, built: Config | None) -> Any:
    """-1 for the last axis: Keras 2 writes its number, which the shape that the layer was built with tells."""
    axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
    shape = (built or {}).get("input_shape")
    return -1 if isinstance(axis, int) and shape and axis == len(shape) - 1 else axis


def _activation(config: Config, key: str = "activation", default: str | None = "tanh") -> str:
    value = config.get(key, default)
    if isinstance(value, dict):
        value = value.get("config", value.get("class_name"))
        value = value.get("name", value) if isinstance(value, dict) else value
    name = _NAMES.get(value, value)
    if name == "hard_sigmoid" and _is_keras2(config):
        name = "hard_sigmoid_keras2"
    if name not in ACTIVATIONS:
        raise ValueError(f"no counterpart for the Keras activation {value!r} in {key}; known: {', '.join(ACTIVATIONS)}")
    return str(name)


def _is_keras2(config: Config) -> bool:
    """Keras 2 wrote ``time_major`` and ``implementation``, Keras 3 does not; only ``hard_sigmoid`` differs."""
    return "time_major" in config or "implementation" in config


def _noise(config: Config) -> Regularization:
    return Regularization(dropout=config.get("dropout", 0.0), recurrent_dropout=config.get("recurrent_dropout", 0.0))


def _cell_options(kind: str, config: Config) -> Config:
    """What a layer and its cell have in common."""
    step: Config = {"activation": _activation(config)}
    extra: Config = {}
    if kind != "simple_rnn":
        step["recurrent_activation"] = _activation(config, "recurrent_activation", "sigmoid")
    if kind == "gru":
        step["reset_after"] = config.get("reset_after", True)
    if kind == "lstm":
        extra["unit_forget_bias"] = config.get("unit_forget_bias", True)
    return extra | {
        "hidden_size": config["units"],
        "bias": config.get("use_bias", True),
        "initializer": "keras",
        "step_options": StepOptions(**step),
        "regularization": _noise(config),
    }


def _time(config: Config) -> Config:
    """What every Keras RNN layer has: how time is run."""
    return {
        "reverse": config.get("go_backwards", False),
        "stateful": config.get("stateful", False),
        "zero_output_for_mask": config.get("zero_output_for_mask", False),
        "time_options": TimeOptions(unroll=config.get("unroll", False), time_major=config.get("time_major", False)),
    }


def _layer(cls: Any) -> Callable[[Config], nn.Module]:
    return lambda config: cls(None, **_cell_options(cls.kind, config), **_time(config))


def _cell(cls: Any, **step: Any) -> Callable[[Config], nn.Module]:
    def build(config: Config) -> nn.Module:
        options = _cell_options(cls.kind, config)
        known = {name: getattr(options["step_options"], name) for name in ("activation", "recurrent_activation")}
        if step:
            eps = {"layer_norm_eps": config.get("norm_epsilon", config.get("layernorm_epsilon"))}
            options["step_options"] = StepOptions(**known | step | (eps if "layer_norm" in step else {}))
        cell: nn.Module = cls(None, **options)
        return cell

    return build


def _stack(config: Config) -> nn.Module:
    return StackedCells([layer_from_config(cell) for cell in config["cells"]])


def _rnn(config: Config) -> nn.Module:
    cell = config["cell"]
    built = _stack({"cells": cell}) if isinstance(cell, list) else layer_from_config(cell)
    return RNN(built, **_time(config))


def _bidirectional(config: Config) -> nn.Module:
    """Keras sets ``zero_output_for_mask`` of both directions to the layer's ``return_sequences``."""
    forward = dict(config["layer"])
    options = forward["config"]
    if options.get("go_backwards"):
        raise ValueError(
            "Bidirectional: Keras merges the outputs of a forward layer with go_backwards in the order of processing, "
            "which has no counterpart; make it the backward_layer"
        )
    forward["config"] = options | {"zero_output_for_mask": options.get("return_sequences", False)}
    given = config.get("backward_layer")
    backward = dict(given) if given else forward | {"config": forward["config"] | {"go_backwards": True}}
    backward["config"] = backward["config"] | {"zero_output_for_mask": forward["config"]["zero_output_for_mask"]}
    both: list[Any] = [layer_from_config(forward), layer_from_config(backward)]
    merge = config.get("merge_mode", "concat")
    if isinstance(both[0], ChannelsLast):
        inside: list[Any] = [layer.layer for layer in both]
        return ChannelsLast(Bidirectional(inside[0], merge, inside[1]))
    return Bidirectional(both[0], merge, both[1])


def _time_distributed(config: Config) -> nn.Module:
    inner = config["layer"]
    layer = layer_from_config(inner)
    if inner["class_name"] in RECURRENT:
        layer = Output(layer, _returns_sequences(inner))
    return TimeDistributed(layer)


def _returns_sequences(config: Config) -> bool:
    options = config["config"]
    inner = options["layer"]["config"] if config["class_name"] == "Bidirectional" else options
    return bool(inner.get("return_sequences", False))


def _conv(cls: Any, dimensions: int) -> Callable[[Config], nn.Module]:
    def build(config: Config) -> nn.Module:
        sizes = {
            ours: _tuple(config.get(theirs, 1), dimensions)
            for ours, theirs in (("kernel_size", "kernel_size"), ("stride", "strides"), ("dilation", "dilation_rate"))
        }
        layer = cls(
            None,
            config["filters"],
            **sizes,
            padding=config.get("padding", "valid"),
            bias=config.get("use_bias", True),
            activation=_activation(config),
            recurrent_activation=_activation(config, "recurrent_activation", "sigmoid"),
            unit_forget_bias=config.get("unit_forget_bias", True),
            dropout=config.get("dropout", 0.0),
            recurrent_dropout=config.get("recurrent_dropout", 0.0),
            **_time(config),
        )
        return layer if config.get("data_format") == "channels_first" else ChannelsLast(layer)

    return build


def _tuple(value: Any, dimensions: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,) * dimensions


def _embedding(config: Config) -> nn.Module:
    return Embedding(config["input_dim"], config["output_dim"], mask_zero=config.get("mask_zero", False))


def _dense(config: Config) -> nn.Module:
    return Dense(config["units"], config.get("use_bias", True), _activation(config, default="linear"))


def _batch_norm(config: Config) -> nn.Module:
    if config.get("axis", -1) not in (-1, [-1]):
        raise ValueError(f"BatchNormalization: only the last axis has a counterpart, got axis={config['axis']}")
    scale, center = config.get("scale", True), config.get("center", True)
    return BatchNorm(config.get("epsilon", 1e-3), config.get("momentum", 0.99), scale, center)


def _layer_norm(config: Config) -> nn.Module:
    if config.get("axis", -1) not in (-1, [-1]):
        raise ValueError(f"LayerNormalization: only the last axis has a counterpart, got axis={config['axis']}")
    return LayerNorm(config.get("epsilon", 1e-3), config.get("scale", True), config.get("center", True))


def _esn(config: Config) -> nn.Module:
    return ESNCell(
        None,
        config["units"],
        connectivity=config.get("connectivity", 0.1),
        leaky=config.get("leaky", 1),
        spectral_radius=config.get("spectral_radius", 0.9),
        use_norm2=config.get("use_norm2", False),
        use_bias=config.get("use_bias", True),
        activation=_activation(config),
    )


BUILDERS: dict[str, Callable[[Config], nn.Module]] = {
    "SimpleRNN": _layer(SimpleRNN),
    "LSTM": _layer(LSTM),
    "GRU": _layer(GRU),
    "SimpleRNNCell": _cell(SimpleRNNCell),
    "LSTMCell": _cell(LSTMCell),
    "GRUCell": lambda config: GRUCell(None, **_cell_options("gru", config)),
    "PeepholeLSTMCell": _cell(LSTMCell, peephole=True),
    "LayerNormLSTMCell": _cell(LSTMCell, layer_norm="addons"),
    "LayerNormSimpleRNNCell": _cell(SimpleRNNCell, layer_norm="addons"),
    "ESNCell": _esn,
    "NASCell": lambda config: NASCell(
        None, config["units"], bias=config.get("use_bias", False), proj_size=config.get("projection") or 0
    ),
    "StackedRNNCells": _stack,
    "RNN": _rnn,
    "Bidirectional": _bidirectional,
    "TimeDistributed": _time_distributed,
    "ConvLSTM1D": _conv(ConvLSTM1d, 1),
    "ConvLSTM2D": _conv(ConvLSTM2d, 2),
    "ConvLSTM3D": _conv(ConvLSTM3d, 3),
    "Masking": lambda config: Masking(config.get("mask_value", 0.0)),
    "Embedding": _embedding,
    "Dense": _dense,
    "Activation": lambda config: Activate(_activation(config)),
    "Dropout": lambda config: nn.Dropout(config["rate"]),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "RepeatVector": lambda config: Repeat(config["n"]),
    "Flatten": lambda config: nn.Flatten(),
}


RECURRENT = ("SimpleRNN", "LSTM", "GRU", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")

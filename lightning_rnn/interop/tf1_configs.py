"""Layers from the configs of TensorFlow 1's cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_rnn.functional import StepOptions
from lightning_rnn.layers import (
    RNN,
    Bidirectional,
    DropoutWrapper,
    GRUCell,
    LSTMCell,
    ResidualWrapper,
    SimpleRNNCell,
    StackedCells,
)
from lightning_rnn.layers.cell import Cell

Config = dict[str, Any]


def layer_from_config(config: Config) -> RNN:
    """``tf.nn.dynamic_rnn`` over a cell: past the end outputs are zero and the state is copied through.

    Args:
        config: ``{"class_name": "LSTMCell", "config": {...}}`` with the arguments of the TF1 cell; ``MultiRNNCell`` has
            ``cells``, a wrapper ``cell``. Known are ``BasicRNNCell``, ``BasicLSTMCell``, ``LSTMCell``, ``GRUCell``,
            ``LayerNormBasicLSTMCell``, ``MultiRNNCell``, ``DropoutWrapper``, ``ResidualWrapper`` and ``DeviceWrapper``,
            whose device is left to ``.to()``.

    Returns:
        A layer called as ``layer(x, state, lengths=sequence_length)``.

    Raises:
        ValueError: an unknown cell, or an option that there is no counterpart for.

    Example:
        >>> import torch
        >>> layer = layer_from_config({"class_name": "LSTMCell", "config": {"num_units": 4, "num_proj": 2}})
        >>> layer(torch.zeros(1, 7, 3)).sequence.shape
        torch.Size([1, 7, 2])
    """
    return RNN(cell_from_config(config), zero_output_for_mask=True)


def bidirectional_from_config(forward: Config, backward: Config | None = None) -> Bidirectional:
    """``tf.nn.bidirectional_dynamic_rnn`` over two cells: outputs and states are pairs ``(forward, backward)``.

    Args:
        forward: of the cell from start to end, as in :func:`layer_from_config`.
        backward: of the cell from end to start; None: as ``forward``.

    Example:
        >>> import torch
        >>> layer = bidirectional_from_config({"class_name": "GRUCell", "config": {"num_units": 4}})
        >>> [output.shape for output in layer(torch.zeros(1, 7, 3)).sequence]
        [torch.Size([1, 7, 4]), torch.Size([1, 7, 4])]
    """
    behind = RNN(cell_from_config(backward or forward), reverse=True, zero_output_for_mask=True)
    return Bidirectional(layer_from_config(forward), None, behind)


def cell_from_config(config: Config) -> Cell:
    """The cell alone, see :func:`layer_from_config`."""
    name = str(config.get("class_name", "")).split(".")[-1]
    if name not in BUILDERS:
        raise ValueError(f"no counterpart for the TF1 cell {config.get('class_name')!r}; known: {', '.join(BUILDERS)}")
    return BUILDERS[name](dict(config.get("config", {})))


def _options(config: Config, **step: Any) -> Config:
    activation = config.get("activation") or "tanh"
    if callable(activation):
        activation = getattr(activation, "__name__", repr(activation))
    if activation == "hard_sigmoid":
        activation = "hard_sigmoid_keras2"  # TF1's slope is 1/5
    return {"hidden_size": config["num_units"], "step_options": StepOptions(activation=activation, **step)}


def _basic_lstm(config: Config) -> LSTMCell:
    return _with_bias(LSTMCell(None, **_options(config), unit_forget_bias=False), config)


def _lstm(config: Config) -> LSTMCell:
    step = {"peephole": config.get("use_peepholes", False), "cell_clip": config.get("cell_clip")}
    if config.get("num_proj"):
        step["proj_clip"] = config.get("proj_clip")  # without a projection TF1 does not look at it
    cell = LSTMCell(None, **_options(config, **step), proj_size=config.get("num_proj") or 0, unit_forget_bias=False)
    return _with_bias(cell, config)


def _norm_lstm(config: Config) -> LSTMCell:
    if config.get("dropout_keep_prob", 1.0) != 1:
        raise ValueError(
            "LayerNormBasicLSTMCell: dropout of the candidate has no counterpart; give dropout_keep_prob 1"
        )
    if not config.get("layer_norm", True):
        return _basic_lstm(config)
    return _with_bias(LSTMCell(None, **_options(config, layer_norm="basic"), bias=False), config)


def _with_bias(cell: LSTMCell, config: Config) -> LSTMCell:
    """TF1 adds ``forget_bias`` in the equation; here it is part of the bias, and remembered for :func:`get_weights`."""
    cell.forget_bias = float(config.get("forget_bias", 1.0))  # type: ignore[assignment]
    return cell


def _dropout(config: Config) -> DropoutWrapper:
    enter, leave, keep = (1 - config.get(f"{what}_keep_prob", 1.0) for what in ("input", "output", "state"))
    return DropoutWrapper(
        cell_from_config(config["cell"]), enter, leave, keep, variational=config.get("variational_recurrent", False)
    )


def _residual(config: Config) -> ResidualWrapper:
    if config.get("residual_fn") is not None:
        raise ValueError(
            "ResidualWrapper: residual_fn is code that a config cannot bring; wrap cell_from_config's cell"
        )
    return ResidualWrapper(cell_from_config(config["cell"]))


BUILDERS: dict[str, Callable[[Config], Cell]] = {
    "BasicRNNCell": lambda config: SimpleRNNCell(None, **_options(config)),
    "BasicLSTMCell": _basic_lstm,
    "LSTMCell": _lstm,
    "LayerNormBasicLSTMCell": _norm_lstm,
    "GRUCell": lambda config: GRUCell(None, **_options(config, reset_after=False)),
    "MultiRNNCell": lambda config: StackedCells([cell_from_config(cell) for cell in config["cells"]]),
    "DropoutWrapper": _dropout,
    "ResidualWrapper": _residual,
    "DeviceWrapper": lambda config: cell_from_config(config["cell"]),
}

"""LSTM and GRU cells with layer normalization inside the step."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from lightning_rnn.functional import StepOptions
from lightning_rnn.functional.options import LayerNorm
from lightning_rnn.layers.cells import GRUCell, LSTMCell
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.options import Regularization


class LayerNormLSTMCell(LSTMCell):
    """:class:`LSTMCell` with layer normalization inside the step, in one of three forms (:class:`StepOptions`).

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        variant: ``addons``, ``haste`` or ``basic``.
        bias: whether there are bias vectors.
        proj_size: outputs are projected to this many features; 0: not.
        initializer: ``torch``, ``keras`` or ``chrono``.
        unit_forget_bias: whether the forget gate's bias starts at 1, else 0; None: as the initializer has it.
        step_options: further variants of the equation.
        regularization: as in :class:`LSTMCell`.

    Example:
        >>> import torch
        >>> output, (h, c) = LayerNormLSTMCell(3, 5, variant="haste")(torch.zeros(2, 3))
        >>> c.shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        *,
        variant: Literal["addons", "haste", "basic"] = "addons",
        bias: bool = True,
        proj_size: int = 0,
        initializer: Initializer = "torch",
        unit_forget_bias: bool | None = None,
        step_options: StepOptions | None = None,
        regularization: Regularization | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias=bias,
            proj_size=proj_size,
            initializer=initializer,
            unit_forget_bias=unit_forget_bias,
            step_options=normalized("LayerNormLSTMCell", step_options, variant),
            regularization=regularization,
        )
        self.variant = variant


class LayerNormGRUCell(GRUCell):
    """:class:`GRUCell` with layer normalization inside the step, in the form ``haste`` (:class:`StepOptions`).

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        bias: whether there are bias vectors.
        initializer: ``torch``, ``keras`` or ``chrono``.
        step_options: further variants of the equation.
        regularization: as in :class:`GRUCell`.

    Example:
        >>> import torch
        >>> output, h = LayerNormGRUCell(3, 5)(torch.zeros(2, 3))
        >>> h.shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        *,
        bias: bool = True,
        initializer: Initializer = "torch",
        step_options: StepOptions | None = None,
        regularization: Regularization | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias=bias,
            initializer=initializer,
            step_options=normalized("LayerNormGRUCell", step_options, "haste"),
            regularization=regularization,
        )


def normalized(name: str, options: StepOptions | None, variant: LayerNorm) -> StepOptions:
    """The options with this variant of layer normalization."""
    options = options or StepOptions()
    if variant == "none" or options.layer_norm not in ("none", variant):
        raise ValueError(f"{name}: got layer_norm={options.layer_norm!r} in step_options beside variant {variant!r}")
    return replace(options, layer_norm=variant)

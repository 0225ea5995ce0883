"""Groups of a recurrent layer's rarer options; each fills from YAML by its names."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Regularization:
    """Noise while training.

    Attributes:
        dropout: share of every layer's input dropped (Keras' ``dropout``).
        layer_dropout: share of the outputs dropped between layers, each element for itself (torch's ``dropout``).
        recurrent_dropout: share of the state dropped, for each gate apart, before the recurrent product.
        output_dropout: share of every layer's output dropped; the state keeps it.
        variational: ``dropout``, ``recurrent_dropout`` and ``output_dropout`` drop the same features at every step of a
            row (Gal and Ghahramani 2016, arXiv 1512.05287); False: drawn anew at each.
        zoneout: chance that a unit of the output state keeps its old value (Krueger et al. 2017, arXiv 1606.01305, eq.
            7, on h); in eval mode the expectation of that.
        weight_dropout: share of the recurrent matrix dropped, once a call (Merity et al. 2018, arXiv 1708.02182).
    """

    dropout: float = 0.0
    layer_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    output_dropout: float = 0.0
    variational: bool = True
    zoneout: float = 0.0
    weight_dropout: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise ValueError(f"{field.name} must be between 0 and 1, got {value}")


@dataclass(frozen=True)
class TimeOptions:
    """How time is run.

    Attributes:
        keep_order: outputs of a ``reverse`` layer stay at their own time, instead of the order of processing.
        unroll: run the loop in Python (the ``scan`` engine) even where a fused kernel could.
        checkpoint: keep the state of every this many steps only and compute the rest again in backward.
        offload: what backward needs waits in the host's memory (TF1's ``swap_memory``).
        time_major: ``x``, ``mask``, ``reset_mask`` and the outputs are ``[T, B, ...]``.
        return_all_states: the state after every step, in ``RNNOutput.all_states``.
    """

    keep_order: bool = False
    unroll: bool = False
    checkpoint: int | None = None
    offload: bool = False
    time_major: bool = False
    return_all_states: bool = False

    def __post_init__(self) -> None:
        if self.checkpoint is not None and self.checkpoint < 1:
            raise ValueError(f"checkpoint must be a number of steps of at least 1, or None, got {self.checkpoint}")

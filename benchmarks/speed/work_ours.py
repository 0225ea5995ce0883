"""Our layers, plain and with every option."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_rnn import GRU, LSTM, Regularization, SimpleRNN, StepOptions, TimeOptions
from lightning_rnn.interop.keras import get_weights
from speed.arrays import lengths, resets, valid
from speed.cases import Case
from speed.work_torch import LayerWork, torch_layer

OURS = {"lstm": LSTM, "gru": GRU, "simple_rnn": SimpleRNN}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "recurrent dropout": {"regularization": Regularization(recurrent_dropout=0.25)},
    "recurrent dropout each step": {"regularization": Regularization(recurrent_dropout=0.25, variational=False)},
    "zoneout": {"regularization": Regularization(zoneout=0.1)},
    "peephole": {"step_options": StepOptions(peephole=True)},
    "cell_clip": {"step_options": StepOptions(cell_clip=3.0)},
    "layer_norm addons": {"step_options": StepOptions(layer_norm="addons")},
    "layer_norm haste": {"step_options": StepOptions(layer_norm="haste")},
    "layer_norm basic": {"step_options": StepOptions(layer_norm="basic")},
    "reset_after=False": {"step_options": StepOptions(reset_after=False)},
    "relu": {"step_options": StepOptions(activation="relu")},
    "hard_sigmoid": {"step_options": StepOptions(recurrent_activation="hard_sigmoid")},
    "return_all_states": {"time_options": TimeOptions(return_all_states=True)},
    "reverse": {"reverse": True},
    "bidirectional": {"bidirectional": True},
}


def our_layer(case: Case) -> nn.Module:
    """Our layer of a case; where ``torch.nn`` has the same weights, with those."""
    size = case.shape
    arguments = dict(ARGUMENTS.get(case.option, {}), engine=case.engine)
    if case.option == "projection":
        arguments["proj_size"] = size.hidden // 2
    torch.manual_seed(0)
    layer = OURS[case.cell](size.inputs, size.hidden, size.layers, **arguments)
    like = torch_layer(case).state_dict()
    if {name: p.shape for name, p in layer.named_parameters()} == {name: p.shape for name, p in like.items()}:
        layer.load_state_dict(like)
    return layer.to(torch.bfloat16 if case.dtype == "bfloat16" else torch.float32).train(case.mode == "training")


class Ours(LayerWork):
    """One of our layers."""

    def __init__(self, case: Case) -> None:
        super().__init__(case, our_layer(case))
        self.masks: dict[str, Tensor] = {}
        if case.option == "lengths":
            self.masks = {"lengths": torch.from_numpy(lengths(case))}
        elif case.option in ("mask with holes", "left padding"):
            self.masks = {"mask": torch.from_numpy(valid(case))}
        elif case.option == "reset_mask":
            self.masks = {"reset_mask": torch.from_numpy(resets(case))}
        self.engine = self.layer.explain(self.x, **self.masks).engine  # type: ignore[operator]

    def run(self) -> Tensor:
        """Outputs ``[B, T, H]``."""
        output: Tensor = self.layer(self.x, **self.masks).sequence
        return output

    def numbers(self) -> dict[str, Any]:
        """Where Keras computes the same, also the gradient of the kernel as it has it."""
        found = super().numbers()
        return found | ({"kernel": get_weights(self._of_grads())[0]} if self.case.keras_weights else {})

    def save(self, path: str) -> None:
        """Beside the numbers, for Keras to compute the same: the weights as it has them."""
        super().save(path)
        if self.case.keras_weights:
            np.savez(Path(path).with_name("weights.npz"), *get_weights(self.layer))

    def _of_grads(self) -> nn.Module:
        """The layer with its gradients in place of its weights."""
        layer = copy.deepcopy(self.layer)
        for to, parameter in zip(layer.parameters(), self.layer.parameters(), strict=True):
            to.data = torch.zeros_like(to) if parameter.grad is None else parameter.grad
        return layer

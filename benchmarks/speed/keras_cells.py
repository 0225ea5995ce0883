"""Keras layers of the cases, and the two LSTM cells that Keras lacks, written as a user of Keras would."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from speed.cases import Case

LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "simple_rnn": keras.layers.SimpleRNN}


class PeepholeLSTMCell(keras.layers.LSTMCell):
    """Gates that see the memory through a diagonal (Gers and Schmidhuber 2000)."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.peephole = self.add_weight(shape=(3, self.units), initializer="glorot_uniform", name="peephole")

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        h, c = states
        z = ops.matmul(inputs, self.kernel) + ops.matmul(h, self.recurrent_kernel) + self.bias
        return lstm(ops.split(z, 4, axis=1), c, peephole=self.peephole)


class LayerNormLSTMCell(keras.layers.LSTMCell):
    """Both products and the memory normalized (Addons' ``LayerNormLSTMCell``)."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-3) for _ in range(3)]
        for norm, width in zip(self.norms, (4, 4, 1), strict=True):
            norm.build((None, width * self.units))

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        h, c = states
        products = ops.matmul(inputs, self.kernel), ops.matmul(h, self.recurrent_kernel)
        z = self.norms[0](products[0]) + self.norms[1](products[1]) + self.bias
        return lstm(ops.split(z, 4, axis=1), c, norm=self.norms[2])


def lstm(gates: Any, c: Any, peephole: Any = None, norm: Any = None) -> tuple[Any, list[Any]]:
    """The rest of a step, from the sums of the gates on."""
    i, f, g, o = gates
    if peephole is not None:
        i, f = i + peephole[0] * c, f + peephole[1] * c
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
    if norm is not None:
        c = norm(c)
    if peephole is not None:
        o = o + peephole[2] * c
    h = ops.sigmoid(o) * ops.tanh(c)
    return h, [h, c]


def layer_of(case: Case) -> Any:
    """The Keras layer of a case, or a ``Sequential`` of them."""
    hidden = case.shape.hidden
    cells = {"peephole": PeepholeLSTMCell, "layer_norm addons": LayerNormLSTMCell}
    arguments: dict[str, Any] = {
        "plain": {},
        "mask with holes": {},
        "recurrent dropout": {"recurrent_dropout": 0.25},
        "reset_after=False": {"reset_after": False},
    }

    def one() -> Any:
        if case.option in cells and case.cell == "lstm":
            return keras.layers.RNN(cells[case.option](hidden), return_sequences=True)
        if case.option not in arguments:
            raise ValueError(f"no Keras layer is written for {case.option}")
        return LAYERS[case.cell](hidden, return_sequences=True, **arguments[case.option])

    if case.shape.layers == 1:
        return one()
    return keras.Sequential([one() for _ in range(case.shape.layers)])

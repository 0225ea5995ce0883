"""``torch.nn`` modules: layers and states from them and back, as ``LSTM.from_torch`` and ``layer.to_torch``."""

from lightning_rnn.layers.torch_nn import from_torch as from_torch
from lightning_rnn.layers.torch_nn import state_from_torch as state_from_torch
from lightning_rnn.layers.torch_nn import state_to_torch as state_to_torch
from lightning_rnn.layers.torch_nn import to_torch as to_torch

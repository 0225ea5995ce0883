"""Recurrent networks for PyTorch Lightning."""

from lightning_rnn.layers import GRU as GRU
from lightning_rnn.layers import LSTM as LSTM
from lightning_rnn.layers import EngineChoice as EngineChoice
from lightning_rnn.layers import SimpleRNN as SimpleRNN
from lightning_rnn.types import LSTMState as LSTMState
from lightning_rnn.types import RNNOutput as RNNOutput
from lightning_rnn.types import SequenceBatch as SequenceBatch

__version__ = "0.1.0"

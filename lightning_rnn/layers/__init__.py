"""Recurrent layers and what stands around them."""

from lightning_rnn.layers.cell import Cell as Cell
from lightning_rnn.layers.cells import GRUCell as GRUCell
from lightning_rnn.layers.cells import LSTMCell as LSTMCell
from lightning_rnn.layers.cells import SimpleRNNCell as SimpleRNNCell
from lightning_rnn.layers.cells import StackedCells as StackedCells
from lightning_rnn.layers.engines import EngineChoice as EngineChoice
from lightning_rnn.layers.options import Regularization as Regularization
from lightning_rnn.layers.options import TimeOptions as TimeOptions
from lightning_rnn.layers.pooling import AttentionPooling as AttentionPooling
from lightning_rnn.layers.pooling import SequencePooling as SequencePooling
from lightning_rnn.layers.recurrent import GRU as GRU
from lightning_rnn.layers.recurrent import LSTM as LSTM
from lightning_rnn.layers.recurrent import RecurrentLayer as RecurrentLayer
from lightning_rnn.layers.recurrent import SimpleRNN as SimpleRNN
from lightning_rnn.layers.rnn import RNN as RNN
from lightning_rnn.layers.series import ConvBlock as ConvBlock
from lightning_rnn.layers.series import Frames as Frames
from lightning_rnn.layers.series import LockedDropout as LockedDropout
from lightning_rnn.layers.series import MaskedBatchNorm as MaskedBatchNorm
from lightning_rnn.layers.series import SeriesFeatures as SeriesFeatures

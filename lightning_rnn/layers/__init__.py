"""Recurrent layers and what stands around them."""

from lightning_rnn.layers.engines import EngineChoice as EngineChoice
from lightning_rnn.layers.pooling import AttentionPooling as AttentionPooling
from lightning_rnn.layers.pooling import SequencePooling as SequencePooling
from lightning_rnn.layers.recurrent import GRU as GRU
from lightning_rnn.layers.recurrent import LSTM as LSTM
from lightning_rnn.layers.recurrent import RecurrentLayer as RecurrentLayer
from lightning_rnn.layers.recurrent import SimpleRNN as SimpleRNN
from lightning_rnn.layers.series import ConvBlock as ConvBlock
from lightning_rnn.layers.series import Frames as Frames
from lightning_rnn.layers.series import LockedDropout as LockedDropout
from lightning_rnn.layers.series import MaskedBatchNorm as MaskedBatchNorm
from lightning_rnn.layers.series import SeriesFeatures as SeriesFeatures

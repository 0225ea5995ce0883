"""Sequence data: sources, tokenizers, batches."""

from lightning_rnn.data.digits import Digits as Digits
from lightning_rnn.data.download import fetch as fetch
from lightning_rnn.data.idx import IdxImages as IdxImages
from lightning_rnn.data.module import DataSpec as DataSpec
from lightning_rnn.data.module import SequenceDataModule as SequenceDataModule
from lightning_rnn.data.ragged import Ragged as Ragged
from lightning_rnn.data.ragged import SequenceDataset as SequenceDataset
from lightning_rnn.data.sampler import BucketBatchSampler as BucketBatchSampler
from lightning_rnn.data.source import Examples as Examples
from lightning_rnn.data.source import Source as Source
from lightning_rnn.data.splitting import stratified_split as stratified_split
from lightning_rnn.data.text import LabelledText as LabelledText
from lightning_rnn.data.text import TextPerClass as TextPerClass
from lightning_rnn.data.timeseries import TimeSeries as TimeSeries
from lightning_rnn.data.tokenizer import SentencePieceTokenizer as SentencePieceTokenizer
from lightning_rnn.data.trees import LabelledTrees as LabelledTrees
from lightning_rnn.data.vectors import read_word_vectors as read_word_vectors

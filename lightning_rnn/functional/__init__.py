"""Pure functions: one step of each cell, the loop over time, masks."""

from lightning_rnn.functional.cells import Weights as Weights
from lightning_rnn.functional.cells import gru_step as gru_step
from lightning_rnn.functional.cells import lstm_step as lstm_step
from lightning_rnn.functional.cells import project as project
from lightning_rnn.functional.cells import simple_rnn_step as simple_rnn_step
from lightning_rnn.functional.linear_scan import linear_scan as linear_scan
from lightning_rnn.functional.loops import bidirectional_dynamic_rnn as bidirectional_dynamic_rnn
from lightning_rnn.functional.loops import dynamic_rnn as dynamic_rnn
from lightning_rnn.functional.loops import raw_rnn as raw_rnn
from lightning_rnn.functional.loops import static_rnn as static_rnn
from lightning_rnn.functional.masks import Valid as Valid
from lightning_rnn.functional.masks import fill_masked as fill_masked
from lightning_rnn.functional.masks import last_valid as last_valid
from lightning_rnn.functional.masks import masked_max as masked_max
from lightning_rnn.functional.masks import masked_mean as masked_mean
from lightning_rnn.functional.masks import reverse_sequence as reverse_sequence
from lightning_rnn.functional.masks import sequence_mask as sequence_mask
from lightning_rnn.functional.masks import turn as turn
from lightning_rnn.functional.options import StepOptions as StepOptions
from lightning_rnn.functional.scan import scan as scan

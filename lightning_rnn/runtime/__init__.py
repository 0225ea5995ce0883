"""The process a layer runs in, on a CPU: freed memory is kept, denormals are flushed, a thread for each core."""

from lightning_rnn.runtime.cores import available_cores as available_cores
from lightning_rnn.runtime.cores import core_limits as core_limits
from lightning_rnn.runtime.tune import CPUReport as CPUReport
from lightning_rnn.runtime.tune import may_tune as may_tune
from lightning_rnn.runtime.tune import tune_cpu as tune_cpu

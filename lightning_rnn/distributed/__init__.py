"""One network on several devices or processes."""

from lightning_rnn.distributed.placement import Placed as Placed
from lightning_rnn.distributed.placement import Placement as Placement
from lightning_rnn.distributed.placement import place as place
from lightning_rnn.distributed.plan import Costs as Costs
from lightning_rnn.distributed.plan import Plan as Plan
from lightning_rnn.distributed.plan import simulate as simulate
from lightning_rnn.distributed.processes import AcrossProcesses as AcrossProcesses
from lightning_rnn.distributed.strategy import LayerPlacement as LayerPlacement

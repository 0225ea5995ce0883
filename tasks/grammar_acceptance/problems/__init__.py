"""The problems that test a long memory, with the criteria of their papers."""

from .stress import Adding as Adding
from .stress import CopyMemory as CopyMemory
from .stress import TemporalOrder as TemporalOrder

"""Vector → sequence."""

from .data import GenerationData as GenerationData
from .module import Generator as Generator

"""Word → vector."""

from .data import WordVectorData as WordVectorData
from .module import WordVectors as WordVectors

"""Strings of a grammar: accept or reject them, predict them; and the problems that test a long memory."""

from .data import GrammarData as GrammarData
from .module import GrammarModel as GrammarModel

"""Figures of acceptors, and the automaton in a network's hidden states."""

from .callbacks import figures as figures

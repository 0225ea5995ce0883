"""What a network is built from: the symbols or features that it reads, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning_rnn.data import DataSpec
from lightning_rnn.data.checks import check_token_ids
from lightning_rnn.types import SequenceBatch

START = 0  # read before the first symbol, so that something follows the empty string; symbols count from 1


@dataclass(frozen=True)
class GrammarSpec(DataSpec):
    """What a network of this task is built from.

    Attributes:
        name: of the grammar or the problem.
        alphabet: the symbols of a grammar; empty for a problem.
        problem: of a stress problem, its ``class`` and arguments; None for strings.
        symbols: how many different ids the inputs have; 0 where they are real numbers.
        features: real numbers of a step, where there are no symbols.
        outputs: what is put out, at each step or at the end.
    """

    name: str = ""
    alphabet: str = ""
    problem: dict[str, Any] | None = None
    symbols: int = 0
    features: int = 0
    outputs: int = 1

    def check(self, batch: SequenceBatch) -> None:
        if self.symbols:
            check_token_ids(batch, self.symbols)

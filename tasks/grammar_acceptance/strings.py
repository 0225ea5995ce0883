"""Strings as rows: ids to read, and what the grammar says of every prefix."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data import Ragged, SplitData, Streams
from lightning_rnn.data.lanes import Chunk
from lightning_rnn.data.lines import read_lines
from lightning_rnn.errors import DataError
from lightning_rnn.paths import existing
from lightning_rnn.types import SequenceBatch

from .grammars.languages import Grammar, check_symbols
from .grammars.sampler import Sample
from .spec import START


def encode(strings: Sequence[str], alphabet: str, name: str) -> Ragged:
    """Each string as ids, :data:`START` before its first symbol: ``len(string) + 1`` steps.

    Args:
        strings: any number of them, empty ones too.
        alphabet: its first symbol has the id 1.
        name: of the grammar, for messages.

    Raises:
        DataError: a symbol is not in the alphabet; it names the symbol and its place.

    Example:
        >>> encode(["", "ba"], "ab", "two letters").pad(torch.tensor([0, 1]))
        (tensor([[0, 0, 0],
                [0, 2, 1]]), tensor([1, 3]))
    """
    for string in strings:
        check_symbols(string, alphabet, name)
    ids = {symbol: i for i, symbol in enumerate(alphabet, 1)}
    values = [i for string in strings for i in (START, *(ids[symbol] for symbol in string))]
    lengths = np.array([0, *(len(string) + 1 for string in strings)], dtype=np.int64)
    return Ragged(torch.tensor(values, dtype=torch.int64), torch.from_numpy(lengths.cumsum()))


class StringRows(SplitData):
    """Strings of a grammar as one split.

    A batch has ``inputs`` int64 ``[B, T]`` (see :func:`encode`) and two targets: ``accepted`` bool ``[B]``, and
    ``legal`` bool ``[B, T, V + 1]``, what may follow each prefix (the last column: the end; nothing follows a prefix
    that cannot be completed).

    Args:
        grammar: says what is legal; None where nobody knows: there are no targets then.
        samples: the strings.
        alphabet: without a grammar, the symbols that there are.
        name: without a grammar, what the alphabet is called.

    Example:
        >>> from .grammars.definitions import grammar
        >>> rows = StringRows(grammar("reber"), [Sample("BTXSE", True, "accepted"), Sample("BE", False, "truncation")])
        >>> batch = rows.__getitems__([1, 0])
        >>> batch.inputs.shape, batch.targets["accepted"], batch.targets["legal"].shape
        (torch.Size([2, 6]), tensor([False,  True]), torch.Size([2, 6, 8]))
    """

    ids: Sequence[str | int] | None = None

    def __init__(
        self, grammar: Grammar[Any] | None, samples: Sequence[Sample], alphabet: str = "", name: str = ""
    ) -> None:
        self.grammar, self.samples = grammar, list(samples)
        strings = [sample.string for sample in samples]
        self.inputs = encode(strings, grammar.alphabet if grammar else alphabet, grammar.name if grammar else name)
        self.accepted = torch.tensor([sample.accepted for sample in samples], dtype=torch.bool)
        self.legal = None if grammar is None else Ragged(_masks(grammar, strings), self.inputs.offsets)

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))
        inputs, lengths = self.inputs.pad(index)
        if self.legal is None:
            return SequenceBatch(inputs, lengths=lengths, ids=index)
        targets: dict[str, Tensor] = {"accepted": self.accepted[index], "legal": self.legal.pad(index)[0]}
        return SequenceBatch(inputs, targets, lengths=lengths, target_lengths=lengths, ids=index)

    def digest(self) -> str:
        legal = b"" if self.legal is None else self.legal.values.numpy().tobytes()
        return hashlib.blake2b(self.inputs.digest().encode() + legal, digest_size=16).hexdigest()


class StringStreams(SplitData):
    """Very long strings of a grammar as one split, fetched by the chunks of a ``StreamBatchSampler``.

    A batch is that of :class:`lightning_rnn.data.Streams` with the targets of :class:`StringRows`, all accepted.

    Args:
        grammar: of which they are prefixes.
        strings: of two symbols or more.
        chunk: steps of a batch.

    Example:
        >>> from .grammars.definitions import grammar
        >>> streams = StringStreams(grammar("continual_embedded_reber"), ["BTBTXSETEBPB", "BPBPVVEPE"], chunk=8)
        >>> streams.lengths
        tensor([13, 10])
    """

    ids: Sequence[str | int] | None = None

    def __init__(self, grammar: Grammar[Any], strings: Sequence[str], chunk: int) -> None:
        self.inputs, self.chunk = encode(strings, grammar.alphabet, grammar.name), chunk
        self.streams = Streams(self.inputs, Ragged(_masks(grammar, strings), self.inputs.offsets))

    def first_key(self) -> Chunk:
        return self.streams.first_key()

    def __getitems__(self, keys: list[Chunk]) -> SequenceBatch:
        batch = self.streams.__getitems__(keys)
        assert isinstance(batch.targets, Tensor)
        batch.targets = {"accepted": torch.ones(len(batch), dtype=torch.bool), "legal": batch.targets}
        return batch


def _masks(grammar: Grammar[Any], strings: Sequence[str]) -> Tensor:
    """Bool ``[all steps, V + 1]``: what may follow each prefix; the same mask is made once for each state."""
    width, known = len(grammar.alphabet) + 1, dict[Any, int]()
    rows, codes = [np.zeros(width, dtype=np.bool_)], list[int]()
    for string in strings:
        states = grammar.states_along(string)
        for state in states:
            if state not in known:
                known[state] = len(rows)
                symbols, end = grammar.legal(state)
                rows.append(np.array([*(symbol in symbols for symbol in grammar.alphabet), end], dtype=np.bool_))
            codes.append(known[state])
        codes += [0] * (len(string) + 1 - len(states))
    return torch.from_numpy(np.stack(rows)[codes])


def read_strings(path: str, alphabet: str, name: str) -> StringRows:
    """The lines of a file as strings to be judged, without targets; empty lines are empty strings.

    Raises:
        DataError: the file is missing or not UTF-8, or a line has a symbol that is not in the alphabet.
    """
    file = existing(path)
    lines = list(read_lines(file))
    for number, line in enumerate(lines, 1):
        try:
            check_symbols(line, alphabet, name)
        except DataError as error:
            raise DataError(f"{file}, line {number}: {error}") from error
    return StringRows(None, [Sample(line, False, "unknown") for line in lines], alphabet, name)

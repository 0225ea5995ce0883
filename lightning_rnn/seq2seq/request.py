"""What a decoder is asked to write: how long, which first words, what not to repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnn.errors import require
from lightning_rnn.seq2seq.step import take_rows


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked of the output; the same for generation and beam search. Tensors ``[B]`` are integers.

    Attributes:
        max_length: at most so many words, the end counted: an int, or one per sentence ``[B]``
            (:func:`length_limits`). What has not ended by then stops there, unfinished.
        min_length: at least so many words before the end; int or ``[B]``. ``max_length`` goes first.
        prefix: first words, int64 ``[B, P]``; they go before every other rule but ``max_length``, and count in the
            score like any word.
        prefix_lengths: valid words of each row of ``prefix``, ``[B]``; None: all.
        source_lengths: source positions of each sentence, ``[B]``. A coverage penalty counts those alone, and
            alignments are cut to them. None: all.
        no_repeat_ngram: no ``n`` words in a row stand twice in an output (Paulus et al. 2018, section 2.5); 0: they
            may.
        repetition_penalty: log-probabilities of words already there are multiplied by it, where scores are compared
            (after Keskar et al. 2019, section 4.1); 1 changes nothing.
        bos: the word before the first; an int, or one per sentence ``[B]``.
        eos: the end.

    Raises:
        ConfigError: an option is out of its range.

    Example:
        >>> Request(max_length=3, min_length=torch.tensor([0, 2])).plan(2, torch.device("cpu")).max_length.tolist()
        [3, 3]
    """

    max_length: int | Tensor = 100
    min_length: int | Tensor = 0
    prefix: Tensor | None = None
    prefix_lengths: Tensor | None = None
    source_lengths: Tensor | None = None
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    bos: int | Tensor = 2
    eos: int = 3

    def __post_init__(self) -> None:
        require(self.no_repeat_ngram >= 0, f"no_repeat_ngram is {self.no_repeat_ngram}: give 0 (off) or more")
        require(self.repetition_penalty > 0, f"repetition_penalty is {self.repetition_penalty}: give more than 0")
        bos = _lowest(self.bos)
        require(min(bos, self.eos) >= 0, f"bos is {bos}, eos is {self.eos}: give the ids of words")
        for name, length in (("max_length", self.max_length), ("min_length", self.min_length)):
            require(_lowest(length) >= 0, f"{name} is {_lowest(length)}: give 0 or more")

    def first_words(self, sentences: int, device: torch.device) -> Tensor:
        """The word before the first of each sentence, int64 ``[B]``.

        Raises:
            ValueError: ``bos`` is a tensor of another shape.
        """
        return _each("bos", self.bos, sentences).to(device)

    def plan(self, sentences: int, device: torch.device) -> Plan:
        """The request in numbers, for each of so many sentences.

        Raises:
            ValueError: a tensor is not of so many sentences, or a prefix holds the end.
        """
        prefix = torch.zeros(sentences, 0, dtype=torch.int64) if self.prefix is None else self.prefix
        lengths = prefix.shape[1] if self.prefix_lengths is None else self.prefix_lengths
        source = None if self.source_lengths is None else _each("source_lengths", self.source_lengths, sentences)
        if prefix.ndim != 2 or prefix.shape[0] != sentences:
            raise ValueError(f"Request: prefix is {list(prefix.shape)}: give [{sentences}, P], a row for each sentence")
        plan = Plan(
            _each("max_length", self.max_length, sentences),
            _each("min_length", self.min_length, sentences),
            prefix,
            _each("prefix_lengths", lengths, sentences),
            source,
        )
        self._check_prefix(prefix.cpu(), plan.prefix_lengths.cpu())
        return Plan(*(None if one is None else one.to(device) for one in plan))  # type: ignore[arg-type]

    def _check_prefix(self, prefix: Tensor, lengths: Tensor) -> None:
        forced = torch.arange(prefix.shape[1]) < lengths[:, None]
        wrong = (((prefix == self.eos) | (prefix < 0)) & forced).any(1).nonzero().flatten().tolist()
        if wrong:
            raise ValueError(f"Request: the prefix of sentence {wrong[0]} holds the end or no word: give words only")
        outside = ((lengths > prefix.shape[1]) | (lengths < 0)).nonzero().flatten().tolist()
        if outside:
            length = int(lengths[outside[0]])
            raise ValueError(f"Request: prefix_lengths has {length} for a prefix of {prefix.shape[1]} words")


class Plan(NamedTuple):
    """A request in numbers: int64 ``[B]``, ``prefix [B, P]``; see :class:`Request`."""

    max_length: Tensor
    min_length: Tensor
    prefix: Tensor
    prefix_lengths: Tensor
    source_lengths: Tensor | None

    def take(self, sentences: Tensor) -> Plan:
        """The plan of some of the sentences."""
        plan: Plan = take_rows(self, sentences)
        return plan


def _lowest(value: int | Tensor) -> int:
    each = torch.as_tensor(value)
    return int(each.min()) if each.numel() else 0


def _each(name: str, value: int | Tensor, sentences: int) -> Tensor:
    """One integer per sentence."""
    each = torch.as_tensor(value, dtype=torch.int64)
    if each.ndim and each.shape != (sentences,):
        raise ValueError(f"Request: {name} is {list(each.shape)} for {sentences} sentences: give a number or one each")
    return each.expand(sentences)


def length_limits(source_lengths: Tensor, ratio: float, constant: int) -> Tensor:
    """Limits that grow with the source: ``floor(ratio * length) + constant``, int64 ``[B]``.

    Example:
        >>> length_limits(torch.tensor([0, 3, 10]), 1.5, 5).tolist()
        [5, 9, 20]
    """
    return (source_lengths * ratio).floor().to(torch.int64) + constant

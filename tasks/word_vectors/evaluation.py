"""How good vectors are: analogies by section, and similarity beside people's judgments. The numbers are gensim's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data.lines import read_lines
from lightning_rnn.errors import DataError

from .queries import AT_ONCE, WordQueries
from .vocabulary import normalized

Question = tuple[str, str, str, str]
Floats = npt.NDArray[np.float64]
TRIED = 5  # answers looked at until one is none of the words asked with


@dataclass
class Section:
    """Analogies of one kind.

    Attributes:
        name: of the kind.
        correct: those that were solved.
        incorrect: the others.
    """

    name: str
    correct: list[Question] = field(default_factory=list)
    incorrect: list[Question] = field(default_factory=list)

    @property
    def questions(self) -> int:
        """How many there are."""
        return len(self.correct) + len(self.incorrect)

    @property
    def accuracy(self) -> float:
        """The share solved; 0 of none."""
        return len(self.correct) / self.questions if self.questions else 0.0


class Analogies(NamedTuple):
    """What :func:`analogies` found.

    Attributes:
        sections: in the order of the file.
        oov: share of all questions with a word that has no vector.
    """

    sections: list[Section]
    oov: float

    @property
    def total(self) -> Section:
        """All sections as one."""
        correct = chain.from_iterable(section.correct for section in self.sections)
        return Section("total", list(correct), list(chain.from_iterable(one.incorrect for one in self.sections)))


def read_analogies(path: Path, fold: bool = True) -> Iterator[tuple[str, Question]]:
    """Questions ``a b c d`` with their section, a line each; a line ``: name`` begins one. Other lines are left out.

    Args:
        path: of the file.
        fold: whether words are put in upper case.

    Raises:
        DataError: the first question has no section, or the file cannot be read.
    """
    section: str | None = None
    for number, line in enumerate(read_lines(path), 1):
        if line.startswith(": "):
            section = line.removeprefix(": ").strip()
            continue
        words = (line.upper() if fold else line).split()
        if section is None:
            raise DataError(f"{path}, row {number}: a question before the first section: begin with a line ': name'")
        if len(words) == 4:
            yield section, (words[0], words[1], words[2], words[3])


def restricted(queries: WordQueries, restrict_vocab: int, fold: bool) -> dict[str, int]:
    """The first words of the vocabulary with their rows; of words that differ in case, the most frequent one."""
    words = list(enumerate(queries.words[:restrict_vocab]))
    return {word.upper() if fold else word: row for row, word in reversed(words)}


def analogies(
    queries: WordQueries,
    path: Path,
    restrict_vocab: int = 300_000,
    fold: bool = True,
    dummy4unknown: bool = False,
) -> Analogies:
    """Solve ``a : b = c : ?`` by 3CosAdd, as gensim's ``evaluate_word_analogies`` does.

    Args:
        queries: the vectors.
        path: see :func:`read_analogies`.
        restrict_vocab: questions and answers of the first so many words.
        fold: whether case is disregarded.
        dummy4unknown: whether a question with a word that has no vector counts as not solved; else it is left out.

    Raises:
        DataError: the file cannot be read, or has no questions.
    """
    known = restricted(queries, restrict_vocab, fold)
    sections = dict[str, Section]()
    asked = list[tuple[Section, Question]]()
    unknown = questions = 0
    for name, question in read_analogies(path, fold):
        section = sections.setdefault(name, Section(name))
        questions += 1
        if all(word in known for word in question):
            asked.append((section, question))
            continue
        unknown += 1
        if dummy4unknown:
            section.incorrect.append(question)
    if not questions:
        raise DataError(f"{path} has no questions: give a file with four words a line under lines ': section'")
    for start in range(0, len(asked), AT_ONCE):
        _solve(queries, asked[start : start + AT_ONCE], known, restrict_vocab, fold)
    return Analogies(list(sections.values()), unknown / questions)


def _solve(
    queries: WordQueries,
    asked: list[tuple[Section, Question]],
    known: dict[str, int],
    restrict_vocab: int,
    fold: bool,
) -> None:
    """Put each question where it belongs."""
    rows = torch.tensor([[known[word] for word in question[:3]] for _, question in asked])
    a, b, c = queries.units[rows].unbind(1)
    cosines = normalized((b + c - a) / 3) @ queries.units[:restrict_vocab].T
    cosines.scatter_(1, rows, -torch.inf)
    best: Tensor = cosines.topk(min(TRIED, cosines.shape[1])).indices
    for (section, question), places in zip(asked, best.tolist(), strict=True):
        words = [queries.words[row].upper() if fold else queries.words[row] for row in places]
        answer = next((word for word in words if word not in question[:3]), words[-1])
        (section.correct if answer == question[3] else section.incorrect).append(question)


class Similarity(NamedTuple):
    """What :func:`similarity` found.

    Attributes:
        pearson: correlation of cosines and judgments.
        spearman: that of their ranks.
        oov: share of the pairs with a word that has no vector.
        pairs: how many were compared.
    """

    pearson: float
    spearman: float
    oov: float
    pairs: int


def similarity(
    queries: WordQueries,
    path: Path,
    restrict_vocab: int = 300_000,
    fold: bool = True,
    dummy4unknown: bool = False,
) -> Similarity:
    """Cosines beside people's judgments, as gensim's ``evaluate_word_pairs`` has them.

    Args:
        queries: the vectors.
        path: rows of two words and a number, with tabs between them, or white space where a row has no tab; rows that
            begin with ``#`` or have no number are left out.
        restrict_vocab: pairs of the first so many words.
        fold: whether case is disregarded.
        dummy4unknown: whether a pair with a word that has no vector counts, with similarity 0; else it is left out.

    Raises:
        DataError: the file cannot be read, or fewer than two of its pairs have vectors.
    """
    known = restricted(queries, restrict_vocab, fold)
    gold, ours, unknown = list[float](), list[float](), 0
    for first, second, judged in _judgments(path, fold):
        there = first in known and second in known
        unknown += not there
        if there or dummy4unknown:
            gold.append(judged)
            ours.append(float(queries.units[known[first]] @ queries.units[known[second]]) if there else 0.0)
    if len(gold) < 2:
        raise DataError(
            f"{path}: {len(gold)} pairs of words that have vectors: give rows of two such words and a number"
        )
    x, y = np.array(gold), np.array(ours)
    everyone = len(gold) if dummy4unknown else len(gold) + unknown
    return Similarity(correlation(x, y), correlation(ranks(x), ranks(y)), unknown / everyone, len(gold))


def _judgments(path: Path, fold: bool) -> Iterator[tuple[str, str, float]]:
    for line in read_lines(path):
        text = line.upper() if fold else line
        fields = text.split("\t") if "\t" in text else text.split()
        if line.startswith("#") or len(fields) != 3:
            continue
        try:
            judged = float(fields[2])
        except ValueError:  # a title
            continue
        yield fields[0], fields[1], judged


def correlation(x: Floats, y: Floats) -> float:
    """Pearson's correlation of two series ``[N]``; nan where one is constant.

    Example:
        >>> correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
        1.0
    """
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / norm if norm else float("nan")


def ranks(values: Floats) -> Floats:
    """The rank of each value from 1, the mean rank where several are equal.

    Example:
        >>> ranks(np.array([0.5, 0.1, 0.5])).tolist()
        [2.5, 1.0, 2.5]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], np.float64)

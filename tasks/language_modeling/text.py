"""Lines of text as tokens, with the words and characters that each token stands for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.store import chunks
from lightning_rnn.data.tokenizer import Tokenizer

from .spec import LanguageSpec

TOKEN, WORDS, CHARACTERS = range(3)  # columns
EXACT = {"words": WORDS, "word": WORDS, "characters": CHARACTERS}  # kinds whose tokens are one of these each
Ints = npt.NDArray[np.int64]


def encode_lines(lines: Iterable[str], spec: LanguageSpec) -> Ragged:
    r"""The tokens of each line, its end among them, and how much text they stand for.

    A line of ``w`` words and ``c`` characters stands for ``w + 1`` words and ``c + 1`` characters, its end being one of
    each, as the Penn Treebank's ``<eos>`` is counted. Where each token is a word, or a character, it counts as one;
    else the line's end counts for the whole line. A line without a token has its end alone.

    Args:
        lines: without their line ends.
        spec: says how text is cut.

    Returns:
        int32 ``[S, 3]``, a row for each line: columns :data:`TOKEN`, :data:`WORDS` and :data:`CHARACTERS`.

    Raises:
        DataError: a line is not valid Unicode.

    Example:
        >>> from lightning_rnn.data.tokenizer import train_tokenizer
        >>> spec = LanguageSpec.of(train_tokenizer(["to be or not to be"], "words"))
        >>> encode_lines(["not to be", ""], spec).values.tolist()
        [[7, 1, 0], [4, 1, 0], [5, 1, 0], [3, 1, 10], [3, 1, 1]]
    """
    tokenizer = spec.load_tokenizer()
    parts = [_encode(chunk, tokenizer, spec) for chunk in chunks(iter(lines))]
    values = np.concatenate([values for values, _ in parts] or [np.zeros((0, 3), np.int32)])
    lengths = np.concatenate([lengths for _, lengths in parts] or [np.zeros(0, np.int64)])
    return Ragged(torch.from_numpy(values), torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])))


def _encode(lines: Sequence[str], tokenizer: Tokenizer, spec: LanguageSpec) -> tuple[npt.NDArray[np.int32], Ints]:
    """Values ``[S, 3]`` and lengths ``[N]`` of some lines."""
    rows = tokenizer.encode(lines)
    blank = np.array([not (line if spec.unit == "character" else line.strip()) for line in lines])
    there = np.repeat(~blank, rows.lengths.numpy())  # a blank line got an unknown
    lengths = np.where(blank, 0, rows.lengths.numpy()) + 1
    ends = np.cumsum(lengths) - 1
    values = np.zeros((int(lengths.sum()), 3), np.int32)
    inside = np.ones(len(values), np.bool_)
    inside[ends] = False
    values[inside, TOKEN], values[ends, TOKEN] = rows.values.numpy()[there], spec.end
    values[ends, WORDS] = [len(line.split()) + 1 for line in lines]
    values[ends, CHARACTERS] = [len(line) + 1 for line in lines]
    if (column := EXACT.get(tokenizer.kind)) is not None:
        values[:, column] = 1
    return values, lengths


def joined(lines: Ragged) -> Ragged:
    """All lines as one row, not copied."""
    return Ragged(lines.values, torch.tensor([0, len(lines.values)]))


def begun(lines: Ragged, end: int) -> Ragged:
    """Every line after a line end, which stands for no text: what the first token is predicted from.

    Example:
        >>> lines = Ragged(torch.tensor([[7, 1, 4], [3, 1, 1]]), torch.tensor([0, 2]))
        >>> begun(lines, 3).values.tolist()
        [[3, 0, 0], [7, 1, 4], [3, 1, 1]]
    """
    values, offsets = lines.values.numpy(), lines.offsets.numpy()
    before = np.insert(values, offsets[:-1], np.array([end, 0, 0], values.dtype), axis=0)
    return Ragged(torch.from_numpy(before), torch.from_numpy(offsets + np.arange(len(offsets))))

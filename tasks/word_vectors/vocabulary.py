"""The words that get vectors, and text as their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.errors import DataError

from .tokens import END, Tokens


def choose_words(
    tokens: Tokens, min_count: int, max_vocab: int | None, known: Mapping[str, int] | None = None
) -> tuple[list[str], list[int]]:
    """The vocabulary with its counts, most frequent first; of equally frequent words, those seen first.

    Args:
        tokens: the training text.
        min_count: how often a word must be there.
        max_vocab: so many words at most; None is no bound.
        known: words of before with their counts, which stay whatever their counts are.

    Raises:
        DataError: fewer than two words are left.

    Example:
        >>> from tasks.word_vectors.tokens import read_tokens
        >>> choose_words(read_tokens(["a b a c"]), 1, 2, {"z": 3})
        (['z', 'a', 'b'], [3, 2, 1])
    """
    known = dict(known or {})
    counts = {word: int(count) for word, count in zip(tokens.words, tokens.counts, strict=True) if count}
    if not counts:
        raise DataError("the training text has no words: give a text, or cut it otherwise (data.cut)")
    fresh = [word for word, count in counts.items() if count >= min_count and word not in known]
    fresh = sorted(fresh, key=lambda word: -counts[word])[:max_vocab]
    total = {word: counts.get(word, 0) + known.get(word, 0) for word in [*known, *fresh]}
    words = sorted(total, key=lambda word: -total[word])
    if len(words) < 2:
        kept = f"only {words[0]!r}" if words else "none"
        raise DataError(
            f"the training text has {len(counts):,} different words, {kept} of them {min_count} times or more "
            "(data.min_count): vectors need at least two words, give more text or lower data.min_count"
        )
    return words, [total[word] for word in words]


def encode(tokens: Tokens, words: Sequence[str], piece: int) -> Ragged:
    """Running text as pieces of at most ``piece`` words: int32 rows, word ``i`` as ``i + 1``, 0 where a text ends.

    Words that are not in the vocabulary are left out, so that their neighbours become neighbours.

    Example:
        >>> from tasks.word_vectors.tokens import read_tokens
        >>> encode(read_tokens(["a b x a", "b"]), ["b", "a"], 4).values.tolist()
        [2, 1, 2, 0, 1]
    """
    number = {word: i for i, word in enumerate(words, 1)}
    table = np.array([*(number.get(word, -1) for word in tokens.words), 0], np.int32)  # END, -1, is the last
    assert END == -1
    ids = table[tokens.ids]
    ids = ids[ids >= 0]
    repeated = (ids == 0) & np.concatenate([[True], ids[:-1] == 0])
    ids = ids[~repeated]
    ids = ids[:-1] if len(ids) and ids[-1] == 0 else ids
    offsets = np.append(np.arange(0, len(ids), piece), len(ids)) if len(ids) else np.zeros(1, np.int64)
    return Ragged(torch.from_numpy(ids), torch.from_numpy(offsets.astype(np.int64)))


def keep_chances(counts: Sequence[int], sample: float) -> npt.NDArray[np.float64]:
    r"""The chance that a word of the running text is kept: :math:`\min(1, \sqrt{s N / n} + s N / n)`.

    ``n`` is the word's count, ``N`` that of all words, ``s`` the sample (word2vec's formula, in its code and in gensim,
    not that of the paper); a sample of 1 or more is, as in gensim, a count: words more frequent than that are left out
    at random, with :math:`\lfloor s (3 + \sqrt 5) / 2 \rfloor` in the place of ``s N``. 0 keeps all.

    Example:
        >>> keep_chances([900, 100], 0.01).round(3).tolist()
        [0.117, 0.416]
    """
    n = np.maximum(np.asarray(counts, np.float64), 1)
    if sample <= 0:
        return np.ones_like(n)
    threshold = sample * n.sum() if sample < 1 else int(sample * (3 + 5**0.5) / 2)
    return np.asarray(np.minimum(1.0, (np.sqrt(n / threshold) + 1) * threshold / n), np.float64)


def noise_steps(counts: Sequence[int], exponent: float) -> npt.NDArray[np.float64]:
    """Running sums of the noise distribution, proportional to ``count ** exponent``; the last is 1.

    Example:
        >>> noise_steps([16, 1], 0.75).round(3).tolist()
        [0.889, 1.0]
    """
    sums = np.cumsum(np.maximum(np.asarray(counts, np.float64), 1) ** exponent)
    return np.asarray(sums / sums[-1], np.float64)


def normalized(vectors: Tensor) -> Tensor:
    """Vectors ``[V, D]`` of length 1; zero stays zero."""
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return torch.div(vectors, norms.clamp(min=torch.finfo(vectors.dtype).tiny))

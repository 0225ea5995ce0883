"""Embeddings that start from word vectors of elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import nn

from lightning_rnn.data.vectors import read_word_vectors
from lightning_rnn.errors import ConfigError

log = logging.getLogger(__name__)


def start_embedding(embedding: nn.Embedding, path: str, words: Sequence[str], size: str = "embedding_size") -> None:
    r"""Give an embedding the vectors that a file has for its words; how many it has is logged. Padding's is zero.

    Args:
        embedding: of ``V`` words, ``D`` features each; changed in place.
        path: of the file, see :func:`lightning_rnn.data.vectors.read_word_vectors`.
        words: the vocabulary, in order.
        size: the option that ``D`` is, for the sentence.

    Raises:
        ConfigError: the file's vectors have another size.
        DataError: the file cannot be read, or has none of the words.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     characters = Path(folder, "glove.txt").write_text("the 1 2\nParis 3 4\n")
        ...     start_embedding(embedding := nn.Embedding(3, 2), f"{folder}/glove.txt", ["<unk>", "the", "paris"])
        >>> embedding.weight[1:].tolist()
        [[1.0, 2.0], [3.0, 4.0]]
    """
    table, found = read_word_vectors(path, words)
    if table.shape[1] != embedding.embedding_dim:
        raise ConfigError(f"{path} has vectors of {table.shape[1]} numbers: set model.{size}={table.shape[1]}")
    log.info("embedding: %d of %d tokens found in %s", int(found.sum()), len(found), path)
    with torch.no_grad():
        embedding.weight.copy_(table)
        if embedding.padding_idx is not None:
            embedding.weight[embedding.padding_idx].zero_()

"""The text that needs no download. Others are :class:`lightning_rnn.data.TextLines` and ``TextColumn``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_rnn.data.manual import python_manual
from lightning_rnn.data.module import Split
from lightning_rnn.data.source import Corpus
from lightning_rnn.errors import ConfigError


class Manual(Corpus):
    """The language reference of Python as it comes with Python: real English of about 70,000 words.

    Every tenth paragraph is the test part, the others are for training.

    Example:
        >>> next(Manual().texts("test"))[:30]
        'Assignment statements ********'
    """

    def files(self, split: Split) -> list[Path]:
        """The module that the text is in; none for parts other than train and test."""
        from pydoc_data import topics  # late: half a megabyte

        return [Path(topics.__file__)] if split in ("train", "test") else []

    def texts(self, split: Split) -> Iterator[str]:
        if split not in ("train", "test"):
            raise ConfigError(f"Python's manual has no {split} part: ask for train or test")
        paragraphs = [paragraph for topic in python_manual().values() for paragraph in topic]
        return (text for row, text in enumerate(paragraphs) if (row % 10 == 9) == (split == "test"))

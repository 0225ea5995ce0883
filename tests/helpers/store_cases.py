"""Texts for the token store, prepared, counted, and what is expected of it."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.store import MappedRagged, prepare_tokens
from lightning_rnn.data.tokenizer import Tokenizer, train_tokenizer

WORDS = ["a", "rose", "is", "not", "tulip", "and", "blue", "red"]
TOKENIZER = train_tokenizer([" ".join(WORDS)], "words")


class Lines:
    """The lines of a file, counting how often they are read; can stop to be killed, or go slowly."""

    def __init__(self, path: Path, stop_at: int | None = None, pause: float = 0) -> None:
        self.path, self.stop_at, self.pause, self.read = path, stop_at, pause, 0

    def __call__(self) -> Iterator[str]:
        self.read += 1
        time.sleep(self.pause)
        for number, line in enumerate(self.path.read_text().splitlines()):
            if number == self.stop_at:
                self.path.with_name("stopped").touch()
                signal.pause()
            yield line


def write_corpus(folder: Path) -> Path:
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(400)]
    (folder / "corpus.txt").write_text("\n".join(lines) + "\n")
    return folder / "corpus.txt"


def prepare(lines: Lines, tokenizer: Tokenizer = TOKENIZER, **options: Any) -> MappedRagged:
    return prepare_tokens([lines.path], lines, tokenizer, **options)


def rows_of(tokens: Ragged) -> list[list[int]]:
    return [tokens[row].tolist() for row in range(len(tokens))]


def expected(path: Path, tokenizer: Tokenizer = TOKENIZER) -> list[list[int]]:
    return rows_of(tokenizer.encode(path.read_text().splitlines()))


def folders(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if not path.name.endswith(".lock")]

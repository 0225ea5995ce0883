"""``lightning-rnn translate``: sentences in, translations out."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Literal

from torch import Tensor

from lightning_rnn.data.lines import read_lines
from lightning_rnn.errors import DataError
from lightning_rnn.training.console import answers_alone

from .arguments import changed, parser
from .decoding import TextTranslator, Translation
from .loading import in_precision, load_all, placed
from .pairs import printable
from .streams import prompted, stdin_lines, write
from .text import Codec
from .words import read_dictionary, replace_unknown

log = logging.getLogger(__name__)
BLOCK = 4096  # sentences that are held, and sorted by length, at once


@dataclass(frozen=True)
class Session:
    """What a command needs at every sentence.

    Attributes:
        translator: the networks.
        dictionary: for unknown words; None where they stay.
        as_json: whether answers are JSON.
        refuse_longer: whether a sentence of more tokens than the limit is a mistake; else it is cut.
    """

    translator: TextTranslator
    dictionary: Mapping[str, str] | None
    as_json: bool
    refuse_longer: bool

    def translate(self, texts: Sequence[str]) -> Iterator[list[Translation]]:
        """The translations of each text in order, unknown words replaced where asked for."""
        codec = self.translator.codec
        kinds = codec.source.kind, codec.target.kind
        for text, found in zip(texts, self.translator.translate(texts), strict=True):
            if self.dictionary is not None:
                found = [replace_unknown(one, text, kinds, self.dictionary) for one in found]
            yield found

    def answers(self, lines: Iterable[str], block: int = BLOCK) -> Iterator[str]:
        """What is printed for each line, so many lines at a time."""
        rest, number, many = iter(lines), 0, self.translator.options.beam.n_best > 1
        while texts := list(islice(rest, block)):
            self.check_lengths(texts, number, "line")
            for text, found in zip(texts, self.translate(texts), strict=True):
                number += 1
                yield from [as_json(text, found)] if self.as_json else plain(found, number if many else None)

    def check_lengths(self, texts: Sequence[str], before: int, what: Literal["line", "translation"]) -> None:
        """Count the sentences, or the translations to score, that will be cut.

        Raises:
            DataError: there is one, and it is a mistake; names its line.
        """
        longer = self.translator.too_long(texts, targets=what == "translation")
        limit = self.translator.codec.max_length
        if longer and self.refuse_longer:
            raise DataError(
                f"{what} {before + longer[0] + 1} has more than {limit} tokens: shorten it, raise --max_length, or "
                "have it cut with --longer truncate"
            )
        if longer:
            lines = f"{what}s {before + 1} to {before + len(texts)}"
            log.warning("%s: %d cut to %d tokens (--max_length)", lines, len(longer), limit)

    def scores(self, lines: Iterable[str], targets: Iterable[str]) -> Iterator[str]:
        """What is printed for each line and the translation given for it.

        Raises:
            DataError: there are not as many of both, or one is too long where that is a mistake.
        """
        pairs = enumerate(zip_longest(lines, targets), 1)
        while block := list(islice(pairs, BLOCK)):
            for number, (text, target) in block:
                if text is None or target is None:
                    short = "sentence" if text is None else "translation to score"
                    raise DataError(f"line {number} has no {short}: give as many sentences as translations")
            pair = [text for _, (text, _) in block], [target for _, (_, target) in block]
            self.check_lengths(pair[0], block[0][0] - 1, "line")
            self.check_lengths(pair[1], block[0][0] - 1, "translation")
            for text, target, one in zip(*pair, self.translator.score(*pair), strict=True):
                if self.as_json:
                    values = {"source": text, "target": target, "log_prob": one.log_prob, "score": one.score}
                    yield json.dumps(
                        values | {"tokens": one.tokens, "alignment": rounded(one.alignment)}, ensure_ascii=False
                    )
                else:
                    yield f"{one.log_prob:.4f}\t{one.log_prob / max(one.tokens, 1):.4f}\t{one.tokens}"


def main(argv: list[str]) -> int:
    """``lightning-rnn translate``: print translations. Returns the exit code.

    Raises:
        CheckpointError: a checkpoint is missing, broken, or of something else.
        ConfigError: an option is out of range, or does not go with the model.
        DataError: the sentences cannot be read.
    """
    options = parser().parse_args(argv)
    with answers_alone():
        session = prepare(options)
        lines = stdin_lines() if options.input is None else read_lines(options.input)
        if options.score is not None:
            answers = session.scores(lines, read_lines(options.score))
        elif options.input is None and sys.stdin.isatty():
            answers = session.answers(prompted(), block=1)
        else:
            answers = session.answers(lines)
        write(answers, options.output)
    return 0


def prepare(options: argparse.Namespace) -> Session:
    """The models in the precision asked for, and how they are to search; raises as :func:`main`."""
    models = load_all(options.ckpt_path)
    networks = [placed(in_precision(model.network, options.precision), options.device) for model in models]
    codec = Codec(models[0].codec.spec, options.max_length)
    translator = TextTranslator(networks, codec, changed(models[0].decoding, options), options.batch_size)
    wanted: Path | None = options.replace_unknown
    dictionary = None if wanted is None else {} if wanted == Path() else read_dictionary(wanted)
    return Session(translator, dictionary, options.json, options.longer == "refuse")


def plain(found: Sequence[Translation], number: int | None) -> list[str]:
    """Translations as lines; with their line's number where there are several.

    Example:
        >>> from tasks.translation.decoding import BLANK
        >>> [line.split() for line in plain([BLANK._replace(text="un", score=-0.5)], 7)]
        [['7', '-0.5000', 'un']]
    """
    texts = [printable(one.text) for one in found]
    return (
        texts
        if number is None
        else [f"{number}\t{one.score:.4f}\t{text}" for one, text in zip(found, texts, strict=True)]
    )


def as_json(source: str, found: Sequence[Translation]) -> str:
    """Translations of a sentence as an object."""
    hypotheses = [
        {"text": one.text, "score": one.score, "pieces": one.pieces, "alignment": rounded(one.alignment)}
        for one in found
    ]
    pieces = found[0].source_pieces if found else []
    return json.dumps({"source": source, "pieces": pieces, "hypotheses": hypotheses}, ensure_ascii=False)


def rounded(alignment: Tensor | None) -> list[list[float]] | None:
    """Weights with six digits."""
    if alignment is None:
        return None
    return [[round(weight, 6) for weight in row] for row in alignment.tolist()]

"""``lightning-rnn vectors``: questions to word vectors, their evaluation, other formats."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from math import isnan
from typing import Any

from lightning_rnn.data.vectors import write_vectors
from lightning_rnn.errors import ConfigError
from lightning_rnn.training.console import answers_alone

from .arguments import parser
from .evaluation import analogies, similarity
from .queries import Near, WordQueries, predict_center
from .tables import placed, read_table

Answer = dict[str, Any]


def main(argv: list[str]) -> int:
    """``lightning-rnn vectors``: print answers. Returns the exit code.

    Raises:
        CheckpointError: a checkpoint is broken, or of something else.
        ConfigError: an option is out of range, or does not go with the file.
        DataError: a file cannot be read, or a word has no vector.
    """
    options = parser().parse_args(argv)
    with answers_alone():
        answer = ACTIONS[options.action](options)
    print(json.dumps(answer, ensure_ascii=False) if options.json else "\n".join(lines(answer)), flush=True)
    return 0


def asked(options: argparse.Namespace) -> WordQueries:
    """The vectors that are asked."""
    return WordQueries(read_table(options.vectors)[0])


def neighbors(options: argparse.Namespace) -> Answer:
    """Words near to some words."""
    return {"words": _near(asked(options), options.words, options.negative, options)}


def analogy(options: argparse.Namespace) -> Answer:
    """A is to B as C is to what."""
    a, b, c = options.words
    return {"words": _near(asked(options), [b, c], [a], options)}


def _near(queries: WordQueries, positive: list[str], negative: list[str], options: argparse.Namespace) -> list[Answer]:
    find = queries.most_similar if options.method == "add" else queries.cosmul
    return _listed(find(positive, negative, options.topn))


def _listed(found: Near) -> list[Answer]:
    return [{"word": word, "value": round(value, 6)} for word, value in found]


def odd(options: argparse.Namespace) -> Answer:
    """The word that does not belong."""
    return {"odd": asked(options).doesnt_match(options.words)}


def compared(options: argparse.Namespace) -> Answer:
    """The cosine of two words."""
    queries, (first, second) = asked(options), options.words
    return {"similarity": round(queries.similarity(first, second), 6), "rank": queries.rank(first, second)}


def predict(options: argparse.Namespace) -> Answer:
    """Words likely between others."""
    table, outputs = read_table(options.vectors)
    if outputs is None or len(outputs) != len(table.words):
        raise ConfigError(
            f"{options.vectors} has no output vectors of words: predict needs a checkpoint, of another loss than "
            "hierarchical"
        )
    return {"words": _listed(predict_center(table, outputs, options.words, options.topn))}


def evaluate(options: argparse.Namespace) -> Answer:
    """Analogies by section, similarity by file."""
    if not options.analogies and not options.similarity:
        raise ConfigError("there is nothing to evaluate on: give --analogies or --similarity a file")
    queries = asked(options)
    how = options.restrict_vocab, not options.case_sensitive, options.dummy4unknown
    answer: Answer = {"analogies": [], "similarity": []}
    for path in options.analogies:
        found = analogies(queries, placed(path), *how)
        for section in [*found.sections, found.total]:
            row = {"section": section.name, "accuracy": section.accuracy, "correct": len(section.correct)}
            answer["analogies"].append({"file": path.name, **row, "questions": section.questions, "oov": found.oov})
    for path in options.similarity:
        judged = similarity(queries, placed(path), *how)._asdict()
        plain = {name: None if isnan(value) else value for name, value in judged.items()}  # JSON has no nan
        answer["similarity"].append({"file": path.name, **plain})
    return answer


def export(options: argparse.Namespace) -> Answer:
    """Write the vectors."""
    table, _ = read_table(options.vectors)
    write_vectors(options.output, table, options.format)
    return {"words": len(table.words), "size": table.vectors.shape[1], "written": str(options.output)}


def lines(answer: Answer) -> list[str]:
    r"""An answer as text: a row with tabs for each entry of its lists.

    Example:
        >>> lines({"words": [{"word": "town", "value": 0.5}], "rank": 2})
        ['town\t0.5000', 'rank\t2']
    """
    found = list[str]()
    for name, value in answer.items():
        rows = value if isinstance(value, list) else [{"name": name, "value": value}]
        found += ["\t".join(_plain(one) for one in row.values()) for row in rows]
    return found


def _plain(value: object) -> str:
    if value is None:
        return "nan"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


ACTIONS: dict[str, Callable[[argparse.Namespace], Answer]] = {
    "neighbors": neighbors,
    "analogy": analogy,
    "odd": odd,
    "similarity": compared,
    "predict": predict,
    "evaluate": evaluate,
    "export": export,
}

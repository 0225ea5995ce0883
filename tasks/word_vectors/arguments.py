"""The options of ``lightning-rnn vectors``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from lightning_rnn.data.vectors import FileFormat

ABOUT = """\
Asks word vectors, evaluates them, and writes them in other formats. --vectors is a checkpoint of this task, or a file
of vectors: word2vec's text or binary format, GloVe's text, or gensim's KeyedVectors (.kv, read without running it).
"""
ANSWERS = """\
exit codes: 0 there is an answer; 1 a file could not be read or a word has no vector; 2 a wrong option.

examples:
  lightning-rnn vectors neighbors --vectors best.ckpt city
  lightning-rnn vectors analogy --vectors vectors.bin man king woman
  lightning-rnn vectors evaluate --vectors best.ckpt --analogies questions-words.txt --similarity wordsim353.tsv
  lightning-rnn vectors export --vectors best.ckpt --output vectors.bin --format binary
"""
ACTIONS = {
    "neighbors": "the words nearest to the mean of some words",
    "analogy": "A is to B as C is to what",
    "odd": "which word does not belong to the others",
    "similarity": "the cosine of two words, and which neighbor of the first the second one is",
    "predict": "the words likely in the middle of some others; needs a checkpoint",
    "evaluate": "analogies by section, and similarity beside people's judgments; the numbers are gensim's",
    "export": "write the vectors in another format",
}
WORDS: dict[str, int | str] = {"neighbors": "+", "analogy": 3, "odd": "+", "similarity": 2, "predict": "+"}


def parser() -> argparse.ArgumentParser:
    """Of the command line after the verb."""
    made = argparse.ArgumentParser(
        "lightning-rnn vectors",
        description=ABOUT,
        epilog=ANSWERS,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = made.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, about in ACTIONS.items():
        one = actions.add_parser(name, help=about, description=about, allow_abbrev=False)
        one.add_argument(
            "--vectors", "--ckpt_path", type=Path, required=True, metavar="FILE", help="checkpoint or file"
        )
        one.add_argument("--json", action="store_true", help="JSON, one object")
        if name in WORDS:
            one.add_argument("words", nargs=WORDS[name], metavar="WORD")
        if name in ("neighbors", "analogy", "predict"):
            one.add_argument("--topn", type=_positive, default=10, help="so many words (10)")
        if name in ("neighbors", "analogy"):
            one.add_argument("--method", choices=("add", "mul"), default="add", help="3CosAdd (the default) or 3CosMul")
    actions.choices["neighbors"].add_argument(
        "--negative", nargs="+", default=[], metavar="WORD", help="words whose vectors are taken off"
    )
    _add_evaluation(actions.choices["evaluate"])
    _add_export(actions.choices["export"])
    return made


def _add_evaluation(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--analogies", nargs="+", type=Path, default=[], metavar="FILE", help="questions: four words a line"
    )
    one.add_argument(
        "--similarity", nargs="+", type=Path, default=[], metavar="FILE", help="two words and a judgment a line"
    )
    one.add_argument(
        "--restrict_vocab", type=_positive, default=300_000, help="the first so many words, as gensim has it (300000)"
    )
    one.add_argument("--case_sensitive", action="store_true", help="do not disregard case")
    one.add_argument("--dummy4unknown", action="store_true", help="words without a vector count as wrong, as in gensim")


def _add_export(one: argparse.ArgumentParser) -> None:
    one.add_argument("--output", type=Path, required=True, metavar="FILE", help="where they are written")
    one.add_argument(
        "--format",
        choices=get_args(FileFormat),
        default="text",
        help="word2vec's text (the default) or binary, glove (text without a header), gensim (KeyedVectors)",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1, got {text!r}")
    return int(text)

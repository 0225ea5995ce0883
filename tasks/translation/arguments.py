"""The options of ``lightning-rnn translate``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

from lightning_rnn.seq2seq.beam_options import StopRule
from lightning_rnn.seq2seq.penalties import LengthPenalty

from .data import Longer
from .decoding import DecodingOptions
from .loading import Precision

ABOUT = """\
Translates sentences, one a line, with a trained model, or with several of one vocabulary whose probabilities are
averaged.

The text is UTF-8; a line may end in \\n or \\r\\n. Sentences of like length are translated together, and translations
come in the order of the lines: as many lines as there were, a blank one for a blank one. At a terminal there is a
prompt.
"""
ANSWERS = """\
answers: a line has the translation. With --n_best above 1 it has the number of the input line (from 1), the score and
a translation, with tabs between them; best first. The score is the log-probability of the tokens, the end among them,
over the length penalty.
With --json a line is an object: source; pieces, the tokens of the source; and hypotheses, best first, each with text,
score, pieces and alignment: for each piece its weights over the source's pieces, null of a model without attention.
With --score a line has the log-probability of the given translation, its mean over the tokens, and their number; with
--json it is an object with source, target, log_prob, score, tokens and alignment.

exit codes: 0 all lines have answers; 1 a checkpoint or the sentences could not be read; 2 a wrong option.

examples:
  echo "A man rides a bicycle." | lightning-rnn translate --ckpt_path best.ckpt
  lightning-rnn translate --ckpt_path a.ckpt b.ckpt --input test.en --output test.fr --beam_size 10
"""
DECODING = ("length_ratio", "length_constant", "min_length", "no_repeat_ngram")
BEAM = ("beam_size", "n_best", "length_penalty", "alpha", "coverage_beta", "stop")


def parser() -> argparse.ArgumentParser:
    """Of the command line after the verb."""
    made = argparse.ArgumentParser(
        "lightning-rnn translate",
        description=ABOUT,
        epilog=ANSWERS,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_files(made)
    _add_search(made.add_argument_group("search; what is not given is as the model was trained"))
    return made


def _add_files(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--ckpt_path", type=Path, nargs="+", required=True, metavar="FILE", help="checkpoint, or several: an ensemble"
    )
    made.add_argument("--input", type=Path, metavar="FILE", help="sentences; may be .gz, .xz or .zst; else stdin")
    made.add_argument("--output", type=Path, metavar="FILE", help="where answers are written, whole; else stdout")
    made.add_argument("--json", action="store_true", help="one JSON object a line")
    made.add_argument(
        "--score", type=Path, metavar="FILE", help="translations to score, line by line, instead of searching for some"
    )
    made.add_argument(
        "--replace_unknown",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="DICTIONARY",
        help="words the model cannot write become the source word that attention was on, or its translation in this "
        "file (two columns with a tab between them)",
    )
    made.add_argument("--batch_size", type=int, default=64, help="sentences at once (64)")
    made.add_argument("--max_length", type=int, default=256, help="tokens of a sentence, at most (256)")
    made.add_argument(
        "--longer", choices=get_args(Longer), default="truncate", help="what becomes of longer ones (truncate)"
    )
    made.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="32",
        help="of the weights: 32, bf16, or int8 for the recurrent layers (SimpleRNN, LSTM and GRU)",
    )
    made.add_argument("--device", default="cpu", help="where to compute: cpu (the default), cuda, cuda:1 ...")
    made.add_argument(
        "--int8", dest="precision", action="store_const", const="int8", help="the same as --precision int8"
    )


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--beam_size", type=int, help="hypotheses continued at every step; 1 is greedy")
    group.add_argument("--n_best", type=int, default=1, metavar="K", help="translations of each sentence (1)")
    group.add_argument("--length_penalty", choices=get_args(LengthPenalty))
    group.add_argument("--alpha", type=float, help="of the length penalty wu")
    group.add_argument("--coverage_beta", type=float, help="weight of the coverage penalty")
    group.add_argument("--stop", choices=get_args(StopRule), help="when a search ends: count, next or exact")
    group.add_argument("--length_ratio", type=float, help="most tokens for each token of the source")
    group.add_argument("--length_constant", type=int, help="and so many more")
    group.add_argument("--min_length", type=int, help="fewest tokens")
    group.add_argument("--no_repeat_ngram", type=int, help="so many tokens in a row stand only once; 0: no such rule")


def changed(decoding: DecodingOptions, options: argparse.Namespace) -> DecodingOptions:
    """The model's way to search, with what the command line says otherwise.

    Raises:
        ConfigError: an option is out of range.
    """
    given = {name: value for name, value in vars(options).items() if value is not None}
    beam = replace(decoding.beam, **{name: given[name] for name in BEAM if name in given})
    return replace(decoding, beam=beam, **{name: given[name] for name in DECODING if name in given})

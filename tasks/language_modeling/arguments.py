"""The options of ``lightning-rnn generate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from lightning_rnn.errors import require

from .generation import GenerationOptions
from .spec import LINE_END

READING = ("ckpt_path", "score", "json", "device")  # options that scoring has
ABOUT = """\
Writes text with a trained language model, after a prompt or from the beginning of a line, and shows each token as it
comes. The prompt is read at once and shown first.

Where a text stands can be saved (--state_out) and gone on with later or elsewhere (--state_in): the parts, one after
the other, are the text that one call would have written. Ctrl-C ends the text where it is, and the state is saved.
With --score nothing is written: lines are scored.
"""
ANSWERS = """\
answers: the prompt and the text after it; a line end at the very end, but not with --state_out. Several samples stand
one after the other, each after a line "=== sample 1, seed 5"; the first is shown as it comes.
With --json a line is an object for each sample, when it is complete: sample, seed, prompt, text (without the prompt),
tokens, log_prob (of the tokens written, in nats, by the model itself: no temperature, nothing filtered) and ended
(whether a stop came). prompt and seed are null and the seed it began with where a text is gone on with.
With --score a line has, with tabs between them: the log-probability of the line and its end in nats, the perplexity
for each word, bits for each character, and tokens; each line for itself, its end counted as a word and a character.
With --json it is an object with text, log_prob, perplexity, bits_per_character and tokens.

exit codes: 0 done; 1 a checkpoint, state or text could not be read or written; 2 a wrong option; 130 Ctrl-C.

examples:
  lightning-rnn generate --ckpt_path best.ckpt --prompt "ROMEO:" --temperature 0.8 --max_tokens 500
  lightning-rnn generate --ckpt_path best.ckpt --prompt "ROMEO:" --state_out romeo.state
  lightning-rnn generate --ckpt_path best.ckpt --state_in romeo.state --state_out romeo.state
  lightning-rnn generate --ckpt_path best.ckpt --score lines.txt
"""


def parser() -> argparse.ArgumentParser:
    """Of the command line after the verb."""
    made = argparse.ArgumentParser(
        "lightning-rnn generate",
        description=ABOUT,
        epilog=ANSWERS,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--ckpt_path", type=Path, required=True, metavar="FILE", help="checkpoint, such as best.ckpt")
    made.add_argument(
        "--prompt", "--seed_text", metavar="TEXT", help="what to go on from; - reads it from the standard input"
    )
    made.add_argument("--samples", type=int, help="texts to write (1)")
    made.add_argument("--seed", type=int, help="of the first sample, the next have the next; else drawn and said")
    made.add_argument("--state_in", type=Path, metavar="FILE", help="go on with the text of this file")
    made.add_argument("--state_out", type=Path, metavar="FILE", help="where to keep how the text stands at its end")
    made.add_argument("--score", metavar="FILE", help="score the lines of this file, - the standard input")
    made.add_argument("--json", action="store_true", help="one JSON object a line, nothing as it comes")
    made.add_argument("--device", default="cpu", help="where to compute: cpu (the default), cuda, cuda:1 ...")
    _add_writing(made.add_argument_group("how text is written"))
    return made


def _add_writing(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max_tokens", type=int, default=200, help="tokens of each sample, at most (200)")
    group.add_argument("--temperature", type=float, default=1.0, help="below 1 safer, above 1 wilder (1)")
    group.add_argument("--top_k", type=int, default=0, help="only so many of the most probable tokens; 0: all")
    group.add_argument("--top_p", type=float, default=1.0, help="only the most probable, of this probability together")
    group.add_argument("--greedy", action="store_true", help="always the most probable token")
    group.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before it; may be repeated")
    group.add_argument("--stop_at_eos", action="store_true", help="end at the end of the line")
    group.add_argument("--unknown", action="store_true", help="let the unknown token be written, as ⁇")


def writing_options(options: argparse.Namespace) -> GenerationOptions:
    """How text is to be written.

    Raises:
        ConfigError: an option is out of range, or two do not go together.
    """
    if options.state_in is not None:
        for name in ("prompt", "samples", "seed"):
            told = f"--{name} begins a text, --state_in goes on with one: leave one of them out"
            require(getattr(options, name) is None, told)
    for name, default in vars(parser().parse_args(["--ckpt_path", ""])).items():
        both = options.score is not None and name not in READING and getattr(options, name) != default
        require(not both, f"--score writes no text: leave --{name} out")
    if options.state_out is not None:
        require(not options.state_out.is_dir(), f"--state_out {options.state_out} is a folder: name a file in it")
    drawn = options.temperature != 1 or options.top_k or options.top_p != 1
    require(not (options.greedy and drawn), "--greedy draws nothing: leave --temperature, --top_k and --top_p out")
    return GenerationOptions(
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        greedy=options.greedy,
        stop=(*options.stop, *([LINE_END] if options.stop_at_eos else [])),
        unknown=options.unknown,
    )

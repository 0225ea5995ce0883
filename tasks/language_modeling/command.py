"""``lightning-rnn generate``: text from a trained language model, token by token."""

from __future__ import annotations

import argparse
import io
import json
import logging
import math
import os
import random
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import FrameType

from lightning_rnn.data.lines import read_lines
from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.training.console import answers_alone
from lightning_rnn.training.loading import load_trained

from .arguments import parser, writing_options
from .generation import GenerationOptions, Run, TextGenerator
from .module import LanguageModel
from .state_files import load_run, save_run

log = logging.getLogger(__name__)
STDIN, INTERRUPTED = "-", 130
BLOCK = 64  # lines that are scored at once


@dataclass
class Sample:
    """What was written of one sample."""

    pieces: list[str] = field(default_factory=list)
    log_prob: float = 0.0
    tokens: int = 0


@dataclass
class Stop:
    """Whether Ctrl-C was pressed."""

    asked: bool = False


def main(argv: list[str]) -> int:
    """``lightning-rnn generate``: write text, or score some. Returns the exit code.

    Raises:
        CheckpointError: a checkpoint or state file is broken, or of something else.
        ConfigError: an option is out of range, or two do not go together.
        DataError: the prompt, the state or the lines cannot be read, or the state cannot be written.
    """
    options = parser().parse_args(argv)
    writing = writing_options(options)
    with answers_alone():
        model = load(options.ckpt_path, options.device)
        try:
            if options.score is not None:
                return score(model, lines_of(options.score), options.json)
            return write(model, options, writing)
        except BrokenPipeError:  # who reads it, such as head, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
    return 0


def load(path: Path, device: str) -> LanguageModel:
    """The model of a checkpoint.

    Raises:
        CheckpointError: the file is missing or broken, of another task, or its weights are not numbers.
        ConfigError: there is no such device.
    """
    model = load_trained(LanguageModel, path).eval()
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ConfigError(f"--device {device}: {str(error).splitlines()[0]}") from error


def write(model: LanguageModel, options: argparse.Namespace, writing: GenerationOptions) -> int:
    """Write samples, and save where they stand; the exit code."""
    assert model.spec is not None
    generator = TextGenerator(model.network, model.spec)
    run, prompt = begin(generator, options)
    samples = [Sample() for _ in run.written]
    with interruptible() as stop:
        show = Show(run, prompt, options.json)
        for new in generator.stream(run, writing):
            sample = samples[new.sample]
            sample.pieces.append(new.text)
            sample.log_prob, sample.tokens = sample.log_prob + new.log_prob, sample.tokens + 1
            if not new.sample:
                show.piece(new.text)
            if stop.asked:
                break
    if options.state_out is not None:
        save_run(run, generator.network, options.state_out)
    else:
        for sample, rest in zip(samples, generator.rest(run), strict=True):
            sample.pieces.append(rest)
        show.piece(samples[0].pieces[-1])
    show.samples(samples, line_end=options.state_out is None)
    return INTERRUPTED if stop.asked else 0


def begin(generator: TextGenerator, options: argparse.Namespace) -> tuple[Run, str | None]:
    """The run to go on with, and the prompt of a new one."""
    if options.state_in is not None:
        run = load_run(options.state_in, generator.network)
        if all(one.ended for one in run.written):
            log.warning("%s: the text met its --stop and has ended: nothing comes after it", options.state_in)
        return run, None
    prompt = options.prompt or ""
    if prompt == STDIN:
        prompt = read_stdin().replace("\r\n", "\n").removesuffix("\n")
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    if options.seed is None and not options.greedy:
        log.info("seed %d: the same text again with --seed %d", seed, seed)
    return generator.begin(prompt, 1 if options.samples is None else options.samples, seed), prompt


class Show:
    """Prints samples: the first as it comes, or each as an object.

    Args:
        run: what is written.
        prompt: what it began with; None where it is gone on with.
        as_json: whether samples are objects.
    """

    def __init__(self, run: Run, prompt: str | None, as_json: bool) -> None:
        self.run, self.prompt, self.as_json = run, prompt, as_json
        self.seeds: list[int] = run.seeds.tolist()
        if not as_json:
            self._say(self._head(0) + (prompt or ""))

    def _head(self, sample: int) -> str:
        return f"=== sample {sample + 1}, seed {self.seeds[sample]}\n" if len(self.seeds) > 1 else ""

    def _say(self, text: str) -> None:
        if text:
            print(text, end="", flush=True)

    def piece(self, text: str) -> None:
        """New text of the first sample."""
        if not self.as_json:
            self._say(text)

    def samples(self, samples: list[Sample], line_end: bool) -> None:
        """What was not shown as it came."""
        for number, sample in enumerate(samples):
            if self.as_json:
                print(self._object(number, sample), flush=True)
            elif number:
                self._say(f"\n{self._head(number)}{self.prompt or ''}{''.join(sample.pieces)}")
        if line_end and not self.as_json:
            self._say("\n")

    def _object(self, number: int, sample: Sample) -> str:
        values: dict[str, object] = {"sample": number + 1, "seed": self.seeds[number], "prompt": self.prompt}
        values |= {"text": "".join(sample.pieces), "tokens": sample.tokens, "log_prob": round(sample.log_prob, 6)}
        return json.dumps(values | {"ended": self.run.written[number].ended}, ensure_ascii=False)


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Ctrl-C asks for a stop, at which what is written is complete; a second one stops at once."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def score(model: LanguageModel, lines: Iterable[str], as_json: bool) -> int:
    """Print what each line costs; the exit code."""
    rest = iter(lines)
    while block := list(islice(rest, BLOCK)):
        columns = model.score(block)
        for line, log_prob, perplexity, tokens in zip(
            block, *(map(float, columns[name]) for name in ("log_prob", "perplexity", "tokens")), strict=True
        ):
            bits = -log_prob / math.log(2) / (len(line) + 1)
            if as_json:
                values = {"text": line, "log_prob": log_prob, "perplexity": perplexity, "bits_per_character": bits}
                print(json.dumps(values | {"tokens": int(tokens)}, ensure_ascii=False))
            else:
                print(f"{log_prob:.4f}\t{perplexity:.4f}\t{bits:.4f}\t{tokens:.0f}")
    sys.stdout.flush()
    return 0


def lines_of(name: str) -> Iterable[str]:
    """The lines of a file, or of the standard input.

    Raises:
        DataError: they cannot be read.
    """
    if name != STDIN:
        return read_lines(Path(name))
    *lines, last = read_stdin().split("\n")
    return [line.removesuffix("\r") for line in ([*lines, last] if last else lines)]


def read_stdin() -> str:
    """All of the standard input.

    Raises:
        DataError: it is closed, or not UTF-8.
    """
    stream = sys.stdin
    if stream is None:
        raise DataError("the standard input is closed: give the text there, or as an option")
    # what Python put in its place, as in a notebook, has text alone
    raw = stream.buffer.read() if isinstance(stream, io.TextIOWrapper) else stream.read().encode()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        raise DataError(f"stdin, line {line}: the byte 0x{byte:02x} is not UTF-8: convert the text to UTF-8") from error

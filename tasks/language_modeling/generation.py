"""Writing text with a trained model, token by token with carried state, and scoring given text."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.data.tokenizer import BOS, PAD, UNK
from lightning_rnn.errors import require
from lightning_rnn.layers.recurrent import RecurrentLayer
from lightning_rnn.seq2seq.generate import Piece, stream
from lightning_rnn.seq2seq.request import Request
from lightning_rnn.seq2seq.samplers import Sampling
from lightning_rnn.seq2seq.step import NEVER, StepOutput, repeat_rows
from lightning_rnn.types import Nest

from .network import LanguageModelNetwork
from .pieces import TextCodec, Written
from .spec import LINE_END, LanguageSpec

log = logging.getLogger(__name__)
SEEDS = 2**63


@dataclass(frozen=True)
class GenerationOptions:
    r"""How text is written.

    Attributes:
        max_tokens: so many tokens at most, of each sample.
        temperature: log-probabilities are divided by it: below 1 safer, above 1 wilder.
        top_k: only the ``k`` most probable tokens; 0: all.
        top_p: only the most probable tokens that have this probability together; 1: all.
        greedy: always the most probable token; the three above do nothing.
        stop: a text ends before any of these; ``"\n"`` is the end of a line.
        unknown: whether the unknown token may be written.

    Raises:
        ConfigError: an option is out of its range.

    Example:
        >>> GenerationOptions(top_p=0.9, stop=("\n",)).temperature
        1.0
    """

    max_tokens: int = 200
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    greedy: bool = False
    stop: Sequence[str] = ()
    unknown: bool = False

    def __post_init__(self) -> None:
        require(self.max_tokens >= 0, f"max_tokens is {self.max_tokens}: give 0 or more")
        require(not isinstance(self.stop, str), f"stop is one text: give a list of them, such as [{self.stop!r}]")
        require(all(self.stop), "stop is an empty text: give some, or leave it out")
        Sampling(self.temperature, self.top_k, self.top_p)  # refuses what is out of range

    def sampling(self, seeds: Tensor, drawn: Tensor) -> Sampling | None:
        """How tokens are drawn; None: the most probable one."""
        return None if self.greedy else Sampling(self.temperature, self.top_k, self.top_p, seeds, drawn)


@dataclass
class Run:
    """Texts that are being written, each with what it goes on from; rows are samples.

    Attributes:
        state: of the network after all tokens but the last, leaves ``[B, ...]``.
        tokens: the last token of each, int64 ``[B]``.
        seeds: of each one's chances, int64 ``[B]``.
        drawn: tokens that each has drawn, int64 ``[B]``.
        written: the end of each text.
    """

    state: Nest
    tokens: Tensor
    seeds: Tensor
    drawn: Tensor
    written: list[Written]

    def keep(self, piece: Piece, rows: list[int], codec: TextCodec, stops: Sequence[str]) -> list[str]:
        """Go on to some ``rows`` of a piece; the text that each adds."""
        if len(rows) == len(self.written):
            self.state, self.tokens, self.drawn = piece.state, piece.tokens, self.drawn + 1
        else:
            index = torch.tensor(rows, device=piece.tokens.device)
            here = piece.sentences[index]
            self.state = pytree.tree_map(
                lambda old, new: old.index_copy(0, here, new.index_select(0, index)), self.state, piece.state
            )
            self.tokens = self.tokens.index_copy(0, here, piece.tokens[index])
            self.drawn = self.drawn.index_add(0, here, torch.ones_like(here))
        samples, tokens = piece.sentences.tolist(), piece.tokens.tolist()
        return [self.written[samples[row]].push(tokens[row], codec, stops) for row in rows]


class NewText(NamedTuple):
    """What one token adds to one sample.

    Attributes:
        sample: its number.
        text: the new text; empty where it depends on the next token.
        token: its id.
        log_prob: its log-probability in the model (no temperature, nothing filtered).
    """

    sample: int
    text: str
    token: int
    log_prob: float


class TextGenerator:
    """Writes text with a network.

    Args:
        network: is put in eval mode.
        spec: says how text becomes ids and back.

    Example:
        >>> from lightning_rnn.data.tokenizer import train_tokenizer
        >>> from tasks.language_modeling.network import NetworkOptions
        >>> spec = LanguageSpec.of(train_tokenizer(["a rose is a rose"], "characters"))
        >>> generator = TextGenerator(LanguageModelNetwork(spec, NetworkOptions(hidden_size=8, embedding_size=4)), spec)
        >>> run = generator.begin("a rose ", seed=1)
        >>> options = GenerationOptions(max_tokens=5)
        >>> first, second = generator.write(run, options), generator.write(run, options)
        >>> whole = generator.write(generator.begin("a rose ", seed=1), GenerationOptions(max_tokens=10))
        >>> whole[0] == first[0] + second[0]
        True
    """

    def __init__(self, network: LanguageModelNetwork, spec: LanguageSpec) -> None:
        self.network, self.codec = network.eval(), TextCodec(spec)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def begin(self, prompt: str = "", samples: int = 1, seed: int = 0) -> Run:
        """Read the seed text, in one call of the network; it stands at the beginning of a line.

        Args:
            prompt: the seed text; may be empty.
            samples: texts to write after it.
            seed: sample ``i`` is what a single one with ``seed + i`` is.

        Raises:
            ConfigError: there are no samples, or the seed is not one of 64 bits.
            DataError: the prompt is not valid Unicode.
        """
        require(samples >= 1, f"samples is {samples}: give 1 or more")
        fits = -SEEDS <= seed <= SEEDS - samples
        require(fits, f"seed is {seed}: give -2^63 or more, and below 2^63 with all samples")
        ids = self.codec.encode(prompt)
        if unknown := ids.count(UNK):
            log.warning("%d of the %d tokens of the prompt are unknown to the model", unknown, len(ids))
        read = torch.tensor([[self.codec.spec.end, *ids]], device=self.device)
        state = self._state_after(read[:, :-1])
        return Run(
            state=repeat_rows(state, samples),
            tokens=read[0, -1:].repeat(samples),
            seeds=torch.arange(samples, device=self.device) + seed,
            drawn=torch.zeros(samples, dtype=torch.int64, device=self.device),
            written=[Written.after([self.codec.spec.end, *ids], self.codec) for _ in range(samples)],
        )

    def _state_after(self, tokens: Tensor) -> Nest:
        """The state after ``[1, T]``; zeros after none."""
        if not tokens.shape[1]:
            some = self.network(torch.zeros(1, 1, dtype=torch.int64, device=self.device)).state
            return pytree.tree_map(torch.zeros_like, some)
        return self.network(tokens).state

    def stream(self, run: Run, options: GenerationOptions = GenerationOptions()) -> Iterator[NewText]:
        """Go on with a run, token by token, all samples side by side; ``run`` is where it stands at any time.

        A sample that has met its stop is not gone on with, neither here nor later.

        Args:
            run: of :meth:`begin`, or of an earlier call with any options.
            options: see there.

        Raises:
            ValueError: the network gives NaN.
        """
        ended = torch.tensor([one.ended for one in run.written], device=self.device)
        request = Request(
            max_length=torch.where(ended, 0, options.max_tokens),
            bos=run.tokens,
            eos=self.codec.spec.end if LINE_END in options.stop else PAD,  # PAD is never written
        )
        sampling = options.sampling(run.seeds, run.drawn)
        step = Step(self.network, (PAD, BOS) if options.unknown else (PAD, BOS, UNK))
        for piece in stream(step, run.state, (), request, sampling):
            samples, tokens, log_probs = piece.sentences.tolist(), piece.tokens.tolist(), piece.log_probs.tolist()
            rows = [row for row, sample in enumerate(samples) if not run.written[sample].ended]
            for row, text in zip(rows, run.keep(piece, rows, self.codec, options.stop), strict=True):
                yield NewText(samples[row], text, tokens[row], log_probs[row])
            if all(one.ended for one in run.written):
                return

    def write(self, run: Run, options: GenerationOptions = GenerationOptions()) -> list[str]:
        """Go on with a run; the new text of each sample, without what :meth:`rest` would give."""
        texts = [""] * len(run.written)
        for new in self.stream(run, options):
            texts[new.sample] += new.text
        return texts

    def rest(self, run: Run) -> list[str]:
        """What is held back at the end of each sample: half a character, or half a stop. For runs that are over."""
        return [one.rest(self.codec) for one in run.written]

    def generate(
        self,
        prompt: str = "",
        options: GenerationOptions = GenerationOptions(),
        samples: int = 1,
        seed: int = 0,
    ) -> list[str]:
        """Texts after a prompt, which is not repeated; raises as :meth:`begin` and :meth:`stream`."""
        run = self.begin(prompt, samples, seed)
        return [text + rest for text, rest in zip(self.write(run, options), self.rest(run), strict=True)]


class Step:
    """The network one token further, as searches see it: see :class:`lightning_rnn.seq2seq.step.DecodeStep`.

    Args:
        network: in eval mode.
        never: ids that are not written.
    """

    def __init__(self, network: LanguageModelNetwork, never: Sequence[int]) -> None:
        self.network, self.never = network, list(never)

    def __call__(self, tokens: Tensor, state: Nest, constants: Nest) -> StepOutput:
        x, states = self.network.scale * self.network.embedding(tokens), []
        for layer, old in zip(self.network.layers, state, strict=True):
            x, new = self._through(layer, x, old)
            states.append(new)
        log_probs = self.network.head.log_probs(x)
        log_probs[:, self.never] = NEVER
        return StepOutput(log_probs, tuple(states))

    def _through(self, layer: nn.Module, x: Tensor, state: Nest) -> tuple[Tensor, Nest]:
        if isinstance(layer, RecurrentLayer):
            return layer.step(x, state)  # a fifth of the time
        output = layer(x[:, None], state)
        return output.sequence[:, 0], output.state

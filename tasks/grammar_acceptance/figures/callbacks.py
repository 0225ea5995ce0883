"""Figures of acceptors and predictors: what is judged how, and which automaton the network has become."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_rnn.data.module import Split
from lightning_rnn.errors import ConfigError
from lightning_rnn.training.figures import EvaluationFigure, S
from lightning_rnn.training.hooks import datamodule_of
from lightning_rnn.training.module import SequenceModule, StepResult
from lightning_rnn.types import SequenceBatch

from ..objectives import Accept, Objective, Predict
from ..strings import StringRows
from .drawing import Judged, draw_kinds, draw_lengths, tally
from .graphs import Panel, draw_automata
from .reading import Reading, draw_reading
from .states import ExtractedAutomaton, extract

if TYPE_CHECKING:
    from ..module import GrammarModel

EXAMPLE = 24  # symbols of the strings that are shown as examples, at most, where there are such
MISTAKES = 4


def strings_of(trainer: pl.Trainer, split: Split, who: str) -> StringRows:
    """The rows of a split.

    Raises:
        ConfigError: the trainer has no datamodule of strings.
    """
    datamodule = datamodule_of(trainer)
    rows = None if datamodule is None else datamodule.split(split)
    if not isinstance(rows, StringRows):
        raise ConfigError(f"{who} draws the strings of a GrammarData, the trainer has none")
    return rows


class GrammarFigure(EvaluationFigure[S]):
    """A figure of networks with certain objectives; of others, and of streams, nothing is drawn."""

    objectives: ClassVar[tuple[type[Objective], ...]] = (Accept,)

    def applies(self, module: pl.LightningModule) -> bool:
        """Whether a network, once it is built, is of the kind that is drawn."""
        return isinstance(cast("GrammarModel", module).objective, self.objectives)

    def on_validation_batch_end(  # Lightning's signature
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        if self.applies(pl_module) and batch.starts is None:
            super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_test_batch_end(  # Lightning's signature
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        if self.applies(pl_module) and batch.starts is None:
            super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class VerdictFigure(GrammarFigure[list[Tensor]]):
    """Base of the figures of an acceptor's verdicts; the state is row numbers and probabilities ``[2, B]``."""

    def reset(self) -> None:
        self.state = []

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        if batch.ids is None:
            raise ConfigError(f"{type(self).__name__} cannot tell which strings were judged: the batches have no ids")
        self.state.append(torch.stack([batch.ids.double(), result.predictions[:, -1].double()]).cpu())

    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[list[Tensor]]) -> Figure:
        rows = strings_of(trainer, split, type(self).__name__)
        pairs = torch.cat([batch for state in states for batch in state], 1).T.tolist()
        judged = {int(row): Judged(*rows.samples[int(row)], probability) for row, probability in sorted(pairs)}
        return self.draw_judged(cast("GrammarModel", module), rows, split, judged)

    @abstractmethod
    def draw_judged(self, model: GrammarModel, rows: StringRows, split: Split, judged: dict[int, Judged]) -> Figure:
        """The figure, from all verdicts by row number."""


class KindsFigure(VerdictFigure):
    """Draws ``kinds_val.png`` and ``kinds_test.png``: which kinds of strings are accepted and rejected."""

    name = "kinds"

    def draw_judged(self, model: GrammarModel, rows: StringRows, split: Split, judged: dict[int, Judged]) -> Figure:
        return draw_kinds(list(judged.values()), split)


class LengthsFigure(VerdictFigure):
    """Draws ``lengths_val.png`` and ``lengths_test.png``: accuracy against length."""

    name = "lengths"

    def draw_judged(self, model: GrammarModel, rows: StringRows, split: Split, judged: dict[int, Judged]) -> Figure:
        return draw_lengths(list(judged.values()), split)


class ReadingFigure(VerdictFigure):
    """Draws ``reading_val.png`` and ``reading_test.png``: the probability over a few strings as they are read.

    An accepted string, one of each kind of negative, and the worst mistakes.
    """

    name = "reading"
    asks_network = True

    def draw_judged(self, model: GrammarModel, rows: StringRows, split: Split, judged: dict[int, Judged]) -> Figure:
        chosen = choose(judged)
        title = f"{split}: strings as they are read ({tally(list(judged.values()))})"
        return draw_reading(read_again(model, rows, judged, chosen), title)


def choose(judged: dict[int, Judged]) -> list[int]:
    """Row numbers: of each kind the first short string that is judged rightly, if any is; then worst mistakes.

    Example:
        >>> choose({4: Judged("E", False, "swap", 0.1), 7: Judged("B", True, "accepted", 0.7)})
        [7, 4]
    """
    examples: dict[str, int] = {}
    for row in sorted(judged, key=lambda row: (not judged[row].right, len(judged[row].string) > EXAMPLE, row)):
        examples.setdefault(judged[row].kind, row)
    kinds = sorted(examples, key=lambda kind: (kind != "accepted", kind))
    worst: dict[str, int] = {}
    for row in sorted(judged, key=lambda row: -abs(judged[row].probability - 0.5)):
        if not judged[row].right and row not in examples.values():
            worst.setdefault(judged[row].kind, row)
    return [*(examples[kind] for kind in kinds), *list(worst.values())[:MISTAKES]]


@torch.no_grad()
def read_again(model: GrammarModel, rows: StringRows, judged: dict[int, Judged], chosen: list[int]) -> list[Reading]:
    """The running probability of some rows, and the grammar's first illegal place."""
    training = model.training
    batch = rows.__getitems__(chosen).to(model.device)
    scores, _ = model.eval().network(batch.inputs, batch.lengths)
    model.train(training)
    running = model.objective.result(scores.float(), batch).predictions.tolist()
    alive = cast(dict[str, Tensor], batch.targets)["legal"].any(2).sum(1).tolist()
    return [
        Reading(judged[row], values[: len(judged[row].string) + 1], None if judged[row].accepted else steps - 1)
        for row, values, steps in zip(chosen, running, alive, strict=True)
    ]


class AutomatonFigure(GrammarFigure[int]):
    """Draws ``automaton_val.png`` and ``automaton_test.png``: the network as an automaton, beside the grammar's own.

    See :func:`.states.extract`. The state is the number of batches; rank 0 explores alone.
    """

    name = "automaton"
    asks_network = True
    objectives = (Accept, Predict)

    def reset(self) -> None:
        self.state = 0

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        self.state += 1

    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[int]) -> Figure:
        rows = strings_of(trainer, split, type(self).__name__)
        language = rows.grammar
        assert language is not None  # validation and test rows have one
        found = extract(cast("GrammarModel", module), language, [sample.string for sample in rows.samples])
        return draw_extracted(found, language.name, split)


def draw_extracted(found: ExtractedAutomaton, name: str, title: str) -> Figure:
    """A network's automaton above the grammar's, which of their arcs the other lacks in orange.

    Args:
        found: what :func:`tasks.grammar_acceptance.figures.states.extract` gave.
        name: of the grammar.
        title: of the figure.
    """
    machine, truth, agreement = found.machine, found.truth, found.agreement
    title = f"{title}: the network's hidden states as an automaton"
    states = f"the network: {len(machine.table)} states"
    if truth is None or agreement is None:
        heading = f"{states} stand for {100 * found.fidelity:.1f} % of what it does ({name} has no finite automaton)"
        return draw_automata([Panel(heading, machine, {state: state for state in machine.table}, set())], title)
    names = agreement.names
    named = {step: (names[step[0]], step[1], names[step[2]]) for step in machine.steps()}
    odd = {step for step, known in named.items() if known not in truth.steps()}
    heading = f"{states}, {100 * agreement.purity:.1f} % of prefixes and {100 * agreement.same:.1f} % of arcs agree"
    labels = {state: "\n".join(found[:2]) for state, found in agreement.holds.items()}
    theirs = f"the grammar {name}: {len(truth.table)} states"
    whole = {state: state for state in truth.table}
    ours = Panel(heading, machine, labels, odd)
    return draw_automata([ours, Panel(theirs, truth, whole, truth.steps() - set(named.values()))], title)


def figures() -> list[pl.Callback]:
    """The task's figures, for :meth:`GrammarModel.run_callbacks`."""
    return [ReadingFigure(), KindsFigure(), LengthsFigure(), AutomatonFigure()]

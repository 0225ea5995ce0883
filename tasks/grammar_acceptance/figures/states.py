"""A network's hidden states as an automaton: explored, clustered where they act differently, merged where alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..grammars.automaton import Automaton
from ..grammars.languages import Grammar
from .exploration import NONE, Explored, Ints, explore
from .machines import Machine

if TYPE_CHECKING:
    from ..module import GrammarModel

TOLERATED = 0.005  # of a cluster's visits may act otherwise than the cluster
UNBOUNDED = 24  # clusters of a network, at most, whose grammar is no finite automaton
MOST = 200  # clusters of any network
SHARE = 0.2  # of a state's visits, for a name of the state
LOST = "(lost)"  # the name of what the grammar cannot complete


@dataclass(frozen=True)
class Agreement:
    """Of an extracted automaton with the grammar's.

    Attributes:
        holds: of each state, the grammar's states that a fifth or more of its visits are in, the most common first;
            the one of what the grammar cannot complete is called ``(lost)``.
        purity: share of visits in which the grammar is in the most common one of these.
        same: arcs, and endings, that both have once each state bears the name of its most common one, over those that
            either has.
    """

    holds: dict[str, list[str]]
    purity: float
    same: float

    @property
    def names(self) -> dict[str, str]:
        """Of each state, the most common of the grammar's."""
        return {state: found[0] for state, found in self.holds.items()}


@dataclass(frozen=True)
class ExtractedAutomaton:
    """What a network does, as an automaton.

    Attributes:
        machine: states (numbered from the start on), arcs and accepting states; what the network holds to be illegal
            has no arc.
        clusters: of hidden states, before those that act alike were merged.
        fidelity: share of all that the network was seen to do that the automaton does too: at each visit, which
            symbols are legal and whether the string may end; and of each legal symbol, to which state it leads. What it
            does in states that are not reached by the automaton's arcs counts as not done.
        truth: the grammar's automaton, minimal; None where the grammar is not finite.
        agreement: how well they agree; None without ``truth``.
    """

    machine: Machine
    clusters: int
    fidelity: float
    truth: Machine | None = None
    agreement: Agreement | None = None

    def automaton(self, name: str = "the network") -> Automaton:
        """As a grammar, to ask what it accepts.

        Raises:
            ConfigError: it accepts no string, or the empty one alone.
        """
        return self.machine.automaton(name)


def vote(clusters: Ints, values: Ints, weights: Ints) -> tuple[Ints, Ints]:
    """Of each cluster, the value with most weight, and the weight of all others; points with -1 have no vote.

    Example:
        >>> vote(np.array([0, 0, 0, 1]), np.array([2, 2, 5, -1]), np.array([1, 3, 2, 1]))
        (array([ 2, -1]), array([2, 0]))
    """
    known = values >= 0
    counts = np.zeros((clusters.max() + 1, values.max(initial=0) + 1), dtype=np.int64)
    np.add.at(counts, (clusters[known], values[known]), weights[known])
    total = counts.sum(1)
    return np.where(total > 0, counts.argmax(1), NONE), total - counts.max(1)


@dataclass(frozen=True)
class Behaviour:
    """What clusters do, by the vote of their points.

    Attributes:
        codes: of each cluster, the number of its mask of legal symbols.
        targets: where each symbol leads ``[K, V]``, -1 where that is not known.
        votes: of each cluster, on its mask and on where symbols lead.
        against: how many of them are for something else.
    """

    codes: Ints
    targets: Ints
    votes: Ints
    against: Ints

    @classmethod
    def of(cls, clusters: Ints, explored: Explored) -> Behaviour:
        """Each prefix has as many votes as visits."""
        following, visits = explored.following, explored.visits
        codes, against = vote(clusters, explored.masks()[1], visits)
        targets = np.where(following == NONE, NONE, clusters[following])
        columns = [vote(clusters, column, visits) for column in targets.T]
        votes = np.zeros_like(against)
        np.add.at(votes, clusters, visits * (1 + (following != NONE).sum(1)))
        against = against + sum(other for _, other in columns)
        return cls(codes, np.stack([leads for leads, _ in columns], 1), votes, against)


def cluster(explored: Explored, most: int) -> Ints:
    """Clusters ``[N]`` in which all points act alike.

    Ward's tree of all states is followed from its root: the cluster with most visits that differ in what may follow,
    or in where a symbol leads, is split in two, until no cluster has more than :data:`TOLERATED` of them.

    Args:
        explored: the points.
        most: clusters, at most.
    """
    from sklearn.cluster import AgglomerativeClustering  # late: scikit-learn is slow to import

    points = len(explored.states)
    if points == 1:
        return np.zeros(1, dtype=np.int64)
    tree = AgglomerativeClustering(n_clusters=None, distance_threshold=0.0).fit(explored.states).children_
    clusters, nodes = np.zeros(points, dtype=np.int64), [2 * points - 2]
    while len(nodes) < most:
        acts = Behaviour.of(clusters, explored)
        against = np.where(acts.against > TOLERATED * acts.votes, acts.against, 0)
        worst = int(against.argmax())
        if not against[worst]:
            break
        left, right = tree[nodes[worst] - points]
        nodes[worst] = left
        clusters[leaves(tree, right)] = len(nodes)
        nodes.append(right)
    return clusters


def leaves(tree: Ints, node: int) -> list[int]:
    """The points under a node of a tree as scikit-learn has it: ``tree[i]`` are the children of ``points + i``.

    Example:
        >>> leaves(np.array([[0, 2], [1, 3]]), 4)
        [2, 0, 1]
    """
    points, found, front = len(tree) + 1, [], [node]
    while front:
        last = front.pop()
        if last < points:
            found.append(int(last))
        else:
            front += tree[last - points].tolist()
    return found


def machine_of(clusters: Ints, explored: Explored, alphabet: str) -> tuple[Machine, Ints]:
    """The clusters as a minimal automaton, its states numbered from 1 by distance; and the state of each point."""
    masks = explored.masks()[0]
    acts = Behaviour.of(clusters, explored)
    table = {
        str(c): {s: str(t) for s, t, may in zip(alphabet, targets, masks[code], strict=False) if may and t != NONE}
        for c, (code, targets) in enumerate(zip(acts.codes, acts.targets.tolist(), strict=True))
    }
    ends = frozenset(str(c) for c, code in enumerate(acts.codes) if masks[code, -1])
    minimal, kept = Machine(str(clusters[0]), ends, table).minimal()
    reached = list(minimal.distances())
    order = {old: i for i, old in enumerate([*reached, *(s for s in minimal.table if s not in reached)])}
    points = np.array([order[kept[str(c)]] for c in clusters], dtype=np.int64)
    return minimal.only(set(reached)).renamed({old: str(i + 1) for old, i in order.items()}), points


def extract(model: GrammarModel, grammar: Grammar[Any], strings: Sequence[str]) -> ExtractedAutomaton:
    """The automaton that a network has become.

    Hidden states after the strings' prefixes are clustered (see :func:`cluster`): into at most twice as many as the
    grammar's minimal automaton has states, and never more than :data:`MOST`; where it is not finite, :data:`UNBOUNDED`.
    A cluster does what it does in most visits, each prefix counted as often as a string begins so. Clusters that no
    string tells apart are merged, as in minimising an automaton (cf. Omlin and Giles 1996, Neural Networks 9).

    Args:
        model: an acceptor or a predictor, with its network built.
        grammar: that it learned.
        strings: whose prefixes are looked at, the first :data:`PREFIXES` of them; rejected ones show errors.

    Example:
        .. code-block:: python

            model = GrammarModel.load_from_checkpoint("runs/.../checkpoints/best.ckpt")
            extract(model, grammar("embedded_reber"), ["BTBTXSETE", "BPBTXSEPE"]).automaton().accepts("BTBPVVETE")
    """
    explored = explore(model, grammar.alphabet, strings)
    truth = Machine.of(grammar).minimal()[0] if isinstance(grammar, Automaton) else None
    clusters = cluster(explored, min(MOST, 2 * len(truth.table)) if truth else UNBOUNDED)
    machine, points = machine_of(clusters, explored, grammar.alphabet)
    acts, states = Behaviour.of(points, explored), len(machine.table)
    fidelity = float((acts.votes - acts.against)[:states].sum() / acts.votes.sum())
    found = ExtractedAutomaton(machine, int(clusters.max()) + 1, fidelity)
    return found if truth is None else compare(found, truth, points, explored)


def compare(found: ExtractedAutomaton, truth: Machine, points: Ints, explored: Explored) -> ExtractedAutomaton:
    """With the grammar's automaton, and how well they agree."""
    names = [*truth.table, LOST]
    true = np.array([names.index(truth.after(prefix) or LOST) for prefix in explored.prefixes], dtype=np.int64)
    holds = {}
    for state in found.machine.table:
        here = points == int(state) - 1
        inside = np.bincount(true[here], explored.visits[here], minlength=len(names))
        order = np.argsort(-inside, kind="stable")
        holds[state] = [names[i] for i in order if inside[i] >= min(inside.max(), SHARE * inside.sum())]
    named = {state: first for state, (first, *_) in holds.items()}
    ours = {(named[source], symbol, named[target]) for source, symbol, target in found.machine.steps()}
    theirs = truth.steps()
    against = vote(points, true, explored.visits)[1]
    pure = np.bincount(points, explored.visits)[: len(holds)].sum() - against[: len(holds)].sum()
    purity = float(pure / explored.visits.sum())
    return replace(found, truth=truth, agreement=Agreement(holds, purity, len(ours & theirs) / len(ours | theirs)))

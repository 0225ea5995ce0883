"""What a network does after many prefixes: its hidden state, what it holds to be legal, and where each symbol leads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..objectives import Objective, Predict
from ..strings import encode

if TYPE_CHECKING:
    from ..module import GrammarModel

Ints = npt.NDArray[np.int64]
PREFIXES = 1500  # that are taken from the strings, at most: the tree of all states needs the square of it
NONE = -1


@dataclass(frozen=True)
class Explored:
    """Prefixes that a network holds to be legal, and what it does there.

    Attributes:
        prefixes: with all that goes on from each by one legal symbol, if it is one of the strings' prefixes.
        visits: int64 ``[N]``, how many of the strings begin so; 1 where none does.
        states: float ``[N, H]``, the recurrent state after each.
        legal: bool ``[N, V + 1]``, what may follow; last: the end.
        following: int64 ``[N, V]``, the number of the prefix with one more symbol; -1 where it is illegal or was not
            looked at.
    """

    prefixes: list[str]
    visits: Ints
    states: npt.NDArray[np.float32]
    legal: npt.NDArray[np.bool_]
    following: Ints

    def masks(self) -> tuple[npt.NDArray[np.bool_], Ints]:
        """The different rows of ``legal``, and which of them each prefix has."""
        masks, codes = np.unique(self.legal, axis=0, return_inverse=True)
        return masks, codes.reshape(-1).astype(np.int64)


def legal_scores(objective: Objective, scores: Tensor) -> Tensor:
    """What a network holds to be legal, bool as ``scores [.., V + 1]``.

    A probability above 1/2; where it learned from what follows alone, one above half of an equal share of all.
    """
    if isinstance(objective, Predict) and objective.supervision == "observed":
        return scores.softmax(-1) > 0.5 / scores.shape[-1]
    return scores > 0


@torch.no_grad()
def read(
    model: GrammarModel, prefixes: Sequence[str], alphabet: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The states after whole strings, all layers beside one another, memory squashed by tanh; and what may follow."""
    rows, order = encode(prefixes, alphabet, "the network"), np.argsort([len(prefix) for prefix in prefixes])
    training, states, legal = model.training, [], []
    model.eval()
    for chosen in np.array_split(order, -(-len(order) // 512)):
        padded, lengths = (part.to(model.device) for part in rows.pad(torch.from_numpy(chosen)))
        scores, state = model.network(padded, lengths)
        last = scores[torch.arange(len(chosen), device=scores.device), lengths - 1].float()
        legal.append(legal_scores(model.objective, last).cpu())
        states.append(torch.cat([leaf.float().flatten(1).tanh() for leaf in pytree.tree_leaves(state)], 1).cpu())
    model.train(training)
    back = np.argsort(order)
    return torch.cat(states).numpy()[back], torch.cat(legal).numpy()[back]


def explore(model: GrammarModel, alphabet: str, strings: Sequence[str], limit: int = PREFIXES) -> Explored:
    """What the network does after the strings' prefixes, as long as it holds them to be legal itself.

    Args:
        model: with its network built.
        alphabet: of the strings.
        strings: taken in order; rejected ones show where the network goes astray.
        limit: no further string is taken once there are so many prefixes.
    """
    found = Counter([""])
    for string in strings:
        if len(found) >= limit:
            break
        found.update(string[:end] for end in range(len(string) + 1))
    prefixes = sorted(found, key=len)
    states, legal = read(model, prefixes, alphabet)
    column = {symbol: i for i, symbol in enumerate(alphabet)}
    alive = {"": 0}
    for i, prefix in enumerate(prefixes):
        before = alive.get(prefix[:-1])
        if prefix and before is not None and legal[before, column[prefix[-1]]]:
            alive[prefix] = i
    after = [prefix + s for prefix, i in alive.items() for s in alphabet if legal[i, column[s]]]
    new = [prefix for prefix in after if prefix not in alive]
    kept = list(alive.values())
    states, legal = states[kept], legal[kept]
    if new:
        more_states, more_legal = read(model, new, alphabet)
        states, legal = np.concatenate([states, more_states]), np.concatenate([legal, more_legal])
    number = {prefix: i for i, prefix in enumerate([*alive, *new])}
    following = [
        [number.get(p + s, NONE) if legal[i, column[s]] else NONE for s in alphabet] for p, i in number.items()
    ]
    visits = np.array([max(1, found[prefix]) for prefix in number], dtype=np.int64)
    return Explored(list(number), visits, states, legal, np.array(following, dtype=np.int64))

"""What a network that spells has to beat: counted n-grams of characters, of each class and of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from lightning_rnn.data import NGrams

from .sources import Items

ORDERS = (3, 4, 5, 6, 7)
Ints = npt.NDArray[np.int64]


class Letters:
    """The characters of the training names as ids; then the end, and one id for all others.

    Args:
        names: of the training part.

    Example:
        >>> letters = Letters(["ab", "ba"])
        >>> tokens, lengths = letters.encode(["bé", "a"])
        >>> tokens.tolist(), lengths.tolist()
        ([1, 3, 2, 0, 2], [3, 2])
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.ids = {one: index for index, one in enumerate(sorted(set("".join(names))))}
        self.end, self.size = len(self.ids), len(self.ids) + 2

    def encode(self, names: Sequence[str]) -> tuple[Ints, Ints]:
        """The ids of all names end to end, each with its end, and how many each has."""
        tokens = [[*(self.ids.get(one, self.end + 1) for one in name), self.end] for name in names]
        return np.concatenate(tokens), np.array([len(name) for name in tokens])

    def count(self, names: Sequence[str], order: int) -> NGrams:
        """The n-grams of some names, each for itself."""
        tokens, lengths = self.encode(names)
        return NGrams(tokens, self.size, order, lengths)


def ngram_losses(train: Items, held_out: Items, order: int = 6) -> dict[str, float]:
    """Nats per character, ends counted, of held-out names under n-grams of the training names.

    Args:
        train: classes and names.
        held_out: the same; characters that no training name has count as one.
        order: of the longest n-grams, see :class:`lightning_rnn.data.NGrams`.

    Returns:
        ``all classes``: n-grams without the class; ``each class``: those of the class alone; ``both``: the mean of the
        two probabilities.
    """
    letters, known, asked = Letters(train.texts or ()), _by_class(train), _by_class(held_out)
    whole = letters.count([name for names in known.values() for name in names], order)
    found = []
    for name, names in asked.items():
        tokens = letters.encode(names)
        found.append([model.log_probs(*tokens) for model in (whole, letters.count(known[name], order))])
    every, own = (np.concatenate(parts) for parts in zip(*found, strict=True))
    losses = {"all classes": every, "each class": own, "both": np.logaddexp(every, own) - np.log(2)}
    return {name: -float(log_probs.mean()) for name, log_probs in losses.items()}


def best_ngrams(train: Items, val: Items | None, test: Items) -> dict[str, float]:
    """Test losses of n-grams, see :func:`ngram_losses`; how long they are, the validation part says.

    Without one they are of 5 characters.
    """
    order = 5
    if val is not None:
        order = min(ORDERS, key=lambda size: min(ngram_losses(train, val, size).values()))
    return {f"{order}-grams, {name}": loss for name, loss in ngram_losses(train, test, order).items()}


def _by_class(items: Items) -> dict[str, list[str]]:
    assert items.texts is not None
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, text in zip(items.given, items.texts, strict=True):
        found[name].append(text)
    return found

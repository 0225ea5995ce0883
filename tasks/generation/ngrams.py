"""What a network that spells has to beat: smoothed n-grams of characters, of each class and of all."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from .sources import Items

BEGIN, END, UNSEEN = "\x02", "\x03", "\x00"
Probability = Callable[[str, str], float]


class Ngrams:
    r"""Characters given those before them, interpolated from the longest context down (Witten and Bell 1991).

    ``p(c | h) = (n(h, c) + t(h) p(c | h')) / (n(h) + t(h))``, where ``h'`` is the context ``h`` without its first
    character, ``n`` counts, and ``t(h)`` is how many different characters were seen after ``h``; the shortest context
    goes back to ``base``.

    Args:
        texts: to count in.
        order: characters of an n-gram.
        base: what the shortest context goes back to: a probability of a character after a context.

    Example:
        >>> model = Ngrams(["ab", "ab", "ac"], 2, uniform(4))
        >>> round(model("a", "b"), 4), round(sum(model("a", one) for one in "abc" + END), 4)
        (0.4923, 1.0)
    """

    def __init__(self, texts: Iterable[str], order: int, base: Probability) -> None:
        self.order, self.base = order, base
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            whole = BEGIN * (order - 1) + text + END
            for end in range(order - 1, len(whole)):
                for length in range(order):
                    self.counts[whole[end - length : end]][whole[end]] += 1

    def __call__(self, context: str, character: str) -> float:
        """``p(character | context)``; of the context its last ``order − 1`` characters count."""
        found = self.base(context, character)
        for length in range(self.order):
            seen = self.counts.get(context[len(context) - length :]) if length <= len(context) else None
            if not seen:
                break
            total, kinds = seen.total(), len(seen)
            found = (seen[character] + kinds * found) / (total + kinds)
        return found


def cost(text: str, model: Probability, order: int) -> float:
    """``−log p`` of a text and its end, in nats."""
    whole = BEGIN * (order - 1) + text + END
    return -sum(math.log(model(whole[:end], whole[end])) for end in range(order - 1, len(whole)))


def uniform(symbols: int) -> Probability:
    """Every character alike.

    Example:
        >>> uniform(4)("ab", "c")
        0.25
    """
    return lambda context, character: 1 / symbols


def averaged(one: Probability, other: Probability) -> Probability:
    """The mean of two."""
    return lambda context, character: (one(context, character) + other(context, character)) / 2


def ngram_losses(train: Items, held_out: Items, order: int = 5) -> dict[str, float]:
    """Nats per character, ends counted, of held-out names under n-grams of the training names.

    Args:
        train: classes and names.
        held_out: the same; characters that no training name has count as one.
        order: of the longest n-grams.

    Returns:
        ``all classes``: n-grams without the class; ``each class``: those of the class alone; ``both``: the mean of the
        two probabilities.
    """
    assert train.texts is not None and held_out.texts is not None
    known = set("".join(train.texts))
    texts = ["".join(one if one in known else UNSEEN for one in text) for text in held_out.texts]
    base = uniform(len(known) + 2)  # the end, and characters not seen
    whole = Ngrams(train.texts, order, base)
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for name, text in zip(train.given, train.texts, strict=True):
        by_class[name].append(text)
    alone = {name: Ngrams(own, order, base) for name, own in by_class.items()}
    models: dict[str, list[Probability]] = {
        "all classes": [whole] * len(texts),
        "each class": [alone[name] for name in held_out.given],
    }
    models["both"] = [averaged(one, other) for one, other in zip(*models.values(), strict=True)]
    return {name: _mean(texts, of_rows, order) for name, of_rows in models.items()}


def _mean(texts: Sequence[str], models: Sequence[Probability], order: int) -> float:
    costs = sum(cost(text, model, order) for text, model in zip(texts, models, strict=True))
    return costs / sum(len(text) + 1 for text in texts)

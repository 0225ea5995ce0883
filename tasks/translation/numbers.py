"""Numbers in words: real grammar in two languages, without a download."""

from __future__ import annotations

import math
import random
from typing import Literal

from lightning_rnn.data.module import Split
from lightning_rnn.errors import ConfigError, require

from .pairs import Pairs, PairSource

Form = Literal["cardinal", "ordinal", "year", "currency"]


class Numbers(PairSource):
    """Numbers spelled in two languages by num2words, each number in one part alone.

    As many have two digits as six: a number's logarithm is drawn evenly. The rows' ids are the numbers.

    Args:
        train: pairs to train on.
        val: pairs to choose a model by.
        test: pairs to report on.
        highest: numbers go from 0 to this one.
        form: how they are read: ``cardinal`` (twenty-one), ``ordinal`` (twenty-first), ``year`` (twenty twenty-one) or
            ``currency`` (of cents: nineteen euro, eighty-one cents).
        languages: of the source side and of the target side, as num2words names them.
        seed: of the numbers.

    Raises:
        ConfigError: fewer numbers than pairs, a part without a pair, or a language or form that num2words has not.

    Example:
        >>> pairs = Numbers(train=3, val=1, test=1).read("train")
        >>> pairs.ids, pairs.source[2], pairs.target[2]
        ([814615, 202152, 878], 'eight hundred and seventy-eight', 'huit cent soixante-dix-huit')
    """

    def __init__(
        self,
        train: int = 4000,
        val: int = 200,
        test: int = 200,
        highest: int = 9_999_999,
        form: Form = "cardinal",
        languages: tuple[str, str] = ("en", "fr"),
        seed: int = 0,
    ) -> None:
        self.sizes: dict[Split, int] = {"train": train, "val": val, "test": test}
        for name, size in self.sizes.items():
            require(size >= 1, f"{name} must be at least 1, got {size}")
        most = (highest + 1) // 2  # else drawing until all are different takes long
        pairs = sum(self.sizes.values())
        require(pairs <= most, f"{pairs} pairs of the numbers up to {highest}: at most {most}, or raise highest")
        self.highest, self.form, self.languages, self.seed = highest, form, languages, seed

    def read(self, split: Split) -> Pairs:
        """The pairs of a part; see :meth:`PairSource.read`."""
        numbers = self._drawn(sum(self.sizes.values()))
        start = {"train": 0, "val": self.sizes["train"], "test": self.sizes["train"] + self.sizes["val"]}[split]
        mine = numbers[start : start + self.sizes[split]]
        source, target = ([spelled(number, language, self.form) for number in mine] for language in self.languages)
        return Pairs(source, target, (f"numbers ({split})",) * 2, mine)

    def _drawn(self, count: int) -> list[int]:
        """Different numbers, their logarithm drawn evenly as far as there are enough of each length."""
        draw, width = random.Random(self.seed).random, math.log(self.highest + 2)
        found = dict[int, None]()
        while len(found) < count:
            found.setdefault(min(int(math.exp(draw() * width)) - 1, self.highest))
        return list(found)


def spelled(number: int, language: str, form: Form = "cardinal") -> str:
    """A number in words.

    Raises:
        ConfigError: num2words does not know the language, or not this form of it.

    Example:
        >>> [spelled(81, language) for language in ("en", "fr", "de")]
        ['eighty-one', 'quatre-vingt-un', 'einundachtzig']
    """
    from num2words import num2words  # late: it imports all its languages

    try:
        return str(num2words(number, lang=language, to=form))
    except NotImplementedError as error:
        raise ConfigError(f"num2words has no {form} numbers in the language {language!r}: take another") from error

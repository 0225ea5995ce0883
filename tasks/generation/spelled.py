"""Images of digits and the digit's name, letter by letter: vector → sequence with no download."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from torch import Tensor

from lightning_rnn.data import Digits, Examples, Ragged
from lightning_rnn.data.idx import IdxImages
from lightning_rnn.data.module import Split
from lightning_rnn.data.splitting import stratified_split
from lightning_rnn.errors import DataError, require

from .sources import GenerationSource, Items
from .spec import GenerationSpec, vocabulary_of

Language = Literal["english", "french", "german"]
NAMES: dict[Language, list[str]] = {
    "english": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "french": ["zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"],
    "german": ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"],
}


class SpelledImages(GenerationSource):
    """Images of digits → their names. A subclass has the images.

    Args:
        language: of the names.
        val_fraction: of each digit's training images that chooses a model.
        seed: of that choice.

    Raises:
        ConfigError: there is no such language, or a share leaves nothing.
    """

    def __init__(self, language: Language, val_fraction: float, seed: int) -> None:
        require(language in NAMES, f"language {language!r} is not one of {', '.join(NAMES)}")
        require(0 < val_fraction < 1, f"val_fraction must be between 0 and 1, got {val_fraction}")
        self.language, self.val_fraction, self.seed = language, val_fraction, seed

    @abstractmethod
    def images(self, part: Split) -> Examples:
        """The labelled images of the training part (validation's are taken out of it) or of the test part."""

    def read(self, part: Split) -> Items | None:
        """The images of a part and their names; see :meth:`GenerationSource.read`."""
        if part in ("test", "predict"):
            return self._items(self.images("test"))
        whole = self.images("train")
        assert whole.labels is not None
        rest, held_out = stratified_split(whole.labels, self.val_fraction, self.seed)
        return self._items(whole.select(rest if part == "train" else held_out))

    def _items(self, part: Examples) -> Items:
        assert isinstance(part.inputs, Ragged) and part.labels is not None
        return Items(list(_dense(part.inputs, part.origin)), [self._spell(label) for label in part.labels],
                     origin=part.origin, ids=part.ids)  # fmt: skip

    def _spell(self, label: str) -> str:
        names = dict(zip("0123456789", NAMES[self.language], strict=True))
        if label not in names:
            raise DataError(f"an image has the label {label!r}, which is no digit from 0 to 9: give images of digits")
        return names[label]

    def describe(self, train: Items) -> GenerationSpec:
        """Images of one size, and the letters of the names."""
        assert train.texts is not None
        rows, columns = train.given[0].shape
        return GenerationSpec(
            form="image",
            condition_size=rows * columns,
            image=[rows, columns],
            vocabulary=vocabulary_of(train.texts, ""),
            joiner="",
            longest=1 + max(map(len, train.texts)),
            extra={"pixels": [0.0, 1.0]},
        )


def _dense(rows: Ragged, origin: str) -> Tensor:
    """``[N, H, W]`` of images stored as sequences of their rows."""
    height = int(rows.lengths[0])
    if not bool((rows.lengths == height).all()):
        raise DataError(f"{origin}: the images are of different heights: give them one size")
    return rows.values.view(len(rows), height, -1)


class SpelledDigits(SpelledImages):
    """Scikit-learn's handwritten digits, 8 × 8, → ``zero`` ... ``nine``: the embedded source.

    Args:
        language: of the names.
        val_fraction: of each digit's training images that chooses a model.
        test_fraction: of each digit that is reported on.
        seed: of both choices.

    Example:
        >>> part = SpelledDigits().read("train")
        >>> len(part), part.given[0].shape, part.texts[:3]
        (1293, torch.Size([8, 8]), ['zero', 'one', 'two'])
    """

    def __init__(
        self, language: Language = "english", val_fraction: float = 0.1, test_fraction: float = 0.2, seed: int = 0
    ) -> None:
        super().__init__(language, val_fraction, seed)
        self.test_fraction = test_fraction

    def images(self, part: Split) -> Examples:
        """See :class:`lightning_rnn.data.Digits`."""
        found = Digits(self.test_fraction, self.seed).read(part)
        assert found is not None
        return found


class SpelledMNIST(SpelledImages):
    """MNIST's images, 28 × 28, → ``zero`` ... ``nine``; other sets of digits in its format too.

    Args:
        folder: of the four files, see :class:`lightning_rnn.data.idx.IdxImages`.
        language: of the names.
        val_fraction: of each digit's training images that chooses a model.
        seed: of that choice.
    """

    def __init__(
        self, folder: str = "mnist", language: Language = "english", val_fraction: float = 0.1, seed: int = 0
    ) -> None:
        super().__init__(language, val_fraction, seed)
        self.source = IdxImages(folder)

    def prepare(self) -> None:
        """Download what is absent."""
        self.source.prepare()

    def images(self, part: Split) -> Examples:
        """See :class:`lightning_rnn.data.idx.IdxImages`."""
        found = self.source.read(part)
        assert found is not None
        return found

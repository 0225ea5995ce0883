"""The Stanford sentiment treebank: sentences in which every phrase has a label."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from lightning_rnn.data.lines import read_rows
from lightning_rnn.data.module import Split
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import existing

_PART = re.compile(r" *(?:\((?P<leaf>[0-4]) (?P<word>[^ \t()]+)\)|\((?P<node>[0-4])(?= )|(?P<end>\)))")
_ESCAPES = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}", "``": '"', "''": '"'}
NAMES: dict[int, dict[int, str]] = {
    2: {0: "negative", 1: "negative", 3: "positive", 4: "positive"},
    5: dict(enumerate(("very negative", "negative", "neutral", "positive", "very positive"))),
}


class Phrase(NamedTuple):
    """Label 0 to 4 of the words ``start`` to ``end`` (not included) of a sentence."""

    label: int
    start: int
    end: int


class Tree(NamedTuple):
    """One sentence: its words, and its phrases, each after those inside it; the last is the whole."""

    words: list[str]
    phrases: list[Phrase]


def clean_word(word: str) -> str:
    r"""A word without the escapes of the Penn treebank.

    Example:
        >>> [clean_word(word) for word in ("-LRB-", "1\\/2", "``", "good")]
        ['(', '1/2', '"', 'good']
    """
    return _ESCAPES.get(word, word).replace("\\/", "/").replace("\\*", "*")


def parse_tree(line: str) -> Tree:
    """A tree such as ``(3 (2 very) (4 good))``.

    Raises:
        ValueError: the line is no such tree; says at which character it goes wrong.

    Example:
        >>> parse_tree("(3 (2 very) (4 good))")
        Tree(words=['very', 'good'], phrases=[Phrase(label=2, start=0, end=1), Phrase(label=4, start=1, end=2), \
Phrase(label=3, start=0, end=2)])
    """
    tree, open_nodes, at = Tree([], []), list[tuple[int, int]](), 0
    while at < len(line) and (open_nodes or not tree.words):
        part = _PART.match(line, at)
        if part is None or not _add(part, tree, open_nodes):
            break
        at = part.end()
    if open_nodes or not tree.words or line[at:].strip():
        raise ValueError(f"the tree goes wrong at character {at + 1}")
    return tree


def _add(part: re.Match[str], tree: Tree, open_nodes: list[tuple[int, int]]) -> bool:
    """Take one part of a tree in; False where it closes what is not open or empty."""
    if part["leaf"]:
        tree.words.append(clean_word(part["word"]))
        tree.phrases.append(Phrase(int(part["leaf"]), len(tree.words) - 1, len(tree.words)))
    elif part["node"]:
        open_nodes.append((int(part["node"]), len(tree.words)))
    else:
        if not open_nodes or open_nodes[-1][1] == len(tree.words):
            return False
        tree.phrases.append(Phrase(*open_nodes.pop(), len(tree.words)))
    return True


def read_trees(path: Path) -> list[Tree]:
    """The trees of a file, one a line.

    Raises:
        DataError: the file cannot be read, has no rows, or a row is no tree.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "trees.txt").write_text("(3 (2 very) (4 good))")
        ...     [tree.words for tree in read_trees(Path(folder, "trees.txt"))]
        [['very', 'good']]
    """
    trees = []
    for number, line in read_rows(path):
        try:
            trees.append(parse_tree(line))
        except ValueError as error:
            raise DataError(f"{path}, row {number}: {error}: mend it or download the file again") from error
    if not trees:
        raise DataError(f"{path} has no rows: download it again")
    return trees


Example = tuple[str, str, str]


def _examples(trees: list[Tree], names: dict[int, str], phrases: bool, lower: bool) -> list[Example]:
    """Text, class and id of each phrase, or of each whole sentence; those without a class are left out."""
    rows: list[Example] = []
    for number, tree in enumerate(trees, 1):
        words = [word.lower() for word in tree.words] if lower else tree.words
        for label, start, end in tree.phrases if phrases else tree.phrases[-1:]:
            if label in names:
                text, place = " ".join(words[start:end]), f"{number}:{start}-{end}" if phrases else str(number)
                rows.append((text, names[label], place))
    return rows


def _unique(rows: list[Example]) -> list[Example]:
    """Each text once for each class, where it is first found."""
    first: dict[tuple[str, str], Example] = {}
    for row in rows:
        first.setdefault(row[:2], row)
    return list(first.values())


class LabelledTrees(Source):
    """The Stanford sentiment treebank (Socher et al. 2013), with phrases to train on and whole sentences elsewhere.

    The predict part is the test part. A sentence's id is its line, counted from 1; a phrase's its line and words, as in
    ``17:3-8``.

    Args:
        folder: of the three files.
        train: file to train on.
        val: file to choose a model by.
        test: file to report on.
        classes: 2 takes 0 and 1 for negative, 3 and 4 for positive, and leaves neutral ones out; 5 takes all.
        phrases: whether to train on every labelled phrase (each text once for each label) and not on sentences only.
        lower: whether texts are put in lower case.

    Raises:
        ConfigError: another number of classes.
    """

    def __init__(
        self,
        folder: str = "sst",
        train: str = "trees_train.txt",
        val: str = "trees_dev.txt",
        test: str = "trees_test.txt",
        classes: Literal[2, 5] = 2,
        phrases: bool = True,
        lower: bool = True,
    ) -> None:
        require(classes in NAMES, f"classes must be 2 or 5, got {classes}")
        self.folder, self.classes, self.phrases, self.lower = folder, classes, phrases, lower
        self.files: dict[Split, str] = {"train": train, "val": val, "test": test, "predict": test}

    def read(self, split: Split) -> Examples | None:
        """The phrases or sentences of a part; see :meth:`Source.read`."""
        path = existing(Path(self.folder, self.files[split]))
        phrases = self.phrases and split == "train"
        rows = _examples(read_trees(path), NAMES[self.classes], phrases, self.lower)
        texts, labels, ids = ([row[column] for row in (_unique(rows) if phrases else rows)] for column in range(3))
        return Examples(texts, labels, str(path), ids)


def running_labels(tree: Tree) -> list[int]:
    """For each word the label, 0 to 4, of the largest phrase that ends with it: what is said up to there.

    The last word's is that of the whole sentence.

    Example:
        >>> running_labels(parse_tree("(3 (2 a) (4 (4 very) (3 good)))"))
        [2, 4, 3]
    """
    largest = {}
    for phrase in tree.phrases:  # each after those inside it
        largest[phrase.end] = phrase.label
    return [largest[end] for end in range(1, len(tree.words) + 1)]


class RunningTrees(Source):
    """The sentences of the treebank with a label for each word: see :func:`running_labels`.

    A row's label is its words' labels, ``0`` (very negative) to ``4`` (very positive), white space between them; the
    predict part is the test part, a sentence's id is its line, counted from 1.

    Args:
        folder: of the three files.
        train: file to train on.
        val: file to choose a model by.
        test: file to test on.
        lower: whether words are lower-cased.

    Raises:
        DataError: a file is missing, or a row of it is no tree.
    """

    def __init__(
        self,
        folder: str = "sst",
        train: str = "trees_train.txt",
        val: str = "trees_dev.txt",
        test: str = "trees_test.txt",
        lower: bool = True,
    ) -> None:
        self.folder, self.lower = folder, lower
        self.files: dict[Split, str] = {"train": train, "val": val, "test": test, "predict": test}

    def read(self, split: Split) -> Examples | None:
        """The sentences of a part; see :meth:`Source.read`."""
        path = existing(Path(self.folder, self.files[split]))
        trees = read_trees(path)
        texts = [" ".join(map(_one_word, tree.words)) for tree in trees]
        texts = [text.lower() for text in texts] if self.lower else texts
        labels = [" ".join(map(str, running_labels(tree))) for tree in trees]
        return Examples(texts, labels, str(path), range(1, len(trees) + 1))


def _one_word(word: str) -> str:
    """Without the no-break spaces that a few words have inside: there are as many words as labels."""
    return "_".join(word.split())

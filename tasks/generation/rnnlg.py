"""RNNLG (Wen et al. 2015, 2016): dialogue acts and sentences about restaurants, hotels, laptops and televisions."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from lightning_rnn.data.archives import unpack
from lightning_rnn.data.module import Split
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import cache_path, data_path

from .dialogue_acts import Act, entries, parse_act
from .lexicalize import Lexicon, delexicalized, lexicalized
from .normalize import normalized
from .sources import GenerationSource, Items
from .spec import GenerationSpec, vocabulary_of

log = logging.getLogger(__name__)
Domain = Literal["restaurant", "hotel", "laptop", "tv"]
FILES: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}


class Rnnlg(GenerationSource):
    """Dialogue acts → sentences, delexicalised, as the benchmark reads them.

    The rows are the benchmark's, none merged or left out. What a row is judged by are the sentences of all rows of its
    part whose act has the same entries (kind, slots, special values, whatever the values), with this row's values.

    Args:
        path: the benchmark as ``.tar.xz`` or another archive, or the folder it was unpacked into, relative to the data
            folder. In it are ``data/original/<domain>/{train,valid,test}.json`` and ``resource/``.
        domain: which of the four.
        min_count: how often a word must be there in the training part to be in the vocabulary.

    Raises:
        ConfigError: there is no such domain, or a count below 1.
    """

    def __init__(
        self, path: str = "rnnlg/rnnlg_original.tar.xz", domain: Domain = "restaurant", min_count: int = 1
    ) -> None:
        require(domain in get_args(Domain), f"domain {domain!r} is not one of {', '.join(get_args(Domain))}")
        require(min_count >= 1, f"min_count must be at least 1, got {min_count}")
        self.path, self.domain, self.min_count = path, domain, min_count
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Where ``data/`` and ``resource/`` are; an archive is unpacked first.

        Raises:
            DataError: the archive is absent or broken, or there is no such folder in it.
        """
        if self._folder is None:
            given = data_path(self.path)
            root = given if given.is_dir() else unpack(given, cache_path("rnnlg") / given.name)
            found = [root, *sorted(one for one in root.iterdir() if one.is_dir())]
            fitting = [one for one in found if (one / "resource" / "detect.pair").is_file()]
            if not fitting:
                raise DataError(f"{given} holds no resource/detect.pair: give the RNNLG benchmark, or its archive")
            self._folder = fitting[0]
        return self._folder

    def prepare(self) -> None:
        """Unpack the archive."""
        log.debug("RNNLG in %s", self.folder)

    def read(self, part: Split) -> Items | None:
        """The rows of a part; see :meth:`GenerationSource.read`."""
        if part not in FILES:
            return None
        file = self.folder / "data" / "original" / self.domain / f"{FILES[part]}.json"
        rows, lexicon = read_rows(file), Lexicon(self.domain)
        if not rows:
            raise DataError(f"{file} has no rows: download it again")
        acts = [act for act, _ in rows]
        parsed = [parse_act(act, f"{file}, row {row}") for row, act in enumerate(acts, 1)]
        texts = [delexicalized(normalized(text), act, lexicon) for act, (_, text) in zip(parsed, rows, strict=True)]
        references = None if part == "train" else references_of(parsed, texts, lexicon)
        return Items(acts, texts, references=references, origin=str(file))

    def describe(self, train: Items) -> GenerationSpec:
        """The kinds of acts, and the entries of the slots that the training part has, by the benchmark's template."""
        assert train.texts is not None
        slots = {name.split(".")[1] for act in train.given for name in entries(parse_act(act)) if name[:2] == "sv"}
        template = (self.folder / "resource" / "feat_template.txt").read_text().split()
        kinds = [name for name in template if name.startswith("a.")]
        values = [name for name in template if name.startswith("sv.") and name.split(".")[1] in slots | {"NONE"}]
        longest = max(len(text.split()) for text in train.texts) + 1
        return GenerationSpec(
            form="act",
            condition_size=len(kinds) + len(values),
            condition_names=[*kinds, *values],
            vocabulary=vocabulary_of(train.texts, " ", self.min_count),
            longest=longest,
            extra={"kept": len(kinds), "domain": self.domain, "detection": self._detection()},
        )

    def _detection(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "resource" / "detect.pair").read_text())
        return found


def references_of(acts: Sequence[Act], texts: Sequence[str], lexicon: Lexicon) -> list[list[str]]:
    """What each row is judged by: the texts of all rows whose act has the same entries, with this row's values.

    Args:
        acts: of the rows.
        texts: of the rows, delexicalised.
        lexicon: of the domain.

    Example:
        >>> acts = [parse_act("inform(name=x)"), parse_act("inform(name=y)")]
        >>> references_of(acts, ["it is SLOT_NAME", "take SLOT_NAME"], Lexicon())[1]
        ['it is y', 'take y']
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    keys = [tuple(entries(act)) for act in acts]
    for key, text in zip(keys, texts, strict=True):
        alike.setdefault(key, []).append(text)
    return [[lexicalized(text, act, lexicon) for text in alike[key]] for key, act in zip(keys, acts, strict=True)]


def read_rows(file: Path) -> list[tuple[str, str]]:
    """Dialogue acts and sentences of one of RNNLG's files: JSON after lines of comment that begin with ``#``.

    Raises:
        DataError: it is absent, or no such JSON; names the row.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = json.loads("\n".join(line for line in lines if not line.startswith("#")))
    except OSError as error:
        raise DataError(f"cannot read {file} ({error.strerror}): give the RNNLG benchmark, or its archive") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{file} is no whole JSON file ({error}): download it again") from error
    if not isinstance(rows, list):
        raise DataError(f"{file} is no list of rows: download it again")
    return [_row(file, number, row) for number, row in enumerate(rows, 1)]


def _row(file: Path, number: int, row: Sequence[Any]) -> tuple[str, str]:
    if not (isinstance(row, list) and len(row) >= 2 and all(isinstance(cell, str) for cell in row[:2])):
        raise DataError(f"{file}, row {number}: {row!r:.80} is not a dialogue act and its sentence: mend it")
    return row[0], row[1]

"""metrics.csv of a run: one file that later runs in the same folder go on with."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from lightning_rnn.errors import DataError
from lightning_rnn.training.hooks import write_atomically

KEYS = ("epoch", "step")
Key = tuple[str, str]


class CSVLogger(Logger):
    """Writes ``folder/metrics.csv``: one row per (epoch, step), one column per metric, empty where it has no value.

    A file that is there is continued, whatever run wrote it: its rows stay, a value logged again for the same epoch and
    step takes the place of the old one, a new metric is a new column on the right. Lightning calls :meth:`save` after
    each row, so at least once an epoch; a new row is appended, anything else replaces the file at once by a whole new
    one. Rank 0 only.

    Args:
        folder: the run's folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> logger = CSVLogger(folder)
        >>> logger.log_metrics({"epoch": 0, "val_loss": 0.5}, step=9)
        >>> logger.log_metrics({"epoch": 0, "train_loss": 0.25}, step=9)
        >>> logger.save()
        >>> print((folder / "metrics.csv").read_text().strip())
        epoch,step,val_loss,train_loss
        0,9,0.5,0.25
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._forget()

    def _forget(self) -> None:
        """Drop what is in memory; the file is read again when it is needed."""
        self._rows: dict[Key, dict[str, str]] = {}
        self._columns: list[str] = list(KEYS)
        self._loaded = False
        self._new: list[Key] = []  # rows to append
        self._changed = False  # whether something already in the file is no longer right

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Does nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Put values into the row of their epoch and step.

        Raises:
            DataError: the file that is there cannot be read.
        """
        self._load()
        values = {name: format(float(value), ".9g") for name, value in metrics.items() if name not in KEYS}
        key = (f"{int(metrics['epoch'])}" if "epoch" in metrics else "", "" if step is None else str(step))
        if key not in self._rows:
            self._new.append(key)
        elif key not in self._new:
            self._changed = True
        unknown = [name for name in values if name not in self._columns]
        self._columns += unknown
        self._changed |= bool(unknown)
        self._rows.setdefault(key, {}).update(values)

    @rank_zero_only
    def save(self) -> None:
        """Bring the file up to date.

        Raises:
            DataError: it cannot be written.
        """
        if self._changed and (self._rows or self.path.exists()):
            write_atomically(self.path, lambda file: file.write(self._text(list(self._rows), header=True)))
        elif self._new:
            self._append(self._text(self._new, header=False))
        self._new, self._changed = [], False

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Save, and forget: another process may write next."""
        self.save()
        self._forget()

    @rank_zero_only
    def truncate_after(self, step: int) -> None:
        """Remove the rows of later steps: what a killed run logged after the checkpoint it is resumed from.

        Args:
            step: the last step whose rows stay.

        Raises:
            DataError: the file cannot be read or written.
        """
        self._load()
        kept = {key: row for key, row in self._rows.items() if not key[1] or int(key[1]) <= step}
        self._changed |= len(kept) < len(self._rows)
        self._rows, self._new = kept, [key for key in self._new if key in kept]
        self.finalize("truncated")

    def _text(self, keys: list[Key], *, header: bool) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows({**dict(zip(KEYS, key, strict=True)), **self._rows[key]} for key in keys)
        return text.getvalue().encode()

    def _append(self, text: bytes) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(text)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}") from error

    def _load(self) -> None:
        """Read the file that is there, once. A last line without its end (a killed writer's) is dropped."""
        if self._loaded:
            return
        self._loaded, self._changed = True, True
        try:
            text = self.path.read_text() if self.path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {self.path}: {error}; move it away") from error
        header, *rows = csv.reader(text[: text.rfind("\n") + 1].splitlines()) if "\n" in text else [list(KEYS)]
        if header[:2] != list(KEYS) or any(len(row) != len(header) for row in rows):
            raise DataError(f"{self.path} is not a metrics.csv of lightning-rnn: move it away")
        self._columns = header
        for row in rows:
            self._rows[row[0], row[1]] = {name: value for name, value in zip(header[2:], row[2:], strict=True) if value}

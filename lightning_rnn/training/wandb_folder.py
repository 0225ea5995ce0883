"""Where W&B writes and whom it would write to: what a run keeps of it beside its checkpoints."""

from __future__ import annotations

import json
import netrc
import os
import secrets
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.training.hooks import write_atomically

Mode = Literal["auto", "online", "offline", "disabled"]
BLOCK = 1000  # numbers taken at once, so that the file is not written with every row


class RunRecord:
    """``wandb/run.json`` in the run's folder: the id of its W&B run, and the first number that no row has yet.

    A run that goes on, or is tested later, belongs to the same id. W&B numbers rows from 0 in each offline start, and
    where two rows have one number the server keeps one: a start goes on where the numbers of those before it end. A
    killed process could not say where it was, so numbers are taken in blocks, and some are left out after it.

    Args:
        folder: the run's folder.
        asked: an id to use; None is ``WANDB_RUN_ID`` (which an agent of a sweep sets), the file's, or a new one.

    Raises:
        DataError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> first = RunRecord(folder, "abc")
        >>> first.take(7)
        >>> again = RunRecord(folder)
        >>> again.id, again.rows
        ('abc', 7)
    """

    def __init__(self, folder: Path, asked: str | None = None) -> None:
        self.path = folder / "wandb" / "run.json"
        known = self._read()
        saved = str(known["id"]) if known else None
        self.id = asked or os.environ.get("WANDB_RUN_ID") or saved or secrets.token_hex(4)
        self.rows = int(known["rows"]) if known and self.id == saved else 0

    def _read(self) -> dict[str, str | int] | None:
        if not self.path.exists():
            return None
        try:
            known: dict[str, str | int] = json.loads(self.path.read_text())
            str(known["id"]), int(known["rows"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path} does not name a W&B run ({error}): delete it to begin a new one") from error
        return known

    def take(self, rows: int) -> None:
        """Write that all numbers below ``rows`` are taken.

        Raises:
            DataError: the file cannot be written.
        """
        self.rows = rows
        text = json.dumps({"id": self.id, "rows": rows})
        write_atomically(self.path, lambda file: file.write(text.encode()))


class Folders:
    """Sends W&B's files, cache and staging to the run's folder, unless the environment says where they are.

    They are ``WANDB_DIR``, which a spawned process needs, and ``WANDB_CACHE_DIR`` and ``WANDB_DATA_DIR``, which are
    below the home folder otherwise: small, slow or absent on many clusters. ``WANDB_CONFIG_DIR`` is only read in a run:
    it may name the user's own server.
    """

    _set: ClassVar[dict[str, str]] = {}

    @classmethod
    def use(cls, folder: Path) -> None:
        """Set the variables; one that the last run of this process set is not the user's."""
        own = folder.absolute() / "wandb"
        for key, path in (("DIR", own.parent), ("CACHE_DIR", own / "cache"), ("DATA_DIR", own / "data")):
            name = f"WANDB_{key}"
            if os.environ.get(name) in (None, cls._set.get(name)):
                cls._set[name] = os.environ[name] = str(path)


def has_key(url: str, settings_key: str | None) -> bool:
    """Whether W&B would find credentials without asking: environment, settings file or netrc.

    Args:
        url: of the server.
        settings_key: the key in W&B's settings.

    Example:
        >>> has_key("http://127.0.0.1:1", "local-key")
        True
    """
    named = (os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
    return bool(settings_key) or any(named) or _in_netrc(urlsplit(url).netloc)


def _in_netrc(host: str) -> bool:
    asked = os.environ.get("NETRC")
    paths = [Path(asked)] if asked else [Path.home() / name for name in (".netrc", "_netrc")]
    try:
        return any(netrc.netrc(path).authenticators(host) is not None for path in paths if path.is_file())
    except (netrc.NetrcParseError, OSError):  # W&B cannot read it either, and says so
        return False


def choose_mode(asked: Mode, settings_mode: str, key: bool) -> tuple[str, str]:
    """The mode, and why.

    Args:
        asked: of the logger.
        settings_mode: W&B's own: of ``WANDB_MODE`` or of ``wandb offline``; ``online`` by default.
        key: whether there are credentials.

    Raises:
        ConfigError: online is asked for, and there are none.

    Example:
        >>> choose_mode("auto", "online", key=False)
        ('offline', 'no API key is set')
    """
    if asked in ("offline", "disabled"):
        return asked, "asked for"
    if asked == "auto" and settings_mode not in ("online", "run"):
        return ("offline" if settings_mode == "dryrun" else settings_mode), "W&B's own settings"
    if key:
        return "online", "asked for" if asked == "online" else "an API key is set"
    if asked == "online":
        raise ConfigError(
            "W&B is asked to be online, but there is no API key: set WANDB_API_KEY, run `wandb login`, or take "
            "--trainer.logger.mode offline"
        )
    return "offline", "no API key is set"


def with_environment(asked: Mode) -> Mode:
    """What is asked for, where ``WANDB_MODE`` asks for online: W&B's settings do not tell that from their default."""
    return "online" if asked == "auto" and os.environ.get("WANDB_MODE") in ("online", "run") else asked

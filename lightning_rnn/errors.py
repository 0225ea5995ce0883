"""A user's mistake: one sentence that names what is wrong, where, and what to do; and the exit code it ends with."""

from __future__ import annotations


class UserError(ValueError):
    """Base of the errors that the command line prints without a traceback (``--debug`` shows it)."""

    exit_code = 1


class ConfigError(UserError):
    """A wrong option, key or value, or a missing config. Exit code 2."""

    exit_code = 2


class DataError(UserError):
    """Something that could not be read or written: data, tokenizer, disk. Exit code 1."""


class CheckpointError(UserError):
    """A checkpoint that is missing, broken or of something else. Exit code 1."""


def require(condition: bool, message: str) -> None:
    """Raise :class:`ConfigError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(message)

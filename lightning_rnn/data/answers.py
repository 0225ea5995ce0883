"""What servers answer, and which of their failures may pass."""

from __future__ import annotations

import email.message
import email.utils
import http.client
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TIMEOUT = 30.0  # seconds without a byte


class Unusable(Exception):
    """An address does not give the file."""


class Interrupted(Exception):
    """The file may come at the next attempt, not before ``wait`` seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Misfit(Interrupted):
    """The answer is not the rest of what is here."""


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.FileHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPRedirectHandler,  # to http and https only: a server must not choose a file of this machine
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "lightning-rnn")]
    return opener


def _seconds(date: str | None) -> float | None:
    parsed = email.utils.parsedate_tz(date) if date else None
    return None if parsed is None else email.utils.mktime_tz(parsed)


def validator(headers: email.message.Message) -> str | None:
    """What tells this version from all others: a strong tag, or a date of change that is over (RFC 9110, 8.8)."""
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    changed, now = _seconds(headers.get("Last-Modified")), _seconds(headers.get("Date"))
    settled = changed is not None and now is not None and now - changed >= 60
    return str(headers["Last-Modified"]) if settled else None


def length(headers: email.message.Message) -> int | None:
    """The announced number of bytes to come; None where there is no such number.

    Raises:
        Unusable: it is no number.
    """
    text = headers.get("Content-Length")
    if text is None or headers.get("Transfer-Encoding"):
        return None
    if not (text.isascii() and text.isdigit()):
        raise Unusable(f"it says that its length is {text!r}")
    return int(text)


def _wait(headers: email.message.Message) -> float:
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    until = _seconds(text)
    return 0.0 if until is None else max(0.0, until - time.time())


def _refused(error: urllib.error.HTTPError) -> Unusable | Interrupted:
    reason = f"it answers {error.code} {error.reason}".strip()
    if error.code == 416:
        return Misfit(reason)
    if error.code in (408, 429) or error.code >= 500:
        return Interrupted(reason, _wait(error.headers))
    return Unusable(reason)


def _failed(error: BaseException) -> Unusable | Interrupted:
    """Whether another attempt is worth it."""
    lasting = ConnectionRefusedError, ssl.SSLCertVerificationError, http.client.InvalidURL
    passing = TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException
    if isinstance(error, TimeoutError):
        return Interrupted(f"no byte came for {TIMEOUT:g} s")
    again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
    if again or (isinstance(error, passing) and not isinstance(error, lasting)):
        return Interrupted(str(error) or type(error).__name__)
    return Unusable(str(error) or type(error).__name__)


@contextmanager
def reaching() -> Iterator[None]:
    """Everything that may go wrong on the way, as one of the two errors."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error) from error
    except urllib.error.URLError as error:
        raise _failed(error.reason if isinstance(error.reason, BaseException) else error) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise _failed(error) from error


def answer(url: str, headers: dict[str, str]) -> Any:
    """The answer to a GET request, ``http.client.HTTPResponse`` or its like for a file; to be closed.

    Raises:
        Unusable, Interrupted: there is none.
    """
    with reaching():
        return _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)

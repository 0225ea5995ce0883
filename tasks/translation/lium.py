"""The tokens of Multi30k's references: text lower-cased, normalized and tokenized as the Moses scripts do it.

Multi30k's ``tok`` files, and the BLEU that LIUM and those after them report on them ("lc-tok"), come from
``lowercase.perl | normalize-punctuation.perl -l LANGUAGE | tokenizer.perl -l LANGUAGE`` of Moses 3a0631a: hyphens are
not split off (no ``-a``), and ``&``, quotes and brackets are escaped. sacremoses is those scripts in Python. Where it
differs, it is mended here, so that all lines of Multi30k come out as they are in the files:

- the scripts see a line with its line feed, which their rule for a full stop before a closing quote counts on;
- ``perl_parity`` reads ’ between other than ASCII letters as a double quote; the scripts do so with ‘ and ‚ too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version

from lightning_rnn.errors import ConfigError

_QUOTES = re.compile("(?<![a-zA-Z])‘|‘(?![a-zA-Z])|‚")


class LiumTokenizer:
    """Text to the tokens of the LIUM protocol, separated by spaces.

    Args:
        language: of the text: ``fr``, ``de``, ``en`` ...

    Raises:
        ConfigError: sacremoses is not installed.

    Example:
        >>> tokenize = LiumTokenizer("fr")
        >>> tokenize('Une ville d\u2019antan, c\u2019est « beau ».')
        'une ville d&apos; antan , c&apos; est &quot; beau &quot; .'
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._normalize, self._tokenize = _moses(language)

    def __call__(self, text: str) -> str:
        """The tokens of one line; nothing of a line of spaces."""
        line = _QUOTES.sub('"', text.lower()) + "\n"
        return self._tokenize(self._normalize(line))

    @property
    def signature(self) -> str:
        """What makes the tokens, for logs."""
        return f"lc-norm-tok-{self.language}-sacremoses-{version('sacremoses')}"

    def __reduce__(self) -> tuple[type[LiumTokenizer], tuple[str]]:
        return type(self), (self.language,)


def _moses(language: str) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """The normalizer and the tokenizer of a language."""
    try:
        from sacremoses import MosesPunctNormalizer, MosesTokenizer  # late: an extra
    except ImportError as error:
        raise ConfigError(
            "the BLEU of the LIUM protocol needs sacremoses: pip install 'lightning-rnn[lium]', or take it out of the "
            "metrics"
        ) from error
    normalizer, tokenizer = MosesPunctNormalizer(language, perl_parity=True), MosesTokenizer(language)

    def tokens(text: str) -> str:
        return str(tokenizer.tokenize(text, aggressive_dash_splits=False, return_str=True, escape=True))

    return normalizer.normalize, tokens

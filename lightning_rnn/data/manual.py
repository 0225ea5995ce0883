"""Real English text that needs no download: the language reference that comes with Python."""

from __future__ import annotations

from functools import cache


@cache
def python_manual() -> dict[str, tuple[str, ...]]:
    """The topics of Python's ``help``, each as its paragraphs, white space folded (Python's licence, PSF-2.0).

    A paragraph that several topics share is in the first of them alone, so that parts of the text have none in common.
    About 78 topics and 350,000 characters; another version of Python has another text.

    Returns:
        Topic → paragraphs, in the order of the topics' names.

    Example:
        >>> python_manual()["with"][0][:40]
        'The "with" statement *******************'
    """
    from pydoc_data.topics import topics  # late: half a megabyte

    found, seen = dict[str, tuple[str, ...]](), {""}
    for name in sorted(topics):
        blocks = dict.fromkeys(" ".join(block.split()) for block in topics[name].split("\n\n"))
        found[name] = tuple(block for block in blocks if block not in seen)
        seen.update(blocks)
    return {name: blocks for name, blocks in found.items() if blocks}

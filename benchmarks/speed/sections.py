"""A file of results in sections: what was measured anew takes the place of what was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def document(old: str, heading: str, new: Mapping[str, Sequence[str]], order: Sequence[str] = ()) -> str:
    """The results with new sections in place of the old ones of the same title.

    Args:
        old: the text so far, empty at first.
        heading: of the whole.
        new: lines of a section by its title.
        order: titles that come first, in their order; others stay where they are, new ones are last.
    """
    found = dict(part.split("\n", 1) for part in old.split("\n## ")[1:])
    found |= {title: "\n" + "\n".join(lines) + "\n" for title, lines in new.items()}
    titles = [title for title in order if title in found] + [title for title in found if title not in order]
    return "\n".join([f"# {heading}\n", *(f"## {title}\n{found[title].rstrip()}\n" for title in titles)])

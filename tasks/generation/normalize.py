"""Sentences of RNNLG as the benchmark tokenizes them: lower case, tokens between spaces, plurals and adverbs cut."""

from __future__ import annotations

import re

# What the benchmark's own table says (utils/nlp/mapping.pair), in its order where that matters.
_NOT = ["do", "does", "did", "could", "are", "is", "was", "were"]
_SHORT: dict[str, str] = {
    "it's": "it is",
    **{f"{verb}n't": f"{verb} not" for verb in _NOT},
    "can't": "cannot",
    "won't": "will not",
    "i'm": "i am",
    "i've": "i have",
    "we've": "we have",
    "i'd": "i would",
    "you'd": "you would",
    "you'll": "you will",
    **{f"{word}'re": f"{word} are" for word in ("you", "they", "there")},
    **{f"{word}'s": f"{word} is" for word in ("that", "what", "there")},
    ". .": ".",
}
_PLURALS = """restaurant hotel laptop dinner price place venue range meal location area kid card use dimension include
    computer machine rating constraint requirement drive specification hour port television restriction driver factor"""
_PLURAL_ES = {"lunches": "lunch", "breakfasts": "breakfast", "policies": "policy", "children": "child",
              "inches": "inch", "families": "family", "businesses": "business", "accessories": "accessory"}  # fmt: skip
_ADVERBS = "expensive moderate cheap extreme actual typical definite most nice sure certain total"
_TWO_WORDS = {
    "kidfriendly": "kid friendly",
    "driverange": "drive range",
    "ecorating": "eco rating",
    "pricerange": "price range",
    "batteryrating": "battery rating",
    "weightrange": "weight range",
    "harddrive": "hard drive",
    "batterylife": "battery life",
}
_OTHERS = {"cheaper": "cheap -er", "truly": "true -ly", "st": "street", "ave": "avenue", "upmarket": "expensive",
           "inpricey": "cheap", "teh": "the", "#": "number", "&": "and"}  # fmt: skip
REPLACED: dict[str, str] = {
    **_SHORT,
    **{f"{word}s": f"{word} -s" for word in _PLURALS.split()},
    **{plural: f"{word} -s" for plural, word in _PLURAL_ES.items()},
    **{f"{word}ly": f"{word} -ly" for word in _ADVERBS.split()},
    **_TWO_WORDS,
    **_OTHERS,
}
_PHONE = re.compile(r"\(?(\d{3})\)?[-.\s]?(\d{3})[-.\s]?(\d{4})")


def normalized(text: str) -> str:
    """A sentence of RNNLG's files as its reader makes it: without a mark at its end, lower-cased, tokenized.

    Phone numbers become one token, as do numbers beside each other; marks stand alone but between digits.

    Example:
        >>> normalized("It's a cheap hotel, phone (415) 776-1234 , with 2.5 rooms .")
        'it is a cheap hotel , phone 4157761234 , with 2.5 rooms'
    """
    text = re.sub(r" [.?!]$", "", text).lower().strip()
    text = _one_token_phones(text)
    text = text.replace(";", ",").replace("/", " and ")
    text = re.sub(r'[":<>@]', "", text).replace(" - ", "")
    for mark in "?.,!":
        text = _apart(mark, text)
    text = re.sub(r"^'|'$", "", text)
    text = re.sub(r"'\s|\s'", " ", text)
    for word, others in REPLACED.items():
        text = f" {text} ".replace(f" {word} ", f" {others} ")[1:-1]
    text = re.sub(" +", " ", _apart("'s", text))
    return " ".join(_joined_numbers(text.split()))


def _one_token_phones(text: str) -> str:
    """Phone numbers without what stands between their digits.

    The end of a number is looked for by its last four digits from its beginning on, so that a digit is doubled where
    these come sooner (4157522222), in the benchmark's sentences as in its texts.
    """
    start = 0
    for area, office, line in _PHONE.findall(text):
        start = text.find(area, start)
        start -= text[start - 1] == "("
        end = text.find(line, start) + len(line)
        text = text.replace(text[start:end], area + office + line)
    return text


def _apart(mark: str, text: str) -> str:
    """Spaces around a mark that is not between digits; after ``'s`` the benchmark puts it behind the first sign."""
    place = text.find(mark)
    while place >= 0:
        before, after = text[place - 1], text[place + 1 : place + 2]
        if not ("0" <= before <= "9" and after and "0" <= after <= "9"):
            if before != " ":
                text = f"{text[:place]} {text[place:]}"
                place += 1
            if text[place + len(mark) : place + len(mark) + 1] not in ("", " "):
                text = f"{text[: place + 1]} {text[place + 1 :]}"
        place = text.find(mark, place + 1)
    return text


def _joined_numbers(tokens: list[str]) -> list[str]:
    """Tokens, those of digits beside each other as one."""
    joined: list[str] = []
    for token in tokens:
        if joined and re.fullmatch(r"\d+", token) and re.fullmatch(r"\d+", joined[-1]):
            joined[-1] += token
        else:
            joined.append(token)
    return joined

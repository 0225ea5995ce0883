"""Conditions as a user gives them → vectors, by the spec's form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_rnn.errors import DataError

from .spec import Form, GenerationSpec


def numbered(row: int) -> str:
    """How a message names a condition that is in no file: by its place in the list, from 1."""
    return f"condition {row + 1}"


def encode_conditions(spec: GenerationSpec, given: Sequence[Any], where: Callable[[int], str] = numbered) -> Tensor:
    """The vectors of conditions, float32 ``[N, C]``.

    Args:
        spec: of the model.
        given: a list of as many as there are. ``numbers``: lists of numbers; ``class``: names; ``columns``: dicts of
            values by column; ``image``: rows of pixels, or a tensor; ``act``: dialogue acts as text.
        where: how a message names the condition at a place of the list.

    Raises:
        DataError: a condition is unknown or of another size; says which.

    Example:
        >>> spec = GenerationSpec(form="class", condition_size=2, condition_names=["Irish", "Greek"])
        >>> encode_conditions(spec, ["Greek"]).tolist()
        [[0.0, 1.0]]
    """
    if isinstance(given, str | Mapping):
        raise DataError(f"conditions are {given!r:.60}, which is one of them: give a list")
    rows = [_one(spec, one, where(row)) for row, one in enumerate(given)]
    return torch.stack(rows) if rows else torch.zeros(0, spec.condition_size)


def _one(spec: GenerationSpec, one: Any, where: str) -> Tensor:
    if isinstance(one, Mapping) and spec.form != "columns":
        raise DataError(f"{where} is {dict(one)!r:.60}, values by column: this model takes {WANTED[spec.form]}, one a "
                        "line of a text file, or a list of them")  # fmt: skip
    return FORMS[spec.form](spec, one, where)


def of_numbers(spec: GenerationSpec, one: Any, where: str) -> Tensor:
    """A list, an array or a tensor of numbers, flat."""
    try:
        vector = torch.as_tensor(one, dtype=torch.float32).flatten()
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is {one!r:.60}, no numbers: give {spec.condition_size} of them") from error
    if len(vector) != spec.condition_size:
        raise DataError(f"{where} has {len(vector)} numbers: give {spec.condition_size}")
    if not bool(vector.isfinite().all()):
        raise DataError(f"{where} holds NaN or infinity: give finite numbers")
    return vector


def of_image(spec: GenerationSpec, one: Any, where: str) -> Tensor:
    """An image: as many pixels as those that were trained on, in their range where the spec has it."""
    vector = of_numbers(spec, one, where)
    low, high = spec.extra.get("pixels", (-math.inf, math.inf))
    outside = vector[(vector < low) | (vector > high)]
    if len(outside):
        raise DataError(f"{where} has a pixel of {outside[0]:g}, those trained on are {low:g} to {high:g}: scale it")
    return vector


def of_class(spec: GenerationSpec, one: Any, where: str) -> Tensor:
    """The name of a class: one entry is 1."""
    if one not in spec.condition_names:
        known = ", ".join(spec.condition_names[:20])
        raise DataError(f"{where} is the class {one!r}, which is unknown: use {known}")
    return torch.eye(spec.condition_size)[spec.condition_names.index(one)]


def of_columns(spec: GenerationSpec, one: Any, where: str) -> Tensor:
    """Values by column: the entry ``column=value`` is 1; a column of numbers is one entry, scaled."""
    if not isinstance(one, Mapping):
        raise DataError(f"{where} is {one!r:.60}: give values by column, like {{'color': 'red'}}")
    places = {name: index for index, name in enumerate(spec.condition_names)}
    columns = {name.partition("=")[0] for name in places}
    vector = torch.zeros(spec.condition_size)
    for column, value in one.items():
        if column not in columns:
            raise DataError(f"{where} has a column {column!r}, which is unknown: use {', '.join(sorted(columns))}")
        if value in (None, ""):
            continue
        if column in places:
            mean, spread = spec.extra["scales"][column]
            vector[places[column]] = (number_of(value, column, where) - mean) / spread
        else:
            vector[_place(places, column, value, where)] = 1.0
    return vector


def _place(places: Mapping[str, int], column: str, value: Any, where: str) -> int:
    found = places.get(f"{column}={value}")
    if found is None:
        known = [name.partition("=")[2] for name in places if name.startswith(f"{column}=")]
        raise DataError(f"{where}: {column} is {value!r}, which is unknown: use {', '.join(known[:20])}")
    return found


def number_of(value: Any, column: str, where: str) -> float:
    """A cell as a number.

    Raises:
        DataError: it is none, or not finite.
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {column} is {value!r}, no number: give one") from error
    if not math.isfinite(number):
        raise DataError(f"{where}: {column} is {value!r}, no finite number: give one, or leave the cell empty")
    return number


def of_act(spec: GenerationSpec, one: Any, where: str) -> Tensor:
    """A dialogue act as text."""
    from .dialogue_acts import act_vector  # late: acts are one form of many

    return act_vector(spec.condition_names, one, where)


FORMS: dict[Form, Callable[[GenerationSpec, Any, str], Tensor]] = {
    "numbers": of_numbers,
    "class": of_class,
    "columns": of_columns,
    "image": of_image,
    "act": of_act,
}
WANTED: dict[Form, str] = {
    "numbers": "vectors as JSON lists of numbers",
    "class": "names of classes",
    "image": "images as JSON lists of pixels",
    "act": "dialogue acts",
}

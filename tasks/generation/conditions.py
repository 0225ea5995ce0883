"""Conditions as a user gives them → vectors, by the spec's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_rnn.errors import DataError

from .spec import Form, GenerationSpec


def encode_conditions(spec: GenerationSpec, given: Sequence[Any]) -> Tensor:
    """The vectors of conditions, float32 ``[N, C]``.

    Args:
        spec: of the model.
        given: ``numbers``: lists of numbers; ``class``: names; ``columns``: dicts of values by column; ``image``: rows
            of pixels, or a tensor; ``act``: dialogue acts as text.

    Raises:
        DataError: a condition is unknown or of another size; names its row.

    Example:
        >>> spec = GenerationSpec(form="class", condition_size=2, condition_names=["Irish", "Greek"])
        >>> encode_conditions(spec, ["Greek"]).tolist()
        [[0.0, 1.0]]
    """
    rows = [FORMS[spec.form](spec, one, row) for row, one in enumerate(given)]
    return torch.stack(rows) if rows else torch.zeros(0, spec.condition_size)


def of_numbers(spec: GenerationSpec, one: Any, row: int) -> Tensor:
    """A list, an array or a tensor of numbers, flat."""
    try:
        vector = torch.as_tensor(one, dtype=torch.float32).flatten()
    except (TypeError, ValueError) as error:
        raise DataError(f"condition {row} is {one!r:.60}, no numbers: give {spec.condition_size} of them") from error
    if len(vector) != spec.condition_size:
        raise DataError(f"condition {row} has {len(vector)} numbers: give {spec.condition_size}")
    if not bool(vector.isfinite().all()):
        raise DataError(f"condition {row} holds NaN or infinity: give finite numbers")
    return vector


def of_class(spec: GenerationSpec, one: Any, row: int) -> Tensor:
    """The name of a class: one entry is 1."""
    if one not in spec.condition_names:
        known = ", ".join(spec.condition_names[:20])
        raise DataError(f"condition {row} is the class {one!r}, which is unknown: use {known}")
    return torch.eye(spec.condition_size)[spec.condition_names.index(one)]


def of_columns(spec: GenerationSpec, one: Any, row: int) -> Tensor:
    """Values by column: the entry ``column=value`` is 1; a column of numbers is one entry, scaled."""
    if not isinstance(one, Mapping):
        raise DataError(f"condition {row} is {one!r:.60}: give values by column, like {{'color': 'red'}}")
    places = {name: index for index, name in enumerate(spec.condition_names)}
    columns = {name.partition("=")[0] for name in places}
    vector = torch.zeros(spec.condition_size)
    for column, value in one.items():
        if column not in columns:
            raise DataError(
                f"condition {row} has a column {column!r}, which is unknown: use {', '.join(sorted(columns))}"
            )
        if value in (None, ""):
            continue
        if column in places:
            mean, spread = spec.extra["scales"][column]
            vector[places[column]] = (number_of(value, column, row) - mean) / spread
        else:
            vector[_place(places, column, value, row)] = 1.0
    return vector


def _place(places: Mapping[str, int], column: str, value: Any, row: int) -> int:
    found = places.get(f"{column}={value}")
    if found is None:
        known = [name.partition("=")[2] for name in places if name.startswith(f"{column}=")]
        raise DataError(f"condition {row}: {column} is {value!r}, which is unknown: use {', '.join(known[:20])}")
    return found


def number_of(value: Any, column: str, row: int) -> float:
    """A cell as a number.

    Raises:
        DataError: it is none.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"condition {row}: {column} is {value!r}, no number: give one") from error


def of_act(spec: GenerationSpec, one: Any, row: int) -> Tensor:
    """A dialogue act as text."""
    from .dialogue_acts import act_vector  # late: acts are one form of many

    return act_vector(spec.condition_names, one, row)


FORMS: dict[Form, Callable[[GenerationSpec, Any, int], Tensor]] = {
    "numbers": of_numbers,
    "class": of_class,
    "columns": of_columns,
    "image": of_numbers,
    "act": of_act,
}

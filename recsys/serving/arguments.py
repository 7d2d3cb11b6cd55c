"""Reads arguments of requests; what is not what it must be is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from recsys.schema.requests import RequestLimits
from recsys.serving.record_reader import too_long, wrong_value
from recsys.serving.values import Refused, RequestError, read_instant

_SEQUENCES = (list, tuple, np.ndarray)


def for_each(values: object, argument: str, size: int) -> Sequence[Any] | None:
    """A value for each user; None where none is given."""
    if values is None:
        return None
    given = sequence_of(values, argument, None)
    if len(given) != size:
        raise RequestError(
            f"`{argument}` must hold one for each of the {size} users, got {len(given)}", field=argument
        )
    return given


def sequence_of(values: object, argument: str, limit: int | None) -> Sequence[Any]:
    """A list, whatever its kind; text is none."""
    if not isinstance(values, _SEQUENCES):
        raise wrong_value(argument, "a list", values)
    if limit is not None and len(values) > limit:
        raise too_long(argument, "values", limit, len(values))
    return cast(Sequence[Any], values)


def whole_number(value: object, argument: str, limit: int) -> int:
    """A whole number from 1 to `limit`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 1 <= value <= limit:
        raise wrong_value(argument, f"a whole number from 1 to {limit}", value)
    return int(value)


def instant_of(value: object, argument: str, limits: RequestLimits) -> Any:
    """The instant of an item of a history."""
    try:
        return read_instant(value, limits)
    except Refused as refused:
        raise wrong_value(argument, f"a list; each must be {refused}", value) from None


def truth_of(value: object, argument: str, limits: RequestLimits) -> bool:
    """Whether an item of a history was liked."""
    if not isinstance(value, bool | np.bool_) and not (type(value) is int and value in (0, 1)):
        raise wrong_value(argument, "a list of truth values", value)
    return bool(value)


def share_of(value: object, argument: str) -> float | None:
    """A number from 0 to 1, or None."""
    if value is None:
        return None
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not 0 <= cast(float, value) <= 1:
        raise wrong_value(argument, "a number from 0 to 1", value)
    return float(cast(float, value))

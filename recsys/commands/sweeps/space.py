"""Lists or draws the values of a search space: the overrides that have several values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override

Space = Mapping[str, Override]


def grid(space: Space, *, at_most: int) -> list[dict[str, str]] | None:
    """Every combination of a space's values; None where there are more than `at_most`."""
    values = {key: choices(override) for key, override in space.items()}
    if math.prod(len(some) if some else math.inf for some in values.values()) > at_most:
        return None
    return [
        dict(zip(values, one, strict=True))
        for one in itertools.product(*(some or [] for some in values.values()))
    ]


def choices(override: Override) -> list[str] | None:
    """All values of a sweep, as they are written on the command line; None for an interval."""
    return list(override.sweep_string_iterator()) if override.is_discrete_sweep() else None


def draw(trial: optuna.Trial, space: Space) -> list[str]:
    """An override with one value for each key; the same ones when a trial is drawn for again."""
    return [f"{one.get_key_element()}={_value(trial, one)}" for one in space.values()]


def _value(trial: optuna.Trial, override: Override) -> Any:
    key = override.key_or_group
    some = choices(override)
    if some is not None:
        return trial.suggest_categorical(key, some)
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    assert interval.start is not None
    assert interval.end is not None
    is_log = "log" in interval.tags
    if isinstance(interval.start, int) and isinstance(interval.end, int):
        return trial.suggest_int(key, interval.start, interval.end, log=is_log)
    return trial.suggest_float(key, interval.start, interval.end, log=is_log)

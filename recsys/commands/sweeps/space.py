"""Lists or draws the values of a search space: the overrides that have several values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial

from recsys.schema.errors import InputError

Space = Mapping[str, Override]


def grid(space: Space, *, at_most: int) -> list[dict[str, str]] | None:
    """Every combination of a space's values; None where there are more than `at_most`."""
    values = {key: choices(override) for key, override in space.items()}
    if math.prod(len(some) if some else math.inf for some in values.values()) > at_most:
        return None
    return [
        dict(zip(values, combination, strict=True))
        for combination in itertools.product(*(some or [] for some in values.values()))
    ]


def choices(override: Override) -> list[str] | None:
    """All values of a sweep, as they are written on the command line; None for an interval."""
    return list(override.sweep_string_iterator()) if override.is_discrete_sweep() else None


def draw(trial: BaseTrial, space: Space) -> list[str]:
    """An override with one value for each key; the same ones when a trial is drawn for again.

    Raises:
        InputError: the trial has values in its journal that are not of this space.
    """
    try:
        return [f"{override.get_key_element()}={_value(trial, override)}" for override in space.values()]
    except ValueError as error:
        raise InputError(
            f"trial {trial.number} of the sweep has other values in `study.log` than the space allows "
            f"({error}); put a copy of the file back, or start the sweep in another folder with "
            "`run_dir=PATH`"
        ) from error


def drawn(trial: FrozenTrial, space: Space) -> list[str]:
    """The overrides of a finished trial, by its values alone.

    NOTE: never the text that stands in the journal, which may come from a stranger: `trust=...`, for one.
    """
    return draw(FixedTrial(trial.params, trial.number), space)


def _value(trial: BaseTrial, override: Override) -> Any:
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

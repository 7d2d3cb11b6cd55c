"""statistic_features: what the configuration says of statistics, as features that are not fitted yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recsys.data.options import DataOptions, StatisticOptions
from recsys.data.preparing.declare import check_name
from recsys.schema.errors import InputError, nearest
from recsys.schema.feature_kinds import Feature, Role, StatisticFeature, Transform

MEANS = ("positive_share", "label_mean")
_KINDS_OF_KEYS = ("id", "multi_id")


def check_statistics(options: DataOptions) -> None:
    """Raises ValueError naming every statistic that the columns at hand cannot give, all at once."""
    problems = []
    for name, statistic in (options.statistics or {}).items():
        where = f"data.statistics.{name}"
        try:
            check_name(name, where=where)
        except ValueError as error:
            problems.append(str(error))
        problems += [f"`{where}`: {problem}" for problem in _problems(options, statistic)]
    if problems:
        raise InputError("\n".join(problems))


def _problems(options: DataOptions, statistic: StatisticOptions) -> list[str]:
    problems = []
    if options.interactions.columns.timestamp is None:
        without = "needs timestamps, but `data.interactions.columns.timestamp` is null; "
        if statistic.window_days or statistic.window_hours:
            problems.append(f"`window: {statistic.window}` {without}count `events`, or name the column")
        if statistic.measure == "recency":
            problems.append(f"`measure: recency` {without}name the column")
    if statistic.measure in MEANS and options.label.column is None:
        problems.append(
            f"`measure: {statistic.measure}` needs labels, but `data.label.column` is null and every event "
            "is positive; measure `count` or `recency`, or name the column"
        )
    if statistic.measure == "positive_share" and options.label.positive_at_least is None:
        problems.append(
            "`measure: positive_share` needs `data.label.positive_at_least`, which is null, so that every "
            "event is positive; measure `label_mean`, or give the threshold"
        )
    return problems


def statistic_features(options: DataOptions, features: Sequence[Feature]) -> list[StatisticFeature]:
    """The features declared under `data.statistics`.

    Args:
        options: checked.
        features: all others.

    Raises:
        ValueError: naming every statistic that is of an unknown feature, of one that has no values to tell
            events apart by, or called like another feature or column.
    """
    known = {feature.name: feature for feature in features}
    taken = known.keys() | {feature.column for feature in features if feature.role == "context"}
    features_of_statistics, problems = [], []
    for name, statistic in (options.statistics or {}).items():
        where = f"data.statistics.{name}"
        if name in taken:
            problems.append(f"`{where}`: another feature or column has this name; choose another")
        wrong = [_wrong_key(of, known) for of in statistic.of]
        problems += [f"`{where}.of`: {problem}" for problem in wrong if problem]
        if not any(wrong):
            features_of_statistics.append(_feature(name, statistic, known))
    if problems:
        raise InputError("\n".join(problems))
    return features_of_statistics


def _wrong_key(name: str, known: Mapping[str, Feature]) -> str:
    """Why events cannot be told apart by this feature; empty when they can."""
    usable = [feature.name for feature in known.values() if feature.kind in _KINDS_OF_KEYS]
    if name not in known:
        return f"there is no feature `{name}`{nearest(name, usable)}; those that will do: {', '.join(usable)}"
    if name not in usable:
        return (
            f"`{name}` is of the kind {known[name].kind}; expected {' or '.join(_KINDS_OF_KEYS)}, such as "
            f"{', '.join(usable)}"
        )
    return ""


def _feature(name: str, statistic: StatisticOptions, known: Mapping[str, Feature]) -> StatisticFeature:
    default: Transform = "standardise" if statistic.measure in MEANS else "log"
    transform = statistic.transform or default
    role: Role = "pair" if any(known[of].role == "item" for of in statistic.of) else "context"
    return StatisticFeature(
        name,
        role,
        of=statistic.of,
        measure=statistic.measure,
        window_days=statistic.window_days,
        window_hours=statistic.window_hours,
        window_events=statistic.window_events,
        strength=statistic.strength if statistic.measure in MEANS else 0.0,
        transform=transform,
        num_buckets=statistic.num_buckets if transform == "bucketise" else 0,
    )

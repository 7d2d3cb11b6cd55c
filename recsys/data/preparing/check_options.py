"""check_options: whether the options of preparing make sense together, before any work."""

import math
import re

from recsys.data.options import DataOptions
from recsys.data.preparing.declare_statistics import check_statistics
from recsys.data.preparing.splits import NEEDS_TIME
from recsys.data.reading.instants import check_format
from recsys.schema.errors import InputError
from recsys.schema.labels import MAIN

_KINDS = ("leave_last_out", "global_time", "random", "cold_item", "cold_user", "cold_both", "predefined")


def check_options(options: DataOptions) -> None:
    """Raises ValueError naming the key that cannot be used, what it holds and what to do."""
    columns = options.interactions.columns
    if not re.fullmatch(r"[A-Za-z0-9._-]+", options.name):
        raise InputError(
            f"`data.name` names a folder: letters, digits, `.`, `_` and `-`, got `{options.name}`"
        )
    if options.split not in _KINDS:
        raise InputError(f"`data.split` must be one of {', '.join(_KINDS)}, got `{options.split}`")
    _check_ids(options)
    if options.split in NEEDS_TIME and columns.timestamp is None:
        raise InputError(
            f"`data.split={options.split}` needs timestamps, but `data.interactions.columns.timestamp` is "
            "null; name the column, or choose `data.split=random`, cold_item, cold_user, cold_both or "
            "predefined"
        )
    if columns.timestamp_format is not None:
        check_format(columns.timestamp_format)
    if options.until is not None and columns.timestamp is None:
        raise InputError(
            f"`data.until={options.until}` needs timestamps, but `data.interactions.columns.timestamp` is "
            "null; name the column, or leave `data.until` out"
        )
    if options.split == "predefined" and columns.split is None:
        raise InputError(
            "`data.split=predefined` needs the column that says train, validation or test; "
            "name it by `data.interactions.columns.split`"
        )
    if options.label.positive_at_least is not None and options.label.column is None:
        raise InputError(
            f"`data.label.positive_at_least={options.label.positive_at_least}` needs `data.label.column`, "
            "which is null; name the column"
        )
    _check_label(options)
    _check_auxiliary(options)
    if not 0 <= options.max_rejected_share <= 1:
        raise InputError(f"`data.max_rejected_share` must lie in [0, 1], got {options.max_rejected_share}")
    _check_fractions(options)
    check_statistics(options)
    boundaries = options.split_boundaries
    if boundaries is not None and (options.split != "global_time" or len(boundaries) != 2):
        raise InputError(
            "`data.split_boundaries` must be two instants, for `data.split=global_time`; "
            f"got {list(boundaries)} with `data.split={options.split}`"
        )


def _check_ids(options: DataOptions) -> None:
    """Raises ValueError naming each thing that needs users or items where the rows have none."""
    columns, key = options.interactions.columns, "data.interactions.columns"
    problems = []
    if columns.item_id is None and columns.user_id is not None:
        problems.append(
            f"`{key}.item_id=null` is for rows that have no user either (`{key}.user_id=null`); name the "
            "column of what each row is about"
        )
    if columns.item_id is None and options.label.column is None:
        problems.append(
            f"`{key}.item_id` is null, and without items a label must tell rows apart; name it by "
            "`data.label.column`"
        )
    for name, table, splits in (
        ("user_id", "users", ("leave_last_out", "cold_user", "cold_both")),
        ("item_id", "items", ("leave_last_out", "cold_item", "cold_both")),
    ):
        if getattr(columns, name) is not None:
            continue
        null = f"but `{key}.{name}` is null; "
        if options.split in splits:
            problems.append(
                f"`data.split={options.split}` needs {table}, {null}choose `data.split=global_time`, random "
                "or predefined"
            )
        if getattr(options, table).path is not None:
            problems.append(
                f"`data.{table}.path` needs their id in the interactions, {null}leave the table out"
            )
        problems += [
            f"`data.statistics.{statistic}`: `of: {name}` needs {table}, {null}leave it out"
            for statistic, settings in (options.statistics or {}).items()
            if name in settings.of
        ]
        if options.neighbours:
            problems.append(f"`data.neighbours` needs {table}, {null}leave it out")
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))


def _check_label(options: DataOptions) -> None:
    label = options.label
    for key in ("positives", "weights"):
        given = getattr(label, key)
        if given is None:
            continue
        if label.column is None:
            raise InputError(
                f"`data.label.{key}` needs `data.label.column`, which is null; name the column of words"
            )
        if not given:
            raise InputError(f"`data.label.{key}` must name values of `{label.column}`, got none")
    if label.positives is not None and label.positive_at_least is not None:
        raise InputError(
            "`data.label.positives` and `data.label.positive_at_least` both say which interactions are "
            "positives; leave one out"
        )
    for word, weight in (label.weights or {}).items():
        if not 0 <= weight < math.inf:
            raise InputError(
                f"`data.label.weights.{word}` must be a finite number of at least 0, got {weight}"
            )
        at_least = label.positive_at_least
        is_least = isinstance(at_least, int | float) and at_least <= 0
        if not weight and (is_least or word in (label.positives or ())):
            raise InputError(
                f"`data.label.weights.{word}` is 0, and `{word}` is a positive, which counts in the loss as "
                "much as its weight; give it a weight above 0, or leave it out of the positives"
            )


def _check_auxiliary(options: DataOptions) -> None:
    for name, label in options.auxiliary_labels.items():
        where = f"data.auxiliary_labels.{name}"
        if name == MAIN or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise InputError(
                f"`{where}`: expected letters, digits and underscores for the name of a label, and "
                f"another than `{MAIN}`, which is that of `data.label`"
            )
        if label.positive_at_least is not None and label.transform != "standardise":
            raise InputError(
                f"`{where}.transform={label.transform}` is of a numeric label, and `positive_at_least` makes "
                "it binary; leave one of the two out"
            )


def _check_fractions(options: DataOptions) -> None:
    fractions = tuple(options.split_fractions)
    if (
        len(fractions) != 3
        or min(fractions) < 0
        or fractions[0] <= 0
        or not math.isclose(sum(fractions), 1.0)
    ):
        raise InputError(
            "`data.split_fractions` must be the shares of train (above 0), validation and test, with sum 1, "
            f"got {list(fractions)}"
        )

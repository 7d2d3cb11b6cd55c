"""read_interactions: the raw events, typed and validated; unusable rows are set aside with the reason."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import ibis
import pyarrow as pa
from ibis import _

from recsys.data.options import DataOptions
from recsys.data.preparing.usable import usable
from recsys.data.reading.columns import (
    TimeReading,
    ValueType,
    iso,
    read_id,
    read_number,
    read_typed,
    text_facts,
    time_reading,
)
from recsys.data.reading.engine import DuckDBEngine
from recsys.data.reading.tables import SEQUENCE, RawTable
from recsys.schema.errors import InputError
from recsys.schema.tables import ITEM_ID, LABEL, LABEL_PREFIX, POSITIVE, RAW_PREFIX, TIMESTAMP, USER_ID

LOGGER = logging.getLogger(__name__)

RAW_TIMESTAMP = RAW_PREFIX + TIMESTAMP
# What a predefined split's column says, as text.
SPLIT_NAME = "_split_name"
# What all rows are about where no column says it.
_ONLY_ITEM = ibis.literal(1).cast("int64")


@dataclasses.dataclass(frozen=True)
class Interactions:
    """The events that can be used.

    Args:
        events: user_id, item_id, timestamp (microseconds, or the row number where the raw table has none),
            label, positive, auxiliary labels, SEQUENCE, and raw columns: `raw.timestamp` and one for each
            context column.
        time: how timestamps are typed; None where there are none.
        rejected: SEQUENCE, reason and value of the rows that cannot be used.
    """

    events: ibis.Table
    time: TimeReading | None
    rejected: pa.Table


def read_interactions(
    engine: DuckDBEngine,
    raw: RawTable,
    options: DataOptions,
    *,
    id_types: dict[str, ValueType],
    context_columns: Sequence[str],
) -> Interactions:
    """Validates the raw interactions.

    Rejected are: a null id, a timestamp or label that is null or cannot be read, and the second of two rows
    with the same user, item and instant.

    Args:
        engine: runs the expressions.
        raw: the raw table.
        options: names its columns and the label.
        id_types: how `user_id` and `item_id` are typed.
        context_columns: raw columns that context features read.
    """
    columns, rows = options.interactions.columns, raw.rows
    facts = text_facts(engine, rows, [*context_columns, *([columns.timestamp] if columns.timestamp else [])])
    time = time_reading(engine, rows, columns.timestamp, facts) if columns.timestamp else None
    typed: dict[str, ibis.Value] = {
        USER_ID: read_id(rows[columns.user_id], id_types[USER_ID]) if columns.user_id else rows[SEQUENCE],
        ITEM_ID: read_id(rows[columns.item_id], id_types[ITEM_ID]) if columns.item_id else _ONLY_ITEM,
        TIMESTAMP: time.read(rows[columns.timestamp]) if time else rows[SEQUENCE],
        LABEL: read_number(rows[options.label.column]) if options.label.column else ibis.literal(1.0),
        SEQUENCE: rows[SEQUENCE],
        **_auxiliary_labels(rows, options),
    }
    if time:
        typed[RAW_TIMESTAMP] = time.raw(rows[columns.timestamp], from_csv=raw.is_text)
    if options.split == "predefined":
        typed[SPLIT_NAME] = rows[columns.split].cast("string")
    for name in context_columns:
        typed[RAW_PREFIX + name] = read_typed(rows[name], facts if raw.is_text else {})
    # Kept before it is checked: in one expression DuckDB reads a value anew for every condition on it.
    good, rejected = usable(engine, engine.keep(rows.select(**typed)), rows=rows, sources=_sources(options))
    if options.until is not None:
        assert time is not None  # check_options has seen to it
        good = good.filter(_[TIMESTAMP] < time.instant(options.until, key="data.until"))
    threshold = options.label.positive_at_least
    is_positive = ibis.literal(True) if threshold is None else _[LABEL] >= threshold
    return Interactions(events=good.mutate(**{POSITIVE: is_positive}), time=time, rejected=rejected)


def _auxiliary_labels(rows: ibis.Table, options: DataOptions) -> dict[str, ibis.Value]:
    """By the names of their columns in prepared data, float64; null where they cannot be read."""
    found: dict[str, ibis.Value] = {}
    for name, label in options.auxiliary_labels.items():
        value = read_number(rows[label.column])
        if label.positive_at_least is not None:
            value = (value >= label.positive_at_least).cast("float64")
        elif label.transform == "log":
            # Not `greatest`, which passes a null over.
            value = (1.0 + (value < 0).ifelse(0.0, value)).ln()
        found[LABEL_PREFIX + name] = value
    return found


def look_at(engine: DuckDBEngine, interactions: Interactions, options: DataOptions) -> None:
    """Logs what people can see a mistake by: how many positives there are, and the years.

    Raises:
        ValueError: there are no events, or no positives.
    """
    found = engine.collect(
        interactions.events.aggregate(
            rows=_.count(),
            positives=_[POSITIVE].sum(),
            lowest=_[LABEL].min(),
            highest=_[LABEL].max(),
            first=_[TIMESTAMP].min(),
            last=_[TIMESTAMP].max(),
        )
    ).to_pylist()[0]
    if not found["rows"]:
        if options.until is not None:
            raise InputError(
                f"`data.until={options.until}` leaves no interaction: all are later; give a later one"
            )
        raise InputError(
            "no row of the interactions can be used; with a lower `data.max_rejected_share` it is told why"
        )
    if not found["positives"]:
        raise InputError(
            f"`data.label.positive_at_least={options.label.positive_at_least}` leaves no positive "
            f"interaction: `{options.label.column}` lies between {found['lowest']:g} and {found['highest']:g}"
        )
    LOGGER.info("%d of %d interactions are positives", found["positives"], found["rows"])
    if time := interactions.time:
        LOGGER.info(
            "timestamps (%s) from %s to %s", time.unit or time.kind, iso(found["first"]), iso(found["last"])
        )


def _sources(options: DataOptions) -> dict[str, str]:
    """Raw columns of what every event must have."""
    columns = options.interactions.columns
    named = {
        USER_ID: columns.user_id,
        ITEM_ID: columns.item_id,
        TIMESTAMP: columns.timestamp,
        LABEL: options.label.column,
    }
    return {name: source for name, source in named.items() if source is not None}

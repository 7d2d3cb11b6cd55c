"""read_interactions: the raw events, typed and validated; unusable rows are set aside with the reason."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

import ibis
import pyarrow as pa
from ibis import _

from recsys.data.options import DataOptions
from recsys.data.preparing.read_labels import is_positive, read_auxiliary_labels, read_label
from recsys.data.preparing.usable import usable
from recsys.data.reading.columns import ValueType, read_id, read_typed
from recsys.data.reading.engine import Engine
from recsys.data.reading.functions import text_of
from recsys.data.reading.instants import TimeReading, iso, time_reading
from recsys.data.reading.tables import SEQUENCE, RawTable
from recsys.schema.errors import InputError
from recsys.schema.tables import ITEM_ID, LABEL, POSITIVE, RAW_PREFIX, TIMESTAMP, USER_ID
from recsys.schema.values import TextKind

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
        disagreeing: how many of these have another label than the row kept in their place.
    """

    events: ibis.Table
    time: TimeReading | None
    rejected: pa.Table
    disagreeing: int = 0


def read_interactions(
    raw: RawTable,
    options: DataOptions,
    *,
    id_types: Mapping[str, ValueType],
    context_columns: Sequence[str],
    kinds: Mapping[str, TextKind],
) -> Interactions:
    """Validates the raw interactions.

    Rejected are: a null id, a timestamp or label that is null or cannot be read, and of rows with the same
    user, item and instant all but one, see `usable`.

    Args:
        raw: the raw table.
        options: names its columns and the label.
        id_types: how `user_id` and `item_id` are typed.
        context_columns: raw columns that context features read.
        kinds: of those that are text.
    """
    columns, rows = options.interactions.columns, raw.rows
    time = None
    if columns.timestamp is not None:
        time = time_reading(
            raw, columns.timestamp, unit=options.timestamp_unit, form=columns.timestamp_format
        )
    typed: dict[str, ibis.Value] = {
        USER_ID: _ids(raw, columns.user_id, id_types[USER_ID], default=rows[SEQUENCE]),
        ITEM_ID: _ids(raw, columns.item_id, id_types[ITEM_ID], default=_ONLY_ITEM),
        TIMESTAMP: time.read(raw.column(str(columns.timestamp))) if time else rows[SEQUENCE],
        LABEL: read_label(raw, options.label),
        SEQUENCE: rows[SEQUENCE],
        **read_auxiliary_labels(raw, options),
    }
    if time:
        typed[RAW_TIMESTAMP] = time.raw(raw.column(str(columns.timestamp)))
    if options.split == "predefined":
        typed[SPLIT_NAME] = text_of(raw.column(str(columns.split)))
    for name in context_columns:
        typed[RAW_PREFIX + name] = read_typed(raw.column(name), kinds.get(name))
    positive = is_positive(raw, options.label)
    # Kept before it is checked: in one expression DuckDB reads a value anew for every condition on it.
    if isinstance(positive, ibis.Deferred):
        kept = raw.engine.keep(rows.select(**typed)).mutate(**{POSITIVE: positive})
    else:
        kept = raw.engine.keep(rows.select(**typed, **{POSITIVE: positive}))
    good, rejected, disagreeing = usable(kept, raw=raw, sources=_sources(options), time=time)
    if options.until is not None:
        assert time is not None  # check_options has seen to it
        good = good.filter(_[TIMESTAMP] < time.instant(options.until, key="data.until"))
    return Interactions(events=good, time=time, rejected=rejected, disagreeing=disagreeing)


def _ids(raw: RawTable, name: str | None, value_type: ValueType, *, default: ibis.Value) -> ibis.Value:
    return default if name is None else read_id(raw.column(name), value_type)


def look_at(engine: Engine, interactions: Interactions, options: DataOptions) -> None:
    """Logs what people can see a mistake by: how many positives there are, and the years.

    Raises:
        ValueError: there are no events, or no positives.
    """
    facts = engine.row(
        interactions.events.aggregate(
            rows=_.count(),
            positives=_[POSITIVE].sum(),
            lowest=_[LABEL].min(),
            highest=_[LABEL].max(),
            first=_[TIMESTAMP].min(),
            last=_[TIMESTAMP].max(),
        )
    )
    if not facts["rows"]:
        if options.until is not None:
            raise InputError(
                f"`data.until={options.until}` leaves no interaction: all are later; give a later one"
            )
        raise InputError(
            "no row of the interactions can be used; with a lower `data.max_rejected_share` it is told why"
        )
    if not facts["positives"]:
        raise InputError(
            f"`data.label.positive_at_least={options.label.positive_at_least}` leaves no positive "
            f"interaction: `{options.label.column}` lies between {facts['lowest']:g} and {facts['highest']:g}"
        )
    LOGGER.info("%d of %d interactions are positives", facts["positives"], facts["rows"])
    if time := interactions.time:
        LOGGER.info(
            "timestamps (%s) from %s to %s", time.unit or time.kind, iso(facts["first"]), iso(facts["last"])
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

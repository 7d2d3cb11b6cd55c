"""Divides interactions into those that can be used and the others, with the reason."""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Mapping, Sequence

import ibis
import pyarrow as pa
from ibis import _

from recsys.data.reading.engine import Engine
from recsys.data.reading.functions import text_of
from recsys.data.reading.instants import TimeReading
from recsys.data.reading.tables import SEQUENCE, RawTable
from recsys.schema.tables import ITEM_ID, LABEL, LABEL_PREFIX, TIMESTAMP, USER_ID

LOGGER = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 60
_REJECTED = pa.schema([(SEQUENCE, pa.int64()), ("reason", pa.string()), ("value", pa.string())])


def usable(
    typed: ibis.Table,
    *,
    raw: RawTable,
    sources: Mapping[str, str],
    time: TimeReading | None,
) -> tuple[ibis.Table, pa.Table, int]:
    """Divides interactions into those that can be used and those that cannot.

    Of several rows with one user, item and instant the one with the highest label is kept, then the one with
    the highest auxiliary labels, then the first.

    Args:
        typed: user_id, item_id, timestamp, label as far as they could be read, else null; SEQUENCE; and more.
        raw: the raw table.
        sources: raw column of each of the four that is read from one.
        time: how timestamps are read, where there are such.

    Returns:
        The rows that can be used; SEQUENCE, reason and value of the others; how many of these differ in their
        label from the row that is kept in their place.
    """
    is_bad = functools.reduce(operator.or_, (typed[name].isnull() for name in sources), ibis.literal(False))
    good = typed.filter(~is_bad)
    rejected = _unreadable(typed.filter(is_bad), raw, sources, time)
    if time is None:  # no instants, so that an event cannot be told from its repetition
        return good, rejected, 0
    auxiliary = [name for name in typed.columns if name.startswith(LABEL_PREFIX)]
    repeats = _repeats(raw.engine, good, auxiliary)
    if repeats is None:
        return good, rejected, 0
    rows = raw.engine.collect(repeats.order_by(SEQUENCE)).to_pylist()
    which = {True: "an earlier row", False: "a later row of a higher label"}
    again = [
        {
            SEQUENCE: row[SEQUENCE],
            "reason": f"same user, item and instant as {which[row['kept'] < row[SEQUENCE]]}",
            "value": f"row {row['kept']}",
        }
        for row in rows
    ]
    num_differing = sum(row["differs"] for row in rows)
    if num_differing:
        LOGGER.warning(
            "%d rows have another label than a row of the same user, item and instant; the highest is kept",
            num_differing,
        )
    return (
        good.anti_join(repeats, SEQUENCE),
        pa.concat_tables([rejected, pa.Table.from_pylist(again, schema=_REJECTED)]).sort_by(SEQUENCE),
        num_differing,
    )


def _unreadable(
    bad: ibis.Table, raw: RawTable, sources: Mapping[str, str], time: TimeReading | None
) -> pa.Table:
    if not sources:
        return _REJECTED.empty_table()
    values = {f"_raw_{name}": text_of(raw.column(source)) for name, source in sources.items()}
    if time is not None:
        values["_any_time"] = time.read_any(raw.column(sources[TIMESTAMP]))
    joined = bad.select(SEQUENCE, *sources).join(raw.rows.select(SEQUENCE, **values), SEQUENCE)
    reasons = []
    shown = []
    for name, source in sources.items():
        is_missing, value = joined[name].isnull(), joined[f"_raw_{name}"]
        what = {TIMESTAMP: "timestamp", LABEL: "number"}.get(name, name)
        reasons.append((is_missing & value.isnull(), f"null {what} in `{source}`"))
        if name == TIMESTAMP and time is not None:
            reasons.append((is_missing & joined["_any_time"].notnull(), time.limit(source)))
            reasons.append((is_missing, time.fault(source)))
        else:
            # An id that is not null can always be read, unless it is a word for null.
            fault = "null" if name in (USER_ID, ITEM_ID) else "unreadable"
            reasons.append((is_missing, f"{fault} {what} in `{source}`"))
        shown.append((is_missing, value.substr(0, _SHOWN_CHARACTERS)))
    told = joined.select(SEQUENCE, reason=ibis.cases(*reasons), value=ibis.cases(*shown))
    return raw.engine.collect(told.order_by(SEQUENCE))


def _repeats(engine: Engine, good: ibis.Table, auxiliary: Sequence[str]) -> ibis.Table | None:
    """SEQUENCE of each event that is there in another row, of the row that is kept, whether labels differ.

    None where no event is there twice.
    """
    key = [USER_ID, ITEM_ID, TIMESTAMP]
    groups = good.group_by(key).aggregate(_count=_.count()).filter(_._count > 1)
    # Kept, for there are few and the rows are to be looked through once more only for them.
    repeated = engine.keep(groups)
    if not engine.count(repeated):
        return None
    labels = [LABEL, *auxiliary]
    rows = good.join(repeated, key).select(*key, *labels, SEQUENCE)
    order = [*(ibis.desc(rows[name].fill_null(float("-inf"))) for name in labels), ibis.asc(SEQUENCE)]
    window = ibis.window(group_by=key, order_by=order)
    ranked = rows.mutate(
        _place=ibis.row_number().over(window),
        kept=rows[SEQUENCE].first().over(window),
        _highest=rows[LABEL].first().over(window),
    )
    return engine.keep(
        ranked.filter(_._place > 0).select(SEQUENCE, "kept", differs=ranked[LABEL] != ranked["_highest"])
    )

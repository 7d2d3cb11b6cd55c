"""usable: the interactions that can be used, and why the others cannot."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping

import ibis
import pyarrow as pa
from ibis import _

from recsys.data.reading.engine import DuckDBEngine
from recsys.data.reading.tables import SEQUENCE
from recsys.schema.tables import ITEM_ID, LABEL, TIMESTAMP, USER_ID

_SHOWN_CHARACTERS = 60


def usable(
    engine: DuckDBEngine, typed: ibis.Table, *, rows: ibis.Table, sources: Mapping[str, str]
) -> tuple[ibis.Table, pa.Table]:
    """Divides interactions into those that can be used and those that cannot.

    Args:
        engine: runs the expressions.
        typed: user_id, item_id, timestamp, label as far as they could be read, else null; SEQUENCE; and more.
        rows: the raw rows.
        sources: raw column of each of the four that is read from one.

    Returns:
        The rows that can be used; SEQUENCE, reason and value of the others.
    """
    is_bad = functools.reduce(operator.or_, (typed[name].isnull() for name in sources))
    good = typed.filter(~is_bad)
    rejected = _unreadable(engine, typed.filter(is_bad), rows=rows, sources=sources)
    if TIMESTAMP not in sources:  # no instants, so that an event cannot be told from its repetition
        return good, rejected
    repeats = _repeats(engine, good)
    found = engine.collect(repeats.order_by(SEQUENCE))
    if not found.num_rows:
        return good, rejected
    again = pa.table(
        {
            SEQUENCE: found[SEQUENCE],
            "reason": pa.array(
                ["same user, item and instant as an earlier row"] * found.num_rows, pa.string()
            ),
            "value": pa.array([f"row {first}" for first in found["first"].to_pylist()], pa.string()),
        }
    )
    return good.anti_join(repeats, SEQUENCE), pa.concat_tables([rejected, again]).sort_by(SEQUENCE)


def _unreadable(
    engine: DuckDBEngine, bad: ibis.Table, *, rows: ibis.Table, sources: Mapping[str, str]
) -> pa.Table:
    raw = rows.select(
        SEQUENCE, **{f"_raw_{name}": rows[source].cast("string") for name, source in sources.items()}
    )
    joined = bad.select(SEQUENCE, *sources).join(raw, SEQUENCE)
    reasons = []
    values = []
    for name, source in sources.items():
        is_missing, value = joined[name].isnull(), joined[f"_raw_{name}"]
        what = {TIMESTAMP: "timestamp", LABEL: "number"}.get(name, name)
        reasons.append((is_missing & value.isnull(), f"null {what} in `{source}`"))
        # An id that is not null can always be read, unless it is a word for null.
        fault = "null" if name in (USER_ID, ITEM_ID) else "unreadable"
        reasons.append((is_missing, f"{fault} {what} in `{source}`"))
        values.append((is_missing, value.substr(0, _SHOWN_CHARACTERS)))
    told = joined.select(SEQUENCE, reason=ibis.cases(*reasons), value=ibis.cases(*values))
    return engine.collect(told.order_by(SEQUENCE))


def _repeats(engine: DuckDBEngine, good: ibis.Table) -> ibis.Table:
    """SEQUENCE of each event that is there before, and of the first one."""
    key = [USER_ID, ITEM_ID, TIMESTAMP]
    groups = good.group_by(key).aggregate(_first=_[SEQUENCE].min(), _count=_.count()).filter(_._count > 1)
    # Kept, for there are few and the rows are to be looked through once more only for them.
    repeated = engine.keep(groups)
    return engine.keep(
        good.join(repeated, key).filter(_[SEQUENCE] > _._first).select(SEQUENCE, first=_._first)
    )

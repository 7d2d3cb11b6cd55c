"""write_rejected: which raw rows were not used and why, and the refusal when they are too many."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.preparing.raw_data import RawData
from recsys.data.reading.tables import SEQUENCE, RawTable
from recsys.schema.errors import InputError

LOGGER = logging.getLogger(__name__)

_SCHEMA = pa.schema({"file": pa.string(), "row": pa.int64(), "reason": pa.string()})
_NUM_EXAMPLES = 5


def write_rejected(data: RawData, path: Path, *, max_share: float) -> int:
    """Writes file, row and reason of every rejected row, and logs how many there are of each reason.

    Args:
        data: the raw tables, read.
        path: the Parquet file.
        max_share: of a table's rows that may be rejected.

    Returns:
        How many rows were rejected.

    Raises:
        ValueError: there are more; the message counts the reasons and shows examples.
    """
    time = data.interactions.time
    read = {"interactions": (data.table, data.interactions.rejected)}
    read |= {table: (side.raw, side.rejected) for table, side in data.sides.items()}
    tables = []
    for table, (raw, rows) in read.items():
        tables.append(_with_places(raw, rows))
        reasons = Counter([*rows["reason"].to_pylist(), *(row.reason for row in raw.malformed)])
        for reason, count in reasons.most_common():
            LOGGER.warning("rejected %d of %d rows of the %s table: %s", count, raw.total_rows, table, reason)
        if reasons.total() > max_share * raw.total_rows:
            advice = time.advice if time and table == "interactions" else ""
            raise InputError(_refusal(table, raw, reasons, tables[-1], max_share, advice=advice))
    rejected = pa.concat_tables(tables)
    pq.write_table(rejected, path)
    return int(rejected.num_rows)


def _with_places(raw: RawTable, rows: pa.Table) -> pa.Table:
    reasons = [
        (row[SEQUENCE], row["reason"] if row["value"] is None else f"{row['reason']}: {row['value']}")
        for row in rows.to_pylist()
    ]
    reasons = sorted([*reasons, *((row.sequence, row.reason) for row in raw.malformed)])
    places = raw.places([sequence for sequence, _reason in reasons])
    placed = [
        {"file": file, "row": row, "reason": reason}
        for (file, row), (_sequence, reason) in zip(places, reasons, strict=True)
    ]
    return pa.Table.from_pylist(placed, schema=_SCHEMA)


def _refusal(
    table: str, raw: RawTable, reasons: Counter[str], places: pa.Table, max_share: float, *, advice: str
) -> str:
    lines = [
        f"{reasons.total()} of {raw.total_rows} rows of the {table} table cannot be used, which is more than "
        f"`data.max_rejected_share={max_share}`:"
    ]
    lines += [f"  {count} rows: {reason}" for reason, count in reasons.most_common()]
    lines += ["for example:"]
    lines += [
        f"  {row['file']} row {row['row']}: {row['reason']}" for row in places[:_NUM_EXAMPLES].to_pylist()
    ]
    if advice and any("timestamp" in reason for reason in reasons):
        lines.append(advice)
    lines += ["correct the rows or their column's name in `data.`, or raise `data.max_rejected_share`"]
    return "\n".join(lines)

"""Whether a split is the one that was asked for, and how many of its queries can be answered at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ibis
from ibis import _

from recsys.data.options import DataOptions
from recsys.data.preparing.splits import SPLIT, SPLIT_NAMES, TEST
from recsys.data.reading.engine import Engine
from recsys.data.reading.instants import iso
from recsys.schema.errors import InputError
from recsys.schema.tables import ITEM_ID, POSITIVE, TIMESTAMP, USER_ID

LOGGER = logging.getLogger(__name__)

_FAR = 0.05
_FEW_ROWS = 50


def check_shares(engine: Engine, events: ibis.Table, options: DataOptions, rows: Mapping[str, int]) -> None:
    """Warns where a split by time has other shares than `data.split_fractions`, with the instant that is why.

    Args:
        engine: runs the expressions.
        events: with their split.
        options: kind and fractions of the split.
        rows: of each part.

    Raises:
        InputError: most events are of one instant, which no boundary divides, so that a part has none.
    """
    total = sum(rows.values())
    if options.split != "global_time" or options.split_boundaries is not None or total < _FEW_ROWS:
        return
    asked = dict(zip(SPLIT_NAMES, options.split_fractions, strict=True))
    if all(abs(rows[name] / total - share) <= _FAR for name, share in asked.items()):
        return
    counts = events.group_by(TIMESTAMP).aggregate(rows=_.count())
    top = engine.collect(counts.order_by([ibis.desc("rows"), TIMESTAMP]).limit(1)).to_pylist()[0]
    message = (
        f"`data.split_fractions` asks for {_percent(asked.values())} % of events in train, validation and "
        f"test; the split has {_percent(rows[name] / total for name in SPLIT_NAMES)} %, for {top['rows']:,} "
        f"of {total:,} events are of the instant {iso(top[TIMESTAMP])}, which no boundary divides"
    )
    is_empty = any(share > 0 and not rows[name] for name, share in asked.items())
    if is_empty and top["rows"] > total / 2:
        raise InputError(
            f"{message}; leave such events out, name a column of real instants, give "
            "`data.split_boundaries`, or choose `data.split=leave_last_out` or random"
        )
    LOGGER.warning("%s", message)


def count_repeats(engine: Engine, events: ibis.Table, options: DataOptions) -> dict[str, int]:
    """Counts the positives in test, and those among them whose item the user had liked before.

    Where `evaluation.seen=exclude` leaves such items out, these queries cannot be hit; the log says so.
    """
    columns = options.interactions.columns
    if None in (columns.user_id, columns.item_id, columns.timestamp):
        return {}
    liked = events.filter(_[POSITIVE])
    pairs = liked.group_by([USER_ID, ITEM_ID]).aggregate(
        tested=(liked[SPLIT] == TEST).sum(), first=liked[SPLIT].argmin(liked[TIMESTAMP])
    )
    repeats = pairs.tested - (pairs["first"] == TEST).cast("int64")
    sums = pairs.aggregate(asked=pairs.tested.sum(), repeats=repeats.clip(lower=0).sum())
    row = {name: int(count or 0) for name, count in engine.collect(sums).to_pylist()[0].items()}
    if row["repeats"]:
        LOGGER.warning(
            "%d of %d positives of test are of an item that their user had liked before; by "
            "`evaluation.seen=exclude` such items are not recommended again, so that these queries cannot be "
            "hit; where people buy the same things again, train with `evaluation.seen=keep`",
            row["repeats"],
            row["asked"],
        )
    return {"test_positives": row["asked"], "test_positives_seen_before": row["repeats"]}


def _percent(shares: Any) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in shares)

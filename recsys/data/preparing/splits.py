"""split_events: global time, leave last out, random, cold item, cold user and predefined splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import ibis
from ibis import _

from recsys.data.options import DataOptions
from recsys.data.preparing.engines import DuckDBEngine, draw
from recsys.data.preparing.interactions import SPLIT_NAME
from recsys.data.preparing.quantiles import quantile
from recsys.data.preparing.readings import TimeReading
from recsys.schema.tables import ITEM_ID, POSITIVE, TIMESTAMP, USER_ID

SPLIT = "split"
TRAIN, VALIDATION, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "validation", "test")
NEEDS_TIME = ("global_time", "leave_last_out")
_NUMBER_OF_NAME = {
    "train": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
}


@dataclasses.dataclass(frozen=True)
class Divided:
    """Events with the column `split` (0 train, 1 validation, 2 test).

    Args:
        events: the events.
        instants: of a split by global time: microseconds at which validation and test begin.
    """

    events: ibis.Table
    instants: tuple[int, int] | None = None


def split_events(
    engine: DuckDBEngine, events: ibis.Table, options: DataOptions, *, time: TimeReading | None
) -> Divided:
    """Divides events as `data.split` says; see docs of the contract for what each means.

    Args:
        engine: runs what must be known first (instants, draws).
        events: as `read_interactions` gives them.
        options: kind, fractions, instants and seed of the split.
        time: how the raw timestamps are typed.
    """
    kind = options.split
    if kind == "global_time":
        instants = (
            _quantiles(engine, events, options.split_fractions)
            if options.split_boundaries is None
            else _given_instants(options.split_boundaries, time)
        )
        return _at_instants(events, instants)
    if kind == "leave_last_out":
        return Divided(_leave_last_out(engine, events))
    if kind == "predefined":
        return Divided(_predefined(engine, events, str(options.interactions.columns.split)))
    if kind == "random":
        # Where row numbers stand in for time, they must not decide; what is repeated then stays together.
        key = [USER_ID, ITEM_ID, TIMESTAMP] if time else [USER_ID, ITEM_ID]
        return Divided(_drawn(engine, events, key, options))
    return Divided(_drawn(engine, events, [ITEM_ID if kind == "cold_item" else USER_ID], options))


def _at_instants(events: ibis.Table, instants: tuple[int, int]) -> Divided:
    """An event at an instant belongs to the later part."""
    instant = events[TIMESTAMP]
    split = ibis.cases((instant < instants[0], TRAIN), (instant < instants[1], VALIDATION), else_=TEST)
    return Divided(events.mutate(**{SPLIT: split.cast("int8")}), instants=instants)


def _quantiles(
    engine: DuckDBEngine, events: ibis.Table, fractions: tuple[float, float, float]
) -> tuple[int, int]:
    """The instants at the time quantiles of all interactions; one after the last where nothing follows."""
    train, validation, _test = fractions
    first, second = (
        quantile(engine, events[TIMESTAMP], share)
        if share <= 1 - 1e-9
        else int(engine.collect(events.aggregate(last=events[TIMESTAMP].max())).to_pylist()[0]["last"]) + 1
        for share in (train, train + validation)
    )
    return first, second


def _given_instants(given: Sequence[Any], time: TimeReading | None) -> tuple[int, int]:
    assert time is not None  # check_options has seen to it
    first, second = (time.instant(value, key="data.split_boundaries") for value in given)
    if first > second:
        raise ValueError(f"`data.split_boundaries` must ascend, got {list(given)}")
    return first, second


def _leave_last_out(engine: DuckDBEngine, events: ibis.Table) -> ibis.Table:
    """Each user's last positive and what follows is test, the one before it validation; ties by item id."""
    from_last = ibis.window(group_by=USER_ID, order_by=[ibis.desc(TIMESTAMP), ibis.desc(ITEM_ID)])
    positives = events.filter(_[POSITIVE]).select(
        USER_ID,
        ITEM_ID,
        TIMESTAMP,
        _place=ibis.row_number().over(from_last),
        _count=_.count().over(ibis.window(group_by=USER_ID)),
    )
    last_two = positives.filter((_._place < 2) & (_._count >= 3))
    turns = engine.keep(
        last_two.group_by(USER_ID).aggregate(
            **{
                f"_{column}_{place}": last_two[column].max(where=last_two._place == place)
                for column in (TIMESTAMP, ITEM_ID)
                for place in (0, 1)
            }
        )
    )

    def since(place: int) -> ibis.Value:
        later = joined[TIMESTAMP] > joined[f"_timestamp_{place}"]
        same = joined[TIMESTAMP] == joined[f"_timestamp_{place}"]
        return (later | (same & (joined[ITEM_ID] >= joined[f"_item_id_{place}"]))).fill_null(False)

    joined = events.left_join(turns, USER_ID)
    split = ibis.cases((since(0), TEST), (since(1), VALIDATION), else_=TRAIN)
    return engine.keep(joined.mutate(**{SPLIT: split.cast("int8")}).select(*events.columns, SPLIT))


def _drawn(engine: DuckDBEngine, events: ibis.Table, key: list[str], options: DataOptions) -> ibis.Table:
    """Rows, items or users in the order of a hash of themselves and the seed; the first are train.

    What is drawn depends on no other row and not on the order of rows.
    """
    joined_key = ibis.literal(str(options.split_seed))
    for name in key:
        joined_key = joined_key + "\x1f" + events[name].cast("string")
    with_draw = engine.keep(events.mutate(_draw=draw(joined_key)))
    draws = with_draw.select("_draw") if len(key) > 1 else with_draw.select("_draw").distinct()
    train, validation, _test = options.split_fractions
    # Test lies lowest, so that another share of validation moves no row into or out of test.
    first, second = (
        quantile(engine, draws._draw, share) for share in (max(0.0, 1 - train - validation), 1 - train)
    )
    split = ibis.cases((_._draw < first, TEST), (_._draw < second, VALIDATION), else_=TRAIN)
    return engine.keep(with_draw.mutate(**{SPLIT: split.cast("int8")}).drop("_draw"))


def _predefined(engine: DuckDBEngine, events: ibis.Table, column: str) -> ibis.Table:
    name = events[SPLIT_NAME].strip().lower()
    split = ibis.cases(*((name == word, number) for word, number in _NUMBER_OF_NAME.items()))
    unknown = engine.collect(
        events.filter(split.isnull())
        .group_by(SPLIT_NAME)
        .aggregate(rows=_.count())
        .order_by(SPLIT_NAME)
        .limit(10)
    ).to_pylist()
    if unknown:
        shown = ", ".join(f"`{row[SPLIT_NAME]}` ({row['rows']} rows)" for row in unknown)
        raise ValueError(
            f"`data.split=predefined`: the column `{column}` must say train, validation (also valid, val, "
            f"dev) or test, found {shown}"
        )
    return events.mutate(**{SPLIT: split.cast("int8")}).drop(SPLIT_NAME)

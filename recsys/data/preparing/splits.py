"""split_events: global time, leave last out, random, cold item, cold user, both and predefined splits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import ibis
from ibis import _

from recsys.data.options import DataOptions
from recsys.data.preparing.interactions import SPLIT_NAME
from recsys.data.preparing.quantiles import quantile
from recsys.data.reading.engine import Engine
from recsys.data.reading.functions import draw, text_of
from recsys.data.reading.instants import TimeReading
from recsys.schema.errors import InputError
from recsys.schema.tables import ITEM_ID, POSITIVE, TIMESTAMP, USER_ID

LOGGER = logging.getLogger(__name__)

SPLIT = "split"
TRAIN, VALIDATION, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "validation", "test")
NEEDS_TIME = ("global_time", "leave_last_out")
_NUMBER_OF_NAME = {"train": TRAIN, "test": TEST} | dict.fromkeys(
    ("validation", "valid", "val", "dev"), VALIDATION
)


def split_events(
    engine: Engine, events: ibis.Table, options: DataOptions, *, time: TimeReading | None
) -> tuple[ibis.Table, tuple[int, int] | None]:
    """Divides events as `data.split` says; see docs of the contract for what each means.

    Args:
        engine: runs what must be known first (instants, draws).
        events: as `read_interactions` gives them.
        options: kind, fractions, instants and seed of the split.
        time: how the raw timestamps are typed.

    Returns:
        The events with the column `split` (0 train, 1 validation, 2 test); and, of a split by global time,
        the microseconds at which validation and test begin.
    """
    kind = options.split
    if kind == "global_time":
        instants = (
            _quantiles(engine, events, options.split_fractions)
            if options.split_boundaries is None
            else _given_instants(options.split_boundaries, time)
        )
        return _at_instants(events, instants), instants
    if kind == "leave_last_out":
        return _leave_last_out(engine, events), None
    # A row number that stands in for time must not decide what is drawn.
    key = {"cold_item": [ITEM_ID], "cold_user": [USER_ID]}.get(
        kind, [USER_ID, ITEM_ID, TIMESTAMP] if time else [USER_ID, ITEM_ID]
    )
    if kind == "predefined":
        given = _predefined(engine, events, str(options.interactions.columns.split))
        return _with_validation(engine, given, options, key=key), None
    if kind == "cold_both":
        return _cold_both(engine, events, options), None
    return _drawn(engine, events, key, options), None


def _at_instants(events: ibis.Table, instants: tuple[int, int]) -> ibis.Table:
    """An event at an instant belongs to the later part."""
    instant = events[TIMESTAMP]
    split = ibis.cases((instant < instants[0], TRAIN), (instant < instants[1], VALIDATION), else_=TEST)
    return events.mutate(**{SPLIT: split.cast("int8")})


def _quantiles(engine: Engine, events: ibis.Table, fractions: tuple[float, float, float]) -> tuple[int, int]:
    """The instants at the time quantiles of all interactions; one after the last where nothing follows."""
    train, validation, _test = fractions
    first, second = (
        quantile(engine, events[TIMESTAMP], share)
        if share <= 1 - 1e-9
        else int(engine.row(events.aggregate(last=events[TIMESTAMP].max()))["last"]) + 1
        for share in (train, train + validation)
    )
    return first, second


def _given_instants(given: Sequence[Any], time: TimeReading | None) -> tuple[int, int]:
    assert time is not None  # check_options has seen to it
    first, second = (time.instant(value, key="data.split_boundaries") for value in given)
    if first > second:
        raise InputError(f"`data.split_boundaries` must ascend, got {list(given)}")
    return first, second


def _leave_last_out(engine: Engine, events: ibis.Table) -> ibis.Table:
    """Each user's last positive and what follows is test, the one before it validation; ties by item id."""
    marked = _since_last(engine, events, events.filter(_[POSITIVE]), num_places=2)
    split = ibis.cases((_._since_0, TEST), (_._since_1, VALIDATION), else_=TRAIN)
    return engine.keep(marked.mutate(**{SPLIT: split.cast("int8")}).select(*events.columns, SPLIT))


def _since_last(engine: Engine, events: ibis.Table, positives: ibis.Table, *, num_places: int) -> ibis.Table:
    """The events with `_since_<place>`: whether each is its user's last positive, or stands behind it.

    Place 0 is the last of `positives`, 1 the one before; false for users who have not more than
    `num_places`. Ties are broken by item id.
    """
    from_last = ibis.window(group_by=USER_ID, order_by=[ibis.desc(TIMESTAMP), ibis.desc(ITEM_ID)])
    placed = positives.select(
        USER_ID,
        ITEM_ID,
        TIMESTAMP,
        _place=ibis.row_number().over(from_last),
        _count=_.count().over(ibis.window(group_by=USER_ID)),
    )
    last = placed.filter((_._place < num_places) & (_._count > num_places))
    turns = engine.keep(
        last.group_by(USER_ID).aggregate(
            **{
                f"_{column}_{place}": last[column].max(where=last._place == place)
                for column in (TIMESTAMP, ITEM_ID)
                for place in range(num_places)
            }
        )
    )
    joined = events.left_join(turns, USER_ID)

    def since(place: int) -> ibis.Value:
        later = joined[TIMESTAMP] > joined[f"_timestamp_{place}"]
        same = joined[TIMESTAMP] == joined[f"_timestamp_{place}"]
        return (later | (same & (joined[ITEM_ID] >= joined[f"_item_id_{place}"]))).fill_null(False)

    marks = {f"_since_{place}": since(place) for place in range(num_places)}
    return joined.select(*events.columns, **marks)


def _drawn(engine: Engine, events: ibis.Table, key: list[str], options: DataOptions) -> ibis.Table:
    """Rows, items or users in the order of a hash of themselves and the seed; the first are train.

    What is drawn depends on no other row and not on the order of rows.
    """
    with_draw = engine.keep(events.mutate(_draw=draw(_joined(events, key, options))))
    draws = with_draw.select("_draw") if len(key) > 1 else with_draw.select("_draw").distinct()
    train, validation, _test = options.split_fractions
    # Test lies lowest, so that another share of validation moves no row into or out of test.
    first, second = (
        quantile(engine, draws._draw, share) for share in (max(0.0, 1 - train - validation), 1 - train)
    )
    split = ibis.cases((_._draw < first, TEST), (_._draw < second, VALIDATION), else_=TRAIN)
    return engine.keep(with_draw.mutate(**{SPLIT: split.cast("int8")}).drop("_draw"))


def _cold_both(engine: Engine, events: ibis.Table, options: DataOptions) -> ibis.Table:
    """Users are drawn and items are drawn; an event belongs to the later part of the two."""
    by_user = _drawn(engine, events, [USER_ID], options).rename(_of_user=SPLIT)
    by_item = _drawn(engine, by_user, [ITEM_ID], options)
    later = ibis.greatest(by_item["_of_user"], by_item[SPLIT]).cast("int8")
    return engine.keep(by_item.mutate(**{SPLIT: later}).drop("_of_user"))


def _joined(events: ibis.Table, key: Sequence[str], options: DataOptions) -> ibis.Value:
    """The text that a row's draw is the hash of."""
    joined = ibis.literal(str(options.split_seed))
    for name in key:
        joined = joined + "\x1f" + text_of(events[name])
    return joined


def _with_validation(
    engine: Engine, events: ibis.Table, options: DataOptions, *, key: list[str]
) -> ibis.Table:
    """A predefined split, with some of train as validation where it has none and the options say so."""
    by_split = engine.collect(events.group_by(SPLIT).aggregate(rows=_.count()))
    if VALIDATION in by_split[SPLIT].to_pylist():
        return events
    kind = options.validation_from_train
    if kind is None:
        LOGGER.warning(
            "no row says validation, so that nothing tells when to stop training or which settings are "
            "better; `data.validation_from_train=random` draws some of train, `last` takes each user's last "
            "positive"
        )
        return events
    if kind == "random":
        train, validation, _test = options.split_fractions
        marked = engine.keep(events.mutate(_draw=draw(_joined(events, key, options))))
        draws = marked.filter(_[SPLIT] == TRAIN)._draw
        is_chosen = _._draw < quantile(engine, draws, validation / (train + validation))
    else:
        positives = events.filter((_[SPLIT] == TRAIN) & _[POSITIVE])
        marked = _since_last(engine, events, positives, num_places=1)
        is_chosen = _._since_0
    LOGGER.info("no row says validation: `data.validation_from_train=%s` takes some of train", kind)
    split = ibis.ifelse((_[SPLIT] == TRAIN) & is_chosen, VALIDATION, _[SPLIT]).cast("int8")
    return engine.keep(marked.mutate(**{SPLIT: split}).select(*events.columns))


def _predefined(engine: Engine, events: ibis.Table, column: str) -> ibis.Table:
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
        raise InputError(
            f"`data.split=predefined`: the column `{column}` must say train, validation (also valid, val, "
            f"dev) or test, found {shown}"
        )
    return events.mutate(**{SPLIT: split.cast("int8")}).drop(SPLIT_NAME)

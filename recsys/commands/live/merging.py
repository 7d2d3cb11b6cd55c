"""Raw tables of a run, with what a server's log has to add to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.prepare import raw_tables
from recsys.data.reading.rows import read_rows
from recsys.runs.trained import TrainedRun
from recsys.schema.errors import InputError
from recsys.schema.tables import ITEM_ID
from recsys.serving.catalogue import without_validity
from recsys.serving.log.interface import FeedbackLog
from recsys.serving.records import Event, NewItems
from recsys.serving.rules import NEGATIVE, Rules
from recsys.serving.served import iso_text
from recsys.serving.tables import people_of, records_of

# Of the positives that are learnt: train until the first, validation until the second.
_BOUNDARIES = (0.9, 0.97)
_PER_MICROSECOND = {"s": 1e-6, "ms": 1e-3, "us": 1.0, "ns": 1e3}


@dataclasses.dataclass(frozen=True)
class MergedTables:
    """Tables to train on, and events to judge on.

    Args:
        paths: of `interactions` and, where there are such, `users` and `items`.
        holdout: user id, item id and instant of the latest positive events, oldest first.
        histories: instants and items of the log's positives of each user, oldest first, by the id's text.
        boundaries: instants between train, validation and test for a split by time, near the end.
        position: of the log, up to which it was read.
        num_events: that were added to the interactions.
        num_items: that were added to the items.
    """

    paths: Mapping[str, Path]
    holdout: list[tuple[Any, Any, int]]
    histories: Mapping[str, list[tuple[int, Any]]]
    boundaries: tuple[str, str]
    position: int
    num_events: int
    num_items: int


def merge_tables(
    log: FeedbackLog,
    run: TrainedRun,
    folder: Path,
    *,
    rules: Rules,
    holdout_share: float,
    min_events: int,
) -> MergedTables:
    """Writes the run's tables with the log's events but for the latest positive ones.

    Args:
        log: of the server.
        run: whose tables are added to.
        folder: of the tables.
        rules: by which an event is positive.
        holdout_share: of the positive events, that are held out.
        min_events: positive events that there must be.

    Raises:
        ValueError: there are too few, or the run's tables have no users, items or times.
    """
    events, items, position = _heard(log, rules)
    positives = [event for event in events if rules.reward(event.kind, event.value) > 0]
    if len(positives) < min_events:
        raise InputError(
            f"expected at least {min_events} positive events with a user in the server's log, found "
            f"{len(positives)}; wait for more, or lower `min_events`"
        )
    cut = positives[-max(1, int(holdout_share * len(positives)))].time
    raw = raw_tables(run.data)
    columns = run.data.interactions.columns
    if columns.user_id is None or columns.item_id is None:
        raise InputError(
            "a refresh needs interactions of users with items; this run's table lacks one of them"
        )
    named = (columns.user_id, columns.item_id, columns.timestamp)
    required = [column for column in named if column is not None]
    table = read_rows(raw.interactions, required=required, optional=None, key="data.interactions.path")
    learnt = [event for event in events if event.time < cut]
    folder.mkdir(parents=True)
    paths = {"interactions": folder / "interactions.parquet"}
    pq.write_table(_appended(table, _interactions(learnt, run, table, rules)), paths["interactions"])
    paths |= {name: path for name, path in (("users", raw.users), ("items", raw.items)) if path is not None}
    if raw.items is not None and items:
        paths["items"] = folder / "items.parquet"
        pq.write_table(_with_items(raw.items, run, items), paths["items"])
    histories: dict[str, list[tuple[int, Any]]] = {}
    for event in positives:
        histories.setdefault(str(event.user_id), []).append((event.time, event.item_id))
    holdout = [(event.user_id, event.item_id, event.time) for event in positives if event.time >= cut]
    likes = [event.time for event in positives if event.time < cut]
    validation, test = (likes[min(int(share * len(likes)), len(likes) - 1)] for share in _BOUNDARIES)
    boundaries = iso_text(validation), iso_text(max(test, validation + 1))
    return MergedTables(paths, holdout, histories, boundaries, position, len(learnt), len(items))


def _heard(log: FeedbackLog, rules: Rules) -> tuple[list[Event], list[dict[str, Any]], int]:
    """Events with a user by time, each once, the items that joined, and the position read up to."""
    events: dict[str, Event] = {}
    items: dict[str, dict[str, Any]] = {}
    position = 0
    for position, record in records_of(log, 0, people_of(log)):  # noqa: B007
        if isinstance(record, Event) and record.user_id is not None:
            said = rules.reward(record.kind, record.value) > 0 or record.kind in NEGATIVE
            if said:
                events.setdefault(record.event_id, record)
        elif isinstance(record, NewItems):
            for item in record.items:
                items.setdefault(str(item[ITEM_ID]), without_validity(item))
    ordered = sorted(events.values(), key=lambda event: (event.time, str(event.user_id), str(event.item_id)))
    return ordered, list(items.values()), position


def _interactions(
    events: Sequence[Event], run: TrainedRun, table: pa.Table, rules: Rules
) -> list[dict[str, Any]]:
    columns, label = run.data.interactions.columns, run.data.label
    rows = []
    for event in events:
        positive = rules.reward(event.kind, event.value) > 0
        if label.column is None and not positive:
            continue  # every row of such a table is a positive
        row: dict[Any, Any] = {columns.user_id: event.user_id, columns.item_id: event.item_id}
        if columns.timestamp is not None:
            row[columns.timestamp] = _as_time(event.time, table.schema.field(columns.timestamp).type, run)
        if label.column is not None:
            row[label.column] = _label(run, positive)
        if columns.split is not None:
            row[columns.split] = "train"
        rows.append(row)
    return rows


def _label(run: TrainedRun, positive: bool) -> Any:
    label = run.data.label
    if label.positives:
        return label.positives[0] if positive else "not liked"
    bound = label.positive_at_least
    if isinstance(bound, int | float):
        return max(float(bound), 1.0) if positive else float(bound) - 1.0
    return 1.0 if positive else 0.0


def _as_time(microseconds: int, kind: pa.DataType, run: TrainedRun) -> Any:
    """An instant as the run's table writes them."""
    unit = run.dataset.manifest["timestamp"]["unit"]
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or unit is None:
        return iso_text(microseconds)
    number = microseconds * _PER_MICROSECOND[unit]
    return number if pa.types.is_floating(kind) else int(number)


def _appended(table: pa.Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The table with rows after it, in its own types; columns that a row lacks are null."""
    if not rows:
        return table
    columns = []
    for field in table.schema:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_timestamp(field.type):
            bare = [None if value is None else value.removesuffix("Z") for value in values]
            texts = pa.array(bare, pa.string())
            own = texts.cast(pa.timestamp("us")).cast(
                pa.timestamp(field.type.unit, field.type.tz), safe=False
            )
        elif pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            own = pa.array([None if value is None else str(value) for value in values], field.type)
        else:
            try:
                own = pa.array(values, field.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise InputError(
                    f"the log's `{field.name}` must be as in the run's table ({field.type}): {error}"
                ) from error
        columns.append(own)
    return pa.concat_tables([table, pa.table(columns, schema=table.schema)])


def _with_items(path: Path, run: TrainedRun, items: Sequence[dict[str, Any]]) -> pa.Table:
    id_column = run.data.items.id_column or run.data.interactions.columns.item_id
    assert id_column is not None
    table = read_rows(path, required=[id_column], optional=None, key="data.items.path")
    known = {str(item_id) for item_id in table[id_column].to_pylist()}
    rows = [{**item, id_column: item[ITEM_ID]} for item in items if str(item[ITEM_ID]) not in known]
    return _appended(table, rows)

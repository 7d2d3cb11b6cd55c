"""read_feedback: a LoggedFeedback table on disk -> LoggedFeedback in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.bandits.feedback import LoggedFeedback
from recsys.experiments.tables import codes_of, ids_of, numbers_of, read_table
from recsys.schema.errors import InputError
from recsys.schema.tables import JUDGES_OTHERS, KEEP_PROBABILITY


@dataclasses.dataclass(frozen=True)
class FeedbackColumns:
    """Names of the columns of LoggedFeedback in the file.

    Args:
        request_id: null where every row is a request of its own.
        timestamp: when it was shown; null where it is not known.
        user_id: whose rows depend on each other; null takes requests for independent.
        item_id: what was shown.
        position: from 1; null where every row fills the same place.
        propensity: the log's probability of showing this item in this position.
        reward: what came of it.
    """

    request_id: str | None = "request_id"
    timestamp: str | None = "timestamp"
    user_id: str | None = "user_id"
    item_id: str = "item_id"
    position: str | None = "position"
    propensity: str = "propensity"
    reward: str = "reward"


@dataclasses.dataclass(frozen=True, eq=False)
class ReadLog:
    """A log as numbers, and as the file has it.

    Args:
        feedback: the numbers.
        table: the rows of the file.
        items: [I] raw ids by code.
    """

    feedback: LoggedFeedback
    table: pa.Table
    items: pa.Array


def read_feedback(
    path: Path, columns: FeedbackColumns, *, further: Sequence[str] = (), key: str = "log"
) -> ReadLog:
    """Reads a log and checks it.

    Columns for request, user, timestamp and position may be missing where nothing needs them: then every row
    is a request, or request, or place of its own; the defaults are used where the file has them.

    Args:
        path: CSV or Parquet, a file or a folder.
        columns: what they are called.
        further: more columns to read, if they are there.
        key: that named the path.

    Raises:
        ValueError: naming column and row of what is missing or cannot be; an item twice in a place.
    """
    defaults = FeedbackColumns()
    required = [columns.item_id, columns.propensity, columns.reward]
    optional = [*further, JUDGES_OTHERS, KEEP_PROBABILITY]
    for name in ("request_id", "timestamp", "user_id", "position"):
        given = getattr(columns, name)
        if given is not None:
            (optional if given == getattr(defaults, name) else required).append(given)
    table = read_table(path, required=required, optional=optional, key=key)

    def there(name: str | None) -> bool:
        return name is not None and name in table.column_names

    num_rows = table.num_rows
    [items_N], items = codes_of(ids_of(table, columns.item_id, key=key))
    requests_N = np.arange(num_rows)
    if there(columns.request_id):
        [requests_N], _ = codes_of(ids_of(table, str(columns.request_id), key=key))
    clusters_N = requests_N
    if there(columns.user_id):
        [clusters_N], _ = codes_of(ids_of(table, str(columns.user_id), key=key))
    positions = np.ones(num_rows)
    if there(columns.position):
        positions = numbers_of(table, str(columns.position), key=key)
    _check_judges(table, path, key)
    _check_kept(table, path, key)
    whole = np.isfinite(positions) & (positions == np.floor(positions))
    feedback = LoggedFeedback(
        rewards_N=numbers_of(table, columns.reward, key=key),
        propensities_N=numbers_of(table, columns.propensity, key=key),
        items_N=items_N,
        positions_N=np.where(whole, positions, 0).astype(np.int64),
        requests_N=requests_N,
        clusters_N=clusters_N,
        source=f"`{key}={path}`",
    )
    _check_places(feedback)
    return ReadLog(feedback, table, items)


def _check_judges(table: pa.Table, path: Path, key: str) -> None:
    """Raises where the log's policy left nothing to chance, and so can judge no other."""
    if JUDGES_OTHERS not in table.column_names:
        return
    certain = int(pc.sum(pc.invert(table[JUDGES_OTHERS])).as_py() or 0)
    if certain:
        raise InputError(
            f"`{key}={path}`: expected rows of a policy that leaves something to chance, found {certain} of "
            f"{table.num_rows} rows whose `{JUDGES_OTHERS}` is false: a greedy policy or an upper confidence "
            "bound shows one list for certain, and its log cannot say what another list would have earned; "
            "log a policy such as softmax or thompson, or leave those rows out"
        )


def _check_kept(table: pa.Table, path: Path, key: str) -> None:
    """Raises where lists were kept with different probabilities, which no estimator here weighs."""
    if KEEP_PROBABILITY not in table.column_names or not table.num_rows:
        return
    least, most = (one.as_py() for one in pc.min_max(table[KEEP_PROBABILITY]).values())
    if least != most:
        raise InputError(
            f"`{key}={path}`: expected one `{KEEP_PROBABILITY}` throughout, found {least:g} to {most:g}: "
            "lists that are kept more often would count for too much; write the log with one `keep`"
        )


def _check_places(feedback: LoggedFeedback) -> None:
    """Raises where one position of one request was filled twice."""
    keys = feedback.requests_N * (int(feedback.positions_N.max()) + 1) + feedback.positions_N
    order = np.argsort(keys, kind="stable")
    twice = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(twice):
        row = int(order[twice[0] + 1])
        raise InputError(
            f"{feedback.source}: expected one item in each position of a request, found position "
            f"{feedback.positions_N[row]} filled again in row {row + 1} ({len(twice)} such rows); name the "
            "columns "
            "by `columns.request_id` and `columns.position`, or set them to null where every row is a request"
        )

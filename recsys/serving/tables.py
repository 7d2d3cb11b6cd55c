"""The feedback log as tables: interactions, logged feedback and request features.

    interactions.parquet      a row an event: who, what, when, kind, value, reward, request and session
    logged_feedback.parquet   a row a shown item, as `recsys off-policy` reads it, with what came of it
    features.parquet          a row a request: what was known when it was answered

What came of an item is the best of its events within the attribution window after its list. People who were
forgotten are in none of the tables, and a repeated event is there once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.bandits.acting.choice import Candidates
from recsys.bandits.acting.policies import make_policy
from recsys.schema import tables
from recsys.schema.disk import replacing_folder
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_json
from recsys.serving.log.interface import FeedbackLog
from recsys.serving.records import Event, Forget, Id, Record, Request, decode, hash_of, user_of
from recsys.serving.rules import HOUR, Rules
from recsys.serving.state import of_its_reader

_BATCH = 10_000
_ROW_GROUP = 100_000
_FILES = ("interactions", "logged_feedback", "features")
TARGET, TARGET_GIVEN_ABOVE = "target_propensity", "target_given_above"


@dataclasses.dataclass(frozen=True)
class Target:
    """A policy that did not run, whose probabilities of what was shown are written beside the log's.

    Args:
        policy: `softmax` or `epsilon`.
        policy_parameters: of it.
    """

    policy: str
    policy_parameters: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not hasattr(make_policy(self.policy, self.policy_parameters), "judge"):
            raise InputError(
                "`target.policy` must be softmax or epsilon, whose probabilities follow from logged scores, "
                f"got `{self.policy}`"
            )


def write_tables(
    log: FeedbackLog,
    out: Path,
    *,
    rules: Rules,
    after: int = 0,
    policy: str | None = None,
    target: Target | None = None,
    keep: float = 1.0,
) -> Path:
    """Writes the tables of a log to a folder, which is put in place when complete.

    Args:
        log: to read.
        out: the folder.
        rules: kinds, weights and the attribution window.
        after: position of the log after which to begin; that of an earlier export is in its `log.json`.
        policy: whose lists are in `logged_feedback`; None: all, shadows excepted.
        target: another policy, for whose probabilities there are two more columns.
        keep: probability with which a list is kept, the same one each time; in a column of its own.

    Raises:
        ValueError: there is nothing after that position.
    """
    people = people_of(log)
    rewards, rows_of_events = _rewards(log, rules, people)
    with replacing_folder(out) as folder:
        position = after
        writers = {name: _Writer(folder / f"{name}.parquet") for name in _FILES}
        for position, record in records_of(log, after, people):
            if isinstance(record, Event) and position in rows_of_events:
                writers["interactions"].add(_interaction(record, rules))
            elif isinstance(record, Request) and not record.shadow and _is_kept(record, keep):
                record = msgspec.structs.replace(record, keep_probability=record.keep_probability * keep)
                writers["features"].add(_features(record))
                if policy in (None, record.policy):
                    for row in _shown(record, rewards.get(record.request_id, {}), target):
                        writers["logged_feedback"].add(row)
        if not any(writer.num_rows for writer in writers.values()):
            raise InputError(f"expected requests or events in the log after position {after}, found none")
        counts = {name: writer.close() for name, writer in writers.items()}
        manifest = {"position": position, "rows": counts, "attribution_hours": rules.attribution_hours}
        write_json(folder / "log.json", manifest)
    return out


def _is_kept(request: Request, keep: float) -> bool:
    """Whether chance keeps a list, by its id: of two samples the larger holds the smaller."""
    return int(hash_of(request.request_id)[:13], 16) < keep * 2**52


@dataclasses.dataclass(frozen=True)
class People:
    """Whose the records of a log are.

    Args:
        forgotten: position up to which a user is to be left out, by digest.
        lists: of events that name nobody, by request.
    """

    forgotten: Mapping[str, int]
    lists: Mapping[str, Request]


def people_of(log: FeedbackLog) -> People:
    """Reads a log for whose its records are; an event that overtook its list names nobody by itself."""
    forgotten: dict[str, int] = {}
    nameless: set[str] = set()
    for position, record in read_log(log):
        if isinstance(record, Forget):
            forgotten[record.user_hash] = position
        elif isinstance(record, Event) and record.is_nameless and record.request_id is not None:
            nameless.add(record.request_id)
    lists = {}
    if nameless:
        requests = (record for _, record in read_log(log) if isinstance(record, Request))
        lists = {one.request_id: one for one in requests if one.request_id in nameless and not one.shadow}
    return People(forgotten, lists)


def _rewards(log: FeedbackLog, rules: Rules, people: People) -> tuple[dict[str, dict[str, float]], set[int]]:
    """Rewards by request and item, and the positions of events that are not repeated."""
    times: dict[str, int] = {}
    events: list[tuple[str, str, int, float]] = []
    seen: set[str] = set()
    first: set[int] = set()
    for position, record in records_of(log, 0, people):
        if isinstance(record, Request):
            times[record.request_id] = record.time
        elif isinstance(record, Event) and record.event_id not in seen:
            seen.add(record.event_id)
            first.add(position)
            if record.request_id is not None:
                reward = rules.reward(record.kind, record.value)
                events.append((record.request_id, str(record.item_id), record.time, reward))
    window = int(rules.attribution_hours * HOUR)
    rewards: dict[str, dict[str, float]] = {}
    for request_id, item_id, time, reward in events:
        shown = times.get(request_id)
        if shown is not None and time <= shown + window:
            own = rewards.setdefault(request_id, {})
            own[item_id] = max(own.get(item_id, 0.0), reward)
    return rewards, first


def records_of(log: FeedbackLog, after: int, people: People) -> Iterator[tuple[int, Record]]:
    """Records of people who are not to be forgotten, each with its reader."""
    for position, record in read_log(log, after):
        if isinstance(record, Event):
            record = of_its_reader(record, people.lists)
        user_id = user_of(record)
        if user_id is None or people.forgotten.get(hash_of(user_id), 0) < position:
            yield position, record


def read_log(log: FeedbackLog, after: int = 0) -> Iterator[tuple[int, Record]]:
    """Records of a log, with their positions."""
    while batch := log.read(after, limit=_BATCH):
        for position, content in batch:
            yield position, decode(content)
        after = batch[-1][0]


def _interaction(event: Event, rules: Rules) -> dict[str, Any]:
    return {
        tables.USER_ID: event.user_id,
        tables.ITEM_ID: event.item_id,
        tables.TIMESTAMP: event.time,
        "event": event.kind,
        "value": event.value,
        tables.REWARD: rules.reward(event.kind, event.value),
        tables.REQUEST_ID: event.request_id,
        "session": event.session,
    }


def _features(request: Request) -> dict[str, Any]:
    given = {f"user.{name}": value for name, value in request.user.items() if name != tables.USER_ID}
    given |= {f"context.{name}": value for name, value in request.context.items()}
    return {
        tables.REQUEST_ID: request.request_id,
        tables.USER_ID: request.user_id,
        tables.TIMESTAMP: request.time,
        "session": request.session,
        "bundle": request.bundle,
        "rung": request.rung,
        "degraded": request.degraded,
        "history_length": request.history_length,
        "num_candidates": request.num_candidates,
        **{
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name, value in given.items()
        },
    }


def _shown(request: Request, rewards: Mapping[str, float], target: Target | None) -> Iterator[dict[str, Any]]:
    judged = _judged(request, target)
    for position, item in enumerate(request.items, start=1):
        yield {
            tables.REQUEST_ID: request.request_id,
            tables.TIMESTAMP: request.time,
            tables.USER_ID: _unit(request),
            tables.ITEM_ID: item.item_id,
            tables.POSITION: position,
            tables.PROPENSITY: item.propensity,
            tables.PROPENSITY_GIVEN_ABOVE: item.propensity_given_above,
            tables.REWARD: rewards.get(str(item.item_id), 0.0),
            tables.SCORE: item.score,
            "source": item.source,
            "policy": request.policy,
            tables.ARM: request.arm,
            tables.JUDGES_OTHERS: request.judges_others,
            tables.KEEP_PROBABILITY: request.keep_probability,
            "bundle": request.bundle,
            **{name: float(values[position - 1]) for name, values in judged.items()},
        }


def _unit(request: Request) -> Id:
    """Whose lists depend on each other: a user's, else a session's, else the request alone."""
    if request.user_id is not None:
        return request.user_id
    return f"request {request.request_id}" if request.session is None else f"session {request.session}"


def _judged(request: Request, target: Target | None) -> dict[str, Any]:
    """The target's probabilities of what was shown, marginal and given those above."""
    if target is None:
        return {}
    if len(request.candidates) != request.num_candidates:
        raise InputError(
            f"`target` needs the scores of all candidates, and request {request.request_id} had "
            f"{request.num_candidates} of them, logged by a digest alone; serve with `log_candidates` as "
            "large as that"
        )
    places = {str(one): place for place, one in enumerate(request.candidates)}
    chosen_K = np.array([places[str(item.item_id)] for item in request.items], dtype=np.int64)
    scores_N = np.array(request.candidate_scores)
    policy: Any = make_policy(target.policy, target.policy_parameters)
    choice = policy.judge(Candidates(scores_N, means_N=scores_N), chosen_K)
    return {TARGET: choice.propensities_K, TARGET_GIVEN_ABOVE: choice.given_above_K}


class _Writer:
    """Writes rows to a Parquet file, a group at a time; columns are those of the first group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, Any]] = []
        self._parts: list[pa.Table] = []
        self.num_rows = 0

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row."""
        self._rows.append(row)
        self.num_rows += 1
        if len(self._rows) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            names = list(dict.fromkeys(name for row in self._rows for name in row))
            columns = {name: _column(name, [row.get(name) for row in self._rows]) for name in names}
            self._parts.append(pa.table(columns))
            self._rows = []

    def close(self) -> int:
        """Writes the file; how many rows it has."""
        self._flush()
        if self._parts:
            pq.write_table(_together(self._parts), self._path)
        return self.num_rows


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    if name == tables.TIMESTAMP:
        return pa.array(values, pa.timestamp("us", tz="UTC"))
    present = [value for value in values if value is not None]
    if name in (tables.USER_ID, tables.ITEM_ID):
        return _ids(values)
    if len({type(value) for value in present}) > 1:
        numbers = all(isinstance(value, int | float) for value in present)
        return pa.array([value if numbers or value is None else str(value) for value in values])
    if not present:
        return pa.array(values, pa.float64() if name in ("value", tables.REWARD) else pa.string())
    return pa.array(values)


def _ids(values: Sequence[Id | None]) -> pa.Array:
    """Whole numbers where all are, in whichever form they were given; else text."""
    try:
        return pa.array([None if value is None else int(value) for value in values], pa.int64())
    except ValueError:
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _together(parts: Sequence[pa.Table]) -> pa.Table:
    """One table; a column that is text in one part is text in all."""
    texts = {field.name for part in parts for field in part.schema if pa.types.is_string(field.type)}
    return pa.concat_tables([_as_text(part, texts) for part in parts], promote_options="permissive")


def _as_text(part: pa.Table, names: set[str]) -> pa.Table:
    for name in names & set(part.column_names):
        part = part.set_column(part.column_names.index(name), name, part[name].cast(pa.string()))
    return part

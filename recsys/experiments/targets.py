"""read_target: how the policy to be judged is given: by name, a column of the log, or a table of its own.

uniform                                      every item the log has ever shown, with the same probability
a column of the log                          the target's probability of what the row shows
FILE with item_id, probability               the same for everybody; position, where there are several
FILE with request_id, item_id, probability   for each request; position, where there are several
FILE with user_id, timestamp, rank, item_id  Recommendations: rank n is shown in position n, for certain
FILE with the log's own columns              another policy's log: shares of what it showed, by position
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.bandits.estimates import Floats
from recsys.bandits.feedback import Codes
from recsys.bandits.policies import TargetPolicy, probabilities_of, uniform_policy
from recsys.experiments.feedback import FeedbackColumns, ReadLog
from recsys.experiments.tables import codes_of, ids_of, numbers_of, read_table
from recsys.schema.errors import InputError
from recsys.schema.places import at_home
from recsys.schema.tables import ITEM_ID, POSITION, PROBABILITY, RANK, REQUEST_ID, TIMESTAMP, USER_ID

UNIFORM = "uniform"
_KEY = "policy"


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """The target policy, for the rows of a log.

    Args:
        description: in a few words.
        probabilities_N: [N] of what each row of the log shows.
        policy: its probabilities of everything; None where a column of the log is all there is.
    """

    description: str
    probabilities_N: Floats
    policy: TargetPolicy | None


def read_target(policy: str, log: ReadLog, columns: FeedbackColumns) -> Target:
    """The target for the rows of a log.

    Args:
        policy: the key of the command.
        log: what was logged.
        columns: of the log.

    Raises:
        ValueError: there is no such policy, or its table does not fit the log, naming what does not.
    """
    if policy == UNIFORM:
        made = uniform_policy(log.feedback)
        return Target("uniform over the items of the log", probabilities_of(made, log.feedback), made)
    if policy in log.table.column_names:
        return Target(f"the log's column {policy}", numbers_of(log.table, policy, key="log"), None)
    if not at_home(policy).exists():
        raise InputError(
            f"`policy={policy}`: expected `uniform`, a column of the log or a table, found no such column in "
            f"{log.feedback.source} and no such file; give one of them"
        )
    made = _read_policy(at_home(policy), log, columns)
    return Target(policy, probabilities_of(made, log.feedback), made)


def _read_policy(path: Path, log: ReadLog, columns: FeedbackColumns) -> TargetPolicy:
    known = [REQUEST_ID, USER_ID, TIMESTAMP, POSITION, RANK, PROBABILITY]
    logged = [columns.propensity, columns.reward]
    table = read_table(path, required=[ITEM_ID], optional=[*known, *logged], key=_KEY)
    if not {PROBABILITY, RANK} & set(table.column_names) and set(logged) <= set(table.column_names):
        table = _shares_of(table)
    has = set(table.column_names)
    num_rows = table.num_rows
    probabilities_T = numbers_of(table, PROBABILITY, key=_KEY) if PROBABILITY in has else np.ones(num_rows)
    if PROBABILITY not in has and RANK not in has:
        raise InputError(
            f"`policy={path}`: expected `{PROBABILITY}`, or `{RANK}` of recommended lists, beside "
            f"`{ITEM_ID}`, or the columns of a log; found {', '.join(table.column_names)}"
        )
    place = POSITION if POSITION in has else RANK if RANK in has else None
    positions_N = log.feedback.positions_N
    if place is None and positions_N.max() > 1:
        raise InputError(
            f"`policy={path}`: the log has positions 1 to {positions_N.max()}; expected a column "
            f"`{POSITION}` "
            f"beside `{PROBABILITY}`, found none; say with which probability an item is shown where"
        )
    positions_T = np.ones(num_rows) if place is None else numbers_of(table, place, key=_KEY)
    asked_T, asked_N, names = _askers(table, path, log=log, columns=columns)
    [_, items_T], _ = codes_of(log.items, ids_of(table, ITEM_ID, key=_KEY))
    if np.isnan(positions_T).any():
        row = int(np.isnan(positions_T).argmax()) + 1
        raise InputError(
            f"`{place}` of `policy={path}`: expected a number, found none in row {row}; give one"
        )
    return _policy_of(
        (asked_T, positions_T.astype(np.int64)),
        (asked_N, positions_N),
        names=names,
        items_T=items_T,
        probabilities_T=probabilities_T,
        path=path,
    )


def _shares_of(log: pa.Table) -> pa.Table:
    """Shares of the items that a policy showed in each position: unbiased for its mix over its log.

    The mean of its logged propensities is none, because an item is logged most when its propensity is high.
    """
    by = [POSITION, ITEM_ID] if POSITION in log.column_names else [ITEM_ID]
    shown = log.group_by(by).aggregate([([], "count_all")]).to_pandas()
    totals = (
        shown.groupby(POSITION)["count_all"].transform("sum") if len(by) > 1 else shown["count_all"].sum()
    )
    shown[PROBABILITY] = shown["count_all"] / totals
    return pa.Table.from_pandas(shown[[*by, PROBABILITY]], preserve_index=False)


def _askers(
    table: pa.Table, path: Path, *, log: ReadLog, columns: FeedbackColumns
) -> tuple[Codes, Codes, pa.Array]:
    """For whom each row of the policy and of the log is: requests, or users at an instant, or everybody."""
    pairs = ((REQUEST_ID, columns.request_id), (USER_ID, columns.user_id), (TIMESTAMP, columns.timestamp))
    given = [(ours, theirs) for ours, theirs in pairs if ours in table.column_names]
    if REQUEST_ID in table.column_names:
        given = given[:1]
    given = [
        (ours, theirs) for ours, theirs in given if ours != TIMESTAMP or table[TIMESTAMP].null_count == 0
    ]
    if not given:
        zeros = np.zeros(table.num_rows, dtype=np.int64)
        return zeros, np.zeros(log.table.num_rows, dtype=np.int64), pa.array(["everybody"])
    absent = [ours for ours, theirs in given if theirs not in log.table.column_names]
    if absent:
        raise InputError(
            f"`policy={path}` is told apart by `{absent[0]}`, which {log.feedback.source} lacks; found "
            f"there: {', '.join(log.table.column_names)}; name the log's column by `columns.{absent[0]}`"
        )
    names = pa.array([""])
    asked_T = np.zeros(table.num_rows, dtype=np.int64)
    asked_N = np.zeros(log.table.num_rows, dtype=np.int64)
    for ours, theirs in given:
        [more_T, more_N], names = codes_of(
            ids_of(table, ours, key=_KEY), ids_of(log.table, str(theirs), key="log")
        )
        both = np.concatenate([asked_T, asked_N]) * len(names) + np.concatenate([more_T, more_N])
        _, first, both = np.unique(both, return_index=True, return_inverse=True)
        asked_T, asked_N = both[: table.num_rows], both[table.num_rows :]
        names = names.take(pa.array(np.concatenate([more_T, more_N])[first]))
    return asked_T, asked_N, names


def _policy_of(
    of_entries: tuple[Codes, Codes],
    of_log: tuple[Codes, Codes],
    *,
    names: pa.Array,
    items_T: Codes,
    probabilities_T: Floats,
    path: Path,
) -> TargetPolicy:
    """Entries and logged rows by asker and position -> contexts; what is not asked in the log falls away."""
    deepest = int(max(of_entries[1].max(), of_log[1].max())) + 1
    keys_T, keys_N = (asked * deepest + positions for asked, positions in (of_entries, of_log))
    keys_K, contexts_N = np.unique(keys_N, return_inverse=True)
    lacking = np.flatnonzero(~np.isin(keys_K, keys_T))
    if len(lacking):
        asker, position = divmod(int(keys_K[lacking[0]]), deepest)
        raise InputError(
            f"`policy={path}`: expected what the policy shows in every request and position of the log, "
            "found "
            f"nothing for `{names[asker]}` in position {position} ({len(lacking)} of {len(keys_K)}); add "
            "rows for them"
        )
    kept = np.isin(keys_T, keys_K)
    labels = np.array([f"`{names[int(key // deepest)]}` in position {key % deepest}" for key in keys_K])
    return TargetPolicy(
        contexts_N=contexts_N.astype(np.int64),
        positions_K=keys_K % deepest,
        contexts_T=np.searchsorted(keys_K, keys_T[kept]),
        items_T=items_T[kept],
        probabilities_T=probabilities_T[kept],
        names_K=labels,
    )

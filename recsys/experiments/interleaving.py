"""make: two runs' lists -> interleaved lists. read: what was clicked in them -> which run is preferred."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.bandits.feedback import Codes
from recsys.bandits.interleaving import NO_ITEM, preference, team_draft
from recsys.experiments.findings import Findings, LogStudy, bounds_text, outcome_of, write_findings
from recsys.experiments.tables import codes_of, ids_of, numbers_of, read_table
from recsys.report.charts import Series, dot_chart
from recsys.report.pages import piece
from recsys.schema.errors import InputError
from recsys.schema.tables import ITEM_ID, RANK, REQUEST_ID, REWARD, TEAM, TIMESTAMP, USER_ID

TEAMS = ("a", "b")


@dataclasses.dataclass(frozen=True)
class MakeConfig:
    """Every key of `recsys interleave make`.

    Args:
        a: a run with an evaluation, or a Recommendations table.
        b: the other one, for the same requests.
        k: length of the interleaved lists.
        seed: of the draws.
        folder: of the station; null: `interleaving` below or beside `a`.
    """

    a: Path
    b: Path
    k: int = 10
    seed: int = 0
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"`k` must be at least 1, got {self.k}")


@dataclasses.dataclass(frozen=True)
class ReadConfig(LogStudy):
    """Every key of `recsys interleave read`.

    Args:
        log: a row per shown item: request_id, user_id (else requests are independent), team `a` or `b`,
            reward.
    """


def make(config: MakeConfig, composed: Mapping[str, Any]) -> Path:
    """Writes the station with `interleaved.parquet`, a row per item of the lists, and returns its folder."""
    tables = [_lists(path, key) for path, key in ((config.a, "a"), (config.b, "b"))]
    by_time = all(TIMESTAMP in table.column_names and not table[TIMESTAMP].null_count for table in tables)

    def codes(column: str) -> tuple[list[Codes], pa.Array]:
        return codes_of(*(ids_of(table, column, key=key) for table, key in zip(tables, TEAMS, strict=True)))

    users, _ = codes(USER_ID)
    instants = codes(TIMESTAMP)[0] if by_time else [np.zeros_like(user) for user in users]
    both = np.concatenate(users) * (int(np.concatenate(instants).max()) + 1) + np.concatenate(instants)
    _, first, requests = np.unique(both, return_index=True, return_inverse=True)
    of_a, of_b = np.split(requests, [tables[0].num_rows])
    common = np.intersect1d(of_a, of_b)
    if not len(common):
        raise InputError(
            f"expected lists for the same requests in `a={config.a}` and `b={config.b}`, found none in "
            f"common by {'user and time' if by_time else 'user'}; evaluate both runs on the same split"
        )
    items, item_ids = codes(ITEM_ID)
    ranks = [_ranks(table, key) for table, key in zip(tables, TEAMS, strict=True)]
    lists = np.full((2, len(first), max(rank.max() for rank in ranks)), NO_ITEM, dtype=np.int64)
    for side, columns in enumerate(zip((of_a, of_b), ranks, items, strict=True)):
        lists[side, columns[0], columns[1] - 1] = columns[2]
    drawn, teams = team_draft(lists[0, common], lists[1, common], k=config.k, seed=config.seed)
    row, place = np.nonzero(drawn != NO_ITEM)
    sources = pa.concat_tables(
        [table.select([USER_ID, TIMESTAMP] if by_time else [USER_ID]) for table in tables]
    )
    asked = sources.take(pa.array(first[common][row]))
    interleaved = pa.table(
        {
            REQUEST_ID: pa.array(row.astype(np.int64)),
            **{name: asked[name] for name in asked.column_names},
            RANK: pa.array((place + 1).astype(np.int32)),
            ITEM_ID: item_ids.take(pa.array(drawn[row, place])),
            TEAM: pa.array(np.array(TEAMS)[teams[row, place]]),
        }
    )
    return _write_made(
        config, composed, interleaved=interleaved, counts=(len(common), len(first) - len(common))
    )


def _write_made(
    config: MakeConfig, composed: Mapping[str, Any], *, interleaved: pa.Table, counts: tuple[int, int]
) -> Path:
    common, left = counts
    shares = [float(np.mean(np.asarray(interleaved[TEAM]) == team)) for team in TEAMS]
    findings = Findings(
        title="Interleaved lists",
        sentence=f"{common:,} lists of up to {config.k} items, {shares[0]:.1%} of them picked by a; show "
        "them, log "
        f"`{REQUEST_ID}`, `{TEAM}` and `{REWARD}` of every item, and read them with `interleave read "
        "log=FILE`.",
        outcome="open",
        warnings=[f"{left:,} requests have a list of one side only and are left out."] if left else [],
        figures={
            "command": "make",
            "a": str(config.a),
            "b": str(config.b),
            "requests": common,
            "left_out": left,
        },
        tables={"interleaved": interleaved},
        parts=[piece("facts", {"a": str(config.a), "b": str(config.b)})],
    )
    near = config.a if config.a.is_dir() else config.a.parent
    return write_findings("interleaving", findings, folder=config.folder, near=near, config=composed)


def read(config: ReadConfig, composed: Mapping[str, Any]) -> Path:
    """Writes the station that says which side is preferred, and returns its folder."""
    table = read_table(config.log, required=[REQUEST_ID, TEAM, REWARD], optional=[USER_ID], key="log")
    teams = np.asarray(ids_of(table, TEAM, key="log").to_pylist())
    bad = np.flatnonzero(~np.isin(teams, TEAMS))
    if len(bad):
        raise InputError(
            f"`{TEAM}` of `log={config.log}`: expected `a` or `b`, found `{teams[bad[0]]}` in row "
            f"{bad[0] + 1}; log the team of the interleaved list"
        )
    [requests], _ = codes_of(ids_of(table, REQUEST_ID, key="log"))
    users = requests
    if USER_ID in table.column_names:
        [users], _ = codes_of(ids_of(table, USER_ID, key="log"))
    rewards = numbers_of(table, REWARD, key="log")
    if not np.isfinite(rewards).all():
        row = int((~np.isfinite(rewards)).argmax()) + 1
        raise InputError(
            f"`{REWARD}` of `log`: expected a number in every row, found none in row {row}; log 0 for none"
        )
    credits = [np.bincount(requests, weights=rewards * (teams == team)).astype(np.float64) for team in TEAMS]
    _, first = np.unique(requests, return_index=True)
    made = preference(credits[0], credits[1], users[first])
    preferred = (made.value, made.interval(config.confidence), made.p_value())
    return _write_read(config, composed, credits=credits, preferred=preferred)


def _write_read(
    config: ReadConfig,
    composed: Mapping[str, Any],
    *,
    credits: list[np.ndarray],
    preferred: tuple[float, tuple[float, float] | None, float | None],
) -> Path:
    value, interval, p_value = preferred
    wins = {"a": int((credits[0] > credits[1]).sum()), "b": int((credits[1] > credits[0]).sum())}
    wins["ties"] = len(credits[0]) - wins["a"] - wins["b"]
    outcome = outcome_of(interval)
    said = {"better": "a is preferred", "worse": "b is preferred"}.get(outcome, "a and b are not told apart")
    findings = Findings(
        title="Which list is preferred",
        sentence=f"By team-draft interleaving {said}: a wins {wins['a']:,} of {len(credits[0]):,} requests, "
        f"b {wins['b']:,}; the difference is {value:+.4f} ({config.confidence:.0%} interval "
        f"{bounds_text(interval)}).",
        outcome=outcome,
        warnings=[],
        figures={
            "command": "read",
            "log": str(config.log),
            "wins": wins,
            "preference": {"value": value, "interval": interval, "p_value": p_value},
        },
        tables={"requests": pa.table({"a": credits[0], "b": credits[1]})},
        parts=[
            dot_chart(
                "Wins of a less wins of b", [Series("a over b", 0, [value], [interval])], from_zero=True
            )
        ],
    )
    return write_findings(
        "interleaving", findings, folder=config.folder, near=config.log.parent, config=composed
    )


def _lists(path: Path, key: str) -> pa.Table:
    inside = path / "evaluation" / "recommendations.parquet"
    if (path / "config.yaml").is_file() and not inside.is_file():
        raise InputError(
            f"expected a run with recommended lists for `{key}`, found no `{inside.relative_to(path)}` in "
            f"`{path}`; `python evaluate.py run={path}` makes one; ranking models make none"
        )
    return read_table(
        inside if inside.is_file() else path, required=[USER_ID, RANK, ITEM_ID], optional=[TIMESTAMP], key=key
    )


def _ranks(table: pa.Table, key: str) -> Codes:
    ranks = numbers_of(table, RANK, key=key)
    bad = np.flatnonzero(~(ranks >= 1))
    if len(bad):
        raise InputError(
            f"`{RANK}` of `{key}`: expected ranks from 1, found {ranks[bad[0]]:g} in row {bad[0] + 1}"
        )
    return ranks.astype(np.int64)

"""plan: a log -> how many users and days a pilot needs to find a lift."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.bandits.pilots import PilotAim, PilotPlan, plan_pilot
from recsys.experiments.findings import Findings, LogStudy, html_table, write_findings
from recsys.experiments.tables import codes_of, days_of, ids_of, numbers_of, read_table
from recsys.report.charts import Series, line_chart
from recsys.report.pages import piece
from recsys.schema.errors import InputError
from recsys.schema.tables import REWARD, TIMESTAMP, USER_ID

# Weekdays differ, so a pilot runs for whole weeks.
_WEEK = 7


@dataclasses.dataclass(frozen=True)
class PilotColumns:
    """Names of the columns of a log with a row a request.

    Args:
        user_id: whom chance assigns.
        timestamp: when.
        reward: what came of the request.
    """

    user_id: str = USER_ID
    timestamp: str = TIMESTAMP
    reward: str = REWARD


@dataclasses.dataclass(frozen=True)
class PlanConfig(LogStudy):
    """Every key of `recsys pilot plan`.

    Args:
        log: events as they were before: a row a request, user, instant and reward.
        lift: relative change of the reward a request that the pilot should find, 0.02 for two percent.
        power: probability of finding it.
        confidence: 1 minus the probability of finding one that is not there.
        num_arms: of equal size, the control included.
        share: of all users, that take part.
        columns: what the log's columns are called.
    """

    lift: float
    power: float = 0.8
    num_arms: int = 2
    share: float = 1.0
    columns: PilotColumns = dataclasses.field(default_factory=PilotColumns)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.power < 1:
            raise InputError(f"`power` must lie between 0 and 1, got {self.power}")
        if self.lift == 0:
            raise InputError(
                "`lift` must not be 0, got 0; give the smallest change worth having, such as 0.02"
            )
        if self.num_arms < 2:
            raise InputError(
                f"`num_arms` must be at least 2, got {self.num_arms}; the control is one of them"
            )
        if not 0 < self.share <= 1:
            raise InputError(f"`share` must lie in (0, 1], got {self.share}")


def plan(config: PlanConfig, composed: Mapping[str, Any]) -> Path:
    """Writes the plan's station and returns its folder."""
    names = config.columns
    table = read_table(config.log, required=[names.user_id, names.timestamp, names.reward], key="log")
    [users_N], _ = codes_of(ids_of(table, names.user_id, key="log"))
    rewards_N = complete_numbers(table, names.reward)
    aim = PilotAim(config.lift, config.power, config.confidence, config.num_arms, config.share)
    made = plan_pilot(rewards_N, users_N, days_of(table, names.timestamp, key="log"), aim=aim)
    findings = _planned(config, made)
    return write_findings("pilot", findings, folder=config.folder, near=config.log.parent, config=composed)


def _planned(config: PlanConfig, made: PilotPlan) -> Findings:
    weeks = None if made.duration_days is None else math.ceil(made.duration_days / _WEEK)
    at = min(made.duration_days or len(made.days), len(made.days)) - 1
    if weeks is None:
        answer = "The log's traffic never brings enough users: new ones have stopped coming"
    else:
        how = "as seen in the log" if made.in_log else "if users go on coming as at the log's end"
        whole = weeks * _WEEK
        answer = (
            f"Run for {whole} days ({made.duration_days} would do, {how}; whole weeks, as weekdays differ)"
        )
    sentence = (
        f"{answer}: finding a lift of {config.lift:+.2%} of a reward of {made.rewards[at]:.4g} a request "
        f"with power {config.power:.0%} needs {made.needed[at]:,} users in each of {config.num_arms} arms."
    )
    figures = {"log": str(config.log), "command": "plan", "weeks": weeks, **dataclasses.asdict(made)}
    days = [str(day) for day in made.days]
    detectable = [100 * lift if math.isfinite(lift) else None for lift in made.detectable]
    figures["detectable"] = [lift if math.isfinite(lift) else None for lift in made.detectable]
    table = pa.table(
        {key: figures[key] for key in ("days", "users", "rewards", "needed", "detectable", "inflation")}
    )
    chart = line_chart(
        "Smallest lift that can be found (%)",
        days,
        [Series("lift", 0, detectable)],
        axis="days",
        from_zero=True,
    )
    rows = [
        [
            str(row["days"]),
            f"{row['users']:,}",
            f"{row['needed']:,}",
            percent_text(row["detectable"]),
            f"{row['inflation']:.2f}",
        ]
        for row in table.to_pylist()
    ]
    headings = [
        "days",
        "users met",
        "needed in each arm",
        "smallest lift",
        "variance over independent requests",
    ]
    return Findings(
        title="Plan of a pilot",
        sentence=sentence,
        outcome="open",
        warnings=[]
        if made.in_log
        else ["The duration lies beyond the log: what it says of later days is extended."],
        figures=figures,
        tables={"days": table},
        parts=[piece("charts", [chart]), html_table(headings, rows)],
    )


def complete_numbers(table: pa.Table, column: str) -> np.ndarray:
    """A column of numbers of a log.

    Raises:
        ValueError: one is missing, by row.
    """
    values = numbers_of(table, column, key="log")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"`{column}` of `log`: expected a number in every row, found none in row {bad[0] + 1} "
            f"({len(bad)} of {len(values)} rows); log 0 where nothing came of a request"
        )
    return values


def percent_text(value: float | None) -> str:
    """A share with its sign, in percent, or a dash."""
    return "-" if value is None else f"{value:+.2%}"

"""read: the log of a pilot -> what it says, and whether it is to be trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from recsys.bandits.estimates import Estimate
from recsys.bandits.feedback import Codes
from recsys.bandits.pilots import compare_arms, daily_trend, sample_ratio_p_value
from recsys.experiments.findings import (
    Findings,
    LogStudy,
    bounds_text,
    figure_of,
    html_table,
    outcome_of,
    write_findings,
)
from recsys.experiments.pilot_plan import PilotColumns, complete_numbers, percent_text
from recsys.experiments.tables import codes_of, days_of, ids_of, read_table
from recsys.report.charts import Series, line_chart
from recsys.report.pages import piece
from recsys.schema.errors import InputError
from recsys.schema.tables import ARM

# Users by arm that are less likely than this under the planned shares: something is broken.
_MISMATCH = 0.001


@dataclasses.dataclass(frozen=True)
class Guardrail:
    """A column that must not get worse.

    Args:
        column: of the pilot's log.
        good: the direction in which it is better.
        margin: relative harm that is still acceptable, 0.01 for one percent.
    """

    column: str
    good: Literal["higher", "lower"] = "higher"
    margin: float = 0.01


@dataclasses.dataclass(frozen=True)
class ReadConfig(LogStudy):
    """Every key of `recsys pilot read`.

    Args:
        log: of the pilot: a row a request, with the arm of its user.
        arm: column of the arms.
        control: name of the arm that nothing was changed for.
        shares: planned share of the users, by arm; null: equal.
        guardrails: what must not get worse, by name.
        columns: what the log's columns are called.
    """

    control: str
    arm: str = ARM
    shares: Mapping[str, float] | None = None
    guardrails: Mapping[str, Guardrail] = dataclasses.field(default_factory=dict)
    columns: PilotColumns = dataclasses.field(default_factory=PilotColumns)


def read(config: ReadConfig, composed: Mapping[str, Any]) -> Path:
    """Writes the station with what a pilot says and returns its folder."""
    names = config.columns
    further = [rail.column for rail in config.guardrails.values()]
    required = [names.user_id, names.timestamp, names.reward, config.arm, *further]
    table = read_table(config.log, required=required, key="log")
    [users_N], user_ids = codes_of(ids_of(table, names.user_id, key="log"))
    [arms_N], arm_names = codes_of(ids_of(table, config.arm, key="log"))
    arms = arm_names.to_pylist()
    if config.control not in arms or len(arms) < 2:
        raise InputError(
            f"`control={config.control}`: expected it and another arm in `{config.arm}` of `{config.log}`, "
            f"found {', '.join(map(str, arms))}; name one of these"
        )
    arm_U = _arm_of_users(users_N, arms_N, user_ids=user_ids, arms=arms)
    counts = {arm: int((arm_U == code).sum()) for code, arm in enumerate(arms)}
    mismatch = sample_ratio_p_value(np.array(list(counts.values())), _shares(config, arms))
    days_N = days_of(table, names.timestamp, key="log")
    compared = {}
    for code, arm in enumerate(arms):
        if arm != config.control:
            kept = np.isin(arms_N, [code, arms.index(config.control)])
            columns = (users_N, arms_N == code, days_N)
            compared[arm] = _compared(config, table.filter(pa.array(kept)), columns=columns, kept=kept)
    figures = {
        "log": str(config.log),
        "command": "read",
        "control": config.control,
        "confidence": config.confidence,
        "users": counts,
        "sample_ratio_p_value": mismatch,
        "arms": compared,
    }
    findings = _reading(figures)
    return write_findings("pilot", findings, folder=config.folder, near=config.log.parent, config=composed)


def _compared(
    config: ReadConfig, table: pa.Table, *, columns: tuple[Codes, np.ndarray, Codes], kept: np.ndarray
) -> dict[str, Any]:
    """One arm beside the control: reward, guardrails, and the difference over the days."""
    users, treated, days = (column[kept] for column in columns)
    _, users = np.unique(users, return_inverse=True)
    rewards = complete_numbers(table, config.columns.reward)
    main = compare_arms(rewards, np.ones(len(rewards)), users, treated_N=treated)
    shown, daily, slope = daily_trend(rewards, users, days, treated_N=treated)
    rails = {}
    for name, rail in config.guardrails.items():
        values = complete_numbers(table, rail.column)
        effect = compare_arms(values, np.ones(len(values)), users, treated_N=treated)
        rails[name] = {
            **figure_of(effect.lift, config.confidence),
            "verdict": _guarded(effect.lift, rail, config.confidence),
        }
    return {
        "control": figure_of(main.control, config.confidence),
        "arm": figure_of(main.arm, config.confidence),
        "difference": {**figure_of(main.difference, config.confidence), "p_value": main.difference.p_value()},
        "lift": figure_of(main.lift, config.confidence),
        "guardrails": rails,
        "days": [
            {"day": day, **figure_of(effect, config.confidence)}
            for day, effect in zip(shown, daily, strict=True)
        ],
        "trend": {**figure_of(slope, config.confidence), "p_value": slope.p_value() if slope else None},
    }


def _guarded(lift: Estimate | None, rail: Guardrail, confidence: float) -> str:
    """`kept` where a harm beyond the margin is ruled out, `broken` where one is sure, else `open`."""
    bounds = lift.interval(confidence) if lift else None
    if bounds is None:
        return "open"
    low, high = bounds if rail.good == "higher" else (-bounds[1], -bounds[0])
    return "kept" if low > -rail.margin else "broken" if high < -rail.margin else "open"


def _reading(figures: dict[str, Any]) -> Findings:
    warnings = []
    if figures["sample_ratio_p_value"] < _MISMATCH:
        warnings.append(
            f"Sample-ratio mismatch: users by arm {figures['users']} have probability "
            f"{figures['sample_ratio_p_value']:.2g} "
            "under the planned shares. Assignment or logging is broken; read nothing from this pilot until "
            "it is mended."
        )
    sentences, outcomes = [], []
    for arm, result in figures["arms"].items():
        outcome = outcome_of(result["difference"]["interval"])
        outcomes.append(outcome)
        word = {"better": "better than", "worse": "worse than", "open": "not told apart from"}[outcome]
        lift = result["lift"]
        sentences.append(
            f"`{arm}` is {word} `{figures['control']}`: {result['arm']['value']:.4g} a request beside "
            f"{result['control']['value']:.4g}, {percent_text(lift['value'])} "
            f"({_percents(lift['interval'])})."
        )
        for name, rail in result["guardrails"].items():
            if rail["verdict"] != "kept":
                warnings.append(
                    f"Guardrail {name} of `{arm}` is {rail['verdict']}: {percent_text(rail['value'])} "
                    f"({_percents(rail['interval'])})."
                )
        trend = result["trend"]
        if trend["p_value"] is not None and trend["p_value"] < 1 - figures["confidence"]:
            warnings.append(
                f"The difference of `{arm}` moves by {trend['value']:+.3g} a day "
                f"({bounds_text(trend['interval'], 3)}): "
                "novelty wears off or users learn; the mean over the days is not what stays."
            )
    mismatch = figures["sample_ratio_p_value"] < _MISMATCH
    return Findings(
        title="What the pilot says",
        sentence=("Not to be read, the sample ratio is off. " if mismatch else "") + " ".join(sentences),
        outcome=outcomes[0] if len(set(outcomes)) == 1 and not mismatch else "open",
        warnings=warnings,
        figures=figures,
        tables={"days": _days_table(figures)},
        parts=_reading_parts(figures),
    )


def _days_table(figures: Mapping[str, Any]) -> pa.Table:
    names = ("arm", "day", "difference", "low", "high")
    rows = [
        dict(zip(names, (arm, day["day"], day["value"], *(day["interval"] or (None, None))), strict=True))
        for arm, result in figures["arms"].items()
        for day in result["days"]
    ]
    types = (pa.string(), pa.int64(), *[pa.float64()] * 3)
    return pa.Table.from_pylist(rows, schema=pa.schema(zip(names, types, strict=True)))


def _reading_parts(figures: Mapping[str, Any]) -> list[Markup]:
    charts, rows = [], []
    for arm, result in figures["arms"].items():
        days = result["days"]
        series = Series(arm, 0, [day["value"] for day in days], [day["interval"] for day in days])
        title = f"{arm} minus {figures['control']}, by day"
        charts.append(
            line_chart(title, [str(1 + day["day"]) for day in days], [series], axis="day", from_zero=True)
        )
        measured = [("reward a request", result["lift"], "")]
        measured += [
            (f"guardrail {name}", rail, rail["verdict"]) for name, rail in result["guardrails"].items()
        ]
        rows += [
            [name, arm, percent_text(it["value"]), _percents(it["interval"]), said]
            for name, it, said in measured
        ]
    users = [[arm, f"{count:,}"] for arm, count in figures["users"].items()]
    users.append(["probability under the planned shares", f"{figures['sample_ratio_p_value']:.3g}"])
    return [
        html_table(["", "arm", "change", "interval", "verdict"], rows),
        piece("charts", charts),
        html_table(["arm", "users"], users),
    ]


def _arm_of_users(users_N: Codes, arms_N: Codes, *, user_ids: pa.Array, arms: list[str]) -> Codes:
    arm_U = np.zeros(int(users_N.max()) + 1, dtype=np.int64)
    arm_U[users_N] = arms_N
    torn = np.flatnonzero(arm_U[users_N] != arms_N)
    if len(torn):
        row, user = torn[0], user_ids[int(users_N[torn[0]])]
        raise InputError(
            f"expected each user in one arm, found user `{user}` in `{arms[arms_N[row]]}` (row {row + 1}) "
            "and in "
            f"`{arms[arm_U[users_N[row]]]}`, {len(np.unique(users_N[torn]))} such users; assign by user, "
            "and leave those out who changed"
        )
    return arm_U


def _shares(config: ReadConfig, arms: list[str]) -> np.ndarray:
    if config.shares is None:
        return np.full(len(arms), 1 / len(arms))
    if set(config.shares) != set(arms) or min(config.shares.values()) <= 0:
        raise InputError(
            f"`shares` must name a share above 0 for each arm, {', '.join(arms)}; got {dict(config.shares)}"
        )
    shares = np.array([config.shares[arm] for arm in arms])
    return np.asarray(shares / shares.sum())


def _percents(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:+.2%} to {interval[1]:+.2%}"

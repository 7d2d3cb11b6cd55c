"""estimate_curve: a log -> how likely each position is looked at; and reading such a curve again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from recsys.bandits.estimates import Floats
from recsys.bandits.position_bias import harvested_examination, randomised_examination
from recsys.experiments.feedback import FeedbackColumns, read_feedback
from recsys.experiments.findings import Findings, LogStudy, bounds_text, html_table, write_findings
from recsys.experiments.tables import codes_of, ids_of, numbers_of, read_table
from recsys.report.charts import Series, line_chart
from recsys.report.pages import piece
from recsys.schema.errors import InputError
from recsys.schema.manifest import read_station
from recsys.schema.tables import EXAMINATION, POSITION

_CURVE = "curve"


@dataclasses.dataclass(frozen=True)
class PositionBiasConfig(LogStudy):
    """Every key of `recsys position-bias`.

    Args:
        log: the LoggedFeedback table; rewards are clicks.
        method: `randomised` where chance put the items into their positions, with known propensities;
            `harvested` where the same item happened to stand in several positions for the same context.
        context: column that says who or what asked, for `harvested`; null: an item counts as the same
            everywhere.
        columns: what the log's columns are called.
    """

    method: Literal["randomised", "harvested"]
    context: str | None = "user_id"
    columns: FeedbackColumns = dataclasses.field(default_factory=FeedbackColumns)


def estimate_curve(config: PositionBiasConfig, composed: Mapping[str, Any]) -> Path:
    """Writes the station and returns its folder.

    Raises:
        ValueError: the log cannot be used, or does not tell about a position.
    """
    log = read_feedback(config.log, config.columns, further=[config.context] if config.context else [])
    if config.method == "randomised":
        curve = randomised_examination(log.feedback, confidence=config.confidence)
    else:
        contexts_N = np.zeros(log.table.num_rows, dtype=np.int64)
        if config.context is not None:
            if config.context not in log.table.column_names:
                raise InputError(
                    f"`context={config.context}`: expected a column of {log.feedback.source}, found none; "
                    "name one, or give null where an item is as attractive to everybody"
                )
            [contexts_N], _ = codes_of(ids_of(log.table, config.context, key="log"))
        curve = harvested_examination(log.feedback, contexts_N, confidence=config.confidence)
    table = pa.table(
        {
            POSITION: np.arange(1, len(curve.values_P) + 1),
            EXAMINATION: curve.values_P,
            "low": curve.low_P,
            "high": curve.high_P,
            "rows": curve.rows_P,
        }
    )
    findings = _findings(config, table)
    return write_findings(
        "position_bias", findings, folder=config.folder, near=config.log.parent, config=composed
    )


def read_examination(path: Path) -> Floats:
    """[P] the curve in a position_bias station, or in a table of `position` and `examination`.

    Raises:
        ValueError: positions are not 1, 2, ..., or an examination is not above 0 and at most 1 but for
            chance.
    """
    if path.is_dir():
        read_station(path, "position_bias")
        path = path / f"{_CURVE}.parquet"
    table = read_table(path, required=[POSITION, EXAMINATION], key="examination")
    positions, values_P = (numbers_of(table, name, key="examination") for name in (POSITION, EXAMINATION))
    order = np.argsort(positions)
    if not np.array_equal(positions[order], np.arange(1, len(positions) + 1)):
        raise InputError(
            f"`examination={path}`: expected positions 1, 2, 3, ... once each, found {positions.tolist()}"
        )
    bad = np.flatnonzero(~(values_P > 0))
    if len(bad):
        raise InputError(
            f"`examination={path}`: expected numbers above 0, found {values_P[bad[0]]:g} in row "
            f"{bad[0] + 1}; leave positions out that nobody looks at"
        )
    return np.minimum(values_P[order], 1.0)


def _findings(config: PositionBiasConfig, table: pa.Table) -> Findings:
    rows = table.to_pylist()
    last = rows[-1]
    interval = [last["low"], last["high"]]
    places = [str(row[POSITION]) for row in rows]
    series = Series(
        "examination", 0, [row[EXAMINATION] for row in rows], [[row["low"], row["high"]] for row in rows]
    )
    chart = line_chart("Looked at, beside position 1", places, [series], axis="position", from_zero=True)
    warnings = []
    if config.method == "harvested" and config.context is None:
        warnings.append(
            "Without a context, an item that stands high for those who like it makes high positions look "
            "better than they are: name what tells them apart by `context`."
        )
    if config.method == "harvested" and any(row[EXAMINATION] > 1 for row in rows):
        warnings.append(
            "A position seems to be looked at more than the first; as propensities, such values count as 1."
        )
    lines = [
        [place, f"{row[EXAMINATION]:.4f}", _bounds(row), f"{row['rows']:,}"]
        for place, row in zip(places, rows, strict=True)
    ]
    return Findings(
        title="Position bias",
        sentence=f"Position {last[POSITION]} is looked at {last[EXAMINATION]:.3f} times as often as "
        f"position 1 ({config.confidence:.0%} interval {bounds_text(interval, 3)}), from "
        f"{table['rows'].to_numpy().sum():,} rows ({config.method}).",
        outcome="open",
        warnings=warnings,
        figures={
            "log": str(config.log),
            "method": config.method,
            "confidence": config.confidence,
            "curve": rows,
        },
        tables={_CURVE: table},
        parts=[
            piece("charts", [chart]),
            html_table(["position", "examination", "interval", "rows"], lines),
        ],
    )


def _bounds(row: Mapping[str, Any]) -> str:
    """The first position is what the others are measured by: nothing about it is uncertain."""
    return "1 by definition" if row[POSITION] == 1 else bounds_text([row["low"], row["high"]])

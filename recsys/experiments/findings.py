"""write_findings: a station with figures as JSON, tables as Parquet and a page that needs no other file."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from recsys.bandits.estimates import Estimate
from recsys.report.pages import piece, render, table_of
from recsys.schema.environment import environment
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST, StationKind, read_station, write_json, writing_station

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LogStudy:
    """Keys of every command that finds something in a log.

    Args:
        log: the table.
        confidence: of the intervals.
        folder: of the station; null: one of the command's name beside the log.
    """

    log: Path
    confidence: float = dataclasses.field(default=0.95, kw_only=True)
    folder: Path | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise InputError(f"`confidence` must lie between 0 and 1, got {self.confidence}")


@dataclasses.dataclass(frozen=True)
class Findings:
    """Holds the result of an experiment.

    Args:
        title: of the page.
        sentence: the answer, in one sentence.
        outcome: `better`, `worse` or `open`, which colours it.
        warnings: what to keep in mind.
        figures: content of the JSON file.
        tables: Parquet tables by name.
        parts: charts and tables of the page; plain text is escaped.
    """

    title: str
    sentence: str
    outcome: str
    warnings: Sequence[str]
    figures: Mapping[str, Any]
    tables: Mapping[str, pa.Table]
    parts: Sequence[str]


def write_findings(
    kind: StationKind, findings: Findings, *, folder: Path | None, near: Path, config: Mapping[str, Any]
) -> Path:
    """Writes `KIND.json`, `KIND.html` and the tables, whole or not at all, and returns the station's folder.

    Args:
        kind: of the station.
        findings: what is written.
        folder: of the station; None: one of the kind's name in the folder `near`.
        near: where the log is.
        config: plain configuration, kept beside it.

    Raises:
        ValueError: there is something else in the folder.
    """
    path = folder or near / kind
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not (path / MANIFEST).is_file():
            raise InputError(
                f"`folder={path}`: expected a new folder or an earlier {kind} station, found something "
                "else; name another folder"
            )
        read_station(path, kind)
    for warning in findings.warnings:
        logger.warning(warning)
    logger.info(findings.sentence)
    figures = {"sentence": findings.sentence, "warnings": list(findings.warnings), **findings.figures}
    page = render(
        "experiment.html",
        title=findings.title,
        sentence=findings.sentence,
        outcome=findings.outcome,
        warnings=findings.warnings,
        parts=findings.parts,
        asked={**config, **environment()},
    )
    with writing_station(path, kind, config=config) as (temporary, _):
        write_json(temporary / f"{kind}.json", figures)
        for name, columns in findings.tables.items():
            pq.write_table(columns, temporary / f"{name}.parquet", compression="zstd")
        (temporary / f"{kind}.html").write_text(page, encoding="utf-8")
    logger.info("report: %s", path / f"{kind}.html")
    return path


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table of text as a part of the page."""
    return piece("table", table_of(headings, rows))


def outcome_of(interval: Sequence[float] | None) -> str:
    """`better` or `worse` where an interval of a difference says so, else `open`."""
    if interval is None:
        return "open"
    return "better" if interval[0] > 0 else "worse" if interval[1] < 0 else "open"


def figure_of(estimate: Estimate | None, confidence: float) -> dict[str, Any]:
    """`{"value", "interval"}` of an estimate; both are None where there is none."""
    if estimate is None:
        return {"value": None, "interval": None}
    return {"value": estimate.value, "interval": estimate.interval(confidence)}


def bounds_text(interval: Sequence[float] | None, digits: int = 4) -> str:
    """`0.1 to 0.2`, or a dash."""
    return "-" if interval is None else f"{interval[0]:.{digits}g} to {interval[1]:.{digits}g}"

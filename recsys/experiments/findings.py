"""write_findings: a station with figures as JSON, tables as Parquet and a page that needs no other file."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.report.pages import facts, fill_page, row, section, table
from recsys.schema.environment import environment
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST, StationKind, read_station, write_json, writing_station

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Findings:
    """What came out.

    Args:
        title: of the page.
        sentence: the answer, in one sentence.
        outcome: `better`, `worse` or `open`, which colours it.
        warnings: what to keep in mind.
        figures: content of the JSON file.
        tables: Parquet tables by name.
        parts: HTML of charts and tables.
    """

    title: str
    sentence: str
    outcome: str
    warnings: Sequence[str]
    figures: Mapping[str, Any]
    tables: Mapping[str, pa.Table]
    parts: Sequence[str]


def write_findings(path: Path, kind: StationKind, findings: Findings, *, config: Mapping[str, Any]) -> Path:
    """Writes `KIND.json`, `KIND.html` and the tables to the station `path`, whole or not at all.

    Raises:
        ValueError: there is something else at `path`.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not (path / MANIFEST).is_file():
            raise InputError(
                f"`folder={path}`: expected a new folder or an earlier {kind} station, found something "
                "else; name "
                "another folder"
            )
        read_station(path, kind)
    for warning in findings.warnings:
        logger.warning(warning)
    logger.info(findings.sentence)
    figures = {"sentence": findings.sentence, "warnings": list(findings.warnings), **findings.figures}
    with writing_station(path, kind, config=config) as (folder, _):
        write_json(folder / f"{kind}.json", figures)
        for name, columns in findings.tables.items():
            pq.write_table(columns, folder / f"{name}.parquet", compression="zstd")
        (folder / f"{kind}.html").write_text(_page(findings, config), encoding="utf-8")
    logger.info("report: %s", path / f"{kind}.html")
    return path


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text, escaped."""
    return table(headings, [row(escape(first), map(escape, rest)) for first, *rest in rows])


def bounds_text(interval: Sequence[float] | None, digits: int = 4) -> str:
    """`0.1 to 0.2`, or a dash."""
    return "-" if interval is None else f"{interval[0]:.{digits}g} to {interval[1]:.{digits}g}"


def _page(findings: Findings, config: Mapping[str, Any]) -> str:
    warnings = "".join(f'<p class="warning">{_marked(text)}</p>' for text in findings.warnings)
    body = (
        f"<h1>{escape(findings.title)}</h1>{warnings}"
        f'<p class="verdict {findings.outcome}">{_marked(findings.sentence)}</p>{"".join(findings.parts)}'
        f"{section('how', 'How it was asked, and where', facts({**config, **environment()}))}"
    )
    return fill_page(findings.title, body)


def _marked(text: str) -> str:
    """What stands between backticks in the words for a terminal, as a page shows it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))

"""From evaluations to a comparison station: systems side by side, how far apart, how surely, and the page.

Legend: N queries or rows.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.evaluation.comparing.differences import ComparedQuestions, PairedComparison
from recsys.evaluation.comparing.options import ComparisonOptions
from recsys.evaluation.comparing.stations import Answers, ReadEvaluation
from recsys.evaluation.comparing.verdict import verdict_of
from recsys.evaluation.options import EvaluationOptions
from recsys.report.comparison_page import render_comparison
from recsys.schema.environment import environment
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_json, writing_station

FOLDER = "comparison"
COMPARISON = "comparison.json"
PAGE = "comparison.html"
SYSTEMS, DIFFERENCES, SLICES = "systems.parquet", "differences.parquet", "slices.parquet"
# More are not told apart on one page.
MOST = 8

METHOD = {
    "interval": "paired bootstrap: users are drawn with all that was asked of them, for all systems alike",
    "test": (
        "paired sign-flip permutation (randomisation) test, two-sided, on each user's sum of differences; "
        "AUC over all rows, which is no such sum, by its paired bootstrap"
    ),
    "correction": (
        "Holm's: over metrics and opponents, metrics that say which is better and the other ones apart; over "
        "slices that are not small and opponents. Sure is a corrected p of at most 1 - confidence"
    ),
}

logger = logging.getLogger(__name__)


def compare(
    first: ReadEvaluation,
    systems: Sequence[Answers],
    *,
    folder: Path,
    options: ComparisonOptions,
    config: Mapping[str, Any],
) -> Path:
    """Compares the first system with each of the others and writes the comparison station.

    Args:
        first: the evaluation of the first system, which says what was asked and how it was judged.
        systems: answers to its questions, in its order; 2 to 8 of them.
        folder: gets the station, as `comparison/`.
        options: every key under `comparison.`.
        config: the composed configuration, kept in the manifest.

    Returns:
        The station's folder: `comparison.json`, `comparison.html` and three Parquet tables.

    Raises:
        ValueError: too many systems, or too few.
    """
    if not 2 <= len(systems) <= MOST:
        raise InputError(f"a comparison takes 2 to {MOST} systems, got {len(systems)}; name fewer")
    content = _content(first, systems, options)
    path = folder / FOLDER
    with writing_station(path, "comparison", config=config, source=None) as (into, extra):
        pq.write_table(_systems_table(systems), into / SYSTEMS)
        pq.write_table(_flat_table(content["differences"]), into / DIFFERENCES)
        pq.write_table(_flat_table(content["slices"]), into / SLICES)
        write_json(into / COMPARISON, content)
        (into / PAGE).write_text(render_comparison(content), encoding="utf-8")
        extra["protocol_hash"] = content["protocol_hash"]
    for line in dict.fromkeys(
        [content["verdict"]["text"], *(v["text"] for v in content["verdict"]["against"])]
    ):
        logger.info("%s", line)
    logger.info("report: %s", path / PAGE)
    return path


def _content(first: ReadEvaluation, systems: Sequence[Answers], options: ComparisonOptions) -> dict[str, Any]:
    """All of `comparison.json`."""
    results, asked = first.results, first.results["options"]
    judged = EvaluationOptions(
        resamples=asked["resamples"],
        confidence=asked["confidence"],
        seed=asked["seed"],
        small_slice=asked["small_slice"],
    )
    questions = ComparedQuestions(
        users=first.users,
        labels=first.labels,
        slices=first.slices(),
        several_relevant=first.kind.have_several_relevant(first.asked),
    )
    paired = PairedComparison(questions, judged, permutations=options.permutations)
    main_metric = results["main_metric"]
    model, others = systems[0], systems[1:]
    rows = paired.differences(model, others, k=main_metric.partition("@")[2])
    slice_metric = first.kind.slice_metric(main_metric)
    return {
        "task": results["task"],
        "main_metric": main_metric,
        "verdict": verdict_of(rows, first=model.name, main_metric=main_metric, confidence=judged.confidence),
        "warnings": results["warnings"],
        "systems": [{"name": system.name, "source": system.source, **system.block} for system in systems],
        "differences": rows,
        "slice_metric": slice_metric,
        "slices": paired.on_slices(model, others, metric=slice_metric),
        "method": METHOD,
        "options": {
            **dataclasses.asdict(options),
            **{key: asked[key] for key in ("resamples", "confidence", "seed", "small_slice")},
        },
        "counts": results["counts"],
        "dataset": results["dataset"],
        "protocol": results["protocol"],
        "protocol_hash": results["protocol_hash"],
        "environment": environment(),
    }


def _systems_table(systems: Sequence[Answers]) -> pa.Table:
    """A row for each system and metric."""
    rows = [
        {
            "system": system.name,
            "source": system.source,
            "metric": metric,
            "value": value,
            **_bounds(system.block["intervals"].get(metric)),
        }
        for system in systems
        for metric, value in system.block["metrics"].items()
    ]
    return pa.Table.from_pylist(rows)


def _flat_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows, each interval as two columns."""
    return pa.Table.from_pylist(
        [
            {
                **{key: value for key, value in row.items() if key != "interval"},
                **_bounds(row["interval"]),
            }
            for row in rows
        ]
    )


def _bounds(interval: Sequence[float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {"low": low, "high": high}

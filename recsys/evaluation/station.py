"""The evaluation station: what is in it and how it is written."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.dataset import PreparedDataset
from recsys.evaluation.diagnosis import diagnose
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.protocol import protocol_hash, warnings_of
from recsys.evaluation.training_curves import training_of
from recsys.report.evaluation_page import render_report
from recsys.report.tables import report_tables
from recsys.schema.environment import environment
from recsys.schema.json_files import Kinds, read_json
from recsys.schema.manifest import write_json, writing_station

FOLDER = "evaluation"
METRICS = "metrics.json"
REPORT = "report.html"
EXAMPLES = "examples.json"
RECOMMENDATIONS = "recommendations.parquet"
PREDICTIONS = "predictions.parquet"
QUERIES = "queries.parquet"
# Of METRICS, what its readers rely on.
RESULT_KINDS: Kinds = {"task": str, "options": dict, "protocol": dict, "metrics": dict}
USERS = "users.parquet"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EvaluatedRun:
    """The run that is evaluated, and where its evaluation goes: into `evaluation/` below its folder.

    Args:
        folder: the run's folder.
        fingerprint: of the run's manifest; None when it has none.
        config: the composed configuration, kept in the evaluation's manifest.
        checkpoint: name and hash of the weights, kept there too; None for recommendations of no run.
    """

    folder: Path
    fingerprint: str | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    checkpoint: Mapping[str, str] | None = None


def heading(task: str, dataset: PreparedDataset, protocol: dict[str, Any]) -> dict[str, Any]:
    """Returns the head of `metrics.json`: task, data, protocol, warnings, machine."""
    return {
        "task": task,
        "split": "test",
        "warnings": warnings_of(dataset),
        "leaks": bool(dataset.manifest["split"]["leaks"]),
        "dataset": {
            "name": dataset.manifest["name"],
            "fingerprint": dataset.manifest["fingerprint"],
            "path": str(dataset.path),
        },
        "protocol": protocol,
        "protocol_hash": protocol_hash(protocol),
        "environment": environment(),
    }


def write_station(
    run: EvaluatedRun,
    options: EvaluationOptions,
    results: dict[str, Any],
    *,
    tables: Mapping[str, pa.Table],
    examples: list[dict[str, Any]],
) -> Path:
    """Writes tables, `metrics.json` and the report into the run's folder, whole or not at all.

    Args:
        run: what was evaluated.
        options: kept beside the figures.
        results: content of `metrics.json`.
        tables: Parquet tables by file name.
        examples: users shown in the report.

    Returns:
        The station's folder.
    """
    path = run.folder / FOLDER
    _say_what_is_replaced(path, options)
    results = {"run": str(run.folder.absolute()), "options": dataclasses.asdict(options), **results}
    training = training_of(run.folder)
    if training is not None:
        results["training"] = training
    results["diagnosis"] = diagnose(results, typed=sys.argv[1:])
    with writing_station(path, "evaluation", config=run.config, source=run.fingerprint) as (folder, extra):
        for name, table in {**tables, **report_tables(results)}.items():
            pq.write_table(table, folder / name, compression="zstd")
        write_json(folder / METRICS, results)
        write_json(folder / EXAMPLES, examples)
        (folder / REPORT).write_text(render_report(results, examples), encoding="utf-8")
        extra["protocol_hash"] = results["protocol_hash"]
        extra["checkpoint"] = run.checkpoint
    logger.info("%s", results["verdict"]["text"])
    for finding in results["diagnosis"]:
        if finding["severity"] != "info":
            logger.info("%s: %s", finding["severity"], finding["finding"])
    logger.info("report: %s", path / REPORT)
    return path


def _say_what_is_replaced(path: Path, options: EvaluationOptions) -> None:
    """Warns where an evaluation with other options is about to be replaced."""
    try:
        had = read_json(path / METRICS)["options"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    wanted = json.loads(json.dumps(dataclasses.asdict(options), default=str))
    changed = [
        f"{key} {had[key]} -> {wanted[key]}" for key in wanted if key in had and had[key] != wanted[key]
    ]
    if changed:
        logger.warning("replacing the evaluation `%s`, which had other options: %s", path, "; ".join(changed))

"""Reads the values of the model and every baseline for each query or row from an evaluation on disk.

A column `system/metric` for each system: of a retrieval task the metrics at one cut-off, a row a query; of a
ranking task `system/probability`, a row per row that was judged, drawn negatives included.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from recsys.evaluation.comparing.stations import ReadEvaluation
from recsys.report.systems import MODEL
from recsys.schema.tables import LABEL, PROBABILITY, TIMESTAMP, TIMESTAMP_US, USER_ID


def read_systems(folder: Path, *, k: int) -> pa.Table:
    """User (text), instant (microseconds), perhaps the label, and the columns of all systems.

    Args:
        folder: of the evaluation.
        k: cut-off of the metrics.

    Raises:
        ValueError: the evaluation is missing, damaged or of another version.
    """
    evaluation = ReadEvaluation.open(folder)
    columns = {
        USER_ID: evaluation.asked[USER_ID].cast(pa.string()),
        TIMESTAMP: evaluation.asked[TIMESTAMP_US],
    }
    there = [name for name, left_out in evaluation.baselines.items() if left_out is None]
    if evaluation.labels is not None:
        columns[LABEL] = evaluation.asked[LABEL]
    for name in (MODEL, *there):
        system = evaluation.model(name) if name == MODEL else evaluation.baseline(name)
        if system.probabilities is not None:
            columns[f"{name}/{PROBABILITY}"] = pa.array(system.probabilities)
        of_lists = {key: values for key, values in system.values.items() if key.endswith(f"@{k}")}
        columns |= {f"{name}/{key}": pa.array(values) for key, values in of_lists.items()}
    return pa.table(columns)

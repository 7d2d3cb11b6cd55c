"""The figures of a report as tables, to be read by other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from recsys.report.systems import systems

# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

METRICS_TABLE = "metrics.parquet"
SLICES_TABLE = "slices.parquet"
CURVES_TABLE = "curves.parquet"

_FIGURE = [("metric", pa.string()), ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64())]
_SCHEMAS = {
    METRICS_TABLE: pa.schema([("system", pa.string()), *_FIGURE]),
    SLICES_TABLE: pa.schema(
        [
            ("group", pa.string()),
            ("name", pa.string()),
            ("size", pa.int64()),
            ("users", pa.int64()),
            ("small", pa.bool_()),
            ("system", pa.string()),
            *_FIGURE,
        ]
    ),
    CURVES_TABLE: pa.schema(
        [
            ("curve", pa.string()),
            ("system", pa.string()),
            ("x", pa.float64()),
            ("y", pa.float64()),
            ("low", pa.float64()),
            ("high", pa.float64()),
        ]
    ),
}


def report_tables(results: dict[str, Any]) -> dict[str, pa.Table]:
    """Every figure of `metrics.json` in long form.

    Args:
        results: what it holds.

    Returns:
        By file name: `metrics.parquet`, a row per system and metric; `slices.parquet`, a row per slice,
        system and metric; `curves.parquet`, a row per point of the exposure, reliability and training curves.
    """
    rows = {
        METRICS_TABLE: [
            {"system": system, **figure} for system, block in systems(results) for figure in _figures(block)
        ],
        SLICES_TABLE: list(_slices(results)),
        CURVES_TABLE: list(_curves(results)),
    }
    return {name: pa.Table.from_pylist(entries, schema=_SCHEMAS[name]) for name, entries in rows.items()}


def _figures(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in block["metrics"].items():
        low, high = block["intervals"].get(key) or (None, None)
        yield {"metric": key, "value": value, "low": low, "high": high}


def _slices(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for piece in results["slices"]:
        described = {name: piece[name] for name in ("group", "name", "size", "users", "small")}
        for system, block in [("model", piece), *piece["baselines"].items()]:
            yield from ({**described, "system": system, **figure} for figure in _figures(block))


def _curves(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for system, exposure in (results.get("exposure") or {}).items():
        yield from ({"curve": "exposure", "system": system, "x": x, "y": y} for x, y in exposure["lorenz"])
    for level in results.get("reliability") or []:
        point = {
            "x": level["predicted"],
            "y": level["observed"],
            "low": level.get("low"),
            "high": level.get("high"),
        }
        yield {"curve": "reliability", "system": "model", **point}
    training = results.get("training")
    if training:
        named = {"train_loss": training["train_loss"], **training["validation"]}
        for name, values in named.items():
            yield from (
                {"curve": f"training.{name}", "system": "model", "x": float(epoch), "y": value}
                for epoch, value in zip(training["epochs"], values, strict=True)
            )


def spreadsheet_cell(value: Any) -> Any:
    """A cell of a CSV file that no spreadsheet runs: an apostrophe goes before text that is like a formula.

    Example:
        >>> [spreadsheet_cell(value) for value in ("=1+1", "-0.5", "@home", -2, "sasrec", None)]
        ["'=1+1", '-0.5', "'@home", -2, 'sasrec', None]
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value

"""The report: one self-contained HTML page made from the content of `metrics.json` and a few examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.metrics.register import metric_label, metric_of
from recsys.report.evaluation_charts import charts
from recsys.report.examples import LATEST, SHOWN, examples_of
from recsys.report.pages import Cell, Table, figure_of, render, table_of
from recsys.report.slices import slices_of
from recsys.report.systems import counted, name_of, systems

# The five that matter are the first five of these that were measured: whether it is right, and whether it is
# right by showing everybody the same few popular items.
_HEADLINES = {
    "retrieval": ("ndcg", "hit_rate", "coverage", "popularity_lift", "personalisation", "mrr", "novelty"),
    "ranking": ("auc", "gauc", "impression_auc", "log_loss", "calibration_error", "predicted_over_observed"),
}
_CONTENTS = (
    ("findings", "Findings"),
    ("charts", "Charts"),
    ("slices", "For whom"),
    ("examples", "Examples"),
    ("metrics", "Every metric"),
    ("protocol", "How and where"),
)


def render_report(results: dict[str, Any], examples: list[dict[str, Any]]) -> str:
    """The page.

    Args:
        results: what `metrics.json` holds.
        examples: from `recsys.evaluation.examples`.

    Returns:
        HTML that needs no other file and no network.
    """
    content = {
        "findings": "diagnosis" in results,
        "charts": True,
        "slices": bool(results["slices"]),
        "examples": bool(examples),
        "metrics": True,
        "protocol": True,
    }
    measured = list(systems(results))
    names = [name_of(name) for name, _ in measured]
    return render(
        "evaluation.html",
        title=f"Evaluation of {Path(results['run']).name}",
        contents=[(name, title) for name, title in _CONTENTS if content[name]],
        results=results,
        counted=counted(results),
        headlines=_headlines(results),
        notes=_notes(results),
        charts=list(charts(results)),
        slices=slices_of(results),
        examples=examples_of(results["task"], examples),
        latest=LATEST,
        shown=SHOWN,
        metrics=table_of(
            ["", *names],
            (
                [metric_label(key), *(figure_of(block, key) for _, block in measured)]
                for key in results["metrics"]
            ),
        ),
        protocol={"protocol hash": results["protocol_hash"]} | results["protocol"],
        machine=_machine(results),
    )


def _headlines(results: dict[str, Any]) -> Table:
    """A row a number; the model and the best baseline beside each other, so that a phone shows both."""
    best = results["verdict"]["against"]
    blocks = dict(systems(results))
    order = sorted(blocks, key=lambda name: (name != "model", name != best))
    rows = [
        [Cell(metric_label(key), metric_of(key).note), *(figure_of(blocks[name], key) for name in order)]
        for key in headline_keys(results)
    ]
    return table_of(["", *map(name_of, order)], rows)


def _notes(results: dict[str, Any]) -> list[str]:
    """Says how intervals were made, which keys the baselines chose, and which baselines are left out."""
    confidence, resamples = 100 * results["options"]["confidence"], results["options"]["resamples"]
    notes = []
    if resamples:
        notes.append(
            f"Below each figure its {confidence:g} % interval: bootstrap over users, {resamples:,} resamples."
        )
    for name, block in results["baselines"].items():
        for key, value in block.get("chosen", {}).items():
            notes.append(f"{name_of(name)}: {key.replace('_', ' ')} {value:g}, by validation.")
        if "left_out" in block:
            notes.append(f"{name_of(name)} is left out: {block['left_out']}.")
    return notes


def headline_keys(results: dict[str, Any]) -> list[str]:
    """The metrics of the first screen, at the cut-off of the verdict."""
    k = results["main_metric"].partition("@")[2]
    keys = [f"{name}@{k}" if k else name for name in _HEADLINES[results["task"]]]
    return [key for key in keys if key in results["metrics"]][:5]


def _machine(results: dict[str, Any]) -> dict[str, Any]:
    """Where the figures were computed, and how long a request took there."""
    where: dict[str, Any] = {"run": results["run"]} | results["environment"]
    latency = results.get("latency")
    if latency:
        where["latency of one request"] = (
            f"half within {latency['p50_ms']:.2f} ms, 99 % within {latency['p99_ms']:.2f} ms, "
            f"{latency['requests']} requests, {latency['threads']} thread(s), eager model"
        )
    return where

"""The report: one self-contained HTML page made from the content of `metrics.json` and a few examples."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from recsys.metrics.register import metric_label, metric_of
from recsys.report.evaluation_charts import charts
from recsys.report.examples import examples_section
from recsys.report.pages import facts, figure_of, fill_page, row, section, table
from recsys.report.slices import slices_section
from recsys.report.systems import counted, name_of, systems

# The five that matter are the first five of these that were measured: whether it is right, and whether it is
# right by showing everybody the same few popular items.
_HEADLINES = {
    "retrieval": ("ndcg", "hit_rate", "coverage", "popularity_lift", "personalisation", "mrr", "novelty"),
    "ranking": ("auc", "gauc", "log_loss", "calibration_error", "predicted_over_observed"),
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
    body = "\n".join(
        [
            _opening(results),
            _findings(results),
            section("charts", "In pictures", f'<div class="charts">{"".join(charts(results))}</div>'),
            slices_section(results),
            examples_section(results["task"], examples),
            _all_metrics(results),
            _protocol(results),
        ]
    )
    contents = "".join(
        f'<a href="#{name}">{title}</a>' for name, title in _CONTENTS if f'<section id="{name}">' in body
    )
    return fill_page(_title(results), f'<nav aria-label="Parts of this report">{contents}</nav>{body}')


def _title(results: dict[str, Any]) -> str:
    return f"Evaluation of {Path(results['run']).name}"


def _opening(results: dict[str, Any]) -> str:
    """The first screen: the verdict, and the five numbers beside those of the baselines."""
    dataset, split = results["dataset"]["name"], results["protocol"]["split"]["kind"]
    warnings = "".join(f'<p class="warning">{escape(text)}</p>' for text in results["warnings"])
    verdict = results["verdict"]
    return (
        f"<header><h1>{escape(_title(results))}</h1>"
        f'<p class="under">{escape(dataset)}, test part of the split {escape(split)}: {counted(results)}.</p>'
        f"{warnings}"
        f'<p class="verdict {verdict["outcome"]}">{escape(verdict["text"])}</p>'
        f"{_five_numbers(results)}</header>"
    )


def _five_numbers(results: dict[str, Any]) -> str:
    """A row a number; the model and the best baseline beside each other, so that a phone shows both."""
    best = results["verdict"]["against"]
    blocks = dict(systems(results))
    order = sorted(blocks, key=lambda name: (name != "model", name != best))
    rows = [
        row(
            f"{metric_label(key)}<small>{metric_of(key).note}</small>",
            (figure_of(blocks[name], key) for name in order),
        )
        for key in headline_keys(results)
    ]
    confidence, resamples = 100 * results["options"]["confidence"], results["options"]["resamples"]
    notes = [
        f"Below each figure its {confidence:g} % interval: bootstrap over users, {resamples:,} resamples."
        if resamples
        else "",
        *(
            f"{name_of(name)}: {key.replace('_', ' ')} {value:g}, by validation."
            for name, block in blocks.items()
            for key, value in block.get("chosen", {}).items()
        ),
        *(
            f"{name_of(name)} is left out: {block['left_out']}."
            for name, block in results["baselines"].items()
            if "left_out" in block
        ),
    ]
    said = escape(" ".join(filter(None, notes)))
    return f'<div class="five">{table(["", *map(name_of, order)], rows)}</div><p class="under">{said}</p>'


def headline_keys(results: dict[str, Any]) -> list[str]:
    """The metrics of the first screen, at the cut-off of the verdict."""
    k = results["main_metric"].partition("@")[2]
    keys = [f"{name}@{k}" if k else name for name in _HEADLINES[results["task"]]]
    return [key for key in keys if key in results["metrics"]][:5]


def _findings(results: dict[str, Any]) -> str:
    """What the diagnosis says, with its evidence and where to look further."""
    if "diagnosis" not in results:
        return ""
    cards = "".join(_finding(one) for one in results["diagnosis"])
    nothing = '<p class="under">No rule of the diagnosis found anything amiss.</p>'
    return section("findings", "What would go wrong", cards or nothing)


def _finding(one: dict[str, Any]) -> str:
    return (
        f'<div class="finding {one["severity"]}"><p><span class="severity">{one["severity"]}</span> '
        f"{escape(one['finding'])}</p>"
        f"<details><summary>Evidence: {escape(one['rule'].replace('_', ' '))}</summary>"
        f"{facts(one['evidence'])}</details>"
        f"<pre>{escape(one['command'])}</pre></div>"
    )


def _all_metrics(results: dict[str, Any]) -> str:
    measured = list(systems(results))
    rows = [
        row(metric_label(key), (figure_of(block, key) for _, block in measured)) for key in results["metrics"]
    ]
    shown = table(["", *(name_of(name) for name, _ in measured)], rows)
    folded = f"<details><summary>{len(rows)} figures of each system</summary>{shown}</details>"
    return section("metrics", "Every metric", folded)


def _protocol(results: dict[str, Any]) -> str:
    """What was asked and how it was judged, on what, and where."""
    protocol = facts({"protocol hash": results["protocol_hash"]} | results["protocol"])
    where = {"run": results["run"]} | results["environment"]
    latency = results.get("latency")
    if latency:
        where["latency of one request"] = (
            f"half within {latency['p50_ms']:.2f} ms, 99 % within {latency['p99_ms']:.2f} ms, "
            f"{latency['requests']} requests, {latency['threads']} thread(s), eager model"
        )
    return section(
        "protocol",
        "How it was measured, and where",
        f"{protocol}<h3>Data</h3>{facts(results['dataset'])}<h3>Machine</h3>{facts(where)}"
        '<p class="under">The same figures lie beside this page: <code>metrics.json</code>, '
        "<code>metrics.parquet</code>, <code>slices.parquet</code>, <code>curves.parquet</code>, "
        "<code>examples.json</code>.</p>",
    )

"""Which charts a report holds: each answers a question that decides something.

beside the baselines      is it worth shipping?
by length of the list     for how long a list?
by length of the history  from when on to trust it with a user?
by popularity of the item does it find more than what everybody knows?
by age of the model       how often to retrain?
while things are new       who speaks for what is new, and when does behaviour take over?
exposure                  who gets shown?
reliability, segments     may its probabilities be used as numbers?
loss, validation          was it trained long enough, or too long?
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from recsys.metrics.register import metric_label, metric_of
from recsys.report import takeaways
from recsys.report.charts import Caption, Curve, Series, dot_chart, line_chart, unit_chart
from recsys.report.findings import without_twins
from recsys.report.systems import axis_of, name_of, series_of, style_of, systems
from recsys.report.warm_up_charts import warm_up_charts

# Group, what its chart is called and, unless the results say it, its axis.
_CURVES = (
    ("history_length", "length of the history", "positives before"),
    ("item", "popularity of the item", "popularity in train"),
    ("days_since_train", "age of the model", "days since the end of train"),
)
_MOST_SEGMENTS = 12
_SHORT = {"history_length": "history", "days_since_train": "days"}


def charts(results: dict[str, Any]) -> Iterator[Markup]:
    """Every chart that the results have numbers for.

    Args:
        results: what `metrics.json` holds.
    """
    key = results["main_metric"]
    name, metric = metric_label(key), key.partition("@")[0]
    from_zero = metric not in ("auc", "log_loss")
    beside = [series_of(system, [block], [key]) for system, block in systems(results)]
    caption = Caption(f"{name} beside the baselines", takeaways.of_systems(results), _axis(key))
    yield dot_chart(caption, beside, from_zero=from_zero)
    yield from _by_cut_off(results, metric)
    yield from _by_slice(results, from_zero=from_zero)
    yield from warm_up_charts(results)
    yield from _exposure(results)
    yield from _calibration(results)
    yield from _training(results)


def _axis(key: str) -> str:
    """A metric with its direction, as an axis is named."""
    return (
        f"{metric_label(key)}, {better} is better" if (better := metric_of(key).better) else metric_label(key)
    )


def _by_cut_off(results: dict[str, Any], metric: str) -> Iterator[Markup]:
    ks = results["protocol"].get("k", [])
    if len(ks) < 2:
        return
    keys = [f"{metric}@{k}" for k in ks]
    lines = [
        series_of(system, [block] * len(keys), keys, with_intervals=system == "model")
        for system, block in systems(results)
    ]
    name = metric_label(metric)
    caption = Caption(f"{name} by length of the list", takeaways.of_cut_offs(results), _axis(metric))
    yield line_chart(caption, [str(k) for k in ks], lines, axis="k, items in the list", from_zero=True)


def _by_slice(results: dict[str, Any], *, from_zero: bool) -> Iterator[Markup]:
    """The model and the best baseline over the slices of each group that has an order."""
    key, best = results["main_metric"], results["verdict"]["against"]
    name = metric_label(key)
    for group, title, axis in _CURVES:
        pieces = [piece for piece in results["slices"] if piece["group"] == group]
        if len(pieces) < 2:
            continue
        lines = [series_of("model", pieces, [key] * len(pieces))]
        if best:
            beside = [piece["baselines"][best] for piece in pieces]
            lines.append(series_of(best, beside, [key] * len(pieces), with_intervals=False))
        is_age = group == "days_since_train"
        told = takeaways.of_decay(results) if is_age else takeaways.of_slices(results, pieces)
        has_small = any(piece["small"] for piece in pieces)
        places = [piece["name"] + ("*" if piece["small"] else "") for piece in pieces]
        yield line_chart(
            Caption(f"{name} by {title}", told, _axis(key)),
            places,
            lines,
            axis=axis_of(results, group, axis) + (" (* few users)" if has_small else ""),
            from_zero=from_zero,
        )


def _exposure(results: dict[str, Any]) -> Iterator[Markup]:
    measured = results.get("exposure") or {}
    exposure = {system: curve for system, curve in measured.items() if curve["lorenz"]}
    if "model" not in exposure:
        return
    curves = [
        Curve(
            name_of(system),
            style_of(system),
            [(x, y) for x, y in exposure[system]["lorenz"]],
            has_marks=False,
        )
        for system, _ in systems(results)
        if system in exposure
    ]
    told = takeaways.of_exposure(exposure, results["verdict"]["against"])
    caption = Caption("Which items get the places of the lists", told, "share of the places")
    yield unit_chart(caption, curves, axis="share of the items, the least shown first", is_share=True)


def _calibration(results: dict[str, Any]) -> Iterator[Markup]:
    bins = results.get("reliability")
    if bins:
        intervals = [[row["low"], row["high"]] if row.get("low") is not None else None for row in bins]
        points = [(row["predicted"], row["observed"]) for row in bins]
        curve = Curve(name_of("model"), style_of("model"), points, intervals)
        told = takeaways.of_reliability(results)
        caption = Caption("Are probabilities what they say?", told, "observed share of positives")
        yield unit_chart(caption, [curve], axis="predicted probability; on the diagonal it is right")
    segments = [row for row in results.get("calibration") or [] if not row["small"] and row["ratio"]]
    pieces = without_twins(segments, lambda row: (row["rows"], row["predicted"], row["observed"]))
    if len(pieces) > 1:
        told = takeaways.of_segments(pieces)
        pieces.sort(key=lambda row: -abs(math.log(row["ratio"])))
        yield dot_chart(
            Caption("For whom is too much promised?", told, "predicted over observed positives; 1 is right"),
            [Series(_segment(row), 0, [row["ratio"]], [row["interval"]]) for row in pieces[:_MOST_SEGMENTS]],
            from_zero=False,
            reference=1.0,
        )


def _segment(piece: dict[str, Any]) -> str:
    """A slice's name after what it is cut by."""
    group = _SHORT.get(piece["group"]) or piece["group"].rpartition(".")[2].replace("_", " ")
    return f"{group}: {piece['name']}"


def _training(results: dict[str, Any]) -> Iterator[Markup]:
    training = results.get("training")
    if not training or len(training["epochs"]) < 2:
        return
    places, monitor = [str(epoch) for epoch in training["epochs"]], training["monitor"]
    epochs, best = training["epochs"], training["best_epoch"]
    focus = epochs.index(best) if best in epochs else None
    if any(value is not None for value in training["train_loss"]):
        lines = [Series("train", 0, training["train_loss"])]
        if "log_loss" in training["validation"]:
            lines.append(Series("validation", 1, training["validation"]["log_loss"]))
        yield line_chart(
            Caption("Loss by epoch", takeaways.of_loss(training), _axis("loss")),
            places,
            lines,
            axis="epoch; the line upwards is the one kept",
            from_zero=False,
            focus=focus,
        )
    # Loss is in the chart above already.
    watched = "auc" if monitor == "log_loss" else monitor
    if watched in training["validation"]:
        name = metric_label(watched)
        yield line_chart(
            Caption(f"Validation {name} by epoch", takeaways.of_validation(training), _axis(watched)),
            places,
            [Series("validation", 1, training["validation"][watched])],
            axis="epoch; the line upwards is the one kept",
            from_zero=False,
            focus=focus,
        )

"""Charts of a hybrid while readers and items are new: where content leads, where behaviour, and the gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from recsys.metrics.register import metric_label
from recsys.report.charts import Caption, Series, line_chart
from recsys.report.systems import name_of, style_of
from recsys.schema.rungs import FEW_EVENTS, PERSONAL, PROFILE

_OF_WHOM = {
    "users": ("the reader's first events", "events of the reader that are known"),
    "items": ("train positives of the answer", "train positives of the answer, from so many on"),
}
# From nothing known of a reader to much.
_RUNGS = {PROFILE: "profile alone", FEW_EVENTS: "content of few events", PERSONAL: "behaviour"}


def warm_up_charts(results: dict[str, Any]) -> Iterator[Markup]:
    """Two charts of readers, two of items and one of the ladder; none where the model is no hybrid."""
    found = results.get("warm_up") or {}
    key = f"ndcg@{found.get('cut_off')}"
    for side, (title, axis) in _OF_WHOM.items():
        steps = found.get(side, [])
        if len(steps) > 1:
            asked = ", ".join(f"{step['queries']:,}" for step in steps)
            yield _quality(
                steps, title, f"Queries at each step: {asked}.", _places(steps), axis=axis, key=key
            )
            yield _weights(steps, title, axis)
    by_rung = {one["rung"]: one for one in found.get("rungs", [])}
    rungs = [by_rung[name] for name in _RUNGS if name in by_rung]
    if len(rungs) > 1:
        names = [_RUNGS[one["rung"]] for one in rungs]
        shares = ", ".join(f"{one['share']:.0%} by {name}" for one, name in zip(rungs, names, strict=True))
        said = f"Queries answered: {shares}."
        yield _quality(rungs, "who answers", said, names, axis="rung of the ladder", key=key)


def _quality(
    steps: Sequence[dict[str, Any]], title: str, said: str, places: Sequence[str], *, axis: str, key: str
) -> Markup:
    shown = metric_label(key)
    caption = Caption(f"{shown} by {title}", said, f"{shown}, higher is better")
    lines = []
    for name in steps[0]["systems"]:
        blocks = [step["systems"][name] for step in steps]
        intervals = [block["intervals"].get(key) for block in blocks] if name == "model" else None
        values = [block["metrics"].get(key) for block in blocks]
        lines.append(Series(name_of(name), style_of(name), values, intervals))
    return line_chart(caption, places, lines, axis=axis, from_zero=True)


def _weights(steps: Sequence[dict[str, Any]], title: str, axis: str) -> Markup:
    line = Series("weight of behaviour", 0, [step["weight"] for step in steps], None)
    said = "0 follows content alone, 1 behaviour alone; the mean over queries or items."
    caption = Caption(f"Weight of behaviour by {title}", said, "weight of behaviour")
    return line_chart(caption, _places(steps), [line], axis=axis, from_zero=True)


def _places(steps: Sequence[dict[str, Any]]) -> list[str]:
    return [str(step["events"]) for step in steps]

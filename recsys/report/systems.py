"""The systems and the groups of slices of an evaluation, as a report calls and draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recsys.report.charts import Series

MODEL = "model"

_NAMES = {
    "model": "this model",
    "popularity": "popularity (all time)",
    "popularity_recent": "popularity (recent)",
    "item_knn": "item-kNN",
    "ease": "EASE",
    "content_knn": "content kNN",
    "content_ridge": "content to factors (ridge)",
    "content_sum": "content kNN + ridge",
    "content_alone": "this model, content alone",
    "behaviour_alone": "this model, behaviour alone",
    "without_neighbours": "this model, without neighbours",
    "rate": "mean rate",
    "item_rate": "item's rate",
    "user_and_item_rate": "user's and item's rate",
}

# Colours, marks and dashes of the page, the same for a system in every chart.
_STYLES = {"model": 0, "popularity": 1, "popularity_recent": 2, "item_knn": 3, "ease": 4}
_STYLES |= {"rate": 1, "item_rate": 2, "user_and_item_rate": 3}
_STYLES |= {"content_alone": 2, "behaviour_alone": 4, "content_knn": 5}
_OTHER = 5
_HEADINGS = {
    "user": "Users, by the positives they had before",
    "item": "Items, by their popularity in train",
    "history_length": "Length of the history",
    "days_since_train": "Time since the end of train",
    "custom": "Slices of the configuration",
}


def systems(results: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The model first, then every baseline that was measured."""
    yield "model", results
    yield from ((name, block) for name, block in results["baselines"].items() if "left_out" not in block)


def name_of(system: str) -> str:
    """Returns the name of a system that people read."""
    return _NAMES.get(system, system.replace("_", " "))


def style_of(system: str) -> int:
    """Its colour, mark and dashes."""
    return _STYLES.get(system, _OTHER)


def series_of(
    system: str, blocks: Sequence[dict[str, Any]], keys: Sequence[str], *, with_intervals: bool = True
) -> Series:
    """A line of a chart: a figure of each block by the key beside it.

    Args:
        system: whose figures.
        blocks: with `metrics` and `intervals`.
        keys: one for each block.
        with_intervals: draw them.
    """
    pairs = list(zip(blocks, keys, strict=True))
    intervals = [block["intervals"].get(key) for block, key in pairs] if with_intervals else None
    values = [block["metrics"].get(key) for block, key in pairs]
    return Series(name_of(system), style_of(system), values, intervals)


def heading_of(results: dict[str, Any], group: str) -> str:
    """Heading of a group of slices."""
    told = {entry["group"]: entry["heading"] for entry in results.get("slice_groups", [])}
    return told.get(group) or _HEADINGS.get(group) or group.partition(".")[2].replace("_", " ") or group


def axis_of(results: dict[str, Any], group: str, otherwise: str) -> str:
    """Name of the axis along which the slices of a group lie."""
    told = {entry["group"]: entry["axis"] for entry in results.get("slice_groups", [])}
    return told.get(group) or otherwise


def counted(results: Mapping[str, Any]) -> str:
    """Says how many rows or queries of how many users `metrics.json` or `comparison.json` rests on."""
    counts = results["counts"]
    if results["task"] == "ranking":
        return (
            f"{counts['rows']:,} rows of {counts['users']:,} users, {counts['positives']:,} of them positive"
        )
    number = counts.get("candidates", counts["catalogue"])
    candidates = f"{number:,} candidates"
    if number < counts["catalogue"]:
        rule = results["protocol"]["candidates"].partition(";")[0]
        candidates += f" ({rule}) of {counts['catalogue']:,} items"
    outside = counts["relevant_outside_catalogue"]
    beyond = f"; {outside:,} of the relevant are not among them" if outside else ""
    repeated = results["protocol"].get("cannot_be_hit", {}).get("answers_in_history")
    if repeated:
        beyond += f"; {repeated:,} are in the history of their query, which no list holds"
    return (
        f"{counts['queries']:,} queries of {counts['users']:,} users with {counts['relevant']:,} relevant "
        f"items, {candidates}{beyond}"
    )

"""Rules about for whom and for what the model falls behind."""

from __future__ import annotations

import math

from recsys.metrics.register import metric_label, metric_of
from recsys.report.findings import (
    Finding,
    Results,
    comparison,
    evaluate_again,
    gain_interval,
    measured,
    pieces_of,
    read_table,
    worth,
)
from recsys.report.systems import name_of

# Served half as well as everybody: somebody will write to complain.
HALF = 0.5
# Standard deviations of the number that chance has.
SURE = 2.0
# Slices named in a finding; the report has all.
_NAMED = 5


def _worse_on_cold_users(results: Results) -> Finding | None:
    """Users without a history are served badly."""
    return _worse_on(
        results,
        "user",
        "cold",
        who="users without a history",
        remedy="look at what the model knows of them beside their history",
        try_next=_values_by(results, "history_length"),
    )


def _worse_on_new_items(results: Results) -> Finding | None:
    """Items without a positive in train are found badly."""
    return _worse_on(
        results,
        "item",
        "new",
        who="items that train had not seen",
        remedy="they need features of their own, or a place in the list that is kept for them",
        try_next=evaluate_again(results, "evaluation.candidates=new"),
    )


def _lags_on_slices(results: Results) -> Finding | None:
    """More slices lag behind the best baseline, each surely, than chance would have."""
    best, key = results["verdict"]["against"], results["main_metric"]
    compared = [
        (piece, beside)
        for piece in results["slices"]
        if not piece["small"] and (beside := comparison(piece, best)) is not None and gain_interval(beside)
    ]
    behind = [(piece, beside) for piece, beside in compared if gain_interval(beside)[1] < 0]  # type: ignore[index]
    by_chance = (1 - results["options"]["confidence"]) / 2 * len(compared)
    if best is None or len(behind) <= max(1.0, by_chance + SURE * math.sqrt(by_chance)):
        return None
    behind.sort(key=lambda pair: -abs(pair[1]["difference"]))
    groups = [piece["group"].rpartition(".")[2].replace("_", " ") for piece, _ in behind]
    names = [f"{group}: {piece['name']}" for group, (piece, _) in zip(groups, behind, strict=True)]
    return Finding(
        "medium",
        f"The model is behind {name_of(best)} on {len(behind)} of {len(compared)} slices, each "
        f"beyond its interval, where chance alone would have {by_chance:.1f}: {', '.join(names[:_NAMED])}.",
        {
            f"{metric_label(key)}, {name}": beside["difference"]
            for name, (_, beside) in zip(names, behind, strict=True)
        },
        evaluate_again(results, f"against={best}"),
        (_values_by(results, "history_length"),),
    )


def _worse_on(
    results: Results, group: str, name: str, *, who: str, remedy: str, try_next: str
) -> Finding | None:
    """A slice that a baseline serves better, or that has not half of the overall figure."""
    piece = next(pieces_of(results, group, name), None)
    key, best = results["main_metric"], results["verdict"]["against"]
    if piece is None:
        return None
    value, overall = measured(piece, key), measured(results, key)
    compared = comparison(piece, best)
    bounds = gain_interval(compared) if compared else None
    is_behind = bounds is not None and bounds[1] < 0
    is_half = (
        None not in (value, overall)
        and metric_of(key).better != "less"
        and worth(key, value) < HALF * worth(key, overall)  # type: ignore[arg-type]
    )
    if not is_behind and not is_half:
        return None
    said = []
    if is_behind and compared:
        said.append(f"{name_of(best)} is better there by {abs(compared['difference']):.4f}")
    if is_half:
        said.append(f"{metric_label(key)} is {value:.4f} there and {overall:.4f} for all")
    return Finding(
        "high" if is_behind else "medium",
        f"The model is weak on {who} ({piece['users']:,} users): {', and '.join(said)}; {remedy}.",
        {
            "slice": value,
            "overall": overall,
            "users": piece["users"],
            "size": piece["size"],
            "difference": compared["difference"] if compared else None,
            "interval": compared["interval"] if compared else None,
        },
        try_next,
        (evaluate_again(results, "evaluation.num_examples=50"),),
    )


def _values_by(results: Results, column: str) -> str:
    """The command that prints the main metric by steps of a column of the queries or the users."""
    if results["task"] == "ranking":
        return read_table(results, "users.parquet", "print(t.sort_values('log_loss').tail(20))")
    steps = f"pd.cut(t.{column}, [-1, 0, 1, 5, 20, 100, 1e9])"
    key = results["main_metric"]
    return read_table(results, "queries.parquet", f"print(t.groupby({steps})['{key}'].agg(['mean', 'size']))")


RULES = (_worse_on_cold_users, _worse_on_new_items, _lags_on_slices)

"""Says in a sentence what each chart shows, from its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.metrics.register import metric_label, metric_of
from recsys.report.ageing import decay_of
from recsys.report.findings import calibration_error, comparison, gain_interval, worth
from recsys.report.systems import name_of

_NAMED = 3


def of_systems(results: dict[str, Any]) -> str:
    """Says how far the model is from the best baseline."""
    best = results["verdict"]["against"]
    compared = comparison(results, best)
    if compared is None:
        return ""
    bounds = gain_interval(compared)
    gain, key = metric_of(compared["metric"]).sign * compared["difference"], compared["metric"]
    if not gain:
        return f"It is level with {name_of(best)}, the best baseline."
    side = "ahead of" if gain > 0 else "behind"
    base = worth(key, results["baselines"][best]["metrics"][key])
    by = f"{abs(gain):.4f}"
    if base > 0 and abs(gain / base) >= 0.005:
        chance = metric_of(key).chance
        of_what = f" of what that is above chance, {chance:g}" if chance else ""
        by += f" ({abs(gain / base):.0%}{of_what})"
    surely = "" if bounds is None else ", beyond chance" if not bounds[0] <= 0 <= bounds[1] else ""
    doubt = ", which may be chance" if bounds is not None and not surely else ""
    return f"It is {side} {name_of(best)}, the best baseline, by {by}{surely}{doubt}."


def of_cut_offs(results: dict[str, Any]) -> str:
    """At which lengths of the list the model is ahead of the best baseline or behind it, beyond chance."""
    best, compared = results["verdict"]["against"], results.get("cut_offs") or []
    bounded = [(difference["metric"].partition("@")[2], gain_interval(difference)) for difference in compared]
    known = [(k, bounds) for k, bounds in bounded if bounds is not None]
    if best is None or not known:
        return ""
    sides = {
        "ahead of": [k for k, bounds in known if bounds[0] > 0],
        "behind": [k for k, bounds in known if bounds[1] < 0],
        "not told apart from": [k for k, bounds in known if bounds[0] <= 0 <= bounds[1]],
    }
    for side, ks in sides.items():
        if len(ks) == len(known):
            return f"It is {side} {name_of(best)} at every length of the list, by its interval."
    parts = [f"{side} it at k = {', '.join(ks)}" for side, ks in sides.items() if ks]
    return f"Beside {name_of(best)}, by intervals: {'; '.join(parts)}."


def of_slices(results: dict[str, Any], pieces: Sequence[dict[str, Any]]) -> str:
    """Where the model does best and worst, and where it is surely behind the best baseline."""
    key, best = results["main_metric"], results["verdict"]["against"]
    sign = metric_of(key).sign
    known = [piece for piece in pieces if not piece["small"] and piece["metrics"].get(key) is not None]
    if len(known) < 2:
        return "All but one of the places have too few users to be compared."
    known.sort(key=lambda piece: sign * piece["metrics"][key])
    if known[0]["metrics"][key] == known[-1]["metrics"][key]:
        return f"The same in all of them, {known[0]['metrics'][key]:.4f}."
    best_at, worst_at = (f"{piece['name']} ({piece['metrics'][key]:.4f})" for piece in (known[-1], known[0]))
    said = f"Best at {best_at}, worst at {worst_at}"
    compared = [(piece["name"], comparison(piece, best)) for piece in known]
    bounded = [(name, gain_interval(piece)) for name, piece in compared if piece is not None]
    behind = [name for name, bounds in bounded if bounds is not None and bounds[1] < 0]
    if behind:
        more = f" and {len(behind) - _NAMED} more" if len(behind) > _NAMED else ""
        said += f"; surely behind {name_of(best)} at {', '.join(behind[:_NAMED])}{more}"
    elif any(bounds for _, bounds in bounded):
        said += f"; nowhere surely behind {name_of(best)}"
    return said + "."


def of_decay(results: dict[str, Any]) -> str:
    """Says how fast the model ages."""
    line = decay_of(results)
    if line is None:
        return "Too few periods with enough users to say how it ages."
    span = f"these {line.last - line.first:.0f} days"
    if line.is_sure:
        return f"It loses a tenth about every {line.days_to_lose:.0f} days: retrain more often than that."
    if line.slope < 0:
        return f"{min(line.lost, 1):.0%} of its worth gone at the end of {span}, which chance explains."
    return f"No loss with age in {span}."


def of_reliability(results: dict[str, Any]) -> str:
    """Compares what is predicted and what happens, on the whole."""
    bins, error = results["reliability"], calibration_error(results)
    rows = sum(row["rows"] for row in bins)
    predicted, observed = (sum(row["rows"] * row[name] for row in bins) / rows for name in _SIDES)
    return (
        f"{predicted:.1%} positives are predicted, {observed:.1%} happen; a prediction is off by {error:.3f} "
        "in the mean."
    )


_SIDES = ("predicted", "observed")


def of_segments(pieces: Sequence[dict[str, Any]]) -> str:
    """For whom too much or too little is promised."""
    sure = [
        piece
        for piece in pieces
        if piece["interval"] and not piece["interval"][0] <= 1 <= piece["interval"][1]
    ]
    if not sure:
        return "Nobody is promised too much or too little beyond chance."
    worst = max(sure, key=lambda piece: abs(math.log(max(piece["ratio"], 1e-9))))
    what = "too much" if worst["ratio"] > 1 else "too little"
    return (
        f"{len(sure)} of {len(pieces)} segments are off beyond chance; {worst['name']} is promised {what}, "
        f"by a factor of {worst['ratio']:.2f}."
    )


def of_exposure(exposure: dict[str, Any], best: str | None) -> str:
    """Says how much of what is shown goes to a tenth of the catalogue."""
    said = f"A tenth of the items gets {top_share(exposure['model']['lorenz'], 0.1):.0%} of the places"
    if best in exposure:
        said += f" ({name_of(str(best))}: {top_share(exposure[best]['lorenz'], 0.1):.0%})"
    return said + "."


def top_share(lorenz: Sequence[Sequence[float]], share: float) -> float:
    """Share of the exposure that this share of the items, the most shown, has.

    Args:
        lorenz: share of items and of exposure, from the least shown item to the most shown one.
        share: of the items.
    """
    items, exposure = np.array(lorenz, dtype=np.float64).T
    return float(1 - np.interp(1 - share, items, exposure))


def of_loss(training: dict[str, Any]) -> str:
    """Says how the loss went, and after which epoch validation was best."""
    losses = [value for value in training["train_loss"] if value is not None]
    said = f"On train it went from {losses[0]:.3f} to {losses[-1]:.3f}"
    held_out = training["validation"].get("log_loss")
    if held_out and None not in held_out:
        lowest = min(range(len(held_out)), key=lambda place: held_out[place])
        said += f"; on validation it was lowest after epoch {training['epochs'][lowest]}"
    return said + "."


def of_validation(training: dict[str, Any]) -> str:
    """Which epoch was kept."""
    best, last, monitor = training["best_epoch"], training["epochs"][-1], training["monitor"]
    if best is None:
        return ""
    more = "; more of them may be better still" if best == last else ""
    return f"Judged is epoch {best} of {last}, the best by {metric_label(monitor)}{more}."

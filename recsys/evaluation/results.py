"""Makes the content of `metrics.json`: figures of a model, its baselines and slices, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.evaluation.options import RETRIEVAL_BASELINES
from recsys.evaluation.scoring import ListScorer, RowScorer, SystemScores
from recsys.evaluation.slices import Slice, slice_groups
from recsys.evaluation.summary import Bootstrap, Figures
from recsys.metrics.register import metric_label, metric_of
from recsys.report.pages import listed
from recsys.report.systems import name_of


def results_of(
    scorer: ListScorer | RowScorer,
    scores: SystemScores,
    baselines: Mapping[str, SystemScores | str],
    *,
    main_metric: str,
    small_slice: int,
) -> dict[str, Any]:
    """Figures with intervals of the model, of the baselines, of their differences and on slices.

    Args:
        scorer: of all systems.
        scores: of the model.
        baselines: scored alike, or the reason why one could not be had.
        main_metric: what the verdict is about.
        small_slice: slices of fewer users are marked.
    """
    bootstrap = scorer.bootstrap
    keys = list(scores.figures.values)
    measured = {name: system for name, system in baselines.items() if isinstance(system, SystemScores)}
    if main_metric not in keys:  # all test rows are of one class
        main_metric = "log_loss"
    comparisons = _compare(
        bootstrap,
        scores.figures,
        {name: system.figures for name, system in measured.items()},
        metric=main_metric,
    )
    verdict = _verdict(
        main_metric,
        scores.figures.values[main_metric],
        {name: system.figures.values[main_metric] for name, system in measured.items()},
        comparisons=comparisons,
        confidence=bootstrap.confidence,
        without=_without(baselines),
    )
    return {
        "main_metric": main_metric,
        "verdict": verdict,
        **bootstrap.block(scores.figures, keys=keys),
        "baselines": {
            name: {"left_out": system}
            if isinstance(system, str)
            else {"chosen": dict(system.chosen), **bootstrap.block(system.figures, keys=keys)}
            for name, system in baselines.items()
        },
        "comparisons": comparisons,
        "cut_offs": _by_cut_off(bootstrap, scores, measured, metric=main_metric, best=verdict["against"]),
        "slice_groups": slice_groups(scorer.slices),
        "slices": [
            {
                **_describe(piece, bootstrap, small_slice=small_slice),
                **_on_slice(bootstrap, index, scores, measured, metric=main_metric),
            }
            for index, piece in enumerate(scorer.slices)
        ],
    }


def calibration_of(
    scorer: RowScorer, scores: SystemScores, probabilities_N: npt.NDArray[np.float64], *, small_slice: int
) -> list[dict[str, Any]]:
    """Predicted over observed on each slice; `ratio` and `interval` are null where nothing was observed."""
    segments = []
    for piece, figures in zip(scorer.slices, scores.slices, strict=True):
        block = scorer.bootstrap.block(figures, keys=["predicted_over_observed"])
        said = _describe(piece, scorer.bootstrap, small_slice=small_slice)
        segments.append(
            {
                **{key: said[key] for key in ("group", "name", "description")},
                "rows": said["size"],
                **{key: said[key] for key in ("users", "small")},
                "predicted": float(probabilities_N[piece.mask].mean()),
                "observed": float(scorer.labels_N[piece.mask].mean()),
                "ratio": block["metrics"]["predicted_over_observed"],
                "interval": block["intervals"]["predicted_over_observed"],
            }
        )
    return segments


def _describe(piece: Slice, bootstrap: Bootstrap, *, small_slice: int) -> dict[str, Any]:
    num_users = bootstrap.num_users_in(piece.mask)
    return {
        "group": piece.group,
        "name": piece.name,
        "description": piece.description,
        "size": int(piece.mask.sum()),
        "users": num_users,
        "small": num_users < small_slice,
    }


def _on_slice(
    bootstrap: Bootstrap,
    index: int,
    scores: SystemScores,
    measured: Mapping[str, SystemScores],
    *,
    metric: str,
) -> dict[str, Any]:
    """Every figure of the model on a slice, and those at the main cut-off of the baselines."""
    keys = list(scores.figures.values)
    main_keys = [key for key in keys if key.partition("@")[2] == metric.partition("@")[2]]
    beside = {name: system.slices[index] for name, system in measured.items()}
    return {
        **bootstrap.block(scores.slices[index], keys=keys),
        "baselines": {name: bootstrap.block(figures, keys=main_keys) for name, figures in beside.items()},
        "comparisons": _compare(bootstrap, scores.slices[index], beside, metric=metric),
    }


def _compare(
    bootstrap: Bootstrap, figures: Figures, others: Mapping[str, Figures], *, metric: str
) -> list[dict[str, Any]]:
    """Differences to each of the others, where both have the metric."""
    return [
        {"baseline": name, **bootstrap.difference(figures, other, key=metric)}
        for name, other in others.items()
        if metric in figures.values and metric in other.values
    ]


def _by_cut_off(
    bootstrap: Bootstrap,
    scores: SystemScores,
    measured: Mapping[str, SystemScores],
    *,
    metric: str,
    best: str | None,
) -> list[dict[str, Any]]:
    """Differences to the best baseline in the metric of the verdict, at each length of the list."""
    if best is None or "@" not in metric:
        return []
    name = metric.partition("@")[0]
    others = {best: measured[best].figures}
    keys = [key for key in scores.figures.values if key.partition("@")[0] == name]
    return [
        difference for key in keys for difference in _compare(bootstrap, scores.figures, others, metric=key)
    ]


def _without(baselines: Mapping[str, Any]) -> str:
    """Which of the strong baselines of a retrieval task nothing is said about."""
    if not any(name in RETRIEVAL_BASELINES for name in baselines):
        return ""
    missing = [name for name in RETRIEVAL_BASELINES if isinstance(baselines.get(name, ""), str)]
    return f" (not {listed(map(name_of, missing), last=' or ')})" if missing else ""


def _verdict(
    metric: str,
    value: float,
    baselines: Mapping[str, float],
    *,
    comparisons: list[dict[str, Any]],
    confidence: float,
    without: str,
) -> dict[str, Any]:
    """Whether the model is better than the best baseline, in one sentence and in one word."""
    name = metric_label(metric)
    if not baselines:
        return {
            "outcome": "alone",
            "against": None,
            "text": f"{name} is {value:.4f}; there is no baseline beside it.",
        }
    sign = metric_of(metric).sign
    best = max(baselines, key=lambda system: sign * baselines[system])
    compared = next(system for system in comparisons if system["baseline"] == best)
    difference, interval = compared["difference"], compared["interval"]
    figures = f"{name} is {value:.4f}, {name_of(best)} has {baselines[best]:.4f}"
    if interval is None:
        outcome, text = "unmeasured", f"{figures}; without resamples nothing is said about chance."
    else:
        bounds = f"({100 * confidence:g} % interval {interval[0]:+.4f} to {interval[1]:+.4f})"
        low, high = sorted(sign * bound for bound in interval)
        if low > 0:
            outcome = "better"
            asked = "every baseline"
            if without:
                asked = f"the baselines asked, {listed(map(name_of, baselines))}{without}"
            text = f"Better than {asked}: {figures}, the best of them; {difference:+.4f} {bounds}."
        elif high < 0:
            outcome = "worse"
            text = f"Worse than {name_of(best)}: {figures}; {difference:+.4f} {bounds}."
        else:
            outcome = "undecided"
            text = (
                f"Not told apart from the best baseline: {figures}; {difference:+.4f} {bounds} may be chance."
            )
    return {"outcome": outcome, "against": best, "text": text}

"""Finds what would go wrong with a model, rule by rule: measured results in, findings out.

A rule is a pure function of what `metrics.json` holds, silent where a figure that it needs is not there.
Each threshold is a constant with its reason beside it: none is a law, all are where somebody ought to look.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from recsys.evaluation import diagnosis_lists, diagnosis_slices, diagnosis_training, diagnosis_warm_up
from recsys.metrics.register import metric_label, metric_of
from recsys.report.ageing import decay_of
from recsys.report.findings import (
    SEVERITIES,
    Finding,
    Results,
    comparison,
    evaluate_again,
    gain_interval,
    measured,
    read_table,
    run_path,
    train_again,
    worth,
)
from recsys.report.systems import name_of

# Nobody orders held-out behaviour so well: what is asked for is probably among the inputs.
TOO_GOOD = {"auc": 0.98, "gauc": 0.98, "ndcg": 0.8}
# What fewer users do says nothing about how a model behaves.
NEEDED_USERS = 10
# Percentile intervals over fewer users are too narrow themselves.
MIN_USERS = 100
# Half the interval against the figure: with more, models that differ by a quarter are not told apart.
WIDE_INTERVAL = 0.25
# Every twentieth right answer cannot be given: more than what usually separates two models.
UNKNOWN_SHARE = 0.05
# A page waits for the list among other things; people notice delays from about 100 ms on.
SLOW_MS, NOTICED_MS = 100.0, 50.0
# Baselines that are models too: what is better can be trained, exported and served in the model's place.
_INSTEAD = {
    "ease": ("model=ease",),
    "item_knn": ("model=item_knn",),
    "popularity": ("model=popularity",),
    "popularity_recent": ("model=popularity",),
}
_TABLES = {"retrieval": "queries.parquet", "ranking": "predictions.parquet"}
# A model that has lost a tenth within a week needs retraining by the day.
SOON_DAYS = 7.0


def diagnose(results: Results, *, typed: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Returns the findings of all rules, the gravest first, each with a command of its own.

    Args:
        results: what `metrics.json` holds.
        typed: words of the command that was run, which no finding asks to be run again.

    Returns:
        `{rule, severity, finding, evidence, command}` each; `command` is empty where there is none left.
    """
    has_users = results["counts"]["users"] >= NEEDED_USERS
    findings = [
        (name, finding)
        for name, rule in RULES.items()
        if (has_users or rule in _FOR_FEW) and (finding := rule(results)) is not None
    ]
    findings.sort(key=lambda pair: SEVERITIES.index(pair[1].severity))
    told: list[dict[str, Any]] = []
    for name, finding in findings:
        given = {said["command"] for said in told}
        commands = (finding.command, *finding.otherwise)
        left = [text for text in commands if text not in given and not _is_run(text, results, typed)]
        fields = {key: getattr(finding, key) for key in ("severity", "finding", "evidence")}
        told.append({"rule": name, **fields, "command": next(iter(left), "")})
    return told


def _is_run(command: str, results: Results, typed: Sequence[str]) -> bool:
    """Whether a command is the evaluation that was just run: nothing in it is new."""
    if not command.startswith("python evaluate.py"):
        return False
    options, new = results["options"], []
    for word in shlex.split(command, comments=True)[3:]:
        key, _, value = word.partition("=")
        same = str(options.get(key.removeprefix("evaluation."))) == value
        new.append(not same and word not in typed)
    return not any(new)


def _leaking_split(results: Results) -> Finding | None:
    """The split lets the model learn from what came after it is asked."""
    if not results["leaks"]:
        return None
    kind = results["protocol"]["split"]["kind"]
    return Finding(
        "high",
        f"The split `{kind}` leaks the future: every figure is better than what this model can reach in use.",
        {"split": kind},
        f"python train.py data={results['dataset']['name']} data.split=global_time",
    )


def _too_good_to_be_true(results: Results) -> Finding | None:
    """The main metric is where no honest model gets."""
    key = results["main_metric"]
    bound, value = TOO_GOOD.get(key.partition("@")[0]), measured(results, key)
    if bound is None or value is None or value < bound:
        return None
    return Finding(
        "high",
        f"{metric_label(key)} of {value:.4f} is more than behaviour can be foreseen: look for a feature "
        "that is only known afterwards, or for test events that are copies of train's.",
        {key: value, "suspicious_from": bound},
        read_table(results, _TABLES[results["task"]], "print(t.describe(include='all').T.to_string())"),
    )


def _no_better_than_baseline(results: Results) -> Finding | None:
    """The best baseline is as good, or better."""
    best, key = results["verdict"]["against"], results["main_metric"]
    compared = comparison(results, best)
    if best is None or compared is None:
        return None
    bounds = gain_interval(compared)
    gain = metric_of(key).sign * compared["difference"]
    if (bounds[0] if bounds else gain) > 0:
        return None
    name = name_of(best)
    is_worse = bounds is not None and bounds[1] < 0
    meaning = (
        (
            "it would serve better in the model's place"
            if best in _INSTEAD
            else "features or tuning are missing"
        )
        if is_worse
        else "what training adds to it, if anything, does not show"
    )
    return Finding(
        "high" if is_worse else "medium",
        f"{name[:1].upper()}{name[1:]} is {'better than' if is_worse else 'as good as'} the model on "
        f"{metric_label(key)}: {meaning}.",
        {
            "model": measured(results, key),
            best: measured(results["baselines"][best], key),
            "difference": compared["difference"],
            "interval": compared["interval"],
        },
        train_again(results, *_INSTEAD.get(best, ("experiment=ranking_neighbours",))),
        (evaluate_again(results, f"against={best}"),),
    )


def _too_few_users(results: Results) -> Finding | None:
    """The test split is too small to tell models apart."""
    users, key = results["counts"]["users"], results["main_metric"]
    value, bounds = measured(results, key), results["intervals"].get(key)
    half = None
    if bounds and value is not None and metric_of(key).better != "less" and worth(key, value) > 0:
        half = (bounds[1] - bounds[0]) / 2 / worth(key, value)
    if users >= MIN_USERS and (half is None or half <= WIDE_INTERVAL):
        return None
    within = f", which is known to within {half:.0%} of its worth" if half is not None else ""
    return Finding(
        "medium",
        f"{users:,} test users are few to judge by {metric_label(key)}{within}: smaller differences between "
        "models cannot be seen here.",
        {"users": users, "interval": bounds, "half_interval_share": half},
        f"python train.py data={results['dataset']['name']} 'data.split_fractions=[0.6,0.1,0.3]'",
    )


def _unknown_items(results: Results) -> Finding | None:
    """Much of what is asked for is no item that the model knows."""
    counts = results["counts"]
    asked, unknown = counts.get("relevant"), counts.get("relevant_outside_catalogue")
    if results["task"] == "ranking":
        asked, unknown = counts.get("rows"), counts.get("rows_of_unknown_items")
    if not asked or unknown is None or unknown / asked < UNKNOWN_SHARE:
        return None
    return Finding(
        "medium",
        f"{unknown / asked:.0%} of what happened in the test period were items that the catalogue does not "
        "hold: give the model a table of items, or train it more often.",
        {"unknown": unknown, "of": asked},
        f"python train.py init_from={run_path(results)}",
    )


def _excluded_repeats(results: Results) -> Finding | None:
    """Much of what is asked for stands in the history of its query, which no list may hold."""
    repeats = results["protocol"].get("cannot_be_hit", {}).get("answers_in_history", 0)
    asked = results["counts"].get("relevant")
    if not asked or repeats / asked < UNKNOWN_SHARE:
        return None
    return Finding(
        "medium",
        f"{repeats / asked:.0%} of what is asked for are items of the user's own history. By "
        "`evaluation.seen=exclude` no list holds them, so that they count as missed; where people buy the "
        "same things again, train and judge with `evaluation.seen=keep`.",
        {"answers_in_history": repeats, "of": asked},
        evaluate_again(results, "evaluation.seen=keep"),
    )


def _too_slow(results: Results) -> Finding | None:
    """One request takes longer than a page waits."""
    latency = results.get("latency")
    if latency is None or latency["p99_ms"] < NOTICED_MS:
        return None
    return Finding(
        "high" if latency["p99_ms"] >= SLOW_MS else "medium",
        f"One request in a hundred takes {latency['p99_ms']:.0f} ms or more in the eager model alone, half "
        f"of them {latency['p50_ms']:.0f} ms.",
        dict(latency),
        evaluate_again(results, "evaluation.latency_requests=2000"),
    )


def _decays(results: Results) -> Finding | None:
    """The metric falls with the age of the model."""
    line = decay_of(results)
    if line is None or not line.is_sure:
        return None
    name = metric_label(results["main_metric"])
    return Finding(
        "high" if line.days_to_lose <= SOON_DAYS else "medium",
        f"{name} loses a tenth about every {line.days_to_lose:.1f} days after the end of train: retrain more "
        "often than that, or find out what changes. Other users came at other times, so that retraining on "
        "several cuts shows it better.",
        {
            "first_day": line.first,
            "last_day": line.last,
            "at_first_day": line.start,
            "a_day": line.slope,
            "standard_error": line.error,
        },
        evaluate_again(results, "evaluation=backtest"),
    )


Rule = Callable[[Results], Finding | None]

RULES: dict[str, Rule] = {
    rule.__name__.removeprefix("_"): rule
    for rule in (
        _leaking_split,
        _too_good_to_be_true,
        _no_better_than_baseline,
        *diagnosis_slices.RULES,
        *diagnosis_warm_up.RULES,
        *diagnosis_lists.RULES,
        _decays,
        _too_slow,
        *diagnosis_training.RULES,
        _too_few_users,
        _unknown_items,
        _excluded_repeats,
    )
}
# Those that hold whoever and however few were asked.
_FOR_FEW = (_leaking_split, _too_slow, _too_few_users, _unknown_items, _excluded_repeats)

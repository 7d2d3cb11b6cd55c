"""Writes the sentence, the warnings and the page of an off-policy estimate.

Legend: `figures` is the content of `off_policy.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from recsys.experiments.findings import bounds_text, html_table, outcome_of
from recsys.report.charts import Series, dot_chart
from recsys.report.pages import piece

NAMES: dict[str, str] = {
    "replay": "Replay",
    "inverse_propensity": "Inverse propensity",
    "self_normalised": "Self-normalised",
    "clipped": "Clipped",
    "direct_method": "Direct method",
    "doubly_robust": "Doubly robust",
    "switch": "Switch, doubly robust",
    "reward_interaction": "Cascade, reward interaction",
    "cascade_doubly_robust": "Cascade, doubly robust",
}
# Confidence from which on a reward model is called wrong.
SURE_OF_MODEL = 0.999
# With fewer equally weighted rows than this, the interval itself is not to be trusted.
FEW_ROWS = 100


def sentence_of(figures: Mapping[str, Any]) -> str:
    """The answer, in one sentence."""
    main, gain, confidence = (
        figures["estimates"][figures["main"]],
        figures["difference"],
        figures["confidence"],
    )
    verdict = {
        "better": "more than the log's policy",
        "worse": "less than the log's policy",
        "open": "not told apart from the log's policy",
    }[outcome_of(gain["interval"])]
    return (
        f"The target policy ({figures['policy']}) would have earned {main['value']:.4g} a request "
        f"({confidence:.0%} interval {bounds_text(main['interval'])}) where the log earned "
        f"{figures['logged']['value']:.4g}: {gain['value']:+.4g} ({bounds_text(gain['interval'])}), "
        f"{verdict}; by "
        f"{NAMES[figures['main']].lower()}, from {figures['counts']['requests']:,} requests worth "
        f"{figures['effective_sample_size']:,.0f} equally weighted rows."
    )


def warnings_of(figures: Mapping[str, Any]) -> list[str]:
    """Returns the reasons to doubt the answer."""
    warnings = []
    effective, mass = figures["effective_sample_size"], figures["matched_mass"]
    if effective < FEW_ROWS:
        warnings.append(
            f"The weights leave {effective:,.1f} effective rows of {figures['counts']['rows']:,} (largest "
            f"weight {figures['largest_weight']:,.4g}): neither figure nor interval can be relied on."
        )
    if mass["interval"] and mass["interval"][0] > 1:
        warnings.append(
            f"The weights average {mass['value']:.4g} where 1 is expected: the propensities, or the target's "
            "probabilities, are not those of their policies."
        )
    off = figures["direct_beyond_robust"]
    if off and outcome_of(off["interval"]) != "open" and not _holds_robust(figures["estimates"]):
        warnings.append(
            f"The reward model is wrong for this policy: the direct method is {off['value']:+.4g} off doubly "
            f"robust ({SURE_OF_MODEL:.1%} interval {bounds_text(off['interval'])}), which its own interval "
            "does not hold. Leave it out."
        )
    return warnings


def _holds_robust(estimates: Mapping[str, Any]) -> bool:
    """Shrinkage moves a direct estimate a little, for sure; that matters beyond its interval alone."""
    low, high = estimates["direct_method"]["interval"]
    return bool(low <= estimates["doubly_robust"]["value"] <= high)


def parts_of(figures: Mapping[str, Any]) -> list[Markup]:
    """Chart and tables of the page."""
    logged, rows = figures["logged"], figures["estimates"]
    dots = [Series("The log", 4, [logged["value"]], [logged["interval"]])]
    dots += [
        Series(NAMES[name], 0 if name == figures["main"] else 1, [row["value"]], [row["interval"]])
        for name, row in rows.items()
    ]
    lines = [["The log", f"{logged['value']:.5g}", bounds_text(logged["interval"]), "", ""]]
    lines += [
        [
            NAMES[name],
            f"{row['value']:.5g}",
            bounds_text(row["interval"]),
            f"{row['difference']:+.4g}",
            bounds_text(row["difference_interval"]),
        ]
        for name, row in rows.items()
    ]
    told = {name: f"{count:,}" for name, count in figures["counts"].items()}
    if figures["counts"]["users"] == figures["counts"]["requests"]:
        del told["users"]  # nobody is known to have asked twice
    told |= {"effective rows": f"{figures['effective_sample_size']:,.0f}"}
    told |= {"largest weight": f"{figures['largest_weight']:,.4g}"}
    told |= {"mean weight (1 is right)": f"{figures['matched_mass']['value']:.4g}"}
    told |= {f"{NAMES[name]} is left out": reason for name, reason in figures["left_out"].items()}
    headings = ["", "reward a request", "interval", "over the log", "interval"]
    return [
        piece("charts", [dot_chart("Reward a request", dots, from_zero=False)]),
        html_table(headings, lines),
        piece("note", " ".join(_notes(figures))),
        piece("facts", told),
    ]


def _notes(figures: Mapping[str, Any]) -> list[str]:
    """Says which doubts the intervals leave out."""
    users = figures["counts"]["users"] < figures["counts"]["requests"]
    notes = [f"Intervals of {figures['confidence']:.0%} over {'users' if users else 'requests'}."]
    if "direct_method" in figures["estimates"]:
        notes.append(
            "That of the direct method holds what its model would say, had it learnt from endless logs like "
            "this one; how far the model itself is wrong is not in it, and shows in its distance to doubly "
            "robust."
        )
    if "reward_interaction" in figures["estimates"]:
        notes.append(
            "The cascade's estimators hold where what comes of an item depends on it and on those above it; "
            "the others hold where it depends on the item and its position alone."
        )
    if figures["examination"]:
        notes.append(
            "The examination of positions is taken as given: what is uncertain about it is in none of them."
        )
    return notes

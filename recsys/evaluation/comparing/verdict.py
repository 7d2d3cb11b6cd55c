"""Says in a sentence which system of a comparison is better, on what and how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recsys.metrics.register import metric_label
from recsys.metrics.significance import BETTER, UNDECIDED, WORSE
from recsys.report.pages import p_value

Row = Mapping[str, Any]


def verdict_of(rows: Sequence[Row], *, first: str, main_metric: str, confidence: float) -> dict[str, Any]:
    """The whole in one word and one sentence, and a sentence for each opponent.

    Args:
        rows: of `PairedComparison.differences`.
        first: the system in question.
        main_metric: what the verdict is about first.
        confidence: of the intervals.

    Returns:
        `outcome`, `text`, and `against`: `against`, `outcome` and `text` for each opponent.
    """
    opponents = list(dict.fromkeys(row["against"] for row in rows))
    said = [
        _against(
            [row for row in rows if row["against"] == opponent],
            first,
            main_metric=main_metric,
            confidence=confidence,
        )
        for opponent in opponents
    ]
    if len(said) == 1:
        return {"outcome": said[0]["outcome"], "text": said[0]["text"], "against": said}
    outcomes = {opponent["outcome"] for opponent in said}
    return {
        "outcome": outcomes.pop() if len(outcomes) == 1 else UNDECIDED,
        "text": _summary(said, first=first, name=metric_label(main_metric), confidence=confidence),
        "against": said,
    }


def _against(rows: Sequence[Row], first: str, *, main_metric: str, confidence: float) -> dict[str, Any]:
    main = next((row for row in rows if row["metric"] == main_metric), rows[0])
    name, other, outcome = metric_label(main["metric"]), main["against"], main["outcome"]
    said = {
        BETTER: f"{first} is better than {other} on {name}",
        WORSE: f"{first} is worse than {other} on {name}",
    }.get(outcome, f"{first} is not told apart from {other} on {name}")
    figures = f"{main['value']:.4f} against {main['other_value']:.4f}, {main['difference']:+.4f}"
    chance = ", which may be chance" if outcome == UNDECIDED else ""
    text = f"{said}: {figures} ({_sureness(main, confidence)}){chance}{_elsewhere(rows, main)}."
    return {"against": other, "metric": main["metric"], "outcome": outcome, "text": text}


def _sureness(row: Row, confidence: float) -> str:
    interval = row["interval"]
    bounds = "no interval" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
    tested = "" if row["p"] is None else f"; p {p_value(row['p'])}, {p_value(row['p_corrected'])} corrected"
    return f"{100 * confidence:g} % interval {bounds}{tested}"


def _elsewhere(rows: Sequence[Row], main: Row) -> str:
    """The other metrics on which something is sure."""
    parts = []
    for outcome in (BETTER, WORSE):
        names = [metric_label(row["metric"]) for row in rows if row["outcome"] == outcome and row is not main]
        if names:
            parts.append(f"{outcome} {'too ' if outcome == main['outcome'] else ''}on {', '.join(names)}")
    return f"; {'; '.join(parts)}" if parts else ""


def _summary(said: Sequence[Row], *, first: str, name: str, confidence: float) -> str:
    phrases = {BETTER: "better than {}", WORSE: "worse than {}", UNDECIDED: "not told apart from {}"}
    parts = [
        phrase.format(", ".join(opponent["against"] for opponent in said if opponent["outcome"] == outcome))
        for outcome, phrase in phrases.items()
        if any(opponent["outcome"] == outcome for opponent in said)
    ]
    level = f"{100 * (1 - confidence):g} %"
    return (
        f"On {name}, {first} is {'; '.join(parts)} (at most {level} chance of one mistake among all tests)."
    )

"""Rules about new items, and about a gate that follows the side which says less."""

from __future__ import annotations

from typing import Any

from recsys.report.findings import Finding, Results, evaluate_again, train_again

# New items are liked, and shown less than a twentieth as often as that.
NEVER_SHOWN = 0.05
# Fewer likes of new items than this are no reason to show them.
LIKED_SHARE = 0.01
# A side alone is better than the mix of both by a twentieth.
BETTER_ALONE = 1.05


def _new_items_never_shown(results: Results) -> Finding | None:
    """People like new items, and the model does not show any."""
    shares = results.get("new_items")
    if shares is None or shares["liked"] < LIKED_SHARE or shares["shown"] >= NEVER_SHOWN * shares["liked"]:
        return None
    return Finding(
        "high",
        f"New items are never shown: they are {shares['liked']:.1%} of what people like and "
        f"{shares['shown']:.2%} of what is recommended. Without train positives an id says nothing; let "
        "content speak for them.",
        dict(shares),
        train_again(results, "model=two_tower", "model.cold_start=gate"),
    )


def _gate_follows_content(results: Results) -> Finding | None:
    """Behaviour alone would be better than what the gate makes of items with events."""
    return _better_alone(results, "behaviour_alone", "content where behaviour says more", least_events=1)


def _gate_follows_behaviour(results: Results) -> Finding | None:
    """Content alone would be better than what the gate makes of items."""
    return _better_alone(results, "content_alone", "behaviour where content says more", least_events=1)


def _better_alone(results: Results, side: str, what: str, *, least_events: int) -> Finding | None:
    warm_up = results.get("warm_up") or {}
    key = f"ndcg@{warm_up.get('cut_off')}"
    worse = [step for step in warm_up.get("items", []) if step["events"] >= least_events]
    worse = [step for step in worse if _is_better(step["systems"], side, key)]
    if not worse:
        return None
    first = worse[0]
    figures = {
        f"{name} from {step['events']} events": step["systems"][name]["metrics"][key]
        for step in worse
        for name in ("model", side)
    }
    return Finding(
        "medium",
        f"The gate follows {what}: on items with {first['events']} train positives and more {key} of that "
        f"side alone is {first['systems'][side]['metrics'][key]:.4f}, of the model "
        f"{first['systems']['model']['metrics'][key]:.4f}.",
        figures | {"weight of behaviour": first["weight"]},
        train_again(results, "model.behaviour_dropout=0.5"),
        (evaluate_again(results, "evaluation.candidates=known"),),
    )


def _is_better(systems: dict[str, Any], side: str, key: str) -> bool:
    """Whether a side alone is better than the model by more than chance."""
    alone, both = (systems[name]["metrics"].get(key) for name in (side, "model"))
    interval = systems[side]["intervals"].get(key)
    if not alone or both is None or interval is None:
        return False
    return bool(alone > BETTER_ALONE * both and interval[0] > both)


RULES = (_new_items_never_shown, _gate_follows_content, _gate_follows_behaviour)

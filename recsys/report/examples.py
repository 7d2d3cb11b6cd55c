"""The part of the report that shows people and items: some users at random, and the worst misses."""

from __future__ import annotations

from html import escape
from typing import Any

from recsys.report.pages import row, section, table

# Items of a list, of a history and of what happened that an example shows.
SHOWN = 10
_LATEST = 5
# Kind of example, heading and what it is there for.
_KINDS = (
    ("random", "Some users, drawn at random", "Would you have shown them this?"),
    (
        "head_missed",
        "Missed: what nearly everybody is shown",
        "Popular in train, wanted, and nowhere in the list: the most popular of them.",
    ),
    (
        "favourite_missed",
        "Missed: what the history pointed at",
        "Of the kind that most of the user's history is of, wanted, and nowhere in the list.",
    ),
    ("wrong", "Surest and wrong", "Rows whose label was furthest from what was predicted, one of each user."),
)


def examples_section(task: str, examples: list[dict[str, Any]]) -> str:
    """Cards of users, by kind of example.

    Args:
        task: `retrieval` or `ranking`.
        examples: from `recsys.evaluation.examples`.
    """
    parts = []
    for kind, heading, question in _KINDS:
        chosen = [one for one in examples if one["kind"] == kind]
        if not chosen:
            continue
        body = (
            _wrong_rows(chosen)
            if kind == "wrong"
            else f'<div class="people">{"".join(map(_ranked if task == "ranking" else _asked, chosen))}</div>'
        )
        parts.append(f'<h3>{heading}</h3><p class="under">{question}</p>{body}')
    return section("examples", "Examples", "".join(parts))


def _asked(one: dict[str, Any]) -> str:
    """Who asked, what was known, what was answered and what happened."""
    when = f", {escape(one['when'].replace('T', ' '))}" if one["when"] else ""
    recommended = "".join(
        f'<li class="hit">{escape(item["title"])} ✓</li>'
        if item["hit"]
        else f"<li>{escape(item['title'])}</li>"
        for item in one["recommended"]
    )
    happened = "".join(
        f"<li{_hit(item['rank'])}>{escape(item['title'])} (rank {item['rank']})</li>"
        if item["rank"]
        else f"<li>{escape(item['title'])}</li>"
        for item in one["happened"]
    )
    before = "; ".join(escape(title) for title in one["history"][:_LATEST]) or "nothing"
    left = one["history_length"] - _LATEST
    more = f" and {left} more" if left > 0 else ""
    reason = f'<p class="reason">{escape(one["reason"])}</p>' if one.get("reason") else ""
    return (
        f'<div class="person"><h4>User {escape(one["user"])}{when}</h4>{reason}'
        f"<h5>Liked before, latest first</h5><p>{before}{more}</p>"
        f"<h5>Recommended</h5><ol>{recommended}</ol><h5>What happened</h5><ul>{happened}</ul></div>"
    )


def _hit(rank: int) -> str:
    """The look of what happened, where it is among what is shown of the list."""
    return ' class="hit"' if rank <= SHOWN else ""


def _ranked(one: dict[str, Any]) -> str:
    """The rows of a user, the most probable first, and what they were."""
    rows = [
        row(
            escape(item["title"]),
            [f"{item['probability']:.3f}", '<span class="hit">✓</span>' if item["positive"] else "-"],
        )
        for item in one["rows"]
    ]
    headings = [f"{len(rows)} of {one['num_rows']} test rows", "predicted", "positive"]
    return f'<div class="person"><h4>User {escape(one["user"])}</h4>{table(headings, rows)}</div>'


def _wrong_rows(chosen: list[dict[str, Any]]) -> str:
    rows = [
        row(
            escape(one["title"]),
            [escape(one["user"]), f"{one['probability']:.3f}", "positive" if one["positive"] else "negative"],
        )
        for one in chosen
    ]
    return table(["item", "user", "predicted", "what it was"], rows)

"""The part of the report that shows people and items: some users at random, and the worst misses."""

from __future__ import annotations

from typing import Any

from recsys.report.pages import Cell, Table, table_of

# Items of a list, of a history and of what happened that an example shows.
SHOWN = 10
# Items of a history that an example names.
LATEST = 5
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


def examples_of(task: str, examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Headings with the people, or the table, that the page shows below each.

    Args:
        task: `retrieval` or `ranking`.
        examples: from `recsys.evaluation.examples`.
    """
    kinds = []
    for kind, heading, question in _KINDS:
        chosen = [example for example in examples if example["kind"] == kind]
        if not chosen:
            continue
        if task == "ranking" and kind != "wrong":
            chosen = [{**example, "when": None, "table": _ranked(example)} for example in chosen]
        kinds.append(
            {
                "heading": heading,
                "question": question,
                "table": _wrong_rows(chosen) if kind == "wrong" else None,
                "people": chosen,
            }
        )
    return kinds


def _ranked(example: dict[str, Any]) -> Table:
    """The rows of a user, the most probable first, and what they were."""
    rows = [
        [
            item["title"],
            f"{item['probability']:.3f}",
            Cell("✓", style="hit") if item["positive"] else Cell("-"),
        ]
        for item in example["rows"]
    ]
    return table_of([f"{len(rows)} of {example['num_rows']} test rows", "predicted", "positive"], rows)


def _wrong_rows(chosen: list[dict[str, Any]]) -> Table:
    rows = [
        [
            example["title"],
            example["user"],
            f"{example['probability']:.3f}",
            "positive" if example["positive"] else "negative",
        ]
        for example in chosen
    ]
    return table_of(["item", "user", "predicted", "what it was"], rows)

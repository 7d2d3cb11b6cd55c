"""A few users for the report: what they had done, what was answered, what happened.

Legend: N rows, K ranks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Queries
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.recommendations import Lists
from recsys.schema import tables

_SHOWN = 10


def retrieval_examples(
    dataset: PreparedDataset, queries: Queries, lists: Lists, options: EvaluationOptions
) -> list[dict[str, Any]]:
    """One random query of each of `num_examples` random users.

    Returns:
        For each: `user`, `when`, `history` (latest first), `history_length`, `recommended` (title, hit) and
        `happened` (title, rank in the list or None).
    """
    titles = dataset.item_titles
    return [
        _example(queries, lists, position, titles, has_timestamps=dataset.has_timestamps)
        for position in _one_of_each_user(queries.events.history_rows.numpy(), options)
    ]


def ranking_examples(
    dataset: PreparedDataset,
    rows: pa.Table,
    probabilities_N: npt.NDArray[np.float64],
    options: EvaluationOptions,
) -> list[dict[str, Any]]:
    """The test rows of `num_examples` random users, most probable first.

    Returns:
        For each: `user`, `num_rows` and `rows` (title, probability, positive).
    """
    titles = dataset.item_titles
    owners = rows[tables.HISTORY_ROW].to_numpy()
    item_rows, positives = rows[tables.ITEM_ROW].to_numpy(), rows[tables.POSITIVE].to_numpy()
    item_ids, user_ids = rows[tables.ITEM_ID], rows[tables.USER_ID]
    examples = []
    for position in _one_of_each_user(owners, options):
        own = np.flatnonzero(owners == owners[position])
        shown = own[np.argsort(-probabilities_N[own], kind="stable")][:_SHOWN]
        examples.append(
            {
                "user": str(user_ids[int(position)]),
                "num_rows": len(own),
                "rows": [
                    {
                        "title": titles[item_rows[row]] if item_rows[row] else str(item_ids[int(row)]),
                        "probability": float(probabilities_N[row]),
                        "positive": bool(positives[row]),
                    }
                    for row in shown
                ],
            }
        )
    return examples


def _example(
    queries: Queries, lists: Lists, position: int, titles: list[str], *, has_timestamps: bool
) -> dict[str, Any]:
    history = queries.histories.select(torch.tensor([position])).values.tolist()
    relevant = _bag(queries.relevant.values, queries.relevant.offsets, position)
    listed = [row for row in lists.item_rows[position].tolist() if row]
    when = np.datetime64(int(queries.timestamps_us[position]), "us") if has_timestamps else None
    return {
        "user": str(queries.user_ids[position]),
        "when": str(when.astype("datetime64[s]")) if when is not None else None,
        "history": [titles[row] for row in history[::-1][:_SHOWN]],
        "history_length": len(history),
        "recommended": [{"title": titles[row], "hit": row in relevant} for row in listed[:_SHOWN]],
        "happened": [
            {"title": titles[row], "rank": listed.index(row) + 1 if row in listed else None}
            for row in relevant[:_SHOWN]
        ],
    }


def _one_of_each_user(users_N: npt.NDArray[np.int64], options: EvaluationOptions) -> list[int]:
    """Positions of one random row of each of a few random users, in order."""
    generator = np.random.default_rng(options.seed)
    shuffled = generator.permutation(len(users_N))
    _, first = np.unique(users_N[shuffled], return_index=True)
    chosen = generator.permutation(shuffled[first])[: options.num_examples]
    return sorted(chosen.tolist())


def _bag(values: Any, offsets: Any, position: int) -> list[int]:
    bag: list[int] = values[int(offsets[position]) : int(offsets[position + 1])].tolist()
    return bag

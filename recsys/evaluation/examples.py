"""Users for the report: what they had done, what was answered, what happened; and the worst misses.

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
from recsys.evaluation.misses import Miss, favourite_misses, head_misses, missed_pairs
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.recommendations import Lists
from recsys.report.examples import SHOWN
from recsys.schema import tables


def retrieval_examples(
    dataset: PreparedDataset, queries: Queries, lists: Lists, options: EvaluationOptions
) -> list[dict[str, Any]]:
    """One random query of each of `num_examples` random users, then half as many worst misses of either kind.

    Returns:
        For each: `kind` (`random`, `head_missed` or `favourite_missed`), `user`, `when`, `history` (latest
        first), `history_length`, `recommended` (title, hit) and `happened` (title, rank in the list or None);
        of a miss also the `reason` why it is shown.
    """
    titles = dataset.item_titles
    has_timestamps = dataset.has_timestamps
    examples = [
        {"kind": "random", **_example(queries, lists, position, titles, has_timestamps=has_timestamps)}
        for position in _one_of_each_user(queries.events.history_rows.numpy(), options)
    ]
    pairs, num_misses = missed_pairs(queries, lists), options.num_examples // 2
    kinds: dict[str, list[Miss]] = {
        "head_missed": head_misses(dataset, queries, pairs, num_misses=num_misses),
        "favourite_missed": favourite_misses(
            dataset, queries, pairs, num_misses=num_misses, seed=options.seed
        ),
    }
    for kind, misses in kinds.items():
        for miss in misses:
            example = _example(queries, lists, miss.query, titles, has_timestamps=has_timestamps)
            reason = f"{miss.reason}; it is not among the {lists.item_rows.shape[1]} recommended."
            examples.append({"kind": kind, "reason": reason, **example})
    return examples


def ranking_examples(
    dataset: PreparedDataset,
    rows: pa.Table,
    probabilities_N: npt.NDArray[np.float64],
    options: EvaluationOptions,
) -> list[dict[str, Any]]:
    """The test rows of `num_examples` random users, most probable first, then as many that are surely wrong.

    Returns:
        For each user: `kind` `random`, `user`, `num_rows` and `rows` (title, probability, positive); for each
        wrong row, one of each user: `kind` `wrong`, `user`, `title`, `probability`, `positive`.
    """
    owners = rows[tables.HISTORY_ROW].to_numpy()
    positives_N = rows[tables.POSITIVE].to_numpy()
    user_ids = rows[tables.USER_ID]
    examples: list[dict[str, Any]] = []
    for position in _one_of_each_user(owners, options):
        own = np.flatnonzero(owners == owners[position])
        shown = own[np.argsort(-probabilities_N[own], kind="stable")][:SHOWN]
        answers = [_answer(dataset, rows, row, probabilities_N) for row in shown.tolist()]
        user = str(user_ids[int(position)])
        examples.append({"kind": "random", "user": user, "num_rows": len(own), "rows": answers})
    surest = np.argsort(-np.abs(probabilities_N - positives_N), kind="stable")
    _, first = np.unique(owners[surest], return_index=True)
    for row in surest[np.sort(first)][: options.num_examples].tolist():
        if (probabilities_N[row] >= 0.5) != positives_N[row]:
            answer = _answer(dataset, rows, row, probabilities_N)
            examples.append({"kind": "wrong", "user": str(user_ids[row]), **answer})
    return examples


def _answer(
    dataset: PreparedDataset, rows: pa.Table, row: int, probabilities_N: npt.NDArray[np.float64]
) -> dict[str, Any]:
    item_row = rows[tables.ITEM_ROW][row].as_py()
    return {
        "title": dataset.item_titles[item_row] if item_row else str(rows[tables.ITEM_ID][row]),
        "probability": float(probabilities_N[row]),
        "positive": rows[tables.POSITIVE][row].as_py(),
    }


def _example(
    queries: Queries, lists: Lists, position: int, titles: list[str], *, has_timestamps: bool
) -> dict[str, Any]:
    history = queries.histories.select(torch.tensor([position])).values.tolist()
    relevant = queries.relevant.select(torch.tensor([position])).values.tolist()
    listed = [row for row in lists.item_rows[position].tolist() if row]
    when = np.datetime64(int(queries.timestamps_us[position]), "us") if has_timestamps else None
    return {
        "user": str(queries.user_ids[position]),
        "when": str(when.astype("datetime64[s]")) if when is not None else None,
        "history": [titles[row] for row in history[::-1][:SHOWN]],
        "history_length": len(history),
        "recommended": [{"title": titles[row], "hit": row in relevant} for row in listed[:SHOWN]],
        "happened": [
            {"title": titles[row], "rank": listed.index(row) + 1 if row in listed else None}
            for row in relevant[:SHOWN]
        ],
    }


def _one_of_each_user(users_N: npt.NDArray[np.int64], options: EvaluationOptions) -> list[int]:
    """Positions of one random row of each of a few random users, in order."""
    generator = np.random.default_rng(options.seed)
    shuffled = generator.permutation(len(users_N))
    _, first = np.unique(users_N[shuffled], return_index=True)
    chosen = generator.permutation(shuffled[first])[: options.num_examples]
    return sorted(chosen.tolist())

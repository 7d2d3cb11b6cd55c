"""Which items are ranked (`evaluation.candidates`), and which queries ask for one of them.

Legend: I catalogue, Q queries, V values of a jagged field.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Queries
from recsys.data.reading.rows import ids_in, read_rows
from recsys.evaluation.options import EvaluationOptions
from recsys.schema.errors import InputError
from recsys.schema.jagged import JaggedColumn
from recsys.schema.places import at_home
from recsys.schema.tables import ITEM_ID

Mask = npt.NDArray[np.bool_]

_RULES = {
    "all": "the whole catalogue: every item of the train split or the items table",
    "new": "the items of the catalogue that have no positive in train",
    "known": "the items of the catalogue that have a positive in train",
}


def candidates_rule(options: EvaluationOptions) -> str:
    """Says which items are ranked and, where not all of them are, which queries are asked."""
    if options.candidates == "all":
        return _RULES["all"]
    rule = _RULES.get(options.candidates, f"the items that the file `{options.candidates}` names")
    return f"{rule}; relevant items that are not among them are left out, and so are queries without another"


def candidate_mask(dataset: PreparedDataset, options: EvaluationOptions) -> Mask | None:
    """[I] which rows of the catalogue are ranked; None for all.

    Raises:
        ValueError: no item is, or the file cannot be read or names an item that the catalogue does not have.
    """
    if options.candidates == "all":
        return None
    has_positives_I = dataset.item_counts.numpy() > 0
    if options.candidates in _RULES:
        mask_I = has_positives_I if options.candidates == "known" else ~has_positives_I
    else:
        mask_I = _named(at_home(options.candidates), dataset)
    mask_I[0] = False
    if not mask_I.any():
        raise InputError(
            f"`evaluation.candidates={options.candidates}` leaves none of {dataset.num_items - 1:,} items "
            f"of `{dataset.path}` to recommend; `all` ranks the whole catalogue"
        )
    return mask_I


def restricted(queries: Queries, mask_I: Mask | None) -> Queries:
    """The queries with a relevant item among the candidates, and of their relevant items those alone."""
    if mask_I is None:
        return queries
    relevant = queries.relevant.compact()
    kept_V = mask_I[relevant.values.numpy()]
    query_V = relevant.rows.numpy()[kept_V]
    lengths_Q = torch.from_numpy(np.bincount(query_V, minlength=len(queries)))
    answers = JaggedColumn.of_lengths(relevant.values[torch.from_numpy(kept_V)], lengths_Q)
    return dataclasses.replace(queries, relevant=answers).part(lengths_Q.nonzero().flatten())


def _named(path: Path, dataset: PreparedDataset) -> Mask:
    """[I] the items of a Parquet or CSV file with a column `item_id`, matched as text."""
    if not path.exists():
        raise InputError(
            f"expected `all`, `new`, `known` or a Parquet or CSV file with a column `{ITEM_ID}` for "
            f"`evaluation.candidates`, found no file `{path}`"
        )
    key = "evaluation.candidates"
    ids = ids_in(read_rows(path, required=[ITEM_ID], key=key), ITEM_ID, key=key)
    wanted = [item for item in ids.to_pylist() if item is not None]
    row_of = {str(item): row for row, item in enumerate(dataset.item_ids.tolist()) if row}
    unknown = [item for item in wanted if item not in row_of]
    if unknown:
        raise InputError(
            f"expected items of the catalogue of `{dataset.path}` in `evaluation.candidates={path}`, found "
            f"`{unknown[0]}`, {len(unknown):,} of {len(wanted):,} such; add them to the items table, or "
            "leave them out"
        )
    mask_I = np.zeros(dataset.num_items, dtype=np.bool_)
    mask_I[[row_of[item] for item in wanted]] = True
    return mask_I

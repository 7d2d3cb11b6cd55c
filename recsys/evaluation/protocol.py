"""The evaluation protocol: all that must agree before two results may be compared, in words and hashed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Queries
from recsys.evaluation.candidates import candidates_rule
from recsys.evaluation.options import EvaluationOptions
from recsys.schema import tables

# Raised when a result would come out differently for the same model and data.
PROTOCOL_VERSION = 1

_QUERY_RULES = {
    "event": "every positive test event is a query; its history is the user's positives before it",
    "user": "one query a user: all test positives are relevant, the history is those of earlier splits",
}
_SEEN_RULES = {
    "exclude": "items of the query's history are not recommended; relevant again, they count as missed",
    "keep": "items of the query's history may be recommended again",
}
_TRAIN_ALONE = "; of these, those of train alone (`evaluation.known=train`)"
LEAK_WARNING = (
    "This split leaks the future: events of the test part came before events that the model learned from. "
    "Its figures are better than any that this model can reach in use."
)


def retrieval_protocol(
    dataset: PreparedDataset, options: EvaluationOptions, *, queries: Queries
) -> dict[str, Any]:
    """Describes the queries, candidates and rules by which a retrieval model is evaluated."""
    return {
        "version": PROTOCOL_VERSION,
        "task": "retrieval",
        **_data_protocol(dataset),
        "queries": queries.mode,
        "queries_rule": _QUERY_RULES[queries.mode] + (_TRAIN_ALONE if options.known == "train" else ""),
        "questions_sha256": _sha256(
            queries.user_ids,
            queries.timestamps_us,
            queries.histories.lengths.numpy(),
            queries.relevant.lengths.numpy(),
            dataset.item_ids[queries.relevant.values.numpy()],
        ),
        "candidates": candidates_rule(options),
        "catalogue_sha256": _sha256(np.sort(dataset.item_ids[1:].astype(str))),
        "seen": queries.seen,
        "seen_rule": _SEEN_RULES[queries.seen],
        "cannot_be_hit": queries.unreachable,
        "unknown_rule": "relevant items outside the catalogue count as missed",
        "tie_rule": "equal scores rank by the lower catalogue row: the item more frequent in train",
        "metrics_rule": "recall divides by the relevant items, ndcg by the DCG of min(k, relevant) items",
        "k": sorted(options.k),
    }


def ranking_protocol(dataset: PreparedDataset, *, rows: pa.Table, num_negatives: int) -> dict[str, Any]:
    """Describes the rows and rules by which a ranking model is evaluated."""
    asked = "every row of the test split"
    if num_negatives:
        asked += f", all positives, and beside each {num_negatives} items drawn uniformly from the catalogue"
    return {
        "version": PROTOCOL_VERSION,
        "task": "ranking",
        **_data_protocol(dataset),
        "rows": asked,
        "questions_sha256": _sha256(
            *(
                rows[name].to_numpy()
                for name in (tables.USER_ID, tables.ITEM_ID, tables.TIMESTAMP, tables.POSITIVE)
            )
        ),
        "tie_rule": "pairs of equal probability count half",
        "gauc_rule": "AUC of each user, weighted by rows; users with one class of label are left out",
    }


def protocol_hash(protocol: dict[str, Any]) -> str:
    """Hex SHA-256 of a protocol; equal hashes mean comparable results."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()


def warnings_of(dataset: PreparedDataset) -> list[str]:
    """Warnings that stand above every result on this dataset."""
    return [LEAK_WARNING] if dataset.manifest["split"]["leaks"] else []


def _data_protocol(dataset: PreparedDataset) -> dict[str, Any]:
    manifest = dataset.manifest
    return {"dataset": manifest["name"], "split": manifest["split"], "positives": manifest["label"]}


def _sha256(*columns: npt.NDArray[Any]) -> str:
    """Digest of columns of numbers or text, by their values as text."""
    digest = hashlib.sha256()
    for column in columns:
        digest.update("\n".join(map(str, column.tolist())).encode())
        digest.update(b"\0")
    return digest.hexdigest()

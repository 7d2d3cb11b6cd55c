"""What a bundle's manifest says of its methods and of the fields that requests may hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys.data.dataset import PreparedDataset
from recsys.export.fields import Fields, fields_of
from recsys.schema.features import ALL_ROLES, HISTORY, ITEM_ID, USER_ID, Feature, Role
from recsys.schema.labels import MAIN, AuxiliaryLabel
from recsys.schema.tables import TIMESTAMP

_RECORD = {"user": "fields of the user", "item": "fields of the item", "context": "fields of the request"}
_KINDS = {
    "multi_id": "list of text or integers, or text with `{delimiter}` between the values",
    "numeric": "number",
    "text": "text",
}
_WHEN_MISSING = {
    "id": "unknown value (row 0)",
    "multi_id": "no values",
    "numeric": "the train mean",
    "text": "no words",
    "time": "unknown time (row 0)",
}


def signature(
    dataset: PreparedDataset,
    *,
    is_ranking: bool,
    history_length: int,
    labels: Sequence[AuxiliaryLabel] = (),
) -> dict[str, Any]:
    """Methods with their arguments, and the fields of the records they take.

    Args:
        dataset: what the model was trained on.
        is_ranking: whether the file is `ranking.pt`.
        history_length: latest items of a history that the model sees.
        labels: the auxiliary labels that the model has heads for.
    """
    fields = fields_of(dataset.schema, dataset.manifest["config"], flat=is_ranking)
    records: dict[str, Any] = {role: _fields(dataset, fields, role) for role in ALL_ROLES}
    history = {
        "type": f"list of {_id_type(dataset, ITEM_ID)} item ids, oldest first",
        "meaning": f"what the user liked before; the model sees the latest {history_length}",
        "when_missing": "no history",
    }
    if is_ranking:
        row = {
            **records["user"],
            **records["item"],
            **records["context"],
            **records["pair"],
            HISTORY: history,
        }
        return {"methods": _ranking_methods(labels), "row": row}
    return {"methods": _retrieval_methods(_id_type(dataset, ITEM_ID)), HISTORY: history} | records


def _fields(dataset: PreparedDataset, fields: Fields, role: Role) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = {"user": (USER_ID, fields.user_id), "item": (ITEM_ID, fields.item_id)}
    if role in names:
        name, accepted = names[role]
        found[name] = {
            "type": _id_type(dataset, name),
            "accepted_names": accepted,
            "meaning": f"id of the {role}; fields of a known one that are left out are looked up",
            "when_missing": f"unknown {role} (row 0)",
        }
    for feature in dataset.schema.features:
        if feature.role == role and feature.name not in (USER_ID, ITEM_ID, HISTORY):
            accepted = fields.of(feature)
            described = found.setdefault(accepted[0], _describe(dataset, feature, accepted))
            described.setdefault("features", []).append(feature.name)
    return found


def _describe(dataset: PreparedDataset, feature: Feature, accepted: list[str]) -> dict[str, Any]:
    if feature.kind == "time":
        unit = dataset.manifest["timestamp"]["unit"] or "s"
        kind = f"number of {unit} since 1970 (UTC), or ISO 8601 text"
    elif feature.kind == "statistic":
        return _describe_statistic(feature, accepted)
    elif feature.kind == "id":
        kind = feature.value_type
    else:
        kind = _KINDS[feature.kind].format(delimiter=feature.delimiter)
    meaning = (
        "time of the request" if accepted[0] == TIMESTAMP else f"column `{feature.column}` of the raw table"
    )
    return {
        "type": kind,
        "accepted_names": accepted,
        "meaning": meaning,
        "when_missing": _WHEN_MISSING["id" if feature.transform == "bucketise" else feature.kind],
    }


def _describe_statistic(feature: Feature, accepted: list[str]) -> dict[str, Any]:
    window = "all events"
    if feature.window_days:
        window = f"events of {feature.window_days} days"
    elif feature.window_events:
        window = f"the latest {feature.window_events} events"
    return {
        "type": "number",
        "accepted_names": accepted,
        "meaning": f"{feature.measure} of {window} before the request, same {' and '.join(feature.of)}",
        "when_missing": "computed from what was observed; when None, the train mean or row 0",
    }


def _id_type(dataset: PreparedDataset, name: str) -> str:
    kind: str = dataset.manifest["id_types"][name]
    return kind


def _retrieval_methods(item_id: str) -> dict[str, Any]:
    query = [
        _argument("user", "Dict[str, Any]", _RECORD["user"]),
        _argument(HISTORY, "List[Any]", "raw item ids, oldest first; they are not recommended"),
    ]
    context = _argument("context", "Optional[Dict[str, Any]]", _RECORD["context"], default=None)
    k = _argument("k", "int", "how many items, at least 1")
    exclude = _argument(
        "exclude", "Optional[List[Any]]", "raw ids of further items to leave out", default=None
    )
    listed = "List[int]" if item_id == "integer" else "List[str]"
    times = _argument(
        "history_times",
        "Optional[List[Any]]",
        "timestamps of the history's items; models that read the history as a bag do without",
        default=None,
    )
    liked = _argument(
        "history_liked",
        "Optional[List[bool]]",
        "whether each of them was liked; models that read only what was liked do without",
        default=None,
    )
    return {
        "recommend": {
            "arguments": [*query, k, context, exclude, times, liked],
            "returns": f"Tuple[{listed}, List[float]]: ids and scores, best first",
        },
        "encode_user": {"arguments": [*query, context, times, liked], "returns": "Tensor [D]"},
        "encode_item": {
            "arguments": [_argument("item", "Dict[str, Any]", _RECORD["item"])],
            "returns": "Tensor [D]",
        },
        "recommend_batch": {
            "arguments": "users, histories, k and, or None, contexts, excludes, history_times, history_liked",
            "returns": f"Tuple[List[{listed}], List[List[float]]]",
        },
        "encode_users": {
            "arguments": "users, histories and, or None, contexts, history_times, history_liked",
            "returns": "Tensor [B, D]",
        },
        "encode_items": {"arguments": "items: a list", "returns": "Tensor [N, D]"},
        "unread_fields": _unread_fields("record"),
    }


def _ranking_methods(labels: Sequence[AuxiliaryLabel]) -> dict[str, Any]:
    rows = _argument("rows", "List[Dict[str, Any]]", "user, item and context fields, and `history`")
    heads = {MAIN: "probability that the row is a positive"} | {
        label.name: "probability" if label.kind == "binary" else f"number, as in the column `{label.column}`"
        for label in labels
    }
    return {
        "predict": {
            "arguments": [rows],
            "returns": "Tensor [B]: probability that each row is a positive",
        },
        "predict_heads": {
            "arguments": [rows],
            "returns": "Dict[str, Tensor [B]]: what each head predicts",
            "heads": heads,
        },
        "predict_items": {
            "arguments": [
                _argument("user", "Dict[str, Any]", _RECORD["user"]),
                _argument("item_ids", "List[Any]", "raw item ids"),
                _argument(HISTORY, "List[Any]", "raw item ids, oldest first"),
                _argument("context", "Optional[Dict[str, Any]]", _RECORD["context"], default=None),
            ],
            "returns": "Tensor [N]: probability of each item for this user",
        },
        "observe": {
            "arguments": [
                _argument("rows", "List[Dict[str, Any]]", "events in the order of time, with `label`")
            ],
            "returns": "None: later requests see these events in their statistics",
        },
        "unread_fields": _unread_fields("row"),
    }


def _unread_fields(name: str) -> dict[str, Any]:
    return {
        "arguments": [_argument(name, "Dict[str, Any]", "any record")],
        "returns": "List[str]: its fields that no feature reads",
    }


def _argument(name: str, kind: str, meaning: str, **default: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "meaning": meaning, **default}

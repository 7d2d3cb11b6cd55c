"""What a bundle's manifest says of its methods and of the fields that requests may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recsys.data.dataset import PreparedDataset
from recsys.export.attributes import attributes_of
from recsys.export.fields import Fields, fields_of
from recsys.schema.feature_kinds import (
    Feature,
    IdFeature,
    MultiIdFeature,
    NumberFeature,
    Role,
    StatisticFeature,
    TimeFeature,
)
from recsys.schema.features import ALL_ROLES, HISTORY, ITEM_ID, QUERY_ROLES, USER_ID
from recsys.schema.labels import MAIN, AuxiliaryLabel
from recsys.schema.requests import FieldKind
from recsys.schema.tables import TIMESTAMP

_RECORD = {"user": "fields of the user", "item": "fields of the item", "context": "fields of the request"}
_KINDS = {
    "multi_id": "list of text or integers, or text with `{delimiter}` between the values",
    "numeric": "number",
    "text": "text",
}
# How a request's value is read; see `recsys.serving.values`.
_FIELD_KINDS: dict[str, FieldKind] = {
    "id": "id",
    "multi_id": "list",
    "numeric": "number",
    "statistic": "number",
    "text": "text",
    "time": "time",
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
    methods = _retrieval_methods(_id_type(dataset, ITEM_ID), list(attributes_of(dataset, fields)))
    return {"methods": methods, HISTORY: history} | records


def _fields(dataset: PreparedDataset, fields: Fields, role: Role) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = {"user": (USER_ID, fields.user_id), "item": (ITEM_ID, fields.item_id)}
    if role in names:
        name, accepted = names[role]
        found[name] = {
            "kind": "id",
            "type": _id_type(dataset, name),
            "accepted_names": accepted,
            "meaning": f"id of the {role}; fields of a known one that are left out are looked up",
            "when_missing": f"unknown {role} (row 0)",
        }
    for feature in dataset.schema.features:
        if feature.role == role and feature.name not in (USER_ID, ITEM_ID, HISTORY):
            accepted = fields.of(feature)
            described = found.setdefault(
                accepted[0],
                {"kind": _FIELD_KINDS[feature.kind], **_describe(dataset, feature, accepted)},
            )
            described.setdefault("features", []).append(feature.name)
    if role == "context" and dataset.has_timestamps:
        found.setdefault(
            fields.timestamp[0],
            {
                "kind": "time",
                "type": _type_of_time(dataset),
                "accepted_names": fields.timestamp,
                "meaning": "time of the request, for statistics and for models that read times of a history",
                "when_missing": "after all that was observed",
            },
        )
    return found


def _describe(dataset: PreparedDataset, feature: Feature, accepted: list[str]) -> dict[str, Any]:
    if isinstance(feature, StatisticFeature):
        return _describe_statistic(feature, accepted)
    meaning = (
        "time of the request" if accepted[0] == TIMESTAMP else f"column `{feature.column}` of the raw table"
    )
    return {
        "type": _raw_type(dataset, feature),
        "accepted_names": accepted,
        "meaning": meaning,
        "when_missing": _WHEN_MISSING[
            "id" if isinstance(feature, NumberFeature) and feature.is_sparse else feature.kind
        ],
    }


def _raw_type(dataset: PreparedDataset, feature: Feature) -> str:
    match feature:
        case TimeFeature():
            return _type_of_time(dataset)
        case IdFeature():
            return feature.value_type
        case MultiIdFeature():
            return _KINDS[feature.kind].format(delimiter=feature.delimiter)
    return _KINDS[feature.kind]


def _type_of_time(dataset: PreparedDataset) -> str:
    unit = dataset.manifest["timestamp"]["unit"] or "s"
    return f"number of {unit} since 1970 (UTC), or ISO 8601 text"


def _describe_statistic(feature: StatisticFeature, accepted: list[str]) -> dict[str, Any]:
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


def two_stage_signature(
    retrieval: PreparedDataset,
    ranking: PreparedDataset,
    *,
    history_lengths: Sequence[int],
    defaults: Mapping[str, Any],
) -> dict[str, Any]:
    """Methods of a two-stage recommender, and the fields that either of its models reads.

    Args:
        retrieval: what the first model was trained on.
        ranking: what the second was.
        history_lengths: latest items of a history that each of them sees.
        defaults: of `num_candidates` and `diversity`.
    """
    datasets = {"retrieval": retrieval, "ranking": ranking}
    records: dict[str, Any] = {}
    for role in QUERY_ROLES:
        described = {
            stage: _fields(one, fields_of(one.schema, one.manifest["config"], flat=False), role)
            for stage, one in datasets.items()
        }
        records[role] = _of_either(described)
    seen = " and ".join(map(str, history_lengths))
    history = {
        "type": f"list of {_id_type(retrieval, ITEM_ID)} item ids, oldest first",
        "meaning": f"what the user liked before; the models see the latest {seen}",
        "when_missing": "no history",
    }
    filtered = attributes_of(retrieval, fields_of(retrieval.schema, retrieval.manifest["config"], flat=False))
    methods = _two_stage_methods(_id_type(retrieval, ITEM_ID), defaults, list(filtered))
    return {"methods": methods, HISTORY: history} | records


def _of_either(described: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The fields that any stage reads, each with who does; what they do without it where that differs."""
    found: dict[str, Any] = {}
    for stage, fields in described.items():
        for name, field in fields.items():
            entry = found.setdefault(name, {**field, "read_by": []})
            entry["read_by"].append(stage)
            if field["when_missing"] not in entry["when_missing"]:
                entry["when_missing"] += f"; in {stage}: {field['when_missing']}"
            names = [*entry.get("features", []), *field.get("features", [])]
            if names:
                entry["features"] = list(dict.fromkeys(names))
    return found


def _query_arguments() -> dict[str, dict[str, Any]]:
    """Arguments of methods that are about a user, by name."""
    arguments = [
        _argument("user", "Dict[str, Any]", _RECORD["user"]),
        _argument(HISTORY, "List[Any]", "raw item ids, oldest first; they are not recommended", shape=["L"]),
        _argument("k", "int", "how many items, at least 1"),
        _argument("context", "Optional[Dict[str, Any]]", _RECORD["context"], default=None),
        _argument(
            "exclude",
            "Optional[List[Any]]",
            "raw ids of further items to leave out",
            shape=["E"],
            default=None,
        ),
        _argument(
            "history_times",
            "Optional[List[Any]]",
            "timestamps of the history's items; models that read the history as a bag do without",
            shape=["L"],
            default=None,
        ),
        _argument(
            "history_liked",
            "Optional[List[bool]]",
            "whether each of them was liked; models that read only what was liked do without",
            shape=["L"],
            default=None,
        ),
    ]
    return {argument["name"]: argument for argument in arguments}


def _where(attributes: Sequence[str]) -> dict[str, Any]:
    meaning = "raw values by attribute of the items; of each attribute, an item must hold one of them"
    kind = "Optional[Dict[str, List[Any]]]"
    return {**_argument("where", kind, meaning, default=None), "attributes": list(attributes)}


def _retrieval_methods(item_id: str, attributes: Sequence[str]) -> dict[str, Any]:
    asked = _query_arguments()
    listing = [*asked.values(), _where(attributes)]
    encoding = [argument for name, argument in asked.items() if name not in ("k", "exclude")]
    item = _argument("item", "Dict[str, Any]", _RECORD["item"])
    listed = _listed(item_id)
    return {
        "recommend": {
            "arguments": listing,
            "returns": f"Tuple[{listed}, List[float]]: ids and scores, best first",
        },
        "encode_user": {"arguments": encoding, "returns": "Tensor [D]"},
        "encode_item": {"arguments": [item], "returns": "Tensor [D]"},
        "recommend_batch": {
            "arguments": _batched(listing),
            "returns": f"Tuple[List[{listed}], List[List[float]]]",
        },
        "encode_users": {"arguments": _batched(encoding), "returns": "Tensor [B, D]"},
        "encode_items": {"arguments": _batched([item]), "returns": "Tensor [B, D]"},
        "add_items": _add_items(),
        "set_available": _set_available(),
        "unread_fields": _unread_fields("record"),
    }


def _two_stage_methods(
    item_id: str, defaults: Mapping[str, Any], attributes: Sequence[str]
) -> dict[str, Any]:
    limits = {
        "num_candidates": ("Optional[int]", "how many of what is left are ranked, k at least"),
        "diversity": ("Optional[float]", "weight of variety, 0 to 1; 0 is the order of the probabilities"),
    }
    listing = [
        *_query_arguments().values(),
        *(_argument(name, *limits[name], default=defaults[name]) for name in limits),
        _where(attributes),
    ]
    listed = _listed(item_id)
    return {
        "recommend": {
            "arguments": listing,
            "returns": f"Tuple[{listed}, List[float], List[float], List[str]]: ids, probabilities, retrieval "
            "scores and sources: `retrieval`, `ranking` or `diversity`, the first to choose it",
        },
        "recommend_batch": {
            "arguments": _batched(listing),
            "returns": f"Tuple[List[{listed}], List[List[float]], List[List[float]], List[List[str]]]",
        },
        "set_available": _set_available(),
        "observe": _observe(),
        "add_items": _add_items(),
        "unread_fields": _unread_fields("record"),
    }


def _ranking_methods(labels: Sequence[AuxiliaryLabel]) -> dict[str, Any]:
    rows = _argument(
        "rows", "List[Dict[str, Any]]", "user, item and context fields, and `history`", shape=["B"]
    )
    heads = {MAIN: "probability that the row is a positive"} | {
        label.name: "probability" if label.kind == "binary" else f"number, as in the column `{label.column}`"
        for label in labels
    }
    asked = _query_arguments()
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
                asked["user"],
                _argument("item_ids", "List[Any]", "raw item ids", shape=["N"]),
                {**asked[HISTORY], "meaning": "raw item ids, oldest first"},
                asked["context"],
            ],
            "returns": "Tensor [N]: probability of each item for this user",
        },
        "observe": _observe(),
        "add_items": _add_items(),
        "unread_fields": _unread_fields("row"),
    }


def _set_available() -> dict[str, Any]:
    return {
        "arguments": [
            _argument("item_ids", "List[Any]", "raw item ids; unknown ones do nothing", shape=["N"]),
            _argument("available", "bool", "whether they may be recommended; all may at first"),
        ],
        "returns": "int: how many of them the catalogue knows",
    }


def _observe() -> dict[str, Any]:
    meaning = "events in the order of time, with `label`"
    return {
        "arguments": [_argument("rows", "List[Dict[str, Any]]", meaning, shape=["B"])],
        "returns": "None: later requests see these events in their statistics",
    }


def _add_items() -> dict[str, Any]:
    meaning = "fields of new items, each with an id that is not known yet"
    return {
        "arguments": [_argument("items", "List[Dict[str, Any]]", meaning, shape=["N"])],
        "returns": "int: how many were added",
    }


def _unread_fields(name: str) -> dict[str, Any]:
    return {
        "arguments": [_argument(name, "Dict[str, Any]", "any record")],
        "returns": "List[str]: its fields that no feature reads",
    }


def _listed(item_id: str) -> str:
    return "List[int]" if item_id == "integer" else "List[str]"


_PLURALS = {
    "user": "users",
    HISTORY: "histories",
    "context": "contexts",
    "exclude": "excludes",
    "item": "items",
}
_OF_ALL = ("k", "num_candidates", "diversity", "where")


def _batched(arguments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same arguments for B requests; what is no part of a request holds for all of them."""
    found = []
    for argument in arguments:
        if argument["name"] in _OF_ALL:
            found.append(argument)
            continue
        kind = argument["type"]
        is_optional = kind.startswith("Optional[")
        many = f"List[{kind.removeprefix('Optional[').removesuffix(']') if is_optional else kind}]"
        found.append(
            {
                **argument,
                "name": _PLURALS.get(argument["name"], argument["name"]),
                "type": f"Optional[{many}]" if is_optional else many,
                "shape": ["B", *argument["shape"]],
            }
        )
    return found


def _argument(
    name: str, kind: str, meaning: str, *, shape: Sequence[str] = (), **default: Any
) -> dict[str, Any]:
    """An argument; its shape names the lengths of lists, from the outermost on."""
    return {"name": name, "type": kind, "shape": list(shape), "meaning": meaning, **default}

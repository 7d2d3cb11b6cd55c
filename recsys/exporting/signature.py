"""Describes a bundle's methods, and the fields that requests may hold, for its manifest."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.exporting.attributes import attributes_of
from recsys.exporting.fields import Fields, fields_of
from recsys.exporting.program.ranking import RankingProgram
from recsys.exporting.program.retrieval import RetrievalProgram
from recsys.exporting.program.two_stage import TwoStageProgram
from recsys.schema.feature_kinds import (
    Feature,
    IdFeature,
    MultiIdFeature,
    NumberFeature,
    Role,
    SentenceFeature,
    StatisticFeature,
    TimeFeature,
    VectorFeature,
)
from recsys.schema.features import ALL_ROLES, HISTORY, ITEM_ID, QUERY_ROLES, USER_ID
from recsys.schema.labels import MAIN, AuxiliaryLabel
from recsys.schema.requests import FieldKind
from recsys.schema.tables import TIMESTAMP

_KINDS = {
    "multi_id": "list of text or integers, or text with `{delimiter}` between the values",
    "numeric": "number",
    "text": "text",
    "vector": "list of {size} numbers",
    "sentence": "list of {size} numbers",
}
# How a request's value is read; see `recsys.serving.values`.
_FIELD_KINDS: dict[str, FieldKind] = {
    "id": "id",
    "multi_id": "list",
    "numeric": "number",
    "statistic": "number",
    "text": "text",
    "time": "time",
    "vector": "vector",
    "sentence": "vector",
}
_WHEN_MISSING = {
    "id": "unknown value (row 0)",
    "multi_id": "no values",
    "numeric": "the train mean",
    "text": "no words",
    "vector": "no vector (zeros)",
    "sentence": "`recsys.serving` makes it of the text; elsewhere no vector (zeros)",
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
        methods = _methods(RankingProgram, _RANKING_METHODS, item_id=_id_type(dataset, ITEM_ID))
        methods["predict_heads"]["heads"] = _heads(labels)
        return {"methods": methods, "row": row}
    methods = _methods(
        RetrievalProgram,
        _RETRIEVAL_METHODS,
        item_id=_id_type(dataset, ITEM_ID),
        attributes=list(attributes_of(dataset, fields)),
    )
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
            if isinstance(feature, SentenceFeature):
                field = fields.columns[role].get(feature.column, feature.column)
                described["made_of"] = {"field": field, "model": feature.model}
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
    if isinstance(feature, SentenceFeature):
        meaning = f"vector of the text in the column `{feature.column}`, by the model `{feature.model}`"
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
        case VectorFeature():
            return _KINDS[feature.kind].format(size=feature.size)
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
    methods = _methods(
        TwoStageProgram,
        _TWO_STAGE_METHODS,
        item_id=_id_type(retrieval, ITEM_ID),
        defaults=defaults,
        attributes=list(filtered),
    )
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


def _methods(
    program: type[nn.Module],
    names: Sequence[str],
    *,
    item_id: str,
    defaults: Mapping[str, Any] | None = None,
    attributes: Sequence[str] = (),
) -> dict[str, Any]:
    """Methods of a program: arguments as their signatures have them, each with its meaning and shape."""
    ids = "List[int]" if item_id == "integer" else "List[str]"
    returns = _RETURNS | (_RETURNS_OF_TWO_STAGES if program is TwoStageProgram else {})
    found: dict[str, Any] = {}
    for name in names:
        method = getattr(program, name)
        parameters = [one for one in inspect.signature(method).parameters.values() if one.name != "self"]
        arguments = [_argument(one, defaults or {}) for one in parameters]
        for argument in arguments:
            if argument["name"] == "where":
                argument["attributes"] = list(attributes)
        found[name] = {"arguments": arguments, "returns": returns[name].format(ids=ids)}
    return found


def _argument(parameter: inspect.Parameter, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """An argument; its shape names the lengths of lists, from the outermost on."""
    one = _SINGULAR.get(parameter.name, parameter.name)
    is_plural = one != parameter.name
    annotation = parameter.annotation
    kind = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
    argument = {
        "name": parameter.name,
        "type": kind,
        "shape": [*(["B"] if is_plural else []), *_SHAPES.get(one, [])],
        "meaning": _MEANINGS[one],
    }
    # Of B requests, these are lists of what they are of one.
    if kind.startswith("Optional[List[List["):
        argument["shape"] = ["B", *_SHAPES[one]]
    if parameter.default is not inspect.Parameter.empty:
        argument["default"] = defaults.get(parameter.name, parameter.default)
    return argument


_SINGULAR = {
    "users": "user",
    "histories": HISTORY,
    "contexts": "context",
    "excludes": "exclude",
}
_SHAPES = {
    HISTORY: ["L"],
    "history_times": ["L"],
    "history_liked": ["L"],
    "exclude": ["E"],
    "item_ids": ["N"],
    "items": ["N"],
    "rows": ["B"],
}
_MEANINGS = {
    "user": "fields of the user",
    "context": "fields of the request",
    "item": "fields of the item",
    "items": "fields of items; of `add_items` each with an id that is not known yet",
    "rows": "user, item and context fields, and `history`; of `observe` events in the order of time, with "
    "`label`",
    "row": "any record",
    "record": "any record",
    HISTORY: "raw item ids, oldest first; not recommended where the manifest has `seen` `exclude`",
    "k": "how many items, at least 1",
    "exclude": "raw ids of further items to leave out",
    "history_times": "timestamps of the history's items; models that read the history as a bag do without",
    "history_liked": "whether each of them was liked; models that read only what was liked do without",
    "where": "raw values by attribute of the items; of each attribute, an item must hold one of them",
    "num_candidates": "how many of what is left are ranked, k at least",
    "diversity": "weight of variety, 0 to 1; 0 is the order of the probabilities",
    "item_ids": "raw item ids; `set_available` passes over unknown ones",
    "available": "whether they may be recommended; all may at first",
}
_RETURNS = {
    "recommend": "Tuple[{ids}, List[float]]: ids and scores, best first",
    "recommend_batch": "Tuple[List[{ids}], List[List[float]]]",
    "encode_user": "Tensor [D]",
    "encode_users": "Tensor [B, D]",
    "encode_item": "Tensor [D]",
    "encode_items": "Tensor [B, D]",
    "predict": "Tensor [B]: probability that each row is a positive",
    "predict_heads": "Dict[str, Tensor [B]]: what each head predicts",
    "predict_items": "Tensor [N]: probability of each item for this user",
    "add_items": "int: how many were added",
    "set_available": "int: how many of them the catalogue knows",
    "observe": "None: later requests see these events in their statistics",
    "unread_fields": "List[str]: its fields that no feature reads",
}
_RETURNS_OF_TWO_STAGES = {
    "recommend": "Tuple[{ids}, List[float], List[float], List[str]]: ids, probabilities, retrieval scores "
    "and sources: `retrieval`, `ranking` or `diversity`, the first to choose it",
    "recommend_batch": "Tuple[List[{ids}], List[List[float]], List[List[float]], List[List[str]]]",
}
_RETRIEVAL_METHODS = (
    *("recommend", "encode_user", "encode_item", "recommend_batch", "encode_users", "encode_items"),
    *("add_items", "set_available", "unread_fields"),
)
_RANKING_METHODS = ("predict", "predict_heads", "predict_items", "observe", "add_items", "unread_fields")
_TWO_STAGE_METHODS = (
    *("recommend", "recommend_batch", "set_available", "observe", "add_items", "unread_fields"),
)


def _heads(labels: Sequence[AuxiliaryLabel]) -> dict[str, str]:
    return {MAIN: "probability that the row is a positive"} | {
        label.name: "probability" if label.kind == "binary" else f"number, as in the column `{label.column}`"
        for label in labels
    }

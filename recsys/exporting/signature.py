"""Describes a bundle's methods, and the fields that requests may hold, for its manifest."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn
from torch._jit_internal import FunctionModifiers

from recsys.data.dataset import PreparedDataset
from recsys.exporting.attributes import attributes_of
from recsys.exporting.fields import Fields
from recsys.exporting.interests import described_interests
from recsys.exporting.program.retrieval import RetrievalProgram
from recsys.exporting.program.two_stage import TwoStageProgram
from recsys.exporting.stage import Stage
from recsys.schema.docstrings import argument_texts
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


def records_of(stage: Stage) -> dict[str, Any]:
    """The fields that the records of a file of one model may hold, by role."""
    fields = stage.fields()
    return {role: _fields(stage.dataset, fields, role) for role in ALL_ROLES}


def two_stage_signature(retrieval: Stage, ranking: Stage, *, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Methods of a two-stage recommender, and the fields that either of its models reads.

    Args:
        retrieval: the first stage.
        ranking: the second.
        defaults: of `num_candidates` and `diversity`.
    """
    stages = {"retrieval": retrieval, "ranking": ranking}
    records = {
        role: _of_either(
            {name: _fields(stage.dataset, stage.fields(flat=False), role) for name, stage in stages.items()}
        )
        for role in QUERY_ROLES
    }
    records["user"] |= {
        name: {**field, "read_by": ["retrieval"]} for name, field in described_interests(retrieval).items()
    }
    seen = f"the models see the latest {retrieval.history_length} and {ranking.history_length}"
    attributes = list(attributes_of(retrieval.dataset, retrieval.fields(flat=False)))
    methods = methods_of(TwoStageProgram, retrieval, attributes=attributes, defaults=defaults)
    return {"methods": methods, HISTORY: history_of(retrieval, seen)} | records


def history_of(stage: Stage, seen: str | None = None) -> dict[str, str]:
    """Describes the history that a model sees; by its own length unless `seen` says otherwise."""
    seen = seen or f"the model sees the latest {stage.history_length}"
    return {
        "type": f"list of {_id_type(stage.dataset, ITEM_ID)} item ids, oldest first",
        "meaning": f"what the user liked before; {seen}",
        "when_missing": "no history",
    }


def _fields(dataset: PreparedDataset, fields: Fields, role: Role) -> dict[str, Any]:
    described: dict[str, Any] = {}
    names = {"user": (USER_ID, fields.user_id), "item": (ITEM_ID, fields.item_id)}
    if role in names:
        name, accepted = names[role]
        described[name] = {
            "kind": "id",
            "type": _id_type(dataset, name),
            "accepted_names": accepted,
            "meaning": f"id of the {role}; fields of a known one that are left out are looked up",
            "when_missing": f"unknown {role} (row 0)",
        }
    for feature in dataset.schema.features:
        if feature.role == role and feature.name not in (USER_ID, ITEM_ID, HISTORY):
            accepted = fields.of(feature)
            kind = _FIELD_KINDS[feature.kind]
            field = described.setdefault(accepted[0], {"kind": kind, **_describe(dataset, feature, accepted)})
            if isinstance(feature, SentenceFeature):
                text = fields.columns[role].get(feature.column, feature.column)
                field["made_of"] = {"field": text, "model": feature.model}
            field.setdefault("features", []).append(feature.name)
    if role == "context" and dataset.has_timestamps:
        described.setdefault(
            fields.timestamp[0],
            {
                "kind": "time",
                "type": _type_of_time(dataset),
                "accepted_names": fields.timestamp,
                "meaning": "time of the request, for statistics and for models that read times of a history",
                "when_missing": "after all that was observed",
            },
        )
    return described


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
    elif feature.window_hours:
        window = f"events of {feature.window_hours} hours"
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


def _of_either(described: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The fields that any stage reads, each with who does; what they do without it where that differs."""
    either: dict[str, Any] = {}
    for stage, fields in described.items():
        for name, field in fields.items():
            entry = either.setdefault(name, {**field, "read_by": []})
            entry["read_by"].append(stage)
            if field["when_missing"] not in entry["when_missing"]:
                entry["when_missing"] += f"; in {stage}: {field['when_missing']}"
            names = [*entry.get("features", []), *field.get("features", [])]
            if names:
                entry["features"] = list(dict.fromkeys(names))
    return either


def methods_of(
    program: type[nn.Module],
    stage: Stage,
    *,
    attributes: list[str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Methods of a program as its code says: arguments with meaning and shape, and what is returned."""
    methods = dict(_exported(program))
    texts = {name: argument_texts(inspect.getdoc(method) or "") for name, method in methods.items()}
    # What one method says of an argument holds for those that do not say it again.
    said_once = {name: text for of_method in reversed(texts.values()) for name, text in of_method.items()}
    ids = "List[int]" if _id_type(stage.dataset, ITEM_ID) == "integer" else "List[str]"
    described: dict[str, Any] = {}
    for name, method in methods.items():
        parameters = list(inspect.signature(method).parameters.values())[1:]
        meanings = said_once | texts[name]
        arguments = [_argument(parameter, meanings, defaults or {}) for parameter in parameters]
        for argument in arguments:
            if argument["name"] == "where":
                argument["attributes"] = attributes
        described[name] = {"arguments": arguments, "returns": _returns(program, name, method, ids)}
    return described


def _exported(program: type[nn.Module]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Methods that requests call; those that make the tensors of a package stand with the package."""
    for name, method in vars(program).items():
        is_exported = getattr(method, "_torchscript_modifier", None) is FunctionModifiers.EXPORT
        if is_exported and not name.startswith("inputs_of_"):
            yield name, method


def _argument(
    parameter: inspect.Parameter, meanings: Mapping[str, str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """An argument; its shape names the lengths of lists, from the outermost on."""
    one = _SINGULAR.get(parameter.name, parameter.name)
    kind = _type_text(parameter.annotation)
    shape = [_LENGTHS[one]] if one in _LENGTHS else []
    # Of B requests, these are lists of what they are of one.
    is_of_many = one != parameter.name or kind.startswith("Optional[List[List[")
    argument = {
        "name": parameter.name,
        "type": kind,
        "shape": ["B", *shape] if is_of_many else shape,
        "meaning": meanings[one],
    }
    if parameter.default is not inspect.Parameter.empty:
        argument["default"] = defaults.get(parameter.name, parameter.default)
    return argument


_SINGULAR = {"users": "user", "histories": HISTORY, "contexts": "context", "excludes": "exclude"}
_LENGTHS = {
    HISTORY: "L",
    "history_times": "L",
    "history_liked": "L",
    "exclude": "E",
    "item_ids": "N",
    "items": "N",
    "rows": "B",
}


def _returns(program: type[nn.Module], name: str, method: Callable[..., Any], ids: str) -> str:
    """The type of an answer, and what the docstring says of it."""
    annotation = inspect.signature(method).return_annotation
    kind = _type_text(annotation)
    if annotation is inspect.Signature.empty:  # TorchScript infers it, as the ids are
        lists = [ids, "List[float]"] if program is RetrievalProgram else [ids, *_OF_TWO_STAGES]
        each = lists if name == "recommend" else [f"List[{one}]" for one in lists]
        kind = f"Tuple[{', '.join(each)}]"
    text = inspect.getdoc(method) or ""
    said = re.search(r"Returns:\n\s+(.*)", text)
    return f"{kind}: {said[1] if said else text.splitlines()[0]}"


_OF_TWO_STAGES = ("List[float]", "List[float]", "List[str]")


def _type_text(annotation: Any) -> str:
    if isinstance(annotation, type):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("torch.", "")

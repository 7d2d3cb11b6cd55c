"""Describes requests to a bundle: kinds of fields, how much a request may hold, and recorded requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Literal

from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json_list

REQUESTS = "requests.json"
# Recorded requests come from whoever made the bundle: nothing else of a file is ever called by their names.
RECORDED_METHODS = frozenset(
    {
        *("recommend", "predict", "encode_user", "encode_item"),
        *("inputs_of_users", "inputs_of_rows", "inputs_of_items"),
    }
)
_STAGES = ("", "retrieval", "ranking")

# How the raw value of a field is read: an id or a category, a list of them, a number, an instant, a text, an
# embedding made elsewhere.
# A user's field that holds values of items by field: {"interests": {"authors": ["Ann Ode"]}}.
INTERESTS = "interests"
FieldKind = Literal["id", "list", "number", "time", "text", "vector"]


@dataclasses.dataclass(frozen=True)
class RequestLimits:
    """Limits how much one request to a bundle may hold; more is refused before anything is computed.

    Args:
        fields: of a record; fields that no feature reads count too.
        text_characters: of a text, and of all texts of a list together; ids of users and items may be longer.
        category_characters: of a value that is looked up whole.
        list_values: of a field that holds a list.
        history: items of a history.
        exclude: items to leave out, and items that are marked available or not.
        where_values: values of `where`, those of all attributes together.
        k: length of a list.
        num_candidates: that are ranked for a list.
        diversified: `k` times the candidates where a list is diversified, which compares each with each.
        requests: of a batch.
        rows: to predict, to observe or to add at once.
        seconds_ahead: how far beyond the clock, and beyond the latest event that the bundle has seen, an
            observed event may lie; one of next year would stand above all that follows until then.
        instant_from, instant_to: between them lie numbers that are instants in the unit of the data; others,
            such as milliseconds where seconds are counted or 20240531, are refused. 0 where all are taken.
    """

    fields: int = 1_000
    text_characters: int = 20_000
    category_characters: int = 2_000
    list_values: int = 10_000
    history: int = 10_000
    exclude: int = 100_000
    where_values: int = 10_000
    k: int = 10_000
    num_candidates: int = 10_000
    diversified: int = 1_000_000
    requests: int = 10_000
    rows: int = 100_000
    seconds_ahead: int = 86_400
    instant_from: int = 0
    instant_to: int = 0

    def stated(self) -> dict[str, int]:
        """The limits as a manifest states them."""
        return {name: limit for name, limit in dataclasses.asdict(self).items() if limit}

    @staticmethod
    def of_manifest(manifest: Mapping[str, Any]) -> RequestLimits:
        """The limits that a manifest states; those of this release where it states none.

        Raises:
            ValueError: one of them is no whole number of at least 1.
        """
        stated = manifest.get("limits", {})
        names = [field.name for field in dataclasses.fields(RequestLimits)]
        given = {name: stated[name] for name in names if name in stated} if isinstance(stated, dict) else None
        if given is None or not all(type(limit) is int and limit >= 1 for limit in given.values()):
            raise InputError(
                f"`limits` of the manifest must be whole numbers of at least 1 by name, got {stated!r}; "
                "export the bundle again"
            )
        return RequestLimits(**given)


def read_recorded(folder: Path) -> list[dict[str, Any]]:
    """The requests that are recorded in a bundle, each with `method`, `arguments` and perhaps `package`.

    Raises:
        ValueError: the file is no list of requests, or names a method that no recorded request calls.
    """
    file = folder / REQUESTS
    recorded = read_json_list(file)
    for number, request in enumerate(recorded):
        if not _is_recorded(request):
            raise InputError(
                f"`{file}`: request {number} must have `arguments` by name and a `method` among "
                f"{', '.join(sorted(RECORDED_METHODS))}, perhaps of a stage, and at most the name of a "
                f"`package`; found {str(request)[:200]}"
            )
    return recorded


def _is_recorded(request: object) -> bool:
    if not isinstance(request, dict) or not isinstance(request.get("arguments"), dict):
        return False
    stage, _, method = str(request.get("method")).rpartition(".")
    package = request.get("package", "none.pt2")
    is_plain = isinstance(package, str) and PurePath(package).name == package and package.endswith(".pt2")
    return stage in _STAGES and method in RECORDED_METHODS and is_plain

"""The server's OpenAPI description, made of the messages that it reads and writes."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from recsys.serving import messages

# Path, method, what it does, the body it reads, the answer it gives.
_ROUTES: tuple[tuple[str, str, str, type[Any] | None, type[Any] | None], ...] = (
    (
        "/recommend",
        "post",
        "Recommends items to a user.",
        messages.RecommendRequest,
        messages.Recommendation,
    ),
    (
        "/feedback",
        "post",
        "Counts what people did; answers when it can't be lost.",
        messages.FeedbackRequest,
        messages.FeedbackAnswer,
    ),
    ("/items", "post", "Adds items to the catalogue.", messages.ItemsRequest, messages.ItemsAnswer),
    (
        "/items/availability",
        "post",
        "Says whether items may be recommended.",
        messages.AvailabilityRequest,
        messages.AvailabilityAnswer,
    ),
    (
        "/bundle",
        "post",
        "Serves by another bundle, or by the one before.",
        messages.BundleRequest,
        messages.BundleAnswer,
    ),
    ("/users/{user_id}", "get", "Says what is known of a user.", None, messages.UserAnswer),
    ("/users/{user_id}", "delete", "Forgets a user.", None, messages.ForgottenAnswer),
    ("/health", "get", "Says that the process lives.", None, None),
    ("/ready", "get", "Says that the process answers.", None, None),
)
_ERRORS = {
    "400": "The body is no JSON.",
    "401": "The token is missing or another.",
    "403": "The request comes from a page of another site.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "422": "A field is not what it must be.",
    "503": "Too many requests wait, or the store is away.",
}


@functools.cache
def openapi() -> dict[str, Any]:
    """The description, as OpenAPI 3.1."""
    kinds = [kind for *_, body, answer in _ROUTES for kind in (body, answer) if kind is not None]
    kinds = list(dict.fromkeys([*kinds, messages.ErrorAnswer]))
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for path, method, summary, body, answer in _ROUTES:
        content = by_kind[answer] if answer is not None else {"type": "object"}
        operation: dict[str, Any] = {
            "summary": summary,
            "responses": {
                "200": {"description": "Done.", "content": {"application/json": {"schema": content}}},
                **{
                    status: {
                        "description": description,
                        "content": {"application/json": {"schema": by_kind[messages.ErrorAnswer]}},
                    }
                    for status, description in _ERRORS.items()
                },
            },
        }
        if body is not None:
            operation["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": by_kind[body]}},
            }
        if "{user_id}" in path:
            operation["parameters"] = [
                {
                    "name": "user_id",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1},
                }
            ]
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "recsys", "version": "1", "description": "Recommends, remembers, explores."},
        "paths": paths,
        "components": {"schemas": components},
    }

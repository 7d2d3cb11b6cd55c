"""interest_fields: what of the items' table a reader may say to like in a request."""

from __future__ import annotations

from recsys.exporting.stage import Stage
from recsys.models.protocols import events_read
from recsys.schema.feature_kinds import IdFeature, MultiIdFeature, TextFeature
from recsys.schema.features import ITEM_ID
from recsys.schema.requests import INTERESTS


def interest_fields(stage: Stage) -> list[str]:
    """Fields of items by name, of models that read the content of histories; none of others."""
    if stage.task != "retrieval" or events_read(stage.model) is None:
        return []
    fields = stage.fields()
    named = [
        fields.of(feature)[0]
        for feature in stage.dataset.schema.sparse(["item"])
        if isinstance(feature, IdFeature | MultiIdFeature | TextFeature) and feature.name != ITEM_ID
    ]
    return list(dict.fromkeys(named))


def described_interests(stage: Stage) -> dict[str, dict[str, object]]:
    """The fields of users that hold interests, as a signature describes fields."""
    return {
        f"{INTERESTS}.{name}": {
            "kind": "list",
            "type": "list of text or integers",
            "accepted_names": [],
            "meaning": f"values of the items' `{name}` that the user likes; each counts as an event before "
            "the history, with an item of which nothing else is known",
            "when_missing": "no interests",
        }
        for name in interest_fields(stage)
    }

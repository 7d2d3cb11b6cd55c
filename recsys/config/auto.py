"""Keys whose sizes may be left at `auto`, by the rules of the model's class."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recsys.config.keys import flattened
from recsys.config.register import TARGET, load, lookup
from recsys.config.signatures import attribute_of

AUTO = "auto"
# What may be left to the data where no model is named, as in preparing.
_WITHOUT_MODEL = ("data.history_length",)


def left_to_data(plain: Mapping[str, Any]) -> list[str]:
    """Dotted keys that are `auto` and for which the model has a rule."""
    asked = [key for key, value in flattened(plain).items() if value == AUTO]
    if not plain.get("model"):
        return [key for key in asked if key in _WITHOUT_MODEL]
    return [key for key in asked if key in rules_of(plain)]


def rules_of(plain: Mapping[str, Any]) -> Mapping[str, Callable[..., Any]]:
    """The rules for `auto` of the model that a configuration names, by dotted key."""
    target = (plain.get("model") or {}).get(TARGET)
    if not isinstance(target, str) or isinstance(lookup(target, "model"), str):
        return {}
    rules: Mapping[str, Callable[..., Any]]
    try:  # without importing the model
        rules = attribute_of(target, "auto_sizes") or {}
    except LookupError:
        rules = getattr(load(target, "model"), "auto_sizes", {})
    return rules


def without(plain: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """A copy of the configuration without these dotted keys: defaults stand until the data are there."""
    kept = copy.deepcopy(dict(plain))
    for key in keys:
        *parents, name = key.split(".")
        node = kept
        for parent in parents:
            node = node[parent]
        del node[name]
    return kept

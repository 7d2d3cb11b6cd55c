"""Sizes left at `auto`: which keys may be, and a configuration with the numbers in their place."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from recsys.config.build import Problem, build
from recsys.config.keys import flattened
from recsys.config.options import TrainConfig
from recsys.config.targets import TARGET, locate
from recsys.data.dataset import PreparedDataset
from recsys.data.facts import facts_of
from recsys.models.sizes import Rule
from recsys.schema.errors import InputError

logger = logging.getLogger(__name__)

AUTO = "auto"
# What may be left to the data where no model is named, as in preparing.
_WITHOUT_MODEL = ("data.history_length",)


def left_to_data(plain: Mapping[str, Any]) -> list[str]:
    """Dotted keys that are `auto` and for which the model has a rule."""
    asked = [key for key, value in flattened(plain).items() if value == AUTO]
    if not asked:  # to name the rules imports the model
        return []
    if not plain.get("model"):
        return [key for key in asked if key in _WITHOUT_MODEL]
    return [key for key in asked if key in rules_of(plain)]


def rules_of(plain: Mapping[str, Any]) -> Mapping[str, Rule]:
    """The rules for `auto` of the model that a configuration names, by dotted key."""
    target = (plain.get("model") or {}).get(TARGET)
    rules: Mapping[str, Rule] = getattr(locate(target), "auto_sizes", {}) if isinstance(target, str) else {}
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


def fitted(
    config: TrainConfig,
    composed: dict[str, Any],
    dataset: PreparedDataset,
    *,
    earlier: Mapping[str, Any] | None = None,
) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration with sizes for this dataset, each of which is logged with what it follows from.

    Args:
        config: every key.
        composed: the plain configuration that it was made from.
        dataset: what is trained on.
        earlier: plain configuration of the run whose weights a new one starts from, which keeps its sizes.

    Returns:
        Both as they are where nothing is `auto`.

    Raises:
        ValueError: the sizes do not go with the rest of the configuration.
    """
    asked = left_to_data(composed)
    if not asked:
        return config, composed
    facts = facts_of(dataset)
    logger.info("train split: %s", facts)
    rules = rules_of(composed)
    kept = {key: value for key, value in flattened(earlier or {}).items() if not key.startswith("trainer.")}
    sized = copy.deepcopy(composed)
    for key in asked:
        if key in kept:
            value, why = kept[key], "as in the run whose weights it starts from"
        else:
            value, why = rules[key](facts)
        logger.info("`%s` is %s: %s", key, value, why)
        _put(sized, key, value)
    problems: list[Problem] = []
    made: TrainConfig = build(sized, TrainConfig, "", problems)
    if problems:
        raise InputError("\n".join(problem.text for problem in problems))
    return made, sized


def _put(plain: dict[str, Any], key: str, value: Any) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        plain = plain[parent]
    plain[name] = value

"""Replaces every size that a training's configuration leaves at `auto` by its number."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

from recsys.commands.options import TrainConfig
from recsys.config.auto import left_to_data, rules_of
from recsys.config.build import built
from recsys.config.keys import flattened, put
from recsys.data.dataset import PreparedDataset

logger = logging.getLogger(__name__)


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
    facts = dataset.facts(composed["model"].get("leave_out") or ())
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
        put(sized, key, value)
    return built(sized, TrainConfig), sized

"""fit_labels, with_labels: auxiliary labels as what heads learn."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import ibis
from ibis import _

from recsys.data.options import DataOptions
from recsys.data.preparing.splits import SPLIT, TRAIN
from recsys.data.reading.engine import Engine
from recsys.schema.errors import InputError
from recsys.schema.features import FeatureSchema
from recsys.schema.labels import AuxiliaryLabel
from recsys.schema.places import at_home
from recsys.schema.tables import LABEL_PREFIX

LOGGER = logging.getLogger(__name__)


def fit_labels(engine: Engine, events: ibis.Table, options: DataOptions) -> tuple[AuxiliaryLabel, ...]:
    """The auxiliary labels with mean and deviation of the train split, or of that of `data.extends`.

    Args:
        engine: runs the expressions.
        events: with their split and the columns of `read_interactions`.
        options: declares the labels.

    Raises:
        ValueError: a label has no value in train.
    """
    fitted = []
    earlier = _earlier(options)
    for name, label in options.auxiliary_labels.items():
        column = events.filter(_[SPLIT] == TRAIN)[LABEL_PREFIX + name]
        facts = engine.collect(
            column.as_table().aggregate(
                rows=_.count(),
                known=column.count(),
                mean=column.mean(),
                std=column.std(how="pop"),
            )
        ).to_pylist()[0]
        if not facts["known"]:
            raise InputError(
                f"`data.auxiliary_labels.{name}`: no number in the column `{label.column}` of the train "
                "split; name another column, or leave the label out"
            )
        LOGGER.info(
            "auxiliary label `%s`: %d of %d train rows have one, mean %.4g",
            name, facts["known"], facts["rows"], facts["mean"],
        )  # fmt: skip
        if label.positive_at_least is not None:
            fitted.append(AuxiliaryLabel(name, "binary", label.column))
            continue
        own = AuxiliaryLabel(
            name, "numeric", label.column, label.transform, facts["mean"], facts["std"] or 1.0
        )
        before = earlier.get(name, own)
        fitted.append(dataclasses.replace(own, mean=before.mean, std=before.std))
    return tuple(fitted)


def _earlier(options: DataOptions) -> dict[str, AuxiliaryLabel]:
    if not options.extends:
        return {}
    schema = FeatureSchema.read(at_home(options.extends) / "schema.json")
    return {label.name: label for label in schema.labels}


def with_labels(events: ibis.Table, labels: Sequence[AuxiliaryLabel]) -> ibis.Table:
    """The events with numeric labels standardised."""
    columns = {LABEL_PREFIX + label.name: label for label in labels if label.kind == "numeric"}
    if not columns:
        return events
    return events.mutate(**{name: (_[name] - label.mean) / label.std for name, label in columns.items()})

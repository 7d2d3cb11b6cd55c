"""Item attributes that requests may filter by: raw columns of ids, single or several."""

from __future__ import annotations

from recsys.data.dataset import PreparedDataset
from recsys.exporting.fields import Fields
from recsys.exporting.program.filters import Attribute, Filters
from recsys.exporting.records import raw_values
from recsys.schema.feature_kinds import LookupFeature
from recsys.schema.features import ITEM_ID
from recsys.schema.tables import RAW_PREFIX


def attributes_of(dataset: PreparedDataset, fields: Fields) -> dict[str, LookupFeature]:
    """The feature that reads each attribute, by the name that requests call it."""
    there = dataset.raw_items.column_names
    attributes: dict[str, LookupFeature] = {}
    for feature in dataset.schema.features:
        if not isinstance(feature, LookupFeature) or feature.role != "item" or feature.name == ITEM_ID:
            continue
        if RAW_PREFIX + feature.column in there:
            attributes.setdefault(fields.of(feature)[0], feature)
    return attributes


def filters_of(dataset: PreparedDataset, fields: Fields) -> Filters:
    """Filters by the attributes of a dataset's catalogue."""
    table = dataset.raw_items
    attributes = {
        name: Attribute(feature, raw_values(table[RAW_PREFIX + feature.column]))
        for name, feature in attributes_of(dataset, fields).items()
    }
    return Filters(dict(attributes), dataset.num_items)

"""Extending an earlier prepared dataset: what it declared and fitted, for a new one to keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from recsys.data.options import INFER, DataOptions, RawTables
from recsys.data.preparing.declare import with_features_file
from recsys.data.preparing.fit import FittedFeatures
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature
from recsys.schema.features import FeatureSchema
from recsys.schema.manifest import read_station
from recsys.schema.places import at_home


def with_earlier_features(options: DataOptions, tables: RawTables) -> DataOptions:
    """The options with what would be inferred declared as in the dataset that is extended.

    New rows could have other features inferred from them, of which the earlier rows know nothing.

    Raises:
        ValueError: the earlier dataset is missing, damaged or of another version.
    """
    if options.extends is None:
        return options
    path = at_home(options.extends)
    read_station(path, "prepared")
    earlier = with_features_file(dataclasses.replace(options, features_file=str(path / "features.yaml")))
    inferred = [
        table
        for table in ("interactions", "users", "items")
        if getattr(options, table).features in (None, INFER) and getattr(tables, table) is not None
    ]
    return dataclasses.replace(options, **{table: getattr(earlier, table) for table in inferred})


def read_fitted(path: Path, features: Sequence[Feature]) -> FittedFeatures:
    """Reads the fitted features and vocabularies of the prepared dataset at `path`.

    Args:
        path: of the dataset that is extended.
        features: of the one that extends it, not fitted.

    Raises:
        ValueError: the two have different features.
    """
    schema = FeatureSchema.read(path / "schema.json")
    differing = FeatureSchema(tuple(features), schema.labels).differences(schema)
    if differing:
        raise InputError(
            f"`data.extends={path}` has other features: {'; '.join(differing)}; declare them as in its "
            "`features.yaml` (`data.features_file`), or prepare without `data.extends`"
        )
    vocabularies = {
        file.stem: pq.read_table(file) for file in sorted((path / "vocabularies").glob("*.parquet"))
    }
    return FittedFeatures(schema.features, vocabularies)

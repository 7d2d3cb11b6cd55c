"""build: fills the folder of a prepared dataset; the order of the work and nothing else."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import _

from recsys.data.options import DataOptions, RawTables
from recsys.data.preparing.auxiliary import fit_labels, with_labels
from recsys.data.preparing.catalogue import Entities, read_entities, with_rows, write_entities
from recsys.data.preparing.check_splits import check_shares, count_repeats
from recsys.data.preparing.choose import choose_title
from recsys.data.preparing.declare import features_yaml
from recsys.data.preparing.describe import describe
from recsys.data.preparing.encode import encode_context
from recsys.data.preparing.extend import read_fitted
from recsys.data.preparing.fit import FittedFeatures, count_values, fit
from recsys.data.preparing.follow_users import follow_users
from recsys.data.preparing.idf import with_idf
from recsys.data.preparing.interactions import look_at
from recsys.data.preparing.joins import check_joins
from recsys.data.preparing.leakage import PreparedFiles, check_leakage
from recsys.data.preparing.look_alikes import count_look_alikes
from recsys.data.preparing.neighbours import NEIGHBOURS, with_neighbours
from recsys.data.preparing.raw_data import read_raw
from recsys.data.preparing.reject import write_rejected
from recsys.data.preparing.splits import SPLIT, SPLIT_NAMES, split_events
from recsys.data.preparing.statistics import EventKeys, fit_statistics, with_priors, with_statistics
from recsys.data.preparing.understood import as_text, describe_raw
from recsys.data.preparing.vectors import columns_read_apart, write_vectors
from recsys.data.preparing.write import write_split
from recsys.data.reading.engine import Engine
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature, StatisticFeature
from recsys.schema.features import EVENT_ROLES, FeatureSchema
from recsys.schema.labels import AuxiliaryLabel
from recsys.schema.manifest import write_json
from recsys.schema.places import at_home
from recsys.schema.tables import ITEM_ID, POSITIVE, USER_ID

LOGGER = logging.getLogger(__name__)


def build(
    engine: Engine, options: DataOptions, tables: RawTables, *, folder: Path, doing: Callable[[str], None]
) -> dict[str, Any]:
    """Writes the files of a prepared dataset.

    Args:
        engine: runs the expressions.
        options: checked.
        tables: paths of the raw tables.
        folder: an empty folder for the result.
        doing: is told what is done next, see `recsys.schema.progress.at_work`.

    Returns:
        What the manifest says of the dataset.
    """
    doing("reading the tables")
    data = read_raw(engine, options, tables)
    features, interactions = data.features, data.interactions
    earlier = read_fitted(at_home(options.extends), features) if options.extends else None
    max_share = options.max_rejected_share
    num_rejected = write_rejected(data, folder / "rejected.parquet", max_share=max_share)
    look_at(engine, interactions, options)
    understood = describe_raw(options, data)
    understood["joins"] = check_joins(engine, interactions.events, data.sides)
    understood["look_alikes"] = count_look_alikes(engine, interactions.events, data.id_types)
    LOGGER.info("understood:\n%s", as_text(understood))
    doing("splitting the interactions")
    events, instants = split_events(engine, interactions.events, options, time=interactions.time)
    has_users = options.interactions.columns.user_id is not None
    apart = columns_read_apart(features)
    others = {table: side.without(apart) for table, side in data.sides.items()}
    doing("reading users and items")
    users = read_entities(engine, events, others.get("users"), name=USER_ID, known=has_users)
    items = read_entities(engine, events, others.get("items"), name=ITEM_ID)
    entities = {"users": users, "items": items}
    write_vectors(engine, features, data.sides, entities, folder=folder, cache_dir=options.cache_path)
    events = engine.keep_only(with_rows(engine, with_rows(engine, events, users), items))
    if options.neighbours:
        items = with_neighbours(engine, events, items, options)
    labels = fit_labels(engine, events, options)
    events = with_labels(events, labels)
    counts = _count_events(engine, events)
    check_shares(engine, events, options, counts["rows"])
    understood["repeats"] = count_repeats(engine, events, options)
    counts |= {"users": users.table.num_rows - 1, "items": items.table.num_rows - 1, "rejected": num_rejected}
    doing("fitting the features")
    statistics = [feature for feature in features if isinstance(feature, StatisticFeature)]
    plain = [feature for feature in features if feature not in statistics]
    counted = {**users.counted(plain), **items.counted(plain)}
    counted |= {f.name: count_values(engine, events, f) for f in _of_events(plain) if f.has_column}
    fitted = with_idf(fit(plain, counted, earlier), counted, earlier)
    keyed = _write_entities(folder, fitted, users, items)
    encoded = encode_context(engine, events, _of_events(fitted.features), fitted.vocabularies)
    if statistics:
        statistics = with_priors(engine, events, statistics, earlier)
        encoded = events = with_statistics(engine, encoded, statistics, keyed=keyed, split=options.split)
        more = fit_statistics(engine, events, statistics, earlier)
        fitted = dataclasses.replace(fitted, features=(*fitted.features, *more))
    _write_features(folder, fitted, labels, derived=[NEIGHBOURS] if options.neighbours else [])
    _write_events(engine, encoded, fitted, options, folder=folder, doing=doing)
    doing("checking that nothing leaks")
    written = PreparedFiles(folder, options.split, data, events, fitted, earlier, keyed)
    leakage = check_leakage(engine, written)
    return {
        **describe(options, data, instants=instants, counts=counts, leakage=leakage),
        "understood": understood,
        "licence": tables.licence,
        "title_column": choose_title(options, data.sides.get("items")),
    }


def _of_events(features: Sequence[Feature]) -> list[Feature]:
    """Features that are held with events, in the order of the schema."""
    return [feature for feature in features if feature.role in EVENT_ROLES]


def _count_events(engine: Engine, events: ibis.Table) -> dict[str, Any]:
    """Rows and positives of each split.

    Raises:
        ValueError: train has none.
    """
    sums = engine.collect(events.group_by(SPLIT).aggregate(rows=_.count(), positives=_[POSITIVE].sum()))
    by_split = {SPLIT_NAMES[row[SPLIT]]: row for row in sums.to_pylist()}
    counts: dict[str, Any] = {
        what: {name: int(by_split.get(name, {}).get(what, 0)) for name in SPLIT_NAMES}
        for what in ("rows", "positives")
    }
    if not counts["rows"]["train"]:
        raise InputError(
            "the split leaves nothing to train on: "
            + ", ".join(f"{rows} rows in {name}" for name, rows in counts["rows"].items())
            + "; choose another `data.split` or other `data.split_fractions`"
        )
    for name, rows in counts["rows"].items():
        LOGGER.log(logging.INFO if rows else logging.WARNING, "%s: %d rows", name, rows)
    return counts


def _write_entities(folder: Path, fitted: FittedFeatures, users: Entities, items: Entities) -> EventKeys:
    columns: dict[str, pa.Array] = {}
    for entities, file in ((users, "users.parquet"), (items, "items.parquet")):
        encoded = entities.encode(fitted)
        write_entities(entities, encoded, folder / file)
        columns |= encoded
    return EventKeys({feature.name: feature for feature in fitted.features}, (users, items), columns)


def _write_features(
    folder: Path, fitted: FittedFeatures, labels: tuple[AuxiliaryLabel, ...], *, derived: Sequence[str]
) -> None:
    write_json(folder / "schema.json", FeatureSchema(fitted.features, labels).to_dict())
    declared = [feature for feature in fitted.features if feature.name not in derived]
    (folder / "features.yaml").write_text(features_yaml(declared))
    (folder / "vocabularies").mkdir()
    for table, vocabulary in fitted.vocabularies.items():
        pq.write_table(vocabulary, folder / "vocabularies" / f"{table}.parquet")


def _write_events(
    engine: Engine,
    encoded: ibis.Table,
    fitted: FittedFeatures,
    options: DataOptions,
    *,
    folder: Path,
    doing: Callable[[str], None],
) -> None:
    by_item = options.split == "leave_last_out"
    has_users = options.interactions.columns.user_id is not None
    doing("writing histories")
    rows = follow_users(engine, encoded, histories=folder / "histories", ties_by_item=by_item)
    own = _of_events(fitted.features)
    for number, name in enumerate(SPLIT_NAMES):
        doing(f"writing {name}")
        write_split(engine, rows[number], folder / name, split=number, features=own, has_users=has_users)
        rows[number].unlink()

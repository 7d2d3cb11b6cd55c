"""build: fills the folder of a prepared dataset; the order of the work and nothing else."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import _

from recsys.data.options import DataOptions, RawTables
from recsys.data.preparing.auxiliary import fit_labels, with_labels
from recsys.data.preparing.catalogue import (
    Entities,
    Side,
    read_entities,
    read_side,
    with_rows,
    write_entities,
)
from recsys.data.preparing.check_splits import check_shares, count_repeats
from recsys.data.preparing.choose import RawColumns, SideColumns, choose_features, choose_title
from recsys.data.preparing.context import count_context, encode_context
from recsys.data.preparing.declare import features_yaml
from recsys.data.preparing.describe import describe
from recsys.data.preparing.extend import read_fitted
from recsys.data.preparing.follow_users import follow_users
from recsys.data.preparing.idf import with_idf
from recsys.data.preparing.interactions import Interactions, look_at, read_interactions
from recsys.data.preparing.joins import check_joins
from recsys.data.preparing.leakage import PreparedFiles, check_leakage
from recsys.data.preparing.neighbours import NEIGHBOURS, with_neighbours
from recsys.data.preparing.raw_data import RawData, open_raw
from recsys.data.preparing.reject import Rejected, write_rejected
from recsys.data.preparing.splits import SPLIT, SPLIT_NAMES, split_events
from recsys.data.preparing.statistics import EventKeys, fit_statistics, with_priors, with_statistics
from recsys.data.preparing.understood import as_text, describe_raw
from recsys.data.preparing.vectors import with_sizes, write_sentences, write_vectors
from recsys.data.preparing.vocabulary import Fitted, ValueCounts, fit
from recsys.data.preparing.write import write_split
from recsys.data.reading.columns import read_typed, text_kinds
from recsys.data.reading.engine import DuckDBEngine
from recsys.data.reading.tables import SEQUENCE, RawTable
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature, SentenceFeature, StatisticFeature
from recsys.schema.features import EVENT_ROLES, FeatureSchema
from recsys.schema.labels import AuxiliaryLabel
from recsys.schema.manifest import write_json
from recsys.schema.tables import ITEM_ID, POSITIVE, USER_ID
from recsys.schema.values import TextKind

_SIDES = (("users", USER_ID), ("items", ITEM_ID))
_ROWS_TO_INFER_FROM = 1_000_000
LOGGER = logging.getLogger(__name__)


def build(
    engine: DuckDBEngine, options: DataOptions, tables: RawTables, *, folder: Path, scratch: Path
) -> dict[str, Any]:
    """Writes the files of a prepared dataset.

    Args:
        engine: runs the expressions.
        options: checked.
        tables: paths of the raw tables.
        folder: an empty folder for the result.
        scratch: a folder for what is not needed afterwards.

    Returns:
        What the manifest says of the dataset.
    """
    read = _read(engine, options, tables, scratch=scratch)
    raw, sides, columns, features = read.raw, read.sides, read.columns, read.features
    interactions = read.interactions
    earlier = read_fitted(Path(options.extends).expanduser(), features) if options.extends else None
    num_rejected = _write_rejected(folder, options, raw, sides=sides, interactions=interactions)
    look_at(engine, interactions, options)
    understood = _understood(engine, options, read)
    LOGGER.info("understood:\n%s", as_text(understood))
    divided = split_events(engine, interactions.events, options, time=interactions.time)
    has_users = options.interactions.columns.user_id is not None
    vectors = FeatureSchema(tuple(features)).vectors()
    apart = [feature.column for feature in vectors if not isinstance(feature, SentenceFeature)]
    others = {name: side.without(apart) for name, side in sides.items()}
    users = read_entities(engine, divided.events, others.get(USER_ID), name=USER_ID, known=has_users)
    items = read_entities(engine, divided.events, others.get(ITEM_ID), name=ITEM_ID)
    for feature in vectors:
        entities = users if feature.role == "user" else items
        if isinstance(feature, SentenceFeature):
            write_sentences(feature, entities, folder, cache_dir=options.cache_path)
        else:
            write_vectors(engine, feature, sides[entities.name], entities, folder)
    events = engine.keep_only(with_rows(engine, with_rows(engine, divided.events, users), items))
    if options.neighbours:
        items = with_neighbours(engine, events, items, options)
    labels = fit_labels(engine, events, options)
    events = with_labels(events, labels)
    counts = _count_events(engine, events)
    check_shares(engine, events, options, counts["rows"])
    understood["repeats"] = count_repeats(engine, events, options)
    counts |= {"users": users.table.num_rows - 1, "items": items.table.num_rows - 1, "rejected": num_rejected}
    counted = [feature for feature in features if not isinstance(feature, StatisticFeature)]
    values = _count(engine, events, counted, users=users, items=items)
    fitted = with_idf(fit(counted, values, earlier), values, earlier)
    keyed = _write_entities(folder, fitted, users, items)
    encoded = encode_context(engine, events, _of_events(fitted.features), fitted.vocabularies)
    if statistics := [feature for feature in features if isinstance(feature, StatisticFeature)]:
        statistics = with_priors(engine, events, statistics, earlier)
        encoded = events = with_statistics(engine, encoded, statistics, keyed=keyed, split=options.split)
        fitted = fitted.and_more(fit_statistics(engine, events, statistics, earlier))
    _write_features(folder, fitted, labels, derived=[NEIGHBOURS] if options.neighbours else [])
    _write_events(engine, encoded, fitted, options, folder=folder, scratch=scratch)
    written = PreparedFiles(
        folder=folder,
        split=options.split,
        has_time=interactions.time is not None,
        events=events,
        features=features,
        fitted=fitted,
        earlier=earlier,
        entities=(users, items),
        keyed=keyed,
    )
    leakage = check_leakage(engine, written)
    manifest = describe(options, raw, interactions, divided=divided, counts=counts, leakage=leakage)
    manifest["understood"] = understood
    manifest |= {"licence": tables.licence, "title_column": choose_title(options, columns.get("items"))}
    return manifest


def understand_raw(
    engine: DuckDBEngine, options: DataOptions, tables: RawTables, *, scratch: Path
) -> tuple[dict[str, Any], list[Feature]]:
    """Reads the tables and tells what was understood of them, and which features they would have."""
    read = _read(engine, options, tables, scratch=scratch)
    return _understood(engine, options, read), read.features


@dataclasses.dataclass(frozen=True)
class _Tables:
    """Raw tables, read: typed, with the kinds of their text and the features chosen."""

    raw: RawData
    sides: dict[str, Side]
    columns: dict[str, SideColumns]
    kinds: dict[str, TextKind]
    features: list[Feature]
    interactions: Interactions


def _read(engine: DuckDBEngine, options: DataOptions, tables: RawTables, *, scratch: Path) -> _Tables:
    raw = open_raw(engine, options, tables, scratch=scratch)
    sides = _read_sides(engine, raw)
    there = [(table, name) for table, name in _SIDES if name in sides]
    columns = {table: _side_columns(engine, sides[name], raw.id_columns[name]) for table, name in there}
    kinds: dict[str, TextKind] = {}
    features = choose_features(
        options, sides=columns, interactions=_raw_columns(engine, raw.interactions, kinds)
    )
    features = with_sizes(engine, features, sides)
    used = _context_columns(features)
    kinds |= text_kinds(engine, raw.interactions, [name for name in used if name not in kinds])
    interactions = read_interactions(
        engine, raw.interactions, options, id_types=raw.id_types, context_columns=used, kinds=kinds
    )
    return _Tables(raw, sides, columns, kinds, features, interactions)


def _understood(engine: DuckDBEngine, options: DataOptions, read: _Tables) -> dict[str, Any]:
    """Describes how the tables were read; raises InputError where a side table has other users or items."""
    understood = describe_raw(
        engine,
        options,
        read.raw,
        sides=read.sides,
        kinds=read.kinds,
        features=read.features,
        interactions=read.interactions,
    )
    understood["joins"] = check_joins(engine, read.interactions.events, read.sides)
    return understood


def _read_sides(engine: DuckDBEngine, raw: RawData) -> dict[str, Side]:
    found = {USER_ID: raw.users, ITEM_ID: raw.items}
    return {
        name: read_side(engine, table, name=name, id_column=raw.id_columns[name], id_type=raw.id_types[name])
        for name, table in found.items()
        if table is not None
    }


def _side_columns(engine: DuckDBEngine, side: Side, id_column: str) -> SideColumns:
    """Raw columns of a side table, in memory, under their own names."""
    return SideColumns(side.collect(engine), id_column=id_column)


def _raw_columns(engine: DuckDBEngine, raw: RawTable, kinds: dict[str, TextKind]) -> RawColumns:
    def values(name: str) -> pa.Array:
        if name not in kinds:
            kinds.update(text_kinds(engine, raw, [name]))
        typed = raw.rows.select(SEQUENCE, value=read_typed(raw.column(name), kinds.get(name)))
        found = engine.collect(typed.filter(_[SEQUENCE] <= _ROWS_TO_INFER_FROM).select("value"))
        return found["value"].combine_chunks()

    return RawColumns(tuple(name for name in raw.columns if name not in raw.unreadable), values)


def _context_columns(features: list[Feature]) -> list[str]:
    """Raw columns of the interactions that features read."""
    return sorted({f.column for f in _of_events(features) if f.has_column})


def _of_events(features: Sequence[Feature]) -> list[Feature]:
    """Features that are held with events, in the order of the schema."""
    return [feature for feature in features if feature.role in EVENT_ROLES]


def _write_rejected(
    folder: Path, options: DataOptions, raw: RawData, *, sides: Mapping[str, Side], interactions: Interactions
) -> int:
    advice = interactions.time.advice if interactions.time else ""
    found = [Rejected("interactions", raw.interactions, interactions.rejected, advice)]
    names = {USER_ID: "users", ITEM_ID: "items"}
    found += [Rejected(names[name], side.raw, side.rejected) for name, side in sides.items()]
    return write_rejected(found, folder / "rejected.parquet", max_share=options.max_rejected_share)


def _count_events(engine: DuckDBEngine, events: ibis.Table) -> dict[str, Any]:
    """Rows and positives of each split.

    Raises:
        ValueError: train has none.
    """
    found = engine.collect(events.group_by(SPLIT).aggregate(rows=_.count(), positives=_[POSITIVE].sum()))
    by_split = {row[SPLIT]: row for row in found.to_pylist()}
    counts: dict[str, Any] = {
        what: {
            name: int(by_split[split][what]) if split in by_split else 0
            for split, name in enumerate(SPLIT_NAMES)
        }
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


def _count(
    engine: DuckDBEngine, events: ibis.Table, features: Sequence[Feature], *, users: Entities, items: Entities
) -> dict[str, ValueCounts]:
    context = _of_events(features)
    return {**users.counted(features), **items.counted(features), **count_context(engine, events, context)}


def _write_entities(folder: Path, fitted: Fitted, users: Entities, items: Entities) -> EventKeys:
    columns: dict[str, pa.Array] = {}
    for entities, file in ((users, "users.parquet"), (items, "items.parquet")):
        encoded = entities.encode(fitted)
        write_entities(entities, encoded, folder / file)
        columns |= encoded
    return EventKeys({feature.name: feature for feature in fitted.features}, columns)


def _write_features(
    folder: Path, fitted: Fitted, labels: tuple[AuxiliaryLabel, ...], *, derived: Sequence[str]
) -> None:
    write_json(folder / "schema.json", FeatureSchema(fitted.features, labels).to_dict())
    declared = [feature for feature in fitted.features if feature.name not in derived]
    (folder / "features.yaml").write_text(features_yaml(declared))
    (folder / "vocabularies").mkdir()
    for table, vocabulary in fitted.vocabularies.items():
        pq.write_table(vocabulary, folder / "vocabularies" / f"{table}.parquet")


def _write_events(
    engine: DuckDBEngine,
    encoded: ibis.Table,
    fitted: Fitted,
    options: DataOptions,
    *,
    folder: Path,
    scratch: Path,
) -> None:
    by_item = options.split == "leave_last_out"
    has_users = options.interactions.columns.user_id is not None
    rows = follow_users(
        engine, encoded, histories=folder / "histories", scratch=scratch, ties_by_item=by_item
    )
    for number, name in enumerate(SPLIT_NAMES):
        own = _of_events(fitted.features)
        write_split(engine, rows[number], folder / name, split=number, features=own, has_users=has_users)
        rows[number].unlink()

"""build: fills the folder of a prepared dataset; the order of the work and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import _

from recsys.data.catalogue import Entities, Side, read_entities, read_side, with_rows, write_entities
from recsys.data.context import count_context, encode_context
from recsys.data.declare import declared_features, declared_ids, features_yaml
from recsys.data.engines import DuckDBEngine
from recsys.data.interactions import Interactions, read_interactions
from recsys.data.options import DataOptions, RawTables
from recsys.data.raw_data import RawData, open_raw
from recsys.data.reject import Rejected, write_rejected
from recsys.data.splits import SPLIT, SPLIT_NAMES, Divided, iso, split_events
from recsys.data.vocabulary import Fitted, fit
from recsys.data.write import visible_events, write_histories, write_split
from recsys.schema.features import HISTORY, Feature, FeatureSchema
from recsys.schema.manifest import write_json
from recsys.schema.tables import ITEM_ID, POSITIVE, USER_ID

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
    raw = open_raw(engine, options, tables, scratch=scratch)
    sides = _read_sides(engine, raw)
    features = _features(options, raw, sides)
    interactions = read_interactions(
        engine, raw.interactions, options, id_types=raw.id_types, context_columns=_context_columns(features)
    )
    num_rejected = _write_rejected(folder, options, raw, sides=sides, interactions=interactions)
    divided = split_events(engine, interactions.events, options)
    users = read_entities(engine, divided.events, sides.get(USER_ID), name=USER_ID)
    items = read_entities(engine, divided.events, sides.get(ITEM_ID), name=ITEM_ID)
    events = engine.keep(with_rows(engine, with_rows(engine, divided.events, users), items))
    counts = _count_events(engine, events)
    context = [feature for feature in features if feature.role == "context"]
    fitted = fit(
        features,
        {**users.counted(features), **items.counted(features), **count_context(engine, events, context)},
    )
    _write_features(folder, fitted)
    write_entities(users, users.encode(fitted), folder / "users.parquet")
    write_entities(items, items.encode(fitted), folder / "items.parquet")
    _write_events(engine, events, fitted, folder=folder, ties_by_item=options.split == "leave_last_out")
    counts |= {"users": users.table.num_rows - 1, "items": items.table.num_rows - 1, "rejected": num_rejected}
    return _manifest(options, raw, interactions, divided=divided, counts=counts)


def _read_sides(engine: DuckDBEngine, raw: RawData) -> dict[str, Side]:
    found = {USER_ID: raw.users, ITEM_ID: raw.items}
    return {
        name: read_side(engine, table, name=name, id_column=raw.id_columns[name], id_type=raw.id_types[name])
        for name, table in found.items()
        if table is not None
    }


def _features(options: DataOptions, raw: RawData, sides: Mapping[str, Side]) -> list[Feature]:
    ids = declared_ids(options)
    columns = {"users": sides[USER_ID].raw.columns if USER_ID in sides else ()}
    columns["items"] = sides[ITEM_ID].raw.columns if ITEM_ID in sides else ()
    columns["interactions"] = raw.interactions.columns
    users, items, context = (
        declared_features(table, getattr(options, table).features or {}, columns=columns[table])
        for table in ("users", "items", "interactions")
    )
    return [ids[USER_ID], *users, ids[HISTORY], *context, ids[ITEM_ID], *items]


def _context_columns(features: list[Feature]) -> list[str]:
    return sorted({f.column for f in features if f.role == "context" and f.kind != "time"})


def _write_rejected(
    folder: Path, options: DataOptions, raw: RawData, *, sides: Mapping[str, Side], interactions: Interactions
) -> int:
    found = [Rejected("interactions", raw.interactions, interactions.rejected)]
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
        raise ValueError(
            "the split leaves nothing to train on: "
            + ", ".join(f"{rows} rows in {name}" for name, rows in counts["rows"].items())
            + "; choose another `data.split` or other `data.split_fractions`"
        )
    for name, rows in counts["rows"].items():
        LOGGER.log(logging.INFO if rows else logging.WARNING, "%s: %d rows", name, rows)
    return counts


def _write_features(folder: Path, fitted: Fitted) -> None:
    write_json(folder / "schema.json", FeatureSchema(fitted.features).to_dict())
    (folder / "features.yaml").write_text(features_yaml(fitted.features))
    (folder / "vocabularies").mkdir()
    for table, vocabulary in fitted.vocabularies.items():
        pq.write_table(vocabulary, folder / "vocabularies" / f"{table}.parquet")


def _write_events(
    engine: DuckDBEngine, events: ibis.Table, fitted: Fitted, *, folder: Path, ties_by_item: bool
) -> None:
    context = [feature for feature in fitted.features if feature.role == "context"]
    encoded = encode_context(engine, events, context, fitted.vocabularies)
    for split, name in enumerate(SPLIT_NAMES):
        visible = visible_events(engine, encoded, split, ties_by_item=ties_by_item)
        write_split(engine, visible, folder / name, split=split, context=context)
        write_histories(engine, visible, folder / "histories" / f"{name}.parquet")


def _manifest(
    options: DataOptions,
    raw: RawData,
    interactions: Interactions,
    *,
    divided: Divided,
    counts: Mapping[str, Any],
) -> dict[str, Any]:
    time = interactions.time
    by_item = options.split == "leave_last_out"
    return {
        "name": options.name,
        "licence": "",
        "split": {
            "kind": options.split,
            "fractions": list(options.split_fractions),
            "boundaries": [
                {"microseconds": instant, "iso": iso(instant)} for instant in divided.instants or ()
            ],
            "seed": options.split_seed,
            "leaks": options.split == "random",
            "tie_rule": "lower item_id first" if by_item else "events at one instant do not see each other",
        },
        "timestamp": {"kind": time.kind if time else None, "unit": time.unit if time else None},
        "label": {
            "column": options.label.column,
            "positive_at_least": options.label.positive_at_least,
            "only_positives": counts["rows"] == counts["positives"],
        },
        "counts": dict(counts),
        "leakage": {},
        "id_types": dict(raw.id_types),
        "title_column": options.items.title_column,
    }

"""read_entities: the users or the items, one row each, with their train counts and raw columns."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import _

from recsys.data.preparing.encode import encode
from recsys.data.preparing.fit import FittedFeatures
from recsys.data.preparing.kinds.values import ValueCounts
from recsys.data.preparing.splits import SPLIT, TRAIN
from recsys.data.reading.columns import ValueType, is_vector, known_text, read_id, read_typed, text_kinds
from recsys.data.reading.engine import ROW_GROUP_ROWS, Engine
from recsys.data.reading.functions import text_of
from recsys.data.reading.tables import SEQUENCE, RawTable
from recsys.schema.feature_kinds import Feature, Role
from recsys.schema.tables import ID_COLUMNS, POSITIVE, RAW_PREFIX, ROW_COLUMNS, USER_ID, encoded_column
from recsys.schema.values import TextKind

# Enough to see what a column of vectors holds.
_VECTORS_LOOKED_AT = 1_000
NUM_INTERACTIONS = "num_train_interactions"
NUM_POSITIVES = "num_train_positives"


@dataclasses.dataclass(frozen=True)
class Side:
    """A users' or items' table, read.

    Args:
        rows: the id (`user_id` or `item_id`) and `raw.<column>` for every raw column, by the engine's names;
            one row an id.
        raw: the table it comes from.
        id_column: raw column that holds the id.
        rejected: SEQUENCE, reason and value of the rows that cannot be used.
        kinds: of the columns that are text.
        numbered: `rows` with their SEQUENCE.
    """

    rows: ibis.Table
    raw: RawTable
    id_column: str
    rejected: pa.Table
    kinds: Mapping[str, TextKind]
    numbered: ibis.Table

    @functools.cached_property
    def columns(self) -> pa.Table:
        """The raw columns in memory, under their own names; of vectors only the first ones, null behind."""
        chosen = {}
        for name in (RAW_PREFIX + alias for alias in self.raw.names.values()):
            column = self.numbered[name]
            if is_vector(column.type()):
                is_looked_at = self.numbered[SEQUENCE] <= _VECTORS_LOOKED_AT
                column = is_looked_at.ifelse(column, ibis.null(column.type()))
            chosen[name] = column
        table = self.raw.engine.collect(self.numbered.select(**chosen))
        return table.rename_columns(list(self.raw.names))

    @property
    def values(self) -> dict[str, pa.Array]:
        """The columns that may be features."""
        names = (name for name in self.columns.column_names if name != self.id_column)
        return {name: self.columns[name].combine_chunks() for name in names}

    def without(self, columns: Collection[str]) -> Side:
        """The table without raw columns, which are read in another way."""
        dropped = [RAW_PREFIX + alias for column, alias in self.raw.names.items() if column in columns]
        return dataclasses.replace(self, rows=self.rows.drop(*dropped)) if dropped else self


def read_side(raw: RawTable, table: str, id_column: str, id_type: ValueType) -> Side:
    """Types a users' or items' table; a row without an id, or with the id of an earlier row, is rejected.

    Args:
        raw: the raw table.
        table: `users` or `items`.
        id_column: raw column that holds the id.
        id_type: as the interactions hold it.
    """
    name, engine = ID_COLUMNS[table], raw.engine
    kinds = text_kinds(raw, [column for column in raw.names if column != id_column])
    typed = {name: read_id(raw.column(id_column), id_type), SEQUENCE: raw.rows[SEQUENCE]}
    typed |= {
        RAW_PREFIX + alias: read_typed(raw.column(column), kinds.get(column))
        for column, alias in raw.names.items()
    }
    raw_id = known_text(text_of(raw.column(id_column)))
    checked = engine.keep(raw.rows.select(**typed, _raw_id=raw_id))
    first = checked[SEQUENCE].min().over(ibis.window(group_by=name))
    marked = engine.keep(checked.select(name, SEQUENCE, "_raw_id", _first=first))
    unusable = marked.filter(_[name].isnull() | (_[SEQUENCE] > _._first))
    reason = ibis.cases(
        (_._raw_id.isnull(), f"null {name} in `{id_column}`"),
        (_[name].isnull(), f"{name} in `{id_column}` is no integer, as in the interactions"),
        else_=f"same {name} as an earlier row",
    )
    rejected = engine.collect(unusable.select(SEQUENCE, reason=reason, value=_._raw_id).order_by(SEQUENCE))
    good = checked.drop("_raw_id")
    if rejected.num_rows:
        good = good.anti_join(unusable.select(SEQUENCE), SEQUENCE)
    return Side(good.drop(SEQUENCE), raw, id_column, rejected, kinds, numbered=good)


@dataclasses.dataclass(frozen=True)
class Entities:
    """All users, or all items, that train or the side table know: row 0 is the unknown one.

    Args:
        name: `user_id` or `item_id`.
        role: whose features these are.
        table: the id, num_train_interactions, num_train_positives and the raw columns, by row; those most
            frequent in train first, then by id.
    """

    name: str
    role: Role
    table: pa.Table

    def counted(self, features: Sequence[Feature]) -> dict[str, ValueCounts]:
        """Values of these entities' features, and the train interactions of each user or item."""
        counts = self.table[NUM_INTERACTIONS].to_numpy()
        return {f.name: ValueCounts(self._column(f), counts) for f in self._own(features)}

    def encode(self, fitted: FittedFeatures) -> dict[str, pa.Array]:
        """Encoded columns of these entities' features, in schema order."""
        return {
            encoded_column(f.name): encode(f, self._column(f), fitted.vocabularies.get(f.table))
            for f in self._own(fitted.features)
        }

    def _own(self, features: Sequence[Feature]) -> list[Feature]:
        return [f for f in features if f.role == self.role and not f.follows_ids]

    def _column(self, feature: Feature) -> pa.Array:
        column = self.table[self.name if feature.name == self.name else feature.source]
        return column.combine_chunks()


def read_entities(
    engine: Engine, events: ibis.Table, side: Side | None, *, name: str, known: bool = True
) -> Entities:
    """Collects the users or the items.

    Args:
        engine: runs the expressions.
        events: with their split.
        side: the users' or items' table, where there is one.
        name: `user_id` or `item_id`.
        known: false where each row is a user of its own, whom no other row tells of: all are the unknown one.
    """
    train = events.filter((_[SPLIT] == TRAIN) & known)
    counts = train.group_by(name).aggregate(**{NUM_INTERACTIONS: _.count(), NUM_POSITIVES: _[POSITIVE].sum()})
    if side is not None:
        joined = counts.outer_join(side.rows, name, rname="_side_{name}")
        counts = joined.mutate(**{name: ibis.coalesce(joined[name], joined[f"_side_{name}"])}).drop(
            f"_side_{name}"
        )
    counts = counts.mutate(
        **{column: counts[column].fill_null(0).cast("int64") for column in (NUM_INTERACTIONS, NUM_POSITIVES)}
    )
    known_rows = engine.collect(counts.order_by([ibis.desc(NUM_INTERACTIONS), ibis.asc(name)]))
    if side is not None:
        own = {RAW_PREFIX + alias: RAW_PREFIX + column for column, alias in side.raw.names.items()}
        known_rows = known_rows.rename_columns(
            [own.get(column, column) for column in known_rows.column_names]
        )
    schema = pa.schema([(field.name, field.type) for field in known_rows.schema])  # all may be null
    unknown = {field.name: pa.nulls(1, field.type) for field in schema}
    unknown |= {column: pa.array([0], pa.int64()) for column in (NUM_INTERACTIONS, NUM_POSITIVES)}
    table = pa.concat_tables([pa.table(unknown, schema=schema), known_rows.cast(schema)])
    return Entities(name=name, role="user" if name == USER_ID else "item", table=table)


def write_entities(entities: Entities, encoded: Mapping[str, pa.Array], path: Path) -> None:
    """Writes users or items: row, id, counts, features, raw columns."""
    table, name = entities.table, entities.name
    raw = [column for column in table.column_names if column.startswith(RAW_PREFIX)]
    columns = {ROW_COLUMNS[name]: pa.array(np.arange(table.num_rows), pa.int32())}
    columns |= {column: table[column] for column in (name, NUM_INTERACTIONS, NUM_POSITIVES)}
    columns |= encoded
    columns |= {column: table[column] for column in raw}
    pq.write_table(pa.table(columns), path, row_group_size=ROW_GROUP_ROWS)


def with_rows(engine: Engine, events: ibis.Table, entities: Entities) -> ibis.Table:
    """The events with the row of their user or item; 0 where it is unknown."""
    name, row = entities.name, ROW_COLUMNS[entities.name]
    rows = pa.array(np.arange(entities.table.num_rows), pa.int32())
    known = pa.table({name: entities.table[name], row: rows}).slice(1)
    joined = events.left_join(engine.upload(known), name, rname="_known_{name}")
    return joined.mutate(**{row: joined[row].fill_null(0).cast("int32")}).select(*events.columns, row)

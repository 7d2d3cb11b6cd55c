"""The kind `vector`: lists of numbers in a column of the users' or items' table."""

from __future__ import annotations

from pathlib import Path

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from recsys.data.preparing.catalogue import Entities, Side
from recsys.data.reading.engine import Engine
from recsys.data.reading.tables import SEQUENCE
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import VectorFeature
from recsys.schema.tables import ITEM_ID, RAW_PREFIX, USER_ID

# Beyond it float16 has no finite number.
_GREATEST = 65504.0
# The column is read a part at a time and never held whole.
READ_APART = True


def size(feature: VectorFeature, engine: Engine, side: Side) -> int:
    """Numbers of each vector: those of the first row that has one.

    Raises:
        InputError: the column holds no lists, or nothing but missing ones.
    """
    lengths = _rows(side, feature).select(SEQUENCE, length=_.vector.length()).filter(_.length > 0)
    first = engine.collect(lengths.order_by(SEQUENCE).limit(1))
    if not first.num_rows:
        raise InputError(
            f"`data.{_table(feature)}.features.{feature.name}`: the column `{feature.column}` holds no "
            "vector; leave the feature out"
        )
    return int(first["length"][0].as_py())


def write(
    feature: VectorFeature,
    held: npt.NDArray[np.float16],
    *,
    engine: Engine,
    side: Side,
    entities: Entities,
    cache_dir: Path,
) -> None:
    """Fills in the vectors of the users or items that have one.

    Raises:
        InputError: a vector is of another size than the first, or holds what is no number of float16; the
            message names its row.
    """
    ids = entities.table[entities.name].combine_chunks()
    for batch in engine.stream(_rows(side, feature)):
        there = batch.filter(pc.greater(pc.fill_null(pc.list_value_length(batch["vector"]), 0), 0))
        rows = pc.index_in(there[entities.name].cast(ids.type), value_set=ids)
        held[rows.to_numpy(zero_copy_only=False)] = _checked(there, feature, entities.name)


def _rows(side: Side, feature: VectorFeature) -> ibis.Table:
    """Number, id and vector of the rows of a table that have one; lists written as text are read as such."""
    column = side.numbered[RAW_PREFIX + side.raw.names[feature.column]]
    if not column.type().is_array():
        raise InputError(
            f"`data.{_table(feature)}.features.{feature.name}`: expected lists of numbers in the column "
            f"`{feature.column}`, all of one length, found {column.type()}"
        )
    name = USER_ID if feature.role == "user" else ITEM_ID
    numbers = column.cast("array<float64>") if column.type().value_type.is_numeric() else column
    return side.numbered.select(SEQUENCE, name, vector=numbers).filter(_.vector.notnull()).order_by(SEQUENCE)


def _checked(batch: pa.RecordBatch, feature: VectorFeature, id_name: str) -> npt.NDArray[np.float16]:
    """[N, size] of a batch, every number of it checked."""
    lengths = pc.list_value_length(batch["vector"]).to_numpy(zero_copy_only=False)
    if (lengths != feature.size).any():
        at = int(np.argmax(lengths != feature.size))
        raise _wrong(
            feature, batch, at, id_name, f"{lengths[at]} numbers, where the first has {feature.size}"
        )
    flat = pc.list_flatten(batch["vector"])
    try:
        numbers = flat.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"`data.{_table(feature)}.features.{feature.name}`: expected lists of numbers "
            f"in the column `{feature.column}`: {error}"
        ) from error
    vectors = numbers.reshape(-1, feature.size)
    usable = np.abs(vectors) <= _GREATEST  # false of NaN, too
    if not usable.all():
        at = int(np.argmin(usable.all(axis=1)))
        value = vectors[at][~usable[at]][0]
        what = "NaN, null or infinity" if not np.isfinite(value) else f"{value:g}, more than float16 holds"
        raise _wrong(feature, batch, at, id_name, what)
    found: npt.NDArray[np.float16] = vectors.astype(np.float16)
    return found


def _wrong(feature: VectorFeature, batch: pa.RecordBatch, at: int, id_name: str, found: str) -> InputError:
    return InputError(
        f"`data.{_table(feature)}.features.{feature.name}`: row {batch[SEQUENCE][at].as_py()} "
        f"({id_name} `{batch[id_name][at].as_py()}`): the vector in `{feature.column}` holds {found}; "
        "mend it, or leave the value empty where there is none"
    )


def _table(feature: VectorFeature) -> str:
    return "users" if feature.role == "user" else "items"

"""Vectors made elsewhere: a column of a users' or items' table -> a file of float16, read by mapping it."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from recsys.data.preparing.catalogue import Entities, Side
from recsys.data.preparing.sentences import encode_sentences
from recsys.data.reading.engine import Engine
from recsys.data.reading.tables import SEQUENCE
from recsys.nn.sentence_encoder import SentenceEncoder
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature, SentenceFeature, VectorFeature
from recsys.schema.tables import ITEM_ID, RAW_PREFIX, USER_ID, vector_file

# Beyond it float16 has no finite number.
_GREATEST = 65504.0


def with_sizes(engine: Engine, features: Sequence[Feature], sides: Mapping[str, Side]) -> list[Feature]:
    """The features with the size of each vector: that of the first row that has one.

    Raises:
        InputError: a column holds no lists, or nothing but missing ones.
    """
    return [
        dataclasses.replace(feature, size=_size(engine, feature, sides[_table(feature)]))
        if isinstance(feature, VectorFeature)
        else feature
        for feature in features
    ]


def write_sentences(feature: SentenceFeature, entities: Entities, folder: Path, *, cache_dir: Path) -> None:
    """Writes a file like that of `write_vectors`, of what a sentence model makes of a column of texts."""
    held = _file(feature, entities, folder)
    texts = entities.table[RAW_PREFIX + feature.column].combine_chunks().cast(pa.string())
    rows = np.flatnonzero(pc.fill_null(pc.greater(pc.utf8_length(texts), 0), False))
    chosen = texts.take(pa.array(rows)).to_pylist()
    for part, vectors in encode_sentences(_encoder(feature.model), chosen, cache_dir):
        held[rows[part]] = vectors
    held.flush()


def _file(feature: VectorFeature, entities: Entities, folder: Path) -> np.memmap[Any, np.dtype[np.float16]]:
    path = vector_file(folder, feature.name)
    path.parent.mkdir(exist_ok=True)
    shape = (entities.table.num_rows, feature.size)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)


@functools.cache
def _encoder(model: str) -> SentenceEncoder:
    return SentenceEncoder(model, threads=os.cpu_count() or 1)


def write_vectors(
    engine: Engine, feature: VectorFeature, side: Side, entities: Entities, folder: Path
) -> None:
    """Writes a file of float16, a row for each user or item, zeros where it has no vector.

    The column is read a part at a time and never held whole.

    Raises:
        InputError: a vector is of another size than the first, or holds what is no number of float16; the
            message names its row.
    """
    held = _file(feature, entities, folder)
    ids = entities.table[entities.name].combine_chunks()
    for batch in engine.stream(_rows(side, feature)):
        there = batch.filter(pc.greater(pc.fill_null(pc.list_value_length(batch["vector"]), 0), 0))
        rows = pc.index_in(there[entities.name].cast(ids.type), value_set=ids)
        held[rows.to_numpy(zero_copy_only=False)] = _checked(there, feature, entities.name)
    held.flush()


def _id_of(feature: Feature) -> str:
    return USER_ID if feature.role == "user" else ITEM_ID


def _rows(side: Side, feature: VectorFeature) -> ibis.Table:
    """Number, id and vector of the rows of a table that have one; lists written as text are read as such."""
    column = side.numbered[RAW_PREFIX + side.raw.names[feature.column]]
    if not column.type().is_array():
        raise InputError(
            f"`data.{_table(feature)}.features.{feature.name}`: expected lists of numbers in the column "
            f"`{feature.column}`, all of one length, found {column.type()}"
        )
    name = _id_of(feature)
    numbers = column.cast("array<float64>") if column.type().value_type.is_numeric() else column
    return side.numbered.select(SEQUENCE, name, vector=numbers).filter(_.vector.notnull()).order_by(SEQUENCE)


def _size(engine: Engine, feature: VectorFeature, side: Side) -> int:
    if isinstance(feature, SentenceFeature):
        return _encoder(feature.model).size
    lengths = _rows(side, feature).select(SEQUENCE, length=_.vector.length()).filter(_.length > 0)
    first = engine.collect(lengths.order_by(SEQUENCE).limit(1))
    if not first.num_rows:
        raise InputError(
            f"`data.{_table(feature)}.features.{feature.name}`: the column `{feature.column}` holds no "
            "vector; leave the feature out"
        )
    return int(first["length"][0].as_py())


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

"""Vectors of items and of users, for a database that searches by inner product.

Legend: B users, I items, D dimension.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.schema.disk import replacing_folder
from recsys.schema.errors import InputError
from recsys.schema.features import ITEM_ID, USER_ID
from recsys.schema.jagged import JaggedColumn
from recsys.schema.progress import progress
from recsys.serving.bulk import encode, ids_of, item_ids_of
from recsys.serving.bundle import Bundle

ITEMS_FILE, USERS_FILE = "items.parquet", "users.parquet"
_ENCODED_AT_ONCE = 4_096


def write_vectors(
    bundle: Bundle, out: Path, queries: pa.Table | None = None, *, histories: JaggedColumn | None = None
) -> Path:
    """Writes a folder of vectors, whose inner products are the scores of `recommend`; returns it.

    Args:
        bundle: with a retrieval model.
        out: folder of `items.parquet`, the items that may be recommended, and `users.parquet`; one that an
            earlier call has written is replaced.
        queries: a row a user, see `recsys.serving.bulk.write_lists`; None for items alone.
        histories: catalogue rows of each user's history, oldest first, where the table has none.

    Raises:
        RequestError: naming the row and the field of the table.
        InputError: the bundle has no retrieval model, or something else is at `out`.
    """
    first = bundle.retrieval
    if out.exists() and {path.name for path in out.iterdir()} - {ITEMS_FILE, USERS_FILE}:
        raise InputError(
            f"`out={out}` must be a new folder or one of vectors, which is replaced; found something else"
        )
    with replacing_folder(out) as folder:
        is_shown_I = first.allowed(None)
        rows = (
            torch.arange(1, len(first.candidates)) if is_shown_I is None else is_shown_I.nonzero().flatten()
        )
        ids = item_ids_of(bundle).take(pa.array(rows.numpy()))
        vectors = _column(first.candidates[rows])
        pq.write_table(pa.table({ITEM_ID: ids, "vector": vectors}), folder / ITEMS_FILE)
        if queries is not None:
            _write_users(bundle, queries, histories, folder / USERS_FILE)
    return out


def _write_users(bundle: Bundle, queries: pa.Table, histories: JaggedColumn | None, file: Path) -> None:
    user_ids = ids_of(bundle, queries)
    dim = bundle.retrieval.candidates.size(1)
    schema = pa.schema({USER_ID: user_ids.type, "vector": pa.list_(pa.float32(), dim)})
    begins = range(0, queries.num_rows, _ENCODED_AT_ONCE)
    with pq.ParquetWriter(file, schema) as writer:
        for begin in progress(begins, f"vectors of {queries.num_rows:,} users"):
            chosen = slice(begin, begin + _ENCODED_AT_ONCE)
            past = None if histories is None else histories.select(chosen)
            table = queries.slice(begin, _ENCODED_AT_ONCE)
            vectors_BD = encode(bundle, table, past, first_row=begin + 1)[3]
            columns = [ids_of(bundle, table), _column(vectors_BD)]
            writer.write_table(pa.table(columns, schema=schema))


def _column(vectors: torch.Tensor) -> pa.Array:
    values = pa.array(vectors.detach().float().numpy().ravel())
    return pa.FixedSizeListArray.from_arrays(values, vectors.size(1))

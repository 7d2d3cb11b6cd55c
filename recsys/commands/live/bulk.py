"""Writes the lists of all users of a table, or their vectors, by a bundle."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import torch

from recsys.commands.live.bulk_on_spark import on_spark
from recsys.data.dataset import SPLITS, PreparedDataset
from recsys.data.options import DataOptions
from recsys.data.prepare import prepare
from recsys.exporting.records import read_records
from recsys.schema.errors import InputError
from recsys.schema.features import HISTORY, USER_ID
from recsys.schema.jagged import JaggedColumn
from recsys.serving.bulk import BulkOptions, write_lists
from recsys.serving.bundle import Bundle
from recsys.serving.vectors import write_vectors


@dataclasses.dataclass(frozen=True)
class RecommendConfig(BulkOptions):
    """Every key of `recsys recommend`, those of `BulkOptions` included.

    Args:
        bundle: folder of the bundle.
        out: Parquet file with a row for each recommended item: user_id, rank from 1, item_id, score; of two
            stages retrieval_score and source, too.
        queries: table of users, CSV or Parquet: their id, further fields of users and of contexts, and
            perhaps `history`; null is every user of `data`. An empty cell is as if it were not there.
        data: dataset that the histories come from, where the table has none.
        engine: `processes` of this machine, or `spark`, whose workers must see the folders of bundle and
            result.
        engine_options: of Spark, as `data.engine_options`.
    """

    bundle: Path
    out: Path
    queries: Path | None = None
    data: DataOptions | None = None
    engine: Literal["processes", "spark"] = "processes"
    engine_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine_options and self.engine != "spark":
            raise InputError("`engine_options` are for `engine=spark`; leave them out")
        if self.queries is None and self.data is None:
            raise InputError(
                "expected `queries=FILE`, a table of users, or `data=NAME`, whose users all get a list; got "
                "neither"
            )


@dataclasses.dataclass(frozen=True)
class EmbedConfig:
    """Every key of `recsys embed`.

    Args:
        bundle: folder of the bundle.
        out: folder of `items.parquet` and, where there are users, `users.parquet`.
        queries: table of users, as of `recsys recommend`.
        data: dataset of the histories, and of the users where there is no table.
    """

    bundle: Path
    out: Path
    queries: Path | None = None
    data: DataOptions | None = None


def recommend_to_all(config: RecommendConfig) -> Path:
    """Writes the lists, on as many cores as there are, or on Spark."""
    _check_nothing_is_lost(config.queries, config.out)
    bundle = Bundle.open(config.bundle)
    queries, histories = _users_and_histories(bundle, config.queries, config.data)
    spread = functools.partial(on_spark, config.engine_options) if config.engine == "spark" else None
    return write_lists(bundle, queries, config.out, config, histories=histories, spread=spread)


def embed_all(config: EmbedConfig) -> Path:
    """Writes the vectors of items and users."""
    _check_nothing_is_lost(config.queries, config.out / "items.parquet", config.out / "users.parquet")
    bundle = Bundle.open(config.bundle)
    if config.queries is None and config.data is None:
        return write_vectors(bundle, config.out)
    queries, histories = _users_and_histories(bundle, config.queries, config.data)
    return write_vectors(bundle, config.out, queries, histories=histories)


def _check_nothing_is_lost(queries: Path | None, *written: Path) -> None:
    """Looks at files that are to be written.

    Raises:
        InputError: one is read as the table of users, or is none that an earlier command has left.
    """
    for path in written:
        target = path.resolve()
        if queries is not None and queries.resolve() in (target, *target.parents):
            raise InputError(f"`out`: `{path}` is read as `queries`, and would be written over; name another")
        if target.is_file() and target.stat().st_size and not _is_parquet(target):
            raise InputError(
                f"`out`: `{path}` is there and no Parquet file, and would be written over; name another"
            )


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _users_and_histories(
    bundle: Bundle, path: Path | None, data: DataOptions | None
) -> tuple[pa.Table, JaggedColumn | None]:
    """The users of a table, or all of a dataset, and their histories where the dataset has them.

    Args:
        bundle: that will answer.
        path: the table; None for all users of the dataset.
        data: the dataset; None where the table has a column `history`, or nobody has a history.
    """
    dataset = None if data is None else PreparedDataset.open(prepare(data))
    id_fields = bundle.retrieval.known.user_fields
    if path is None:
        assert dataset is not None
        queries = pa.table({USER_ID: pa.array(dataset.user_ids[1:].tolist())})
    else:
        fields = [*bundle.requests.users.fields, *bundle.requests.contexts.fields, HISTORY]
        queries = read_records(path, key="queries", id_fields=id_fields, columns=fields)
    if HISTORY in queries.column_names or dataset is None:
        return queries, None
    id_field = next(field for field in id_fields if field in queries.column_names)
    return queries, _histories_of(dataset, queries[id_field], bundle)


def _histories_of(dataset: PreparedDataset, user_ids: pa.ChunkedArray, bundle: Bundle) -> JaggedColumn:
    """Everything that these users liked in a dataset, oldest first, as rows of the bundle's catalogue."""
    texts = [None if user_id is None else str(user_id) for user_id in dataset.user_ids.tolist()]
    known = pa.array(texts, pa.string())
    rows = pc.fill_null(pc.index_in(user_ids.cast(pa.string()), value_set=known, skip_nulls=True), 0)
    user_rows = torch.from_numpy(rows.to_numpy().astype("int64"))
    starts, ends = torch.zeros(dataset.num_users).long(), torch.zeros(dataset.num_users).long()
    values, size = [], 0
    for split in SPLITS:
        histories = dataset.histories(split)
        # What a user did in a later split stands behind what is in the earlier ones.
        starts[histories.user_rows] = histories.items.starts + size
        ends[histories.user_rows] = histories.items.ends + size
        values.append(histories.items.values)
        size += len(histories.items.values)
    starts[0] = ends[0] = 0
    columns = JaggedColumn(torch.cat(values), starts=starts, ends=ends).at(user_rows).compact()
    catalogue = bundle.retrieval.known.rows_of_items(dataset.item_ids.tolist())
    return columns.of(catalogue[columns.values.long()])

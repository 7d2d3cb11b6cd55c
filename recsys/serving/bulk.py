"""Lists for all users of a table, part by part, in several processes.

A folder beside the result holds the plan of the work and the parts that are done; the same work, started
again, goes on from there.

Legend: B users, D dimension of vectors, I catalogue rows, K cut-off.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.retrieval.exact import top_k
from recsys.retrieval.sums import best_of_sums
from recsys.schema.disk import replacing_file, write_file, writing_to
from recsys.schema.errors import InputError
from recsys.schema.features import HISTORY, ITEM_ID, USER_ID
from recsys.schema.jagged import JaggedColumn
from recsys.schema.json_files import read_json_of_ours
from recsys.schema.progress import progress
from recsys.serving.bulk_workers import in_processes
from recsys.serving.bundle import Bundle
from recsys.serving.record_reader import RecordReader

# Users whose requests are read and whose vectors are made at once.
_ENCODED_AT_ONCE = 4_096
_QUERIES, _ROWS, _OFFSETS, _PLAN = "queries.parquet", "history_rows.npy", "history_offsets.npy", "plan.json"


Spread = Callable[[Callable[[int], None], Mapping[int, Path]], Iterator[None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BulkOptions:
    """Sets the lists that are made for all users of a table, and how the work is divided.

    Args:
        k: length of a list.
        where: values by attribute of the items; of each attribute, an item must hold one of them.
        num_candidates: of two stages, how many items are ranked.
        diversity: of two stages, the weight of variety.
        users_a_part: how many users at most are done before the work can be resumed behind them; parts are
            equal, and small, so that all processes end together.
        processes: how many at once, each on one thread; 0 for as many as there are cores.
    """

    k: int = 10
    where: Mapping[str, list[Any]] = dataclasses.field(default_factory=dict)
    num_candidates: int | None = None
    diversity: float | None = None
    users_a_part: int = 4_096
    processes: int = 0

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("users_a_part", 1), ("processes", 0)):
            if getattr(self, name) < least:
                raise InputError(f"`{name}` must be at least {least}, got {getattr(self, name)}")


def write_lists(
    bundle: Bundle,
    queries: pa.Table,
    out: Path,
    options: BulkOptions,
    *,
    histories: JaggedColumn | None = None,
    spread: Spread | None = None,
) -> Path:
    """Writes a Parquet file with a row for each recommended item, as evaluation reads it; returns its path.

    Args:
        bundle: that recommends; each process opens it anew from its folder.
        queries: a row a user: the columns of a user's record, of a context, and perhaps `history`, a list of
            raw item ids, oldest first.
        out: where the file will be.
        options: see the class.
        histories: catalogue rows of each user's history, oldest first, where the table has none.
        spread: gets a function that makes a part, and the parts' files by number; calls it with each number,
            anywhere that sees the folders of bundle and result, and yields when one is done. None is
            processes of this machine.

    Raises:
        RequestError: naming the row and the field of the table.
        InputError: the bundle has no retrieval model, or the disk refuses to be written to.
    """
    bundle.retrieval  # noqa: B018 (raises where there is none)
    work = _Work(bundle.folder, out.with_name(f".{out.name}.parts"), options)
    with writing_to(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        work.plan(bundle.manifest["fingerprint"], queries, histories)
        work.run(bundle, spread)
        _concatenate(work.parts, out)
        shutil.rmtree(work.folder)
    return out


@dataclasses.dataclass(frozen=True)
class _Work:
    """The parts of one table of lists.

    Args:
        bundle: its folder.
        folder: of the plan and of the parts.
        options: see `BulkOptions`.
    """

    bundle: Path
    folder: Path
    options: BulkOptions

    @property
    def parts(self) -> list[Path]:
        """Files of all parts, in order."""
        number = pq.ParquetFile(self.folder / _QUERIES).num_row_groups
        return [self.folder / f"part-{part:06d}.parquet" for part in range(number)]

    def plan(self, fingerprint: str, queries: pa.Table, histories: JaggedColumn | None) -> None:
        """Writes what the processes read, unless the same work has been begun."""
        read = ("k", "where", "num_candidates", "diversity", "users_a_part")
        settings = {name: getattr(self.options, name) for name in read}
        plan = {"bundle": fingerprint, "options": settings, "queries": _digest(queries, histories)}
        file = self.folder / _PLAN
        if read_json_of_ours(file) == plan:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        parts = max(1, math.ceil(queries.num_rows / self.options.users_a_part))
        users_a_part = max(1, math.ceil(queries.num_rows / parts))
        pq.write_table(queries, self.folder / _QUERIES, row_group_size=users_a_part)
        if histories is not None:
            compact = histories.compact()
            np.save(self.folder / _ROWS, compact.values.int().numpy())
            np.save(self.folder / _OFFSETS, compact.offsets.numpy())
        write_file(file, json.dumps(plan))

    def run(self, bundle: Bundle, spread: Spread | None) -> None:
        """Makes every part that is not there yet."""
        missing = [at for at, part in enumerate(self.parts) if not part.is_file()]
        processes = min(self.options.processes or len(os.sched_getaffinity(0)), len(missing))
        if spread is not None and missing:
            made = spread(functools.partial(_write_part, self), {at: self.parts[at] for at in missing})
        else:
            made = in_processes(
                missing,
                processes,
                functools.partial(_write_part, self),
                lambda part: _write_part(self, part, bundle),
            )
        for _ in progress(made, "parts of the lists", total=len(missing)):
            pass


def _digest(queries: pa.Table, histories: JaggedColumn | None) -> str:
    digest = hashlib.sha256()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, queries.schema) as writer:
        writer.write_table(queries.combine_chunks())
    digest.update(sink.getvalue())
    if histories is not None:
        compact = histories.compact()
        digest.update(compact.values.int().numpy().tobytes())
        digest.update(compact.offsets.numpy().tobytes())
    return digest.hexdigest()


@functools.cache
def _opened(folder: Path) -> Bundle:
    return Bundle.open(folder, threads=1)


def _write_part(work: _Work, part: int, bundle: Bundle | None = None) -> None:
    """Makes the lists of one part, in a process of its own unless the bundle is given."""
    file = pq.ParquetFile(work.folder / _QUERIES)
    table = file.read_row_group(part)
    first = part * file.metadata.row_group(0).num_rows
    maker = _ListMaker(bundle or _opened(work.bundle), work.options)
    histories = None
    if (work.folder / _ROWS).is_file():
        offsets = np.load(work.folder / _OFFSETS, mmap_mode="r")[first : first + table.num_rows + 1]
        values = np.load(work.folder / _ROWS, mmap_mode="r")[offsets[0] : offsets[-1]]
        histories = JaggedColumn.of_offsets(
            torch.from_numpy(values.astype(np.int64)), torch.from_numpy(offsets - offsets[0])
        )
    lists = [
        maker.lists(
            table.slice(begin, _ENCODED_AT_ONCE),
            None if histories is None else histories.select(slice(begin, begin + _ENCODED_AT_ONCE)),
            first_row=first + begin + 1,
        )
        for begin in range(0, table.num_rows, _ENCODED_AT_ONCE)
    ]
    with replacing_file(work.parts[part]) as made:
        pq.write_table(pa.concat_tables(lists), made)


class _ListMaker:
    """Makes the lists of some users.

    Args:
        bundle: that nothing changes meanwhile.
        options: see `BulkOptions`.
    """

    def __init__(self, bundle: Bundle, options: BulkOptions) -> None:
        self.bundle = bundle
        self.first = bundle.retrieval
        request = bundle.requests.one(
            {},
            [],
            options.k,
            None,
            None,
            where=dict(options.where) or None,
            num_candidates=options.num_candidates,
            diversity=options.diversity,
        )
        self.k, self.diversity = request.k, request.diversity
        self.wanted = request.k
        if bundle.has_two_stages:
            self.wanted = bundle.program.wanted(request.k, request.num_candidates, request.diversity)
        allowed = self.first.allowed(request.where)
        self.candidates = self.first.candidates
        # Where not all items may be shown, only those that may are scored: row 0, then each by its place.
        self.kept_rows: torch.Tensor | None = None
        if allowed is not None:
            self.kept_rows = torch.cat([torch.zeros(1, dtype=torch.int64), allowed.nonzero().flatten()])
            self.candidates = self.candidates[self.kept_rows]
            self.places = torch.zeros(len(allowed), dtype=torch.int64)
            self.places[self.kept_rows] = torch.arange(len(self.kept_rows))

    def lists(self, table: pa.Table, histories: JaggedColumn | None, *, first_row: int) -> pa.Table:
        """A row for each item that is recommended to these users."""
        users, contexts, histories, vectors = encode(self.bundle, table, histories, first_row=first_row)
        seen = None
        if self.bundle.excludes_history:
            seen = histories if self.kept_rows is None else histories.of(self.places[histories.values])
        scores_BK, rows_BK = self._best(vectors, histories, seen)
        if self.kept_rows is not None:
            rows_BK = self.kept_rows[rows_BK]
        user_ids = ids_of(self.bundle, table)
        if self.bundle.has_two_stages:
            return self._ranked(user_ids, users, contexts, histories, (scores_BK, rows_BK))
        is_there = scores_BK > -torch.inf
        return self._table(
            user_ids, is_there.sum(1), rows_BK[is_there], {"score": pa.array(scores_BK[is_there].numpy())}
        )

    def _best(
        self, vectors_BD: torch.Tensor, histories: JaggedColumn, seen: JaggedColumn | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and places among the candidates of the best items of each."""
        if not getattr(self.first, "adds", False):  # bundles of early releases do not say
            return top_k(vectors_BD, self.candidates, self.wanted, seen=seen)
        return best_of_sums(
            vectors_BD, self.candidates, self.wanted, histories=histories, added=self._added, seen=seen
        )

    def _added(self, rows_V: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """Gives what is added to the score of each candidate."""
        added_BI: torch.Tensor = self.first.added((rows_V, lengths_B))
        return added_BI if self.kept_rows is None else added_BI[:, self.kept_rows]

    def _ranked(
        self,
        user_ids: pa.ChunkedArray,
        users: list[dict[str, Any]],
        contexts: list[dict[str, Any]],
        histories: JaggedColumn,
        best: tuple[torch.Tensor, torch.Tensor],
    ) -> pa.Table:
        """The same by the second stage."""
        is_there = best[0] > -torch.inf
        past = self.first.item_ids.lists_of(list(torch.split(histories.values, histories.lengths.tolist())))
        rows, probabilities, scores, sources = self.bundle.program.ranked(
            users,
            contexts=contexts,
            histories=past,
            liked=None,
            found=[row[kept] for row, kept in zip(best[1], is_there, strict=True)],
            found_scores=[row[kept] for row, kept in zip(best[0], is_there, strict=True)],
            k=self.k,
            diversity=self.diversity,
        )
        further = {
            "score": pa.array(np.concatenate([np.zeros(0), *probabilities]), pa.float32()),
            "retrieval_score": pa.array(np.concatenate([np.zeros(0), *scores]), pa.float32()),
            "source": pa.array([source for some in sources for source in some], pa.string()),
        }
        return self._table(user_ids, torch.tensor([len(one) for one in rows]), torch.cat(rows), further)

    def _table(
        self,
        user_ids: pa.ChunkedArray,
        lengths: torch.Tensor,
        item_rows: torch.Tensor,
        further: Mapping[str, pa.Array],
    ) -> pa.Table:
        lists = JaggedColumn.of_lengths(item_rows, lengths)
        ranks = torch.arange(len(item_rows)) - lists.starts[lists.rows] + 1
        return pa.table(
            {
                USER_ID: user_ids.take(pa.array(lists.rows.numpy())),
                "rank": pa.array(ranks.int().numpy()),
                ITEM_ID: self._item_ids.take(pa.array(item_rows.numpy())),
                **further,
            }
        )

    @functools.cached_property
    def _item_ids(self) -> pa.Array:
        return item_ids_of(self.bundle)


def encode(
    bundle: Bundle, table: pa.Table, histories: JaggedColumn | None, *, first_row: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], JaggedColumn, torch.Tensor]:
    """Reads B users of a table: their records, contexts, histories as catalogue rows, and vectors [B, D].

    Args:
        bundle: that nothing changes meanwhile.
        table: a row a user; see `write_lists`.
        histories: of these users, where the table has none.
        first_row: number of the first row, for messages.

    Raises:
        RequestError: naming the row and the field.
    """
    columns = {name: table[name].to_pylist() for name in table.column_names}
    raw = columns.pop(HISTORY, None) or [None] * table.num_rows
    users = _records(bundle.requests.users, columns, table.num_rows, first_row)
    contexts = _records(bundle.requests.contexts, columns, table.num_rows, first_row)
    if histories is None:
        ids = [
            bundle.requests.ids(past, f"row {first_row + at}.{HISTORY}", None) for at, past in enumerate(raw)
        ]
        histories = JaggedColumn.of_lengths(*bundle.retrieval.known.history_rows(ids))
    past = histories.values, histories.lengths
    vectors_BD = bundle.retrieval.encode_queries(users, past, contexts, None, None)
    return users, contexts, histories, vectors_BD


def ids_of(bundle: Bundle, table: pa.Table) -> pa.ChunkedArray:
    """The column of a table that holds the ids of its users."""
    return table[next(name for name in bundle.retrieval.known.user_fields if name in table.column_names)]


def item_ids_of(bundle: Bundle) -> pa.Array:
    """Raw ids by catalogue row; that of row 0 means nothing."""
    ids = bundle.retrieval.item_ids.ids
    return pa.array(ids.numpy()) if isinstance(ids, torch.Tensor) else pa.array(ids)


def _records(
    reader: RecordReader, columns: Mapping[str, list[Any]], size: int, first_row: int
) -> list[dict[str, Any]]:
    """The records that a reader has fields for; a column that is null is as if it were not there."""
    known = [name for name in columns if not reader.unread({name: None})]
    return [
        reader.read(
            {name: columns[name][at] for name in known if columns[name][at] is not None},
            f"row {first_row + at}",
            strict=True,
        )
        for at in range(size)
    ]


def _concatenate(parts: list[Path], out: Path) -> None:
    with replacing_file(out) as file, pq.ParquetWriter(file, pq.read_schema(parts[0])) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))

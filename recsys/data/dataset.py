"""PreparedDataset: a prepared station opened for reading."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from recsys.data.collate import Collator, feature_store
from recsys.data.events import Events, bags, columns_of, floats, integers
from recsys.data.footers import check_tables
from recsys.data.histories import Histories
from recsys.data.queries import Known, Queries, QueryMode, Seen, queries_of
from recsys.data.reading.instants import TimeReading
from recsys.retrieval.popularity import Popularity
from recsys.schema import tables
from recsys.schema.batch import Batch, HistoryEvents
from recsys.schema.errors import InputError
from recsys.schema.facts import DataFacts
from recsys.schema.feature_kinds import HistoryFeature, Role, VectorFeature
from recsys.schema.features import FeatureSchema
from recsys.schema.manifest import read_station

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclasses.dataclass
class PreparedDataset:
    """Splits, catalogue, users, counts and histories of a prepared dataset.

    Args:
        path: the station's folder.
        manifest: its manifest.
        schema: its features.
    """

    path: Path
    manifest: dict[str, Any]
    schema: FeatureSchema

    @staticmethod
    def open(path: str | Path) -> PreparedDataset:
        """The dataset at `path`.

        Raises:
            ValueError: the station is missing, incomplete, damaged or of another version.
        """
        folder = Path(path)
        manifest = read_station(folder, "prepared")
        schema = FeatureSchema.read(folder / "schema.json")
        check_tables(folder, schema, SPLITS)
        return PreparedDataset(path=folder, manifest=manifest, schema=schema)

    def check_has(self, what: Literal["rows", "positives"], split: Split) -> None:
        """Raises ValueError where a split has no rows, or no positives among them."""
        if self.manifest["counts"][what][split]:
            return
        keys = "`data.split_fractions`"
        if what == "positives":
            keys = f"`data.label.positive_at_least` and {keys}"
        raise InputError(f"expected {what} in the {split} split of `{self.path}`, found none; check {keys}")

    @cached_property
    def users(self) -> Batch:
        """Features of all users by user row; row 0 is the unknown user."""
        return self._feature_store(self.raw_users, "user")

    @cached_property
    def items(self) -> Batch:
        """Features of the catalogue by item row; row 0 is the unknown item."""
        return self._feature_store(self.raw_items, "item")

    @property
    def num_users(self) -> int:
        """Users, the unknown one included."""
        return int(self.raw_users.num_rows)

    @property
    def num_items(self) -> int:
        """Items of the catalogue, the unknown one included."""
        return int(self.raw_items.num_rows)

    @cached_property
    def user_ids(self) -> npt.NDArray[Any]:
        """Raw ids by user row; None at 0."""
        return np.array(self.raw_users[tables.USER_ID].to_pylist(), dtype=object)

    @cached_property
    def item_ids(self) -> npt.NDArray[Any]:
        """Raw ids by item row; None at 0."""
        return np.array(self.raw_items[tables.ITEM_ID].to_pylist(), dtype=object)

    @cached_property
    def item_titles(self) -> list[str]:
        """Names each item for people: by its title where there is one, else by its id."""
        column = self.manifest.get("title_column")
        titles = self.raw_items[tables.RAW_PREFIX + column].to_pylist() if column else [None] * self.num_items
        named = [str(title or item_id) for title, item_id in zip(titles, self.item_ids, strict=True)]
        return ["(unknown item)", *named[1:]]

    @cached_property
    def item_counts(self) -> torch.Tensor:
        """Train positives of each item, by item row."""
        return integers(self.raw_items["num_train_positives"])

    @cached_property
    def item_events(self) -> torch.Tensor:
        """Train rows of each item, whatever came of them, by item row."""
        return integers(self.raw_items["num_train_interactions"])

    def new_items(self, leave_out: Sequence[str] = ()) -> npt.NDArray[np.bool_]:
        """[I] whether an item has no train row and content that train knows; row 0, the unknown one, is none.

        Args:
            leave_out: names of features that are not read.
        """
        known = np.zeros(self.num_items, dtype=bool)
        for feature in self.schema.embedded(["item"]):
            if feature.name in (tables.ITEM_ID, *leave_out):
                continue
            if isinstance(feature, VectorFeature):
                known |= np.asarray(self._vectors(feature)).any(axis=1)
                continue
            bag = self.items.ids[feature.name]
            item_V = torch.repeat_interleave(torch.arange(self.num_items), bag.lengths())
            known[item_V[bag.values() > 0].numpy()] = True
        known[0] = False
        known[(self.item_events > 0).numpy()] = False
        return known

    def facts(self, leave_out: Sequence[str] = ()) -> DataFacts:
        """Counts how large the train split is.

        Args:
            leave_out: names of features that the model does not read.
        """
        rows = [pq.read_table(f, columns=[tables.USER_ROW, tables.POSITIVE]) for f in self.files("train")]
        table = pa.concat_tables(rows)
        counts_U = np.bincount(table.filter(table[tables.POSITIVE])[tables.USER_ROW].to_numpy(), minlength=1)
        lengths = counts_U[1:][counts_U[1:] > 0]
        median, long = np.quantile(lengths, [0.5, 0.9], method="lower") if len(lengths) else (0, 0)
        return DataFacts(
            num_users=len(lengths),
            num_items=self.num_items - 1,
            num_rows=table.num_rows,
            num_positives=int(counts_U.sum()),
            num_features=sum(not isinstance(feature, HistoryFeature) for feature in self.schema.embedded()),
            median_history=float(median),
            long_history=float(long),
            num_new_items=int(self.new_items(leave_out).sum()),
            leave_out=tuple(leave_out),
        )

    @property
    def has_timestamps(self) -> bool:
        """False when the raw table has none, and row order stands in for time."""
        return self.manifest["timestamp"]["kind"] is not None

    @property
    def has_weights(self) -> bool:
        """Whether `data.label.weights` says what each positive counts in the loss."""
        return bool(self.manifest["config"]["label"].get("weights"))

    @cached_property
    def raw_users(self) -> pa.Table:
        """The users' table as prepared, raw columns (`raw.*`) included."""
        return pq.read_table(self.path / "users.parquet")

    @cached_property
    def raw_items(self) -> pa.Table:
        """The items' table as prepared, raw columns (`raw.*`) included."""
        return pq.read_table(self.path / "items.parquet")

    def files(self, split: Split) -> list[Path]:
        """Parquet files of a split, in order."""
        return sorted((self.path / split).glob("*.parquet"))

    def split_table(self, split: Split) -> pa.Table:
        """A whole split as it is on disk."""
        return pa.concat_tables([pq.read_table(file) for file in self.files(split)])

    def histories(
        self,
        split: Split,
        *,
        events: HistoryEvents = "positives",
        with_timestamps: bool = False,
        with_weights: bool = False,
    ) -> Histories:
        """Reads what each user of the split did, in it and before.

        Args:
            split: whose users.
            events: `positives` leaves out those that are not.
            with_timestamps: whether to hold when, for models that read histories event by event.
            with_weights: whether to hold what each positive counts in the loss.
        """
        return Histories.read(
            self.path / "histories" / f"{split}.parquet",
            events=events,
            with_timestamps=with_timestamps,
            with_weights=with_weights,
            ties_by_item=self.manifest["config"]["split"] == "leave_last_out",
            has_times=self.has_timestamps,
        )

    def popularity(self, split: Split, windows: Sequence[int | None]) -> Popularity | None:
        """Counts the recent popularity of items, by the positives of `split` and the earlier ones.

        Args:
            split: whose models or queries are to know it.
            windows: days that each feature looks back; None looks back to the beginning.

        Returns:
            None without windows, or where the raw table has no timestamps.
        """
        if not windows or not self.has_timestamps:
            return None
        # Nothing else of the rows: with all their features they may not fit into memory.
        columns = [tables.ITEM_ROW, tables.TIMESTAMP, tables.POSITIVE]
        files = [file for part in SPLITS[: SPLITS.index(split) + 1] for file in self.files(part)]
        events = pa.concat_tables([pq.read_table(file, columns=columns) for file in files])
        positives = events.filter(events[tables.POSITIVE])
        timestamps, order = integers(positives[tables.TIMESTAMP]).sort(stable=True)
        items = integers(positives[tables.ITEM_ROW])[order]
        return Popularity(items, timestamps, num_items=self.num_items, windows=windows)

    def instant(self, given: int | float | str | None, *, key: str) -> int | None:
        """Microseconds since 1970 of an instant that a key gives as the raw timestamps are; None of None."""
        time = self.manifest["timestamp"]
        if given is None:
            return None
        if time["kind"] is None:
            raise InputError(f"`{key}={given}` needs timestamps, and the interactions have none")
        return TimeReading(**time).instant(given, key=key)

    def train_counts(self, *, since: int | None = None) -> dict[Role, npt.NDArray[np.float64]]:
        """By `user` and `item`, train positives and train rows of each, [2, users or items].

        Args:
            since: microseconds; rows before are not counted. None counts all.
        """
        tables_of: dict[Role, pa.Table] = {"user": self.raw_users, "item": self.raw_items}
        if since is None:
            names = ("num_train_positives", "num_train_interactions")
            return {
                role: np.stack([table[name].to_numpy().astype(np.float64) for name in names])
                for role, table in tables_of.items()
            }
        columns = {"user": tables.USER_ROW, "item": tables.ITEM_ROW}
        names_read, later = [*columns.values(), tables.POSITIVE], pc.field(tables.TIMESTAMP) >= since
        files = [pq.read_table(file, columns=names_read, filters=later) for file in self.files("train")]
        rows = pa.concat_tables(files)
        counted = (rows.filter(rows[tables.POSITIVE]), rows)
        return {
            role: np.stack(
                [np.bincount(one[columns[role]], minlength=len(table)).astype(np.float64) for one in counted]
            )
            for role, table in tables_of.items()
        }

    def events(self, split: Split) -> Events:
        """All rows of a split."""
        files = [pq.read_table(file, columns=columns_of(self.schema)) for file in self.files(split)]
        return Events.from_arrow(pa.concat_tables(files), self.schema)

    def collator(self, history_length: int, events_read: HistoryEvents | None = None) -> Collator:
        """Builds batches of this dataset's events."""
        return Collator(
            self.schema,
            users=self.users,
            items=self.items,
            history_length=history_length,
            with_content=events_read == "content",
        )

    def train_positives(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """User rows, item rows and timestamps (microseconds) of the train split's positives."""
        events = self.events("train")
        keep = events.positives.numpy()
        users, items = events.user_rows.numpy(), events.item_rows.numpy()
        return users[keep], items[keep], events.timestamps.numpy()[keep]

    def queries(
        self,
        split: Split,
        *,
        mode: QueryMode | Literal["auto"] = "auto",
        history_length: int = 50,
        events_read: HistoryEvents | None = None,
        known: Known = "all",
        seen: Seen = "exclude",
    ) -> Queries:
        """Builds the queries that a retrieval model is asked on `split`.

        Args:
            split: validation or test.
            mode: `event`, a query for every positive event; `user`, one for every user; `auto`, by event
                where there are timestamps.
            history_length: latest positives that the model sees.
            events_read: which events a model reads one by one; None where it does not.
            known: what a user's history holds: `all` that came before, or events of `train` alone.
            seen: whether all that the model reads is excluded from its answer, or may be recommended again.
        """
        if mode == "auto":
            mode = "event" if self.has_timestamps else "user"
        histories = self.histories(split)
        sequences = None
        if events_read in ("positives", "all"):
            sequences = self.histories(split, events=events_read, with_timestamps=True)
        if known == "train":
            histories = histories.earlier_than(1)
            sequences = sequences.earlier_than(1) if sequences else None
        return queries_of(
            self._positives(split),
            mode,
            histories=histories,
            sequences=sequences,
            collator=self.collator(history_length, events_read),
            split_number=SPLITS.index(split),
            has_timestamps=self.has_timestamps,
            seen=seen,
        )

    def _positives(self, split: Split) -> pa.Table:
        """Reads a row for each positive of validation or test, of which queries are made."""
        columns = [*columns_of(self.schema), tables.USER_ID, tables.ITEM_ID]
        if self.has_timestamps:
            columns.append(tables.RAW_PREFIX + tables.TIMESTAMP)
        parts = []
        for file in map(pq.ParquetFile, self.files(split)):
            parts.append(file.schema_arrow.empty_table().select(columns))
            for number in range(file.num_row_groups):
                table = file.read_row_group(number, columns=columns)
                parts.append(table.filter(table[tables.POSITIVE]))
        return pa.concat_tables(parts)

    def _feature_store(self, table: pa.Table, role: Role) -> Batch:
        on_disk = [f for f in self.schema.sparse([role]) if not isinstance(f, HistoryFeature)]
        return feature_store(
            {f.name: bags(table[tables.encoded_column(f.name)]) for f in on_disk},
            floats(table, self.schema.dense([role])),
            {f.name: self._vectors(f) for f in self.schema.vectors([role])},
        )

    def _vectors(self, feature: VectorFeature) -> torch.Tensor:
        """[rows, size] float16, mapped: read from the file where they are looked at, and not before."""
        # Copied where written to, which nobody does: torch warns of arrays that may not be.
        return torch.from_numpy(np.load(tables.vector_file(self.path, feature.name), mmap_mode="c"))

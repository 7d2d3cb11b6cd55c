"""DataOptions: every key under `data.`, with its type, meaning and default."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from recsys.schema.errors import InputError
from recsys.schema.places import cache_folder

SplitKind = Literal[
    "leave_last_out", "global_time", "random", "cold_item", "cold_user", "cold_both", "predefined"
]
FeatureDeclarations = Mapping[str, Mapping[str, Any]]
INFER: Literal["infer"] = "infer"


@dataclasses.dataclass(frozen=True)
class RawTables:
    """Files of the raw tables; each is one CSV or Parquet file or a folder of such."""

    interactions: Path
    users: Path | None = None
    items: Path | None = None
    licence: str = ""


class Source(Protocol):
    """A known dataset: brings its raw tables onto the disk, once."""

    def tables(self, cache_dir: Path) -> RawTables:
        """Files of the raw tables below `cache_dir`, fetched or made when they are not there yet."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of the interactions' columns in the raw table; null where it has none.

    Args:
        user_id: who did it; null where each row is a user of its own, whom nobody knows.
        item_id: to what; null, with `user_id`, where all rows are about one item, as impressions and forms
            are.
        timestamp: when it was; null where nothing says it, for splits without time.
        split: train, validation or test, for `data.split=predefined`.
        timestamp_format: how text writes timestamps, in the terms of `strptime` (`%d.%m.%Y %H:%M`, in UTC
            without `%z`); null reads ISO text, numbers and dates.
    """

    user_id: str | None = "user_id"
    item_id: str | None = "item_id"
    timestamp: str | None = "timestamp"
    split: str | None = None
    timestamp_format: str | None = None


@dataclasses.dataclass(frozen=True)
class InteractionsTable:
    r"""The raw interactions.

    Args:
        path: one CSV, Parquet or Arrow file or a folder of such.
        columns: names of those that are no features.
        delimiter: of CSV, `\t` for a tab; null finds out.
        features: declares context features; null takes the hour and the weekday of the timestamp, `infer`
            these and all columns that nothing else uses, which must then be known before the outcome.
    """

    path: str | None = None
    columns: Columns = Columns()
    delimiter: str | None = None
    features: FeatureDeclarations | Literal["infer"] | None = None


@dataclasses.dataclass(frozen=True)
class SideTable:
    r"""Raw users or items, a row each.

    Args:
        path: one CSV, Parquet or Arrow file or a folder of such; null where there is no such table.
        id_column: column of their ids; null means as in the interactions.
        delimiter: of CSV, `\t` for a tab; null finds out.
        features: declares features by name, as `{genre: {kind: multi_id}}`; null infers them.
        title_column: what people call an item, for reports; null takes a column whose name says so.
    """

    path: str | None = None
    id_column: str | None = None
    delimiter: str | None = None
    features: FeatureDeclarations | None = None
    title_column: str | None = None


@dataclasses.dataclass(frozen=True)
class Label:
    """Which interactions are positives; all where everything is null.

    Args:
        column: of numbers, truth values or words (`view`, `cart`, `purchase`).
        positive_at_least: of numbers and weights.
        positives: words that are positives; the others are not.
        weights: what each word is worth. In the loss a positive counts as that many of weight 1, with the
            negatives that are drawn for it, and any other row as one; `label_mean` is of these numbers. All
            above 0 are positives, unless `positives` or `positive_at_least` says otherwise. Of a user's
            repeated events at one instant the one worth most is kept.
    """

    column: str | None = None
    positive_at_least: float | str | None = None
    positives: tuple[str, ...] | None = None
    weights: Mapping[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Auxiliary:
    """Another label of an event.

    Args:
        column: raw column of the interactions.
        positive_at_least: makes a binary label of numbers; null keeps them.
        transform: of numbers; `standardise` or `log`, which is standardised log(1 + max(x, 0)).
    """

    column: str
    positive_at_least: float | None = None
    transform: Literal["standardise", "log"] = "standardise"


@dataclasses.dataclass(frozen=True)
class StatisticOptions:
    """A number that is computed of every event from what came strictly before it.

    Args:
        of: one feature or two whose values make the key: `user_id`, `item_id`, or an id or multi_id of the
            users, the items or the interactions. What counts are the events with the same key.
        measure: `count` of events; `positive_share`, of them; `label_mean`, of their label's raw value;
            `recency`, seconds since the latest.
        window: `all`, or the latest: `30 days`, `6 hours`, `20 events`.
        strength: how many events at the mean of train a `positive_share` or `label_mean` begins with, so that
            few events say little.
        transform: `standardise`, `log` or `bucketise`; null standardises means and takes the logarithm of
            counts and recency.
        num_buckets: of `bucketise`.
    """

    of: tuple[str, ...]
    measure: Literal["count", "positive_share", "label_mean", "recency"]
    window: str = "all"
    strength: float = 10.0
    transform: Literal["standardise", "log", "bucketise"] | None = None
    num_buckets: int = 20

    def __post_init__(self) -> None:
        if not 1 <= len(self.of) <= 2 or len(set(self.of)) != len(self.of):
            raise InputError(f"`of` must name one feature or two, got {list(self.of)}")
        if self.window != "all" and not re.fullmatch(_WINDOW, self.window):
            raise InputError(
                f"`window` must be `all` or the latest days, hours or events, as in `30 days`, `6 hours` "
                f"or `20 events`, got `{self.window}`"
            )
        if not 0 <= self.strength < float("inf"):
            raise InputError(f"`strength` must be a number of events, at least 0, got {self.strength}")
        if self.num_buckets < 1:
            raise InputError(f"`num_buckets` must be at least 1, got {self.num_buckets}")

    @property
    def window_days(self) -> int:
        """Days of the window; 0 where it is of another kind."""
        return self._size("day")

    @property
    def window_hours(self) -> int:
        """Hours of the window; 0 where it is of another kind."""
        return self._size("hour")

    @property
    def window_events(self) -> int:
        """Events of the window; 0 where it is of another kind."""
        return self._size("event")

    def _size(self, unit: str) -> int:
        match = re.fullmatch(_WINDOW, self.window)
        return int(match[1]) if match and match[2].startswith(unit) else 0


# At most six digits: instants are microseconds in 64 bits.
_WINDOW = r"([1-9][0-9]{0,5}) ?(days?|hours?|events?)"


@dataclasses.dataclass(frozen=True)
class NeighbourOptions:
    """The items that the same users judged alike, as a feature `neighbours` (multi_id) of every item.

    Args:
        number: most neighbours of an item, which is itself the first of the values.
        shrinkage: how many users in common are worth half; 100 to 300 works.
    """

    number: int = 40
    shrinkage: float = 300.0

    def __post_init__(self) -> None:
        if self.number < 1:
            raise InputError(f"`number` must be at least 1, got {self.number}")
        if not 0 <= self.shrinkage < float("inf"):
            raise InputError(f"`shrinkage` must be a number of users, at least 0, got {self.shrinkage}")


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Everything that decides what is prepared (first part) and how it is read in training (second part).

    Args:
        name: names the prepared dataset's folder.
        source: a known dataset; null reads `interactions.path` and its neighbours.
        features_file: a `features.yaml` as a prepared dataset holds it, perhaps edited; overrides `features`
            of the three tables.
        interactions, users, items: the raw tables.
        label: which interactions are positives.
        auxiliary_labels: what else is known of an interaction afterwards, by name; for a model of several
            tasks, as `mmoe`.
        ids: declarations that change how `user_id`, `item_id` (kind id) and `history` (kind sequence) are
            encoded.
        statistics: further features, by name, computed from the events strictly before each; see
            `StatisticOptions`.
        neighbours: a further feature of items, found on train; see `NeighbourOptions`. Null adds none.
        timestamp_unit: of timestamps: `s`, `ms`, `us` or `ns`, `days` of a spreadsheet, `yyyymmdd`, or `iso`
            of text and dates; instants of all years are then read. Null finds out, and refuses those before
            1990 and after the next year.
        split: how interactions are divided.
        split_fractions: train, validation, test; of time (global_time), rows, items or users.
        split_boundaries: of a split by global time, the two instants at which validation and test begin, in
            the raw column's unit or as ISO text, in place of quantiles.
        split_seed: draws of the random and cold splits, and of `validation_from_train`.
        validation_from_train: what validation is where a predefined split has none: `random` draws as many of
            train's rows as `split_fractions` has it, `last` takes each user's last positive of several
            and what follows it; null takes none, so that nothing tells when to stop.
        until: an instant, like those of `split_boundaries`; interactions from then on are left out, as if the
            data had been taken then.
        extends: an earlier prepared dataset: its vocabularies keep their rows and new values come after them,
            and its means, deviations and buckets stay, so that a row and a number mean what they meant.
        max_rejected_share: more unusable rows than this share is an error.
        engine: what runs the preparation: `duckdb` on this machine, or `spark` (pip install 'recsys[spark]',
            Java 17); the prepared dataset is the same.
        engine_options: settings of Spark: `master` (`local[2]`, `yarn`, `k8s://...`, `sc://...`), or names
            such as `executor.memory`.
        cache_dir: raw and prepared data; null means $RECSYS_CACHE or ~/.cache/recsys.
        prepared: an existing prepared dataset to use as it is; the keys above are then not read.
        batch_size: training examples a step, of all processes together; `auto` takes a power of two, from 32
            to 1024, that makes some 64 steps an epoch; some 128 of windows of timelines, each of several
            examples.
        eval_batch_size: examples or queries a step of validation and evaluation, of all processes together.
        history_length: latest positives of the user that a model sees; 0 leaves the history empty and does
            not read it.
        train_histories: what a retrieval model that reads histories as bags sees of a user in training:
            `before`, what came before the event, or `others`, all other positives of train, for splits
            without an order.
        negatives_per_positive: sampled for ranking when only positives are logged.
        shuffle_rows: rows that are shuffled among one another at a time; row groups are shuffled always.
        train_from: an instant, like those of `split_boundaries`; only train rows from then on are learnt
            from, the earlier ones are history. Null learns from all.
        memory_budget: GiB; a train split whose rows fit is read once and held, another is streamed from disk
            in every epoch, two blocks of `shuffle_rows` in memory at a time. The batches are the same.
        prefetch_batches: training batches made ahead in a thread; 0 makes each when it is asked for. `auto`
            makes 4 ahead, but none where a CPU gives training two threads or fewer: it needs them itself.
    """

    name: str = "table"
    source: Source | None = None
    interactions: InteractionsTable = InteractionsTable()
    users: SideTable = SideTable()
    items: SideTable = SideTable()
    label: Label = Label()
    auxiliary_labels: Mapping[str, Auxiliary] = dataclasses.field(default_factory=dict)
    ids: FeatureDeclarations | None = None
    statistics: Mapping[str, StatisticOptions] | None = None
    neighbours: NeighbourOptions | None = None
    features_file: str | None = None
    timestamp_unit: Literal["s", "ms", "us", "ns", "days", "yyyymmdd", "iso"] | None = None
    split: SplitKind = "global_time"
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_boundaries: tuple[Any, Any] | None = None
    split_seed: int = 0
    validation_from_train: Literal["random", "last"] | None = None
    until: int | float | str | None = None
    extends: str | None = None
    max_rejected_share: float = 0.01
    engine: Literal["duckdb", "spark"] = "duckdb"
    engine_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cache_dir: str | None = None
    prepared: str | None = None
    batch_size: int | Literal["auto"] = "auto"
    eval_batch_size: int = 4096
    history_length: int = 20
    train_histories: Literal["before", "others"] = "before"
    negatives_per_positive: int = 4
    shuffle_rows: int = 1_000_000
    train_from: int | float | str | None = None
    memory_budget: float = 0.5
    prefetch_batches: int | Literal["auto"] = "auto"

    @property
    def cache_path(self) -> Path:
        """Folder of raw and prepared data."""
        return cache_folder(self.cache_dir)


PREPARE_FIELDS = (
    "interactions",
    "users",
    "items",
    "label",
    "auxiliary_labels",
    "ids",
    "statistics",
    "neighbours",
    "timestamp_unit",
    "split",
    "split_fractions",
    "split_boundaries",
    "split_seed",
    "validation_from_train",
    "until",
    "extends",
    "max_rejected_share",
)

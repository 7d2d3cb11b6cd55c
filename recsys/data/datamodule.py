"""RecDataModule: one data module for every task; prepares the dataset when it is missing."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from typing import Any, Literal

import pytorch_lightning as pl
import torch

from recsys.data.blocks import RowFilter
from recsys.data.dataset import PreparedDataset, Split
from recsys.data.events import Events
from recsys.data.histories import Histories
from recsys.data.loader import BatchLoader
from recsys.data.options import DataOptions
from recsys.data.parts import Part, Ranks
from recsys.data.prepare import prepare, prepared_folder
from recsys.data.queries import QueryLimit, QueryLoader, QueryMode, Seen, queries_within
from recsys.data.tasks import TASKS, Task, TaskData
from recsys.data.windows import WindowLoader
from recsys.schema.batch import Batch, HistoryEvents
from recsys.schema.errors import InputError

# Scores of a validation that asks as many queries as it likes: some fifteen seconds on one core.
_VALIDATION_SCORES = 1.5e9

logger = logging.getLogger(__name__)


def open_dataset(options: DataOptions, *, task: Task = "retrieval") -> PreparedDataset:
    """Opens the prepared dataset that the options name, made when it is missing.

    Raises:
        InputError: it cannot be prepared or opened, or the task needs what it lacks: items, and a test split
            that a model can be judged by.
    """
    if TASKS[task].asks_queries and options.interactions.columns.item_id is None:
        raise InputError(
            "`data.interactions.columns.item_id` is null, and without items a retrieval model has "
            "nothing to recommend; name the column, or choose a ranking model, for example `model=dcn_v2`"
        )
    chosen = options.prepared
    path = prepared_folder(chosen, cache=options.cache_path) if chosen else prepare(options)
    dataset = PreparedDataset.open(path)
    dataset.check_has(TASKS[task].examples, "test")
    return dataset


class RecDataModule(pl.LightningDataModule):
    """Batches of a prepared dataset.

    A retrieval task gets train positives, and queries to validate on. A ranking task gets every labelled row,
    or, where only positives are logged, positives and `negatives_per_positive` items drawn uniformly for
    each. A retrieval model that reads histories event by event gets windows of histories.

    Args:
        options: every key under `data.`.
        dataset: what they name; None opens it.
        events_read: which events a retrieval model reads, see `recsys.models.protocols.events_read`.
        task: `retrieval` or `ranking`.
        queries: what a retrieval query is, see `PreparedDataset.queries`.
        seen: whether items of a query's history are excluded from its answer, or may be recommended again.
        validation_queries: asked of a retrieval model each time, the same ones; None is all.
        seed: of the order of examples and the draws of negatives.
        rank, num_ranks: this process among those that train together. Batch sizes are of all of them
            together: each gets its part of the same batches, as many as the others.
    """

    def __init__(
        self,
        options: DataOptions,
        *,
        dataset: PreparedDataset | None = None,
        events_read: HistoryEvents | None = None,
        task: Task = "retrieval",
        queries: QueryMode | Literal["auto"] = "auto",
        seen: Seen = "exclude",
        validation_queries: QueryLimit = "auto",
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        super().__init__()
        self.options = options
        self.task = TASKS[task]
        self.queries_mode = queries
        self.seen: Seen = seen
        self.validation_queries = validation_queries
        self.seed = seed
        self.ranks = Ranks(rank, num_ranks)
        self.dataset = open_dataset(options, task=task) if dataset is None else dataset
        self.events_read = events_read
        self._check_histories()

    @property
    def batch_size(self) -> int:
        """Training examples a step, `auto` settled."""
        if self.options.batch_size != "auto":
            return self.options.batch_size
        counts = self.dataset.manifest["counts"][self.task.examples]
        count, steps = counts["train"], 64
        if self._reads_sequences:
            # So many windows at least, each of several examples.
            count = max(count // max(self.options.history_length, 1), len(self._train_histories))
            steps = 128
        return int(min(max(2 ** round(math.log2(max(count, 1) / steps)), 32), 1024))

    def train_dataloader(self) -> BatchLoader | WindowLoader:
        """Shuffled training batches; always the same loader, so that its position can be saved."""
        return self._train

    @functools.cached_property
    def _train(self) -> BatchLoader | WindowLoader:
        loader = self._windows() if self._reads_sequences else self.loader("train", shuffle=True)
        if not len(loader):
            raise InputError(
                f"`data.train_from={self.options.train_from}` leaves nothing to learn from in "
                f"`{self.dataset.path}`; give an earlier instant"
            )
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Position in the training data, for checkpoints.

        NOTE: Lightning saves a loader's state too, but does not load it when the number of steps was asked
        for before (as learning-rate schedules do): its fit loop sets up the loaders only once.
        """
        return self.train_dataloader().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self.train_dataloader().load_state_dict(state_dict)

    def val_dataloader(self) -> BatchLoader | QueryLoader:
        """Validation batches in the order of the split."""
        if not self.task.asks_queries:
            return self.loader("validation", shuffle=False)
        queries = self.dataset.queries(
            "validation",
            mode=self.queries_mode,
            history_length=self.options.history_length,
            events_read=self.events_read,
            seen=self.seen,
        )
        number = queries_within(
            self.validation_queries, num_items=self.dataset.num_items, auto_scores=_VALIDATION_SCORES
        )
        if number is not None and number < len(queries):
            logger.info(
                "validation asks %s of %s queries, always the same ones; "
                "`evaluation.validation_queries=null` asks all",
                f"{number:,}",
                f"{len(queries):,}",
            )
            queries = queries.draw(number, seed=0)
        return QueryLoader(queries, self.options.eval_batch_size, self.ranks)

    def loader(self, split: Split, *, shuffle: bool) -> BatchLoader:
        """Batches of a split for this task."""
        options = self.options
        return BatchLoader(
            self.dataset.files(split),
            self.dataset.schema,
            _ToBatch(self.dataset, split, task=self.task, options=options, events_read=self.events_read),
            batch_size=self.batch_size if shuffle else options.eval_batch_size,
            shuffle_rows=options.shuffle_rows if shuffle else 0,
            wanted=RowFilter(
                only_positives=self.task.examples == "positives" and self._has_negatives(split),
                since=self._train_from if split == "train" else None,
                weighted=split == "train" and self.dataset.has_weights,
            ),
            seed=self.seed,
            ranks=self.ranks,
            # What is read once in order need not be held.
            memory_budget=options.memory_budget * 2**30 if shuffle else 0,
            prefetch_batches=self._prefetch_batches if shuffle else 0,
        )

    @property
    def _reads_sequences(self) -> bool:
        return self.events_read in ("positives", "all")

    def _check_histories(self) -> None:
        is_ranking = not self.task.asks_queries
        if self.options.train_histories == "others" and (self._reads_sequences or is_ranking):
            reader = "a ranking model" if is_ranking else "this model, event by event"
            raise InputError(
                f"`data.train_histories=others` is for retrieval models that read histories as bags, and it "
                f"is read by {reader}; leave it `before`"
            )

    def _windows(self) -> WindowLoader:
        return WindowLoader(
            self._train_histories,
            self.dataset.collator(self.options.history_length),
            length=self.options.history_length,
            batch_size=self.batch_size,
            since=self._train_from,
            seed=self.seed,
            ranks=self.ranks,
        )

    @functools.cached_property
    def _train_histories(self) -> Histories:
        assert self.events_read is not None
        return self.dataset.histories(
            "train", events=self.events_read, with_timestamps=True, with_weights=self.dataset.has_weights
        )

    @property
    def _prefetch_batches(self) -> int:
        asked = self.options.prefetch_batches
        if asked != "auto":
            return asked
        # Torch's threads wait for the slowest of them: what takes turns with one of two delays both.
        return 4 if torch.cuda.is_available() or torch.get_num_threads() > 2 else 0

    @property
    def _train_from(self) -> int | None:
        """Microseconds of `data.train_from`."""
        return self.dataset.instant(self.options.train_from, key="data.train_from")

    def _has_negatives(self, split: Split) -> bool:
        counts = self.dataset.manifest["counts"]
        return bool(counts["rows"][split] != counts["positives"][split])


class _ToBatch:
    """Collates the events of one split for one task."""

    def __init__(
        self,
        dataset: PreparedDataset,
        split: Split,
        *,
        task: TaskData,
        options: DataOptions,
        events_read: HistoryEvents | None = None,
    ) -> None:
        self.collator = dataset.collator(options.history_length, events_read)
        self.histories = dataset.histories(split) if self.collator.needs_history else None
        self.has_order = split != "train" or options.train_histories == "before"
        self.task = task
        self.num_items = dataset.num_items
        only_positives = bool(dataset.manifest["label"]["only_positives"])
        self.num_negatives = options.negatives_per_positive if task.draws_negatives and only_positives else 0
        if self.num_negatives:
            _check_no_pairs(dataset)

    def __call__(self, events: Events, part: Part, generator: torch.Generator) -> Batch:
        if self.num_negatives:
            # Drawn for the whole batch, so that they do not depend on the number of ranks.
            drawn = torch.randint(
                1, self.num_items, (part.whole, 1 + self.num_negatives), generator=generator
            )
            events = _with_negatives(events, drawn[part.begin : part.end])
        history = None
        if self.histories is not None and self.has_order:
            history = self.histories.before(events)
        elif self.histories is not None:
            drawn = torch.rand(part.whole, self.collator.history_length, generator=generator)
            history = self.histories.others(events, drawn[part.begin : part.end])
        return self.task.collate(self.collator, events, history)


def _check_no_pairs(dataset: PreparedDataset) -> None:
    """Raises ValueError when there are statistics that an item drawn as a negative would lack."""
    pairs = [feature.name for feature in dataset.schema.features if feature.role == "pair"]
    if pairs:
        named = ", ".join(f"`data.statistics.{name}`" for name in pairs)
        raise InputError(
            f"{named} is of the item at the time of an event, which is not known for items drawn as "
            f"negatives, and `{dataset.path}` holds positives alone; leave such statistics out and keep "
            "those of users, log what was shown and not chosen as rows of their own with "
            "`data.label.column`, or set `data.negatives_per_positive=0`"
        )


def _with_negatives(events: Events, drawn: torch.Tensor) -> Events:
    """Each event followed by copies of it with other items, as negatives.

    Args:
        events: N events.
        drawn: [N, 1 + number of negatives] catalogue rows; the first of each row is not used.
    """
    num_copies = drawn.shape[1]
    repeated = events.select(torch.arange(len(events)).repeat_interleave(num_copies))
    is_copy = torch.arange(len(repeated)) % num_copies != 0
    # What would have followed a negative is not known.
    labels = repeated.labels.masked_fill(is_copy[:, None], torch.nan)
    return dataclasses.replace(repeated, labels=labels).replace(
        item_rows=torch.where(is_copy, drawn.reshape(-1), repeated.item_rows),
        positives=repeated.positives & ~is_copy,
    )

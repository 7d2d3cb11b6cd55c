"""Recommends to users of the data, each by everything that the data know of the user."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import torch

from recsys.data.dataset import SPLITS, Split
from recsys.exporting.gate.recorded import raw_times
from recsys.exporting.stage import Stage
from recsys.exporting.tasks.register import build_program
from recsys.models.protocols import events_read
from recsys.runs.trained import TrainedRun
from recsys.schema import tables
from recsys.schema.errors import InputError

_USERS_AT_ONCE = 1024
_COLUMNS = (tables.USER_ID, tables.RANK, tables.ITEM_ID, tables.SCORE)

logger = logging.getLogger(__name__)


class Recommender:
    """The model of a run as a program of raw ids, and the histories of its dataset.

    Args:
        run: of a retrieval model.

    Raises:
        InputError: the run is of another task.
    """

    def __init__(self, run: TrainedRun) -> None:
        if run.task != "retrieval":
            raise InputError(
                f"expected the run of a retrieval model to recommend with, but `{run.path}` is of a "
                f"{run.task} model; export it as the second stage of one: `retrieval_run.export(ranker=run)`"
            )
        self.dataset = run.dataset
        self.reads = events_read(run.model)
        self.program: Any = build_program(Stage(run.model, run.dataset, run.history_length, seen=run.seen))

    def recommend(self, users: Sequence[Any], k: int) -> pd.DataFrame:
        """A row per recommended item: `user_id`, `rank`, `item_id`, `score`.

        Raises:
            InputError: `users` is one id in place of a list of them.
        """
        if isinstance(users, str | bytes) or not hasattr(users, "__iter__"):
            raise InputError(f"expected a list of user ids for `users`, got {users!r}; write [{users!r}]")
        ids = np.asarray(pa.array(users).to_pylist(), dtype=object).tolist()
        parts = [self._part(ids[at : at + _USERS_AT_ONCE], k) for at in range(0, len(ids), _USERS_AT_ONCE)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(_COLUMNS))

    def _part(self, ids: list[Any], k: int) -> pd.DataFrame:
        histories = {str(user_id): pd.DataFrame() for user_id in ids}
        for user, events in self._events(ids).groupby("user", sort=False):
            histories[str(user)] = events
        strangers = [user_id for user_id in ids if histories[str(user_id)].empty]
        if strangers:
            logger.warning(
                "%d of %d users have no history in the data, for example %r: they get what the model "
                "recommends to somebody unknown",
                *(len(strangers), len(ids), strangers[0]),
            )
        columns = {
            name: [histories[str(user_id)].get(name, pd.Series()).tolist() for user_id in ids]
            for name in ("item", "time", "liked")
        }
        keys = {}
        if self.reads in ("positives", "all") and self.dataset.has_timestamps:
            keys["history_times"] = columns["time"]
        if self.reads == "all":
            keys["history_liked"] = columns["liked"]
        known = [{tables.USER_ID: user_id} for user_id in ids]
        with torch.no_grad():
            lists, scores = self.program.recommend_batch(known, columns["item"], k, [{} for _ in ids], **keys)
        rows = [
            (user_id, rank, item_id, float(score))
            for user_id, items_K, scores_K in zip(ids, lists, scores, strict=True)
            for rank, (item_id, score) in enumerate(zip(items_K, scores_K, strict=True), start=1)
        ]
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def _events(self, ids: Sequence[Any]) -> pd.DataFrame:
        """The events of these users that the model reads, oldest first: `user`, `item`, `time`, `liked`."""
        parts = [self._events_of(split, {str(user_id) for user_id in ids}) for split in SPLITS]
        events = pd.concat(parts, ignore_index=True).sort_values("time", kind="stable")
        if self.reads != "all":
            events = events[events["liked"]]
        if self.dataset.has_timestamps:
            events["time"] = raw_times(self.dataset, events["time"].to_numpy())
        return events

    def _events_of(self, split: Split, users: set[str]) -> pd.DataFrame:
        dataset = self.dataset
        events = ds.dataset([str(file) for file in dataset.files(split)])
        columns = [tables.USER_ROW, tables.ITEM_ROW, tables.TIMESTAMP, tables.POSITIVE]
        # Where users may be unknown to train, and have no row, their ids are in the file.
        if tables.USER_ID in events.schema.names:
            is_wanted = pc.field(tables.USER_ID).cast(pa.string()).isin(pa.array(sorted(users)))
            part = events.to_table(columns=[*columns, tables.USER_ID, tables.ITEM_ID], filter=is_wanted)
            user_ids, item_ids = (part[name].to_pylist() for name in (tables.USER_ID, tables.ITEM_ID))
        else:
            rows = np.flatnonzero([str(user_id) in users for user_id in dataset.user_ids])
            is_wanted = pc.field(tables.USER_ROW).isin(pa.array(rows, pa.int32()))
            part = events.to_table(columns=columns, filter=is_wanted)
            user_ids = dataset.user_ids[part[tables.USER_ROW].to_numpy()].tolist()
            item_ids = dataset.item_ids[part[tables.ITEM_ROW].to_numpy()].tolist()
        return pd.DataFrame(
            {
                "user": [str(user_id) for user_id in user_ids],
                "item": pd.Series(item_ids, dtype=object),
                "time": part[tables.TIMESTAMP].to_numpy(),
                "liked": part[tables.POSITIVE].to_numpy(),
            }
        )

"""RecTools' way of recommending from a fitted model, timed; run by `benchmarks.serve_peer`, on its own.

A factorization of 64 dimensions by implicit ALS, what a user has seen left out. It fits one sweep, since
how good the model is does not matter here, and has no second stage.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings

import pandas as pd
from implicit.als import AlternatingLeastSquares
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import ImplicitALSWrapperModel

_DIM, _WARMUP = 64, 20


def main() -> None:
    """Prints the milliseconds of every request, round by round."""
    parser = argparse.ArgumentParser()
    parser.add_argument("interactions")
    parser.add_argument("requests")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--listed", type=int, required=True)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    events = pd.read_parquet(asked.interactions, columns=["user_id", "item_id", "timestamp"])
    events.columns = [Columns.User, Columns.Item, Columns.Datetime]
    events[Columns.Datetime] = pd.to_datetime(events[Columns.Datetime], unit="s")
    dataset = Dataset.construct(events.assign(**{Columns.Weight: 1.0}))
    model = ImplicitALSWrapperModel(AlternatingLeastSquares(factors=_DIM, iterations=1, num_threads=1))
    model.fit(dataset)
    with open(asked.requests) as file:
        users = [one["user"]["user_id"] for one in json.load(file)][: asked.number]

    def milliseconds(user: int) -> float:
        started = time.perf_counter()
        model.recommend(users=[user], dataset=dataset, k=asked.listed, filter_viewed=True)
        return 1000 * (time.perf_counter() - started)

    for user in users[:_WARMUP]:
        milliseconds(user)
    print(json.dumps([[milliseconds(user) for user in users] for _ in range(asked.rounds)]))


if __name__ == "__main__":
    main()

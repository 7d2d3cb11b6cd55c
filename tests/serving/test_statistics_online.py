"""Statistics of a ranking bundle go on with what a server hears, in every process and after it starts again.

That what a bundle has observed equals what preparing computes is checked whenever a bundle is exported, and
here for a hundred thousand events, one by one.
"""

import time

import numpy as np
import pytest
import torch

from recsys.exporting.build import statistics_before
from recsys.exporting.bundle import load_scripted, save_scripted
from recsys.exporting.observed import Log
from recsys.exporting.stage import Stage
from recsys.exporting.tasks.register import build_program
from recsys.serving.bundle import Bundle
from tests.exporting import test_statistics
from tests.exporting.conftest import HISTORY_LENGTH, export


@pytest.fixture(scope="module")
def counting_folder(tmp_path_factory):
    dataset = test_statistics.world(tmp_path_factory.mktemp("counted"))
    return export(
        test_statistics.wide_deep(dataset), dataset, tmp_path_factory.mktemp("bundle") / "bundle"
    ).folder


def until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def test_what_is_heard_is_counted_as_a_bundle_that_observes_it_counts(serving, counting_folder):
    client = serving(bundle=counting_folder, policy="greedy")
    now = int(time.time())
    rng = np.random.default_rng(0)
    heard = [
        {
            "user_id": int(rng.integers(1, 30)),
            "item_id": f"s{rng.integers(20)}",
            "event": "click" if rng.random() < 0.6 else "skip",
            "timestamp": now - 900 + n,
        }
        for n in range(200)
    ]
    asked = [{"user_id": n, "item_id": f"s{n % 20}", "timestamp": 1000 * now} for n in range(1, 30)]
    expected = Bundle.open(counting_folder)
    before = expected.predict(asked)
    expected.observe(
        [
            {
                "user_id": event["user_id"],
                "item_id": event["item_id"],
                "timestamp": 1000 * event["timestamp"],
                "label": 4.0 if event["event"] == "click" else 0.0,
            }
            for event in heard
        ]
    )
    wanted = expected.predict(asked)
    assert not np.allclose(before, wanted, atol=1e-3)
    for begin in range(0, len(heard), 20):
        assert client.post("/feedback", json={"events": heard[begin : begin + 20]}).status_code == 200
    served = client.service.box.current
    until(lambda: np.allclose(served.bundle.predict(asked), wanted, atol=1e-6))
    client.service.close()
    client.service.journal.log.environment.close()
    again = serving(bundle=counting_folder, policy="greedy")
    np.testing.assert_allclose(again.service.box.current.bundle.predict(asked), wanted, atol=1e-6)


def largest_difference(folder, *, count):
    """Of statistics that are counted event by event, to those that were prepared; and of how many events."""
    # In few hours many events are of the same user, item and instant, and one of them is kept.
    dataset = test_statistics.world(folder, count=count, split_fractions=SHARES, max_rejected_share=0.2)
    stage = Stage(test_statistics.wide_deep(dataset), dataset, HISTORY_LENGTH)
    program = build_program(stage)
    first = int(dataset.events("test").timestamps.min())
    program.statistics = statistics_before(stage, Log.read(dataset), first)
    save_scripted(program, folder / "ranking.pt")
    counting = load_scripted(folder / "ranking.pt")
    requests, observed = test_statistics.rows_of(dataset)
    batch = dataset.collator(0).rows(dataset.events("test"), None)
    largest, wrong = 0.0, 0
    buckets = batch.ids["item_bucket"].values().tolist()
    for position, (request, event) in enumerate(zip(requests, observed, strict=True)):
        bags, dense = counting.features([request])
        expected = batch.dense[position]
        scale = torch.maximum(expected.abs(), torch.ones_like(expected))
        largest = max(largest, float(((dense[0] - expected).abs() / scale).max()))
        wrong += bags["item_bucket"][0].tolist() != [buckets[position]]
        counting.observe([event])
    return largest, wrong, len(requests)


SHARES = (0.05, 0.05, 0.9)


def test_statistics_counted_one_by_one_are_those_that_were_prepared(tmp_path):
    largest, wrong, number = largest_difference(tmp_path, count=900)
    assert number > 700
    assert (largest < 1e-6, wrong) == (True, 0), largest


@pytest.mark.slow
def test_a_hundred_thousand_events_are_counted_as_they_were_prepared(tmp_path, capsys):
    largest, wrong, number = largest_difference(tmp_path, count=130_000)
    with capsys.disabled():
        print(f"{number:,} events, largest difference {largest:.1e}")
    assert number > 100_000
    assert (largest < 1e-6, wrong) == (True, 0), largest

"""Statistics of a ranking bundle go on with what a server hears, in every process and after it starts again.

That what a bundle has observed equals what preparing computes is checked whenever a bundle is exported.
"""

import time

import numpy as np
import pytest

from recsys.serving.bundle import Bundle
from tests.exporting import test_statistics
from tests.exporting.conftest import export


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

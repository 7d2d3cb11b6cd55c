"""Readers of a world live with a real server, and the typed client they use."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.commands.live.readers import Readers, best_places
from recsys.commands.live.simulation import SimulateConfig, simulate
from recsys.data.sources.synthetic_world import World
from recsys.serving.client import Client, RefusedError, UnreachableError
from recsys.serving.messages import FeedbackEvent
from recsys.serving.opening import open_journal
from recsys.serving.options import ServeOptions
from recsys.serving.records import Request
from recsys.serving.rules import HOUR
from recsys.serving.tables import read_log
from tests.serving.brokers import free_port
from tests.serving.servers import server


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    with server(world[1], tmp_path_factory.mktemp("live"), policy="thompson") as one:
        yield one


def test_what_happens_is_measured_and_known_to_the_server(world, made, tmp_path):
    config = SimulateConfig(
        world[0], tmp_path / "out", made.url, requests=60, birth_every=20, skip_share=0.5, k=5
    )
    figures = json.loads((simulate(config) / "simulation.json").read_text())
    rows = pq.read_table(tmp_path / "out" / "requests.parquet").to_pylist()
    assert figures["requests"] == len(rows) == 60
    assert figures["reward"] == pytest.approx(np.mean([row["reward"] for row in rows]))
    assert figures["regret"] > 0
    assert all(row["regret"] >= -1e-9 for row in rows)
    assert figures["clicks"] > 0
    assert figures["degraded"] == 0
    with Client(made.url) as client:
        clicked = sum(
            event.event == "click"
            for user_id in {row["user_id"] for row in rows}
            for event in client.user(user_id).history
        )
    assert clicked == figures["clicks"]


def test_the_best_list_has_no_regret(world):
    config = SimulateConfig(world[0], world[0], "http://x", k=5, drift=1.0)
    readers = Readers(World.load(world[0] / "truth.npz"), config.laws)
    first, later = readers.attractions(3, 0), readers.attractions(3, 900)
    assert (first > 0).all()
    assert (first <= config.attraction).all()
    # At a drift of 1 a thousand requests turn tastes by a quarter.
    assert np.corrcoef(first, later)[0, 1] < 0.9
    born = readers.give_birth({"item_id": readers.item_ids[0], "price": None}, 10, np.random.default_rng(0))
    assert born == {"item_id": max(readers.item_ids)}
    assert len(readers.attractions(3, 10)) == len(first) + 1
    assert readers.attractions(3, 1010)[-1] == pytest.approx(
        0.5 * readers.attractions(3, 1010)[0], rel=0.6
    )  # alike to its parent, and faded by half
    assert readers.ages(25)[-1] == 15
    readers.has_read(3, [0, 2])
    assert np.flatnonzero(readers.attractions(3, 0) == 0).tolist() == [0, 2]
    assert best_places(np.array([0.1, 0.5, 0.3]), 2).tolist() == [1, 2]
    assert best_places(np.array([0.1, 0.5, 0.3]), 9).tolist() == [1, 2, 0]


def test_long_times_pass_in_this_process(world, tmp_path):
    serve = {
        "bundle": str(world[1]),
        "folder": str(tmp_path / "live"),
        "max_gigabytes": 1.0,
        "policy": "greedy",
        "policy_parameters": {"learning": True},
    }
    config = SimulateConfig(
        world[0], tmp_path / "out", serve=serve, requests=90, birth_every=5, hour=30, k=5, attraction=1.0
    )
    figures = json.loads((simulate(config) / "simulation.json").read_text())
    assert figures["requests"] == 90
    assert figures["clicks"] > 0
    assert figures["first_half_hour_shown_of_deserved"] is not None
    log = open_journal(ServeOptions(bundle=world[1], folder=tmp_path / "live", max_gigabytes=1.0)).log
    requests = [record for _, record in read_log(log) if isinstance(record, Request)]
    # Three hours by the server's clock, and a taste that proposes candidates once it is known.
    assert requests[-1].time - requests[0].time == 89 * HOUR // 30
    assert "taste" in {item.source for request in requests for item in request.items}


def test_a_simulation_has_one_server(world):
    with pytest.raises(ValueError, match="expected either `server`, an address, or `serve`"):
        SimulateConfig(world[0], world[0])
    for refresh in ({"run": "r"}, {"every": "1h"}):
        with pytest.raises(ValueError, match="`refresh` is for a server in this process"):
            SimulateConfig(world[0], world[0], "http://x", refresh=refresh)
    config = SimulateConfig(world[0], world[0], serve={"bundle": "x", "folder": "y", "policies": 3})
    with pytest.raises(ValueError, match="`serve`: expected keys of `recsys serve`"):
        simulate(config)


def test_the_client_says_what_was_refused_and_that_nobody_answers(made):
    with Client(made.url) as client:
        answer = client.recommend({"user_id": 5}, k=3, timing=True)
        assert len(answer.items) == 3
        assert answer.milliseconds
        event = FeedbackEvent(answer.items[0].item_id, "like", answer.request_id)
        assert client.feedback([event]).accepted == 1
        assert client.feedback([event]).repeated == 1
        assert client.set_available([answer.items[0].item_id], True) == 1
        with pytest.raises(RefusedError, match="got 5000") as refused:
            client.recommend({}, k=5000)
        assert refused.value.field == "k"
        assert client.ready()["ready"] is True
        assert client.forget(5) is True
        assert client.user(5).history == []
        with pytest.raises(RefusedError, match="no bundle to go back to"):
            client.return_to_last_bundle()
    with (
        Client(f"http://127.0.0.1:{free_port()}", attempts=2) as away,
        pytest.raises(UnreachableError, match="does not answer"),
    ):
        away.ready()
    with pytest.raises(ValueError, match=r"expected the address of a server, .* got `here`"):
        Client("here")

"""The same server with Redis and Kafka in place of LMDB, and without its store."""

import itertools

import pytest
from starlette.testclient import TestClient

from recsys.serving.app import make_app
from recsys.serving.options import ServeOptions
from recsys.serving.service import Service
from tests.serving.brokers import valkey

NUMBERS = itertools.count()


@pytest.fixture(params=["redis+redis", "kafka+lmdb"])
def backend(request, tmp_path):
    log, _, store = request.param.partition("+")
    options = {"log": log, "store": store}
    if "redis" in request.param:
        server = request.getfixturevalue("valkey_server")
        # A database of its own.
        options["redis_url"] = f"redis://127.0.0.1:{server.port}/{1 + next(NUMBERS)}"
    if log == "kafka":
        options |= {
            "kafka_servers": request.getfixturevalue("kafka_address"),
            "kafka_topic": f"server-{next(NUMBERS)}",
        }
    return options


def opened(options):
    client = TestClient(make_app(Service(options, started=0)), raise_server_exceptions=False)
    client.__enter__()
    return client


def recommend(client, user="u1", k=60):
    return client.post("/recommend", json={"user": {"user_id": user}, "k": k}).json()


def test_what_one_server_hears_another_knows(backend, two_stage_folder, tmp_path):
    options = ServeOptions(two_stage_folder, tmp_path / "one", max_gigabytes=1, **backend)
    one = opened(options)
    answer = recommend(one)
    first = answer["items"][0]["item_id"]
    event = {"request_id": answer["request_id"], "user_id": "u1", "item_id": first, "event": "click"}
    assert one.post("/feedback", json={"events": [event]}).json() == {"accepted": 1, "repeated": 0}
    assert one.post("/feedback", json={"events": [event]}).json() == {"accepted": 0, "repeated": 1}
    assert first not in {item["item_id"] for item in recommend(one)["items"]}
    assert one.post("/items", json={"items": [{"item_id": "fresh", "shelf": "a", "price": 1.0}]}).json() == {
        "added": 1
    }
    one.__exit__(None, None, None)
    # Another machine's: with Kafka and a store of its own, made anew from the log.
    other = ServeOptions(two_stage_folder, tmp_path / "two", max_gigabytes=1, **backend)
    two = opened(other)
    assert [event["item_id"] for event in two.get("/users/u1").json()["history"]] == [first]
    listed = {item["item_id"] for item in recommend(two, k=61)["items"]}
    assert "fresh" in listed
    assert first not in listed
    assert two.delete("/users/u1").json() == {"forgotten": True}
    assert two.get("/users/u1").json()["history"] == []
    two.__exit__(None, None, None)


def test_without_its_store_a_server_answers_and_says_so(two_stage_folder, tmp_path, kafka_address):
    with valkey(tmp_path) as server:
        options = ServeOptions(
            two_stage_folder,
            tmp_path / "live",
            log="kafka",
            store="redis",
            redis_url=server.url,
            kafka_servers=kafka_address,
            kafka_topic="degraded",
        )
        client = opened(options)
        assert recommend(client)["degraded"] is False
        server.kill()
        answer = recommend(client, k=5)
        assert (len(answer["items"]), answer["degraded"], answer["rung"]) == (5, True, "bundle")
        assert "recsys_lost_lists_total" not in client.get("/metrics").text
        event = {"user_id": "u1", "item_id": "i3", "event": "click", "event_id": "e1"}
        assert client.post("/feedback", json={"events": [event]}).json() == {"accepted": 1, "repeated": 0}
        away = client.get("/users/u1")
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
        server.start()
        event["event_id"] = "e2"
        assert client.post("/feedback", json={"events": [event]}).json() == {"accepted": 1, "repeated": 0}
        # What was told while the store was away is there, too.
        assert len(client.get("/users/u1").json()["history"]) == 2
        assert recommend(client)["degraded"] is False
        client.__exit__(None, None, None)

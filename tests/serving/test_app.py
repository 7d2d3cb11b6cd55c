"""The routes of the contract, in this process."""

import asyncio
import json
import math
import shutil
import time

import numpy as np
import pytest

from recsys.bandits.acting.choice import Candidates
from recsys.bandits.acting.policies import make_policy
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_manifest
from recsys.serving import app
from recsys.serving.audit import audit
from recsys.serving.options import Arm, ServeOptions
from recsys.serving.records import Forget, Request, Space, decode
from recsys.serving.rules import Rules
from recsys.serving.tables import read_log
from tests.serving import bundles


def ask(client, user="u1", k=5, **more):
    response = client.post("/recommend", json={"user": {"user_id": user}, "k": k, **more})
    assert response.status_code == 200, response.text
    return response.json()


def tell(client, *events):
    response = client.post("/feedback", json={"events": list(events)})
    assert response.status_code == 200, response.text
    return response.json()


def ids(answer):
    return [item["item_id"] for item in answer["items"]]


def everything(client):
    records = [decode(content) for _, content in client.service.journal.log.read(0, limit=10_000)]
    return [record for record in records if not isinstance(record, Space)]  # of the bundle, at the start


def logged(client):
    return [record for record in everything(client) if isinstance(record, Request)]


def until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to pass")


@pytest.fixture
def client(serving):
    return serving()


def test_a_list_is_as_the_contract_says(client):
    answer = ask(client, k=4)
    assert set(answer) == {
        *("request_id", "items", "policy", "bundle", "degraded", "state_age_seconds", "rung"),
    }
    assert len(set(ids(answer))) == 4
    assert [item["position"] for item in answer["items"]] == [1, 2, 3, 4]
    for item in answer["items"]:
        assert set(item) == {
            *("item_id", "position", "score", "propensity", "propensity_given_above", "source"),
        }
        assert 0 < item["propensity"] <= 1
        assert 0 < item["propensity_given_above"] <= 1
    assert (answer["policy"], answer["degraded"], answer["rung"]) == ("softmax", False, "bundle")
    assert answer["bundle"] == client.service.box.current.fingerprint
    assert answer["state_age_seconds"] == 0


def test_what_is_logged_judges_and_repeats_the_choice(client):
    answer = ask(client, k=4, context={"device": "phone"})
    until(lambda: logged(client))
    [request] = logged(client)
    assert request.request_id == answer["request_id"]
    assert [item.item_id for item in request.items] == ids(answer)
    assert [item.propensity for item in request.items] == [one["propensity"] for one in answer["items"]]
    assert len(request.candidates) == len(request.candidate_scores) == request.num_candidates == 50
    assert set(ids(answer)) <= set(request.candidates)
    assert request.judges_others
    assert (request.user, request.context) == ({"user_id": "u1"}, {"device": "phone"})
    # From scores, policy and seed the same list follows.
    policy = make_policy(request.policy, request.parameters)
    again = policy.choose(
        Candidates(np.array(request.candidate_scores)), 4, np.random.default_rng(request.seed)
    )
    assert [request.candidates[n] for n in again.positions_K] == ids(answer)


def test_feedback_is_seen_by_the_next_request_at_once(client):
    answer = ask(client)
    first = ids(answer)
    event = {"request_id": answer["request_id"], "user_id": "u1", "item_id": first[0], "event": "click"}
    assert tell(client, event) == {"accepted": 1, "repeated": 0}
    assert tell(client, event) == {"accepted": 0, "repeated": 1}
    for _ in range(5):
        assert first[0] not in ids(ask(client, k=55))
    skipped = ids(ask(client))[0]
    tell(client, {"user_id": "u1", "item_id": skipped, "event": "dislike"})
    for _ in range(5):
        assert skipped not in ids(ask(client, k=50))
    known = client.get("/users/u1").json()
    assert [(event["item_id"], event["event"]) for event in known["history"]] == [
        (first[0], "click"),
        (skipped, "dislike"),
    ]
    assert answer["request_id"] in known["requests"]
    assert ask(client, user="u2")["items"]


def test_what_was_liked_is_not_shown_again_however_much_was_skipped_since(serving):
    client = serving(rules=Rules(max_history=2), exclude_skipped_hours=1e-9)
    tell(client, *({"user_id": "u1", "item_id": f"i{n}", "event": "click"} for n in range(3)))
    tell(client, *({"user_id": "u1", "item_id": f"i{n}", "event": "skip"} for n in range(10, 19)))
    known = client.get("/users/u1").json()
    assert [event["item_id"] for event in known["history"]] == ["i1", "i2", "i17", "i18"]
    assert known["seen"] == ["i0"]
    everything = ids(ask(client, k=60))
    assert not {"i0", "i1", "i2"} & set(everything)
    assert {"i10", "i18"} <= set(everything)


def test_the_history_that_a_request_brings_counts_in_place_of_the_stored(client):
    tell(client, {"user_id": "u1", "item_id": "i3", "event": "click"})
    everything = ask(client, k=60, history=["i5"])
    assert "i3" in ids(everything)
    assert "i5" not in ids(everything)


def test_a_history_that_is_brought_replaces_what_was_disliked_too(client):
    tell(client, {"user_id": "u1", "item_id": "i3", "event": "dislike"})
    assert "i3" not in ids(ask(client, k=60))
    assert "i3" in ids(ask(client, k=60, history=[]))


def test_a_session_remembers_somebody_without_an_id(client):
    answer = ask(client, user=None, session="visit")
    first = ids(answer)[0]
    tell(client, {"request_id": answer["request_id"], "item_id": first, "event": "click"})
    tell(client, {"session": "visit", "item_id": "i5", "event": "dislike"})
    for _ in range(3):
        assert not {first, "i5"} & set(ids(ask(client, user=None, k=60, session="visit")))
    assert first in ids(ask(client, user=None, k=60, session="another"))
    # Whoever signs in during a visit is known by what came before.
    assert first not in ids(ask(client, user="u9", k=60, session="visit"))
    assert first in ids(ask(client, user="u9", k=60))


def test_filters_and_exclusions_hold(client):
    answer = ask(client, k=20, where={"shelf": ["b"]}, exclude=["i1", "i4"])
    assert set(ids(answer)) == {f"i{n}" for n in range(1, 60, 3)} - {"i1", "i4"}


def test_a_user_who_is_forgotten_is_nobody(client):
    answer = ask(client)
    tell(client, {"request_id": answer["request_id"], "item_id": ids(answer)[0], "event": "like"})
    assert len(everything(client)) == 2
    assert len(client.get("/users/u1").json()["history"]) == 1
    assert client.delete("/users/u1").json() == {"forgotten": True}
    assert client.get("/users/u1").json() == {"user_id": "u1", "history": [], "requests": []}
    # The event is theirs too, though it named a list alone; what is left is that somebody is forgotten.
    assert [type(record) for record in everything(client)] == [Forget]
    assert client.delete("/users/nobody").json() == {"forgotten": True}


def test_new_items_are_shown_and_leave_again(client):
    new = {"item_id": "fresh", "shelf": "b", "price": 2.5}
    assert client.post("/items", json={"items": [new]}).json() == {"added": 1}
    assert client.post("/items", json={"items": [new]}).json() == {"added": 0}
    assert "fresh" in ids(ask(client, k=61))
    assert "fresh" in ids(ask(client, k=30, where={"shelf": ["b"]}))
    gone = {"item_ids": ["fresh", "i2", "nothing"], "available": False}
    assert client.post("/items/availability", json=gone).json() == {"known": 2}
    assert not {"fresh", "i2"} & set(ids(ask(client, k=61)))
    client.post("/items/availability", json={"item_ids": ["i2"], "available": True})
    assert "i2" in ids(ask(client, k=61))


def test_items_leave_when_their_time_is_over(client):
    soon = time.time() + 4
    items = [{"item_id": "brief", "shelf": "a", "price": 1.0, "valid_until": soon}]
    assert client.post("/items", json={"items": items}).json() == {"added": 1}
    assert "brief" in ids(ask(client, k=61))
    until(lambda: "brief" not in ids(ask(client, k=61)))


def test_a_server_that_starts_again_knows_what_it_was_told(serving):
    with_items = serving()
    with_items.post("/items", json={"items": [{"item_id": "fresh", "shelf": "b", "price": 2.5}]})
    with_items.post("/items/availability", json={"item_ids": ["i2"], "available": False})
    tell(with_items, {"user_id": "u1", "item_id": "i7", "event": "click"})
    with_items.service.close()
    with_items.service.journal.log.environment.close()
    again = serving()
    listed = ids(ask(again, k=61))
    assert "fresh" in listed
    assert not {"i2", "i7"} & set(listed)


def test_bundles_are_exchanged_and_taken_back(client, retrieval_folder, tmp_path):
    before = client.service.box.current.fingerprint
    client.post("/items", json={"items": [{"item_id": "fresh", "shelf": "b", "price": 2.5}]})
    tell(client, {"user_id": "u1", "item_id": "i7", "event": "click"})
    answer = client.post("/bundle", json={"path": str(retrieval_folder)}).json()
    assert answer["bundle"] != before
    listed = ask(client, k=61)
    assert listed["bundle"] == answer["bundle"]
    assert "fresh" in ids(listed)
    assert "i7" not in ids(listed)
    assert {item["source"] for item in listed["items"]} == {"retrieval"}
    assert client.post("/bundle", json={"back": True}).json() == {"bundle": before}
    assert ask(client)["bundle"] == before
    for body, field in [
        ({"path": str(tmp_path)}, "path"),
        ({}, "path"),
        ({"path": "x", "back": True}, "path"),
    ]:
        refused = client.post("/bundle", json=body)
        assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert ask(client)["bundle"] == before


def test_a_damaged_bundle_is_not_served(client, retrieval_folder, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(retrieval_folder, folder)
    responses = json.loads((folder / "responses.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    wrong = [{**one, "item_ids": one["item_ids"][::-1]} if "item_ids" in one else one for one in responses]
    assert wrong != responses
    (folder / "responses.json").write_text(json.dumps(wrong))
    # As if it had been made so: its checksum is right.
    (folder / "manifest.json").unlink()
    write_manifest(
        folder,
        "bundle",
        config=manifest["config"],
        source=manifest["source"],
        extra={
            key: value for key, value in manifest.items() if key not in ("files", "fingerprint", "checksum")
        },
    )
    refused = client.post("/bundle", json={"path": str(folder)})
    assert refused.status_code == 422
    assert "answers a recorded request otherwise" in refused.json()["error"]


def test_a_bundle_that_only_ranks_orders_what_it_is_sent(serving, ranking_folder):
    client = serving(bundle=ranking_folder, policy="greedy")
    refused = client.post("/recommend", json={"user": {"user_id": "u1"}, "k": 3})
    assert refused.status_code == 422
    assert "expected `candidates`" in refused.json()["error"]
    answer = ask(client, k=3, candidates=["i1", "i2", "i3", "i4", "i3"], exclude=["i2"])
    assert set(ids(answer)) == {"i1", "i3", "i4"}
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert client.post("/items/availability", json={"item_ids": ["i1"], "available": False}).json() == {
        "known": 1
    }


def test_whole_numbers_and_their_text_are_the_same_ids(serving, tmp_path):
    dataset = bundles.market(tmp_path, integer_ids=True)
    client = serving(bundle=bundles.retrieval_bundle(tmp_path / "bundle", dataset))
    answer = ask(client, user=3)
    assert all(isinstance(one, int) for one in ids(answer))
    first = ids(answer)[0]
    tell(
        client, {"request_id": answer["request_id"], "user_id": "3", "item_id": str(first), "event": "click"}
    )
    assert first not in ids(ask(client, user=3, k=60))
    assert client.get("/users/3").json()["history"][0]["event"] == "click"


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/recommend", b"{", 400, ""),
        ("/recommend", b"\xff", 400, ""),
        ("/recommend", b"[]", 422, ""),
        ("/recommend", b"", 400, ""),
        ("/recommend", b'{"k": NaN}', 400, ""),
        ("/recommend", b'{"context": {"a": ' + 100_000 * b"[" + b"}}", 400, ""),
        ("/recommend", {"k": 10**30}, 422, "k"),
        ("/recommend", {"session": 7}, 422, "session"),
        ("/recommend", {"user": {"user_id": "u1", "unread": 10**30}}, 422, "user.unread"),
        ("/recommend", {"context": {"unread": {"a": {"b": {}}}}}, 422, "context.unread"),
        ("/recommend", b'{"context": {"a": ' + 900 * b"[" + 900 * b"]" + b"}}", 422, "context.a"),
        ("/items", {"items": [{"item_id": "n", "unread": [2**64]}]}, 422, "items[0].unread"),
        ("/feedback", {"events": [None]}, 422, "events[0]"),
        (
            "/feedback",
            {"events": [{"user_id": "u", "item_id": "i", "event": "click", "value": "x"}]},
            422,
            "events[0].value",
        ),
        ("/recommend", {"k": 0}, 422, "k"),
        ("/recommend", {"k": 1001}, 422, "k"),
        ("/recommend", {"k": "x"}, 422, "k"),
        ("/recommend", {"user": 3}, 422, "user"),
        ("/recommend", {"user": {"user_id": [1]}}, 422, "user.user_id"),
        ("/recommend", {"user": {"user_id": ""}}, 422, "user.user_id"),
        ("/recommend", {"exclude": [None]}, 422, "exclude[0]"),
        ("/recommend", {"users": {}}, 422, "users"),
        ("/feedback", {"events": [{"item_id": "i1", "event": "click"}]}, 422, "events[0].user_id"),
        ("/feedback", {"events": [{"user_id": "u", "event": "click"}]}, 422, "events[0].item_id"),
        ("/feedback", {"events": [{"user_id": "u", "item_id": "i", "event": "buy"}]}, 422, "events[0].event"),
        ("/feedback", {}, 422, "events"),
        ("/items", {"items": [{"shelf": "a"}]}, 422, "items[0].item_id"),
        ("/items", {"items": [{"item_id": "n", "valid_until": "soon"}]}, 422, "items[0].valid_until"),
        ("/items/availability", {"item_ids": ["i1"]}, 422, "available"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(standing, path, body, status, field):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = standing.post(path, content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["field"]) == (status, field), response.text
    assert response.json()["error"]


def test_times_of_events_are_their_own(client):
    now = time.time()

    def event(item, timestamp):
        return {"user_id": "u1", "item_id": item, "event": "click", "timestamp": timestamp}

    tell(client, event("i2", now - 10), event("i1", 1000 * (now - 20)), event("i3", now + 30))
    iso = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now - 15))
    tell(client, event("i4", iso))
    known = client.get("/users/u1").json()["history"]
    assert [one["item_id"] for one in known] == ["i1", "i4", "i2", "i3"]
    assert known[2]["timestamp"] == pytest.approx(now - 10, abs=1e-5)
    for wrong, message in [
        (now + 3600, "seconds ahead of the server's clock"),
        (-1, "before 1970"),
        ("yesterday", "ISO 8601"),
        (1e30, "ISO 8601"),
    ]:
        refused = client.post("/feedback", json={"events": [event("i5", now), event("i5", wrong)]})
        assert (refused.status_code, refused.json()["field"]) == (422, "events[1].timestamp")
        assert message in refused.json()["error"]
    # Nothing of a refused request counts.
    assert len(client.get("/users/u1").json()["history"]) == 4
    # However late an event is, it is placed where it belongs, and known when it comes again.
    late = event("i6", 1_600_000_000)
    assert tell(client, late, event("i7", "2001-02-03")) == {"accepted": 2, "repeated": 0}
    assert tell(client, late) == {"accepted": 0, "repeated": 1}
    known = client.get("/users/u1").json()["history"]
    assert [one["item_id"] for one in known[:3]] == ["i7", "i6", "i1"]


def test_what_cannot_be_read_of_an_item_is_refused_and_nothing_is_logged(client):
    before = client.service.journal.log.end()
    response = client.post("/items", json={"items": [{"item_id": "n1", "price": "dear"}]})
    assert response.status_code in (422, 500)
    assert client.service.journal.log.end() == before


def test_a_token_is_asked_for_where_it_is_set(serving):
    client = serving(token="secret")
    assert client.get("/health").status_code == 200
    assert client.post("/recommend", json={}).status_code == 401
    assert client.post("/recommend", json={}, headers={"authorization": "Bearer other"}).status_code == 401
    right = client.post("/recommend", json={}, headers={"authorization": "Bearer secret"})
    assert right.status_code == 200


def test_pages_of_other_sites_are_refused(client):
    assert client.post("/feedback", json={"events": []}, headers={"origin": "http://evil"}).status_code == 403
    own = {"origin": "http://testserver"}
    assert client.post("/feedback", json={"events": []}, headers=own).json() == {"accepted": 0, "repeated": 0}


def test_too_large_a_body_is_refused(serving):
    client = serving(max_body_megabytes=0.001)
    assert client.post("/recommend", json={"exclude": ["x" * 900] * 3}).status_code == 413


@pytest.mark.parametrize("then", ["waits", "leaves"])
def test_a_body_that_does_not_come_keeps_nobody_and_is_no_fault(client, monkeypatch, caplog, then):
    monkeypatch.setattr(app, "_BODY_SECONDS", 0.05)
    parts = [{"type": "http.request", "body": b"{", "more_body": True}]
    parts += [{"type": "http.disconnect"}] * (then == "leaves")
    sent = []

    async def receive():
        if parts:
            return parts.pop(0)
        return await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/recommend", "headers": [], "query_string": b""}
    asyncio.run(client.app(scope | {"raw_path": b"/recommend", "root_path": ""}, receive, send))
    assert sent[0]["status"] == (408 if then == "waits" else 400)
    assert not caplog.records


def test_overload_is_refused_early(client):
    client.service._waiting = client.service.options.max_waiting
    response = client.post("/recommend", json={})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "recsys_refused_total 1" in client.get("/metrics").text


def test_routes_that_are_none_are_named(client):
    assert client.get("/nothing").status_code == 404
    assert client.get("/users/").json()["field"] == "user_id"
    response = client.get("/recommend")
    assert (response.status_code, "Method Not Allowed" in response.json()["error"]) == (405, True)


def test_metrics_are_prometheus_text(client):
    ask(client)
    tell(client, {"user_id": "u1", "item_id": "i1", "event": "click"})
    text = client.get("/metrics").text
    assert 'recsys_requests_total{route="/recommend",status="200"} 1' in text
    assert 'recsys_events_total{kind="click"} 1' in text
    assert 'recsys_lists_total{policy="softmax",rung="bundle",arm=""} 1' in text
    assert 'recsys_seconds_bucket{le="+Inf",route="/recommend"} 1' in text
    assert "recsys_log_lag 0" in text
    for line in text.splitlines():
        assert line.startswith("#") or math.isfinite(float(line.rpartition(" ")[2]))


def test_what_a_policy_earned_counts_the_best_event_of_an_item_once(client):
    rules = client.service.options.rules
    first, second = ask(client), ask(client)
    for answer, kind in ((first, "click"), (first, "click"), (second, "click"), (second, "like")):
        tell(client, {"request_id": answer["request_id"], "item_id": ids(answer)[0], "event": kind})
    text = client.get("/metrics").text
    earned = rules.reward("click", None) + max(rules.reward("click", None), rules.reward("like", None))
    assert 'recsys_policy_lists{policy="softmax"} 2' in text
    assert f'recsys_policy_reward{{policy="softmax"}} {earned:g}' in text
    [regret] = [line for line in text.splitlines() if line.startswith("recsys_policy_regret{")]
    believed = sum(request.regret for request in logged(client))
    assert 0 < float(regret.rpartition(" ")[2]) == pytest.approx(believed)


def test_health_readiness_and_description(client):
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json()["ready"] is True
    described = client.get("/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    assert set(described["paths"]) >= {"/recommend", "/feedback", "/items", "/users/{user_id}", "/bundle"}


def test_timing_says_what_took_how_long(client):
    assert set(ask(client, timing=True)["milliseconds"]) == {"state", "bundle", "beliefs", "policy"}


def test_a_bundle_that_fails_leaves_it_to_what_is_popular(client, monkeypatch):
    tell(client, *({"user_id": f"p{n}", "item_id": "i9", "event": "click"} for n in range(3)))
    tell(client, {"user_id": "p9", "item_id": "i8", "event": "click"})

    def fail(*_, **__):
        raise RuntimeError("on purpose")

    monkeypatch.setattr(client.service.box.current, "scored", fail)
    answer = ask(client, user="somebody", k=2)
    assert set(ids(answer)) == {"i8", "i9"}
    assert (answer["rung"], answer["degraded"]) == ("popular", True)
    assert {item["source"] for item in answer["items"]} == {"popular"}
    assert all(0 < item["propensity"] <= 1 for item in answer["items"])


def test_arms_split_users_and_keep_them(serving):
    client = serving(arms={"old": Arm("greedy", share=0.5), "new": Arm("softmax", share=0.5)})
    policies = {user: ask(client, user=user)["policy"] for user in (f"u{n}" for n in range(40))}
    assert set(policies.values()) == {"greedy", "softmax"}
    assert {user: ask(client, user=user)["policy"] for user in policies} == policies
    until(lambda: len(logged(client)) == 80)
    assert {(one.arm, one.policy) for one in logged(client)} == {("old", "greedy"), ("new", "softmax")}


def test_a_shadow_is_logged_and_not_shown(serving):
    client = serving(policy="greedy", shadow=Arm("epsilon", {"epsilon": 1.0}))
    answer = ask(client)
    until(lambda: len(logged(client)) == 2)
    shown, shadow = logged(client)
    assert (shown.shadow, shadow.shadow) == (False, True)
    assert [item.item_id for item in shown.items] == ids(answer)
    assert [item.item_id for item in shadow.items] != ids(answer)
    assert not shown.judges_others


def test_greedy_learns_from_feedback_when_told_to(serving):
    client = serving(policy="greedy", policy_parameters={"learning": True}, rules=Rules())
    wanted = ids(ask(client, user="judge", k=20))[12]
    for n in range(40):
        answer = ask(client, user=f"x{n}", k=50)
        tell(client, {"request_id": answer["request_id"], "item_id": wanted, "event": "click"})
    assert ids(ask(client, user="judge", k=3))[0] == wanted


def test_what_was_logged_of_a_list_is_what_the_replayed_log_says(serving):
    client = serving(policy="thompson")
    for n in range(12):
        answer = ask(client, user=f"u{n % 3}", k=4)
        tell(client, {"request_id": answer["request_id"], "item_id": ids(answer)[n % 4], "event": "click"})
        until(lambda: client.service.journal.lag() == 0 and not client.service.journal.waiting)
    tell(client, {"user_id": "u1", "item_id": "i4", "event": "dislike"})
    ask(client, user="u1", history=["i2"])
    until(lambda: len(logged(client)) == 13)
    found = audit(read_log(client.service.journal.log), Rules())
    assert [found[name]["compared"] for name in ("history_length", "head", "looked")] == [12, 53, 53]
    for one in found.values():
        assert one["equal"] == one["compared"], found
    # By other rules than those that served, it would differ.
    assert audit(read_log(client.service.journal.log), Rules(half_life_hours=0.001))["head"]["equal"] < 53


def test_segments_have_what_is_popular_with_them(serving):
    rules = Rules(segment_fields=("shelf",))
    client = serving(rules=rules, ladder={"profile": "segment"}, policy="greedy", explore_new=0)
    for shelf, wanted in (("a", 1), ("b", 2)):
        for number in range(3):
            body = {"user": {"user_id": f"{shelf}{number}"}, "context": {"shelf": shelf}, "k": 3}
            shown = client.post("/recommend", json=body).json()
            item = shown["items"][wanted]["item_id"]
            told = {"request_id": shown["request_id"], "user_id": f"{shelf}{number}", "item_id": item}
            tell(client, {**told, "event": "click"})

    def sources(shelf, user):
        body = {"user": {"user_id": user}, "context": {"shelf": shelf} if shelf else {}, "k": 4}
        answer = client.post("/recommend", json=body).json()
        assert len(answer["items"]) == 4
        assert not answer["degraded"]
        return answer["rung"], {item["item_id"]: item["source"] for item in answer["items"]}

    (rung_a, of_a), (rung_b, of_b) = sources("a", "new1"), sources("b", "new2")
    assert (rung_a, rung_b) == ("segment", "segment")
    liked_a = [item for item, source in of_a.items() if source == "segment"]
    liked_b = [item for item, source in of_b.items() if source == "segment"]
    assert liked_a
    assert liked_b
    assert sources(None, "new3")[0] == "popular"
    # Whoever did something is answered by the model.
    assert sources("a", "b0")[0] == "bundle"


def test_ladder_names_rungs_and_what_answers():
    asked = {"bundle": "x", "folder": "y"}
    with pytest.raises(InputError, match="`ladder` must say `bundle`, `segment` or `popular` of the rungs"):
        ServeOptions(**asked, ladder={"stranger": "popular"})
    with pytest.raises(InputError, match="no field tells readers apart"):
        ServeOptions(**asked, ladder={"profile": "segment"})

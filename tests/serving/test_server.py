"""Servers in processes of their own: started, killed, asked by several at once."""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.serving.brokers import free_port
from tests.serving.servers import server


def ask(url, user, k=5, **more):
    response = httpx.post(f"{url}/recommend", json={"user": {"user_id": user}, "k": k, **more}, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


def click(url, answer, place=0, **more):
    event = {
        "request_id": answer["request_id"],
        "item_id": answer["items"][place]["item_id"],
        "event": "click",
    }
    response = httpx.post(f"{url}/feedback", json={"events": [{**event, **more}]}, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


def history(url, user):
    return [event["item_id"] for event in httpx.get(f"{url}/users/{user}").json()["history"]]


def test_the_command_serves_and_ends_with_its_folder(two_stage_folder, tmp_path):
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "recsys", "serve", f"bundle={two_stage_folder}"),
            *(f"folder={tmp_path / 'live'}", f"port={port}", "policy=thompson", "max_gigabytes=1"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            httpx.get(f"{url}/ready")
            break
        except httpx.HTTPError:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
    assert ask(url, "u1")["policy"] == "thompson"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert out.splitlines()[-1] == str(tmp_path / "live")
    assert f"serving on {url}" in err


def test_a_bundle_that_is_none_ends_the_command_with_status_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "recsys", "serve", f"bundle={tmp_path}", f"folder={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


def test_the_server_imports_nothing_of_training(two_stage_folder, tmp_path):
    program = """
import sys
from recsys.serving import server, app, service
heavy = {"torchrec", "fbgemm_gpu", "pytorch_lightning", "hydra", "omegaconf", "ibis", "pandas"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_processes_share_what_they_are_told(two_stage_folder, tmp_path):
    with server(two_stage_folder, tmp_path, workers=2, policy="greedy") as made:
        processes = set()
        slowest = 0.0
        for n in range(30):
            answer = ask(made.url, f"w{n}", k=10)
            assert click(made.url, answer) == {"accepted": 1, "repeated": 0}
            begin = time.monotonic()
            # A new connection each time: any of the processes may answer.
            while answer["items"][0]["item_id"] not in history(made.url, f"w{n}"):
                assert time.monotonic() < begin + 5
            slowest = max(slowest, time.monotonic() - begin)
            assert answer["items"][0]["item_id"] not in {
                item["item_id"] for item in ask(made.url, f"w{n}", k=50)["items"]
            }
        assert slowest < 0.5
        new = {"items": [{"item_id": "fresh", "shelf": "a", "price": 1.0}]}
        assert httpx.post(f"{made.url}/items", json=new).json() == {"added": 1}
        time.sleep(0.5)
        for _ in range(10):
            listed = {
                item["item_id"] for item in ask(made.url, "reader", k=61, where={"shelf": ["a"]})["items"]
            }
            assert "fresh" in listed
        for path in (tmp_path / "metrics").glob("*.json"):
            processes.add(path.stem)
        assert len(processes) == 2


def load(url, stop, acknowledged, name):
    """Asks and clicks until told to stop, noting what was acknowledged.

    A reader asks seven times and goes: one who had read all there is would be shown nothing more.
    """
    n = 0
    with httpx.Client(base_url=url, timeout=10) as client:
        while not stop.is_set():
            n += 1
            reader = f"{name}-{n // 7}"
            try:
                asked = client.post("/recommend", json={"user": {"user_id": reader}, "k": 5})
                if asked.status_code != 200:
                    continue
                answer = asked.json()
                event = {
                    "request_id": answer["request_id"],
                    "user_id": reader,
                    "item_id": answer["items"][0]["item_id"],
                    "event": "click",
                    "event_id": f"{name}-{n}",
                }
                told = client.post("/feedback", json={"events": [event]})
                if told.status_code == 200 and told.json() == {"accepted": 1, "repeated": 0}:
                    acknowledged.append(event)
            except httpx.HTTPError:
                time.sleep(0.02)


def wait_for_more(acknowledged, threads):
    """Waits until three more events are acknowledged; a load that has died never would."""
    before, deadline = len(acknowledged), time.monotonic() + 60
    while len(acknowledged) < before + 3:
        assert all(thread.is_alive() for thread in threads), "the load has ended"
        assert time.monotonic() < deadline, "nothing was acknowledged for a minute"
        time.sleep(0.01)


def kill_under_load(bundle, folder, *, times, seed):
    """The server, killed with all its processes under load; how long each took to serve again."""
    rng = random.Random(seed)
    took, acknowledged, stop = [], [], threading.Event()
    with server(bundle, folder) as made:
        threads = [
            threading.Thread(target=load, args=(made.url, stop, acknowledged, name), daemon=True)
            for name in ("a", "b")
        ]
        for thread in threads:
            thread.start()
        for _ in range(times):
            wait_for_more(acknowledged, threads)
            time.sleep(rng.uniform(0, 0.3))
            made.kill()
            begin = time.monotonic()
            made.start()
            took.append(time.monotonic() - begin)
        stop.set()
        for thread in threads:
            thread.join()
        # Whatever was acknowledged is known: sent again, it counts as repeated.
        for begin in range(0, len(acknowledged), 500):
            events = acknowledged[begin : begin + 500]
            answer = httpx.post(f"{made.url}/feedback", json={"events": events}).json()
            assert answer == {"accepted": 0, "repeated": len(events)}
        assert len({event["event_id"] for event in acknowledged}) == len(acknowledged)
    return took, len(acknowledged)


def test_a_killed_server_has_lost_nothing(two_stage_folder, tmp_path):
    took, number = kill_under_load(two_stage_folder, tmp_path, times=1, seed=0)
    assert number > 3
    assert max(took) < 30


@pytest.mark.slow
def test_a_server_killed_fifty_times_has_lost_nothing(two_stage_folder, tmp_path, capsys):
    took, number = kill_under_load(two_stage_folder, tmp_path, times=50, seed=1)
    assert number > 150
    with capsys.disabled():
        said = f"median {statistics.median(took):.1f} s, longest {max(took):.1f} s"
        print(f"50 restarts: {said}; {number} events, none lost")
    # Five on a quiet machine; beside other work, all that a process starts with takes its time.
    assert statistics.median(took) < 10


def workers_of(parent):
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.mark.slow
def test_a_killed_process_is_started_again(two_stage_folder, tmp_path):
    with server(two_stage_folder, tmp_path, workers=2) as made:
        ask(made.url, "u1")
        victims = workers_of(made.process.pid)
        assert len(victims) == 2
        os.kill(victims[0], signal.SIGKILL)
        begin = time.monotonic()
        while time.monotonic() < begin + 60:
            if len(set(workers_of(made.process.pid)) - {victims[0]}) == 2:
                break
            ask(made.url, "u2")
            time.sleep(0.2)
        else:
            raise AssertionError("the process did not come again")


@pytest.mark.slow
def test_bundles_exchanged_under_load_drop_nothing(two_stage_folder, retrieval_folder, tmp_path):
    failed, answered, stop = [], [], threading.Event()
    with server(two_stage_folder, tmp_path) as made:

        def read(name):
            with httpx.Client(base_url=made.url, timeout=30) as client:
                while not stop.is_set():
                    response = client.post("/recommend", json={"user": {"user_id": name}, "k": 5})
                    (answered if response.status_code == 200 else failed).append(response.status_code)

        threads = [threading.Thread(target=read, args=(name,)) for name in ("u1", "u2")]
        for thread in threads:
            thread.start()
        for n in range(4):
            path = str((retrieval_folder, two_stage_folder)[n % 2])
            response = httpx.post(f"{made.url}/bundle", json={"path": path}, timeout=60)
            assert response.status_code == 200, response.text
            assert json.loads(response.text)["bundle"] == ask(made.url, "u3")["bundle"]
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert len(answered) > 20

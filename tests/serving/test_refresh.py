"""From a run to a server, to feedback, to the next bundle: the whole circle."""

import json
import os
import time
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.commands.live.refreshing import RefreshConfig, judge, refresh_that_serves
from recsys.commands.live.simulation import SimulateConfig, simulate
from recsys.data.sources.synthetic_world import World
from recsys.schema.json_files import read_json
from recsys.schema.manifest import write_json
from recsys.serving.client import Client
from recsys.serving.local import LocalServer
from recsys.serving.messages import FeedbackEvent
from recsys.serving.options import ServeOptions
from recsys.serving.records import Request
from recsys.serving.tables import read_log
from tests.commands_here import recsys
from tests.serving.servers import server


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    status, path, said = recsys(
        "train",
        *("data=synthetic", f"data.cache_dir={folder / 'cache'}", "data.source.num_users=200"),
        *("data.source.num_items=150", "data.source.num_interactions=6000", "model=two_tower"),
        *("trainer.max_epochs=1", f"run_dir={folder / 'run'}"),
    )
    assert status == 0, said
    status, bundle, said = recsys("export", f"run={path}")
    assert status == 0, said
    world = next((folder / "cache").rglob("truth.npz")).parent
    return folder / "run", bundle, world


def test_what_was_heard_becomes_the_next_bundle(run, tmp_path):
    trained, bundle, world = run
    with server(bundle, tmp_path / "live", policy="softmax") as made:
        status, _, said = recsys("refresh", f"server={made.url}", f"run={trained}")
        assert status == 2
        assert "expected at least 20 positive events" in said
        ids = World.load(world / "truth.npz").item_ids.tolist()
        rng, now = np.random.default_rng(0), time.time()
        with Client(made.url) as client:
            client.add_items([{"item_id": 99_999, "price": 3.0, "categories": []}])
            # Readers who all like the same few items, which nothing in the data foretold.
            liked = [99_999, *ids[-4:]]
            for n in range(300):
                item = liked[int(rng.integers(len(liked)))]
                kind = "click" if n % 5 else "skip"
                at = now - 600 * (300 - n)
                client.feedback([FeedbackEvent(item, kind, user_id=int(rng.integers(200)), timestamp=at)])
        before = httpx.get(f"{made.url}/ready").json()
        status, path, said = recsys(
            "refresh",
            *(f"server={made.url}", f"run={trained}", "training={trainer.max_epochs:8}"),
        )
        assert status == 0, said
        record = json.loads(Path(path, "refresh.json").read_text())
        assert record["events"] >= 180
        assert record["new_items"] == 1
        assert record["judged"]["events"] > 20
        assert record["judged"]["new"] > record["judged"]["serving"]
        assert record["swapped"] is True
        after = httpx.get(f"{made.url}/ready").json()
        assert after["bundle"] == record["fingerprint"] != before["bundle"]
        assert after["bundle_path"] == os.path.realpath(record["bundle"])
        raw = pq.read_table(next((world / "interactions").glob("*.parquet")))
        merged = pq.read_table(f"{path}/tables/interactions.parquet")
        assert {field.name: field.type for field in merged.schema} == {f.name: f.type for f in raw.schema}
        assert merged.num_rows == raw.num_rows + record["events"]
        items = pq.read_table(f"{path}/tables/items.parquet")
        assert items["item_id"].to_pylist()[-1] == 99_999
        # And back.
        status, path, said = recsys("refresh", f"server={made.url}", "undo=true")
        assert status == 0, said
        assert httpx.get(f"{made.url}/ready").json()["bundle"] == before["bundle"]
        assert json.loads(Path(path, "refresh.json").read_text())["undone"] is True


def test_refreshed_again_it_counts_what_it_heard_once_and_goes_on_knowing_tastes(run, tmp_path):
    trained, bundle, world = run
    live = tmp_path / "live"
    serve = {"bundle": str(bundle), "folder": str(live), "max_gigabytes": 1.0}
    serve |= {"policy": "greedy", "policy_parameters": {"learning": True}, "explore_new": 0}
    refresh = {"run": str(trained), "every": "1h", "training": {"trainer.max_epochs": 4}}
    laws = {"requests": 240, "hour": 80, "attraction": 1.0, "birth_every": 50}
    simulate(SimulateConfig(world, tmp_path / "out", serve=serve, refresh=refresh, **laws))
    first, second = (read_json(live / "refresh" / name / "refresh.json") for name in ("0001", "0002"))
    assert first["swapped"]
    assert second["began_with"] == first["run"]
    assert second["events"] > first["events"]
    assert (first["new_items"], second["new_items"]) == (1, 3)
    raw = pq.read_table(next((world / "interactions").glob("*.parquet"))).num_rows
    for number, record in enumerate((first, second), start=1):
        table = pq.read_table(live / "refresh" / f"{number:04d}" / "tables" / "interactions.parquet")
        assert table.num_rows == raw + record["events"]
    # A server that begins with the new bundle lies in the space that tastes were learnt over, too.
    options = ServeOptions(bundle=Path(first["bundle"]), folder=live, max_gigabytes=1.0)
    again = LocalServer(options, step_seconds=1.0)
    lists = [record for _, record in read_log(again.log) if isinstance(record, Request)]
    assert len({one.bundle for one in lists}) == 3
    assert {one.space for one in lists} == {again.service.box.current.space}


def test_next_refresh_goes_on_from_what_serves_however_often_it_was_undone(tmp_path):
    assert refresh_that_serves(tmp_path / "none", "bundle") is None
    for number in (1, 2):
        folder = tmp_path / f"{number:04d}"
        (folder / "run").mkdir(parents=True)
        made = {"run": str(folder / "run"), "bundle": str(folder / "run" / "bundle"), "swapped": True}
        write_json(folder / "refresh.json", made)
    (tmp_path / "0003").mkdir()
    write_json(tmp_path / "0003" / "refresh.json", {"undone": True, "swapped": False})
    for number in ("0001", "0002"):
        found = refresh_that_serves(tmp_path, str(tmp_path / number / "run" / "bundle"))
        assert found["run"] == str(tmp_path / number / "run")
    assert refresh_that_serves(tmp_path, str(tmp_path / "bundle")) is None


def test_the_same_bundle_is_as_good_as_itself(run):
    _, bundle, world = run
    ids = World.load(world / "truth.npz").item_ids.tolist()
    holdout = [(n % 50, ids[n % len(ids)], 1_700_000_000_000_000 + n) for n in range(300)]
    judged = judge(bundle, bundle, holdout, {"3": [(0, ids[0])]}, k=10)
    assert judged["difference"] == 0
    assert judged["events"] == 300
    assert 0 <= judged["serving"] == judged["new"] < 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "`run` must name the run"),
        ({"run": "r", "every": "soon"}, "`every` must be a time as in `15m`, .* got `soon`"),
        ({"run": "r", "holdout_share": 1.0}, "`holdout_share` must lie between 0 and 1, got 1.0"),
    ],
)
def test_keys_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RefreshConfig("http://x", **changes)

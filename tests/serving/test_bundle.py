"""A two-stage bundle of five thousand items with an index, beside its own file, which searches exactly."""

import json
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.options import Columns, DataOptions, InteractionsTable, SideTable
from recsys.data.prepare import prepare
from recsys.exporting.gate.recorded import RecordedRequests
from recsys.exporting.index import ship_index
from recsys.exporting.options import ExportOptions
from recsys.retrieval.ann import Index
from recsys.serving.bundle import Bundle
from recsys.serving.index import open_index
from tests.exporting.conftest import export_both, stage, two_tower, wide_deep

NUM_ITEMS = 5000
RARE = {"p17", "p1717", "p4711"}
USERS = [{"user_id": f"u{n}"} for n in range(8)]
HISTORIES = [[f"p{row}" for row in range(n, 40 * n, 13)] for n in range(8)]


def store(folder):
    rng = np.random.default_rng(3)
    ids = [f"p{n}" for n in range(NUM_ITEMS)]
    items = pa.table(
        {
            "item_id": ids,
            "shelf": ["rare" if item_id in RARE else f"s{n % 10}" for n, item_id in enumerate(ids)],
            "tags": [list(rng.choice(["x", "y", "z"], n % 3)) for n in range(NUM_ITEMS)],
            **{name: rng.normal(0, 1, NUM_ITEMS) for name in ("price", "weight", "height", "age")},
        }
    )
    events = pa.table(
        {
            "user_id": [f"u{n}" for n in rng.integers(0, 30, 900)],
            "item_id": [f"p{n}" for n in rng.integers(0, NUM_ITEMS, 900)],
            "timestamp": np.sort(rng.integers(1_600_000_000, 1_610_000_000, 900)),
        }
    )
    pq.write_table(items, folder / "items.parquet")
    pq.write_table(events, folder / "events.parquet")
    options = DataOptions(
        name="store",
        interactions=InteractionsTable(path=str(folder / "events.parquet"), columns=Columns()),
        items=SideTable(
            path=str(folder / "items.parquet"),
            features={
                "shelf": {"kind": "id"},
                "tags": {"kind": "multi_id"},
                **{name: {"kind": "numeric"} for name in ("price", "weight", "height", "age")},
            },
        ),
        cache_dir=str(folder / "cache"),
    )
    return PreparedDataset.open(prepare(options))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    dataset = store(folder)
    stages = stage(two_tower(dataset), dataset), stage(wide_deep(dataset), dataset)
    return export_both(*stages, folder / "bundle", num_candidates=50, index="hnsw")


@pytest.fixture(scope="module", params=["two stages", "retrieval"])
def served(request, exported):
    """The bundle, and its first stage as a bundle of its own."""
    bundle = Bundle.open(exported.folder)
    bundle.index.settings = {"ef_search": 1500}  # finds all there is to find
    if request.param == "two stages":
        return bundle
    return Bundle(
        bundle.folder, bundle.manifest["stages"]["retrieval"], bundle.program.retrieval, bundle.index
    )


def same(answer, expected):
    assert len(answer) == len(expected)
    assert answer[0] == expected[0]
    for found, other in zip(answer[1:], expected[1:], strict=True):
        assert found == (other if isinstance(other[0], str) else pytest.approx(other, abs=1e-5))
    return True


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"where": {"shelf": [f"s{n}" for n in range(8)]}},
        {"where": {"tags": ["x", "y"]}},
        {"where": {"shelf": ["s3"], "tags": ["y"]}},
    ],
)
def test_lists_from_the_index_are_those_of_exact_search(served, more):
    for user, history in zip(USERS, HISTORIES, strict=True):
        same(
            served.recommend(user, history, 20, None, ["p5", "p6"], **more),
            served.program.recommend(user, history, 20, None, ["p5", "p6"], **more),
        )
    many = served.recommend_batch(USERS, HISTORIES, 20, **more)
    for n, (user, history) in enumerate(zip(USERS, HISTORIES, strict=True)):
        same([part[n] for part in many], served.program.recommend(user, history, 20, **more))


def test_lists_are_made_of_what_the_index_finds(served, monkeypatch):
    rows = torch.arange(100, 180)
    monkeypatch.setattr(Index, "near", lambda *_, **__: rows)
    first = served.retrieval
    ids = served.recommend(USERS[0], [], 80)[0]
    assert set(ids) == set(first.item_ids.ids_of(rows))
    seen = ids[:7]
    assert set(served.recommend(USERS[0], seen, 80)[0]) == set(ids) - set(seen)


def test_three_items_of_five_thousand_are_all_there_is(served):
    for k in (3, 50):
        answer = served.recommend(USERS[1], ["p3", "p4"], k, where={"shelf": ["rare"]})
        assert set(answer[0]) == RARE
        same(answer, served.program.recommend(USERS[1], ["p3", "p4"], k, where={"shelf": ["rare"]}))
    left = served.recommend(USERS[1], ["p17"], 50, None, ["p4711"], where={"shelf": ["rare"]})[0]
    assert left == ["p1717"]


def test_no_list_is_shorter_than_it_has_to_be(served):
    history = [f"p{n}" for n in range(0, NUM_ITEMS, 2)]
    more = {"num_candidates": 60} if served.has_two_stages else {}
    for k, where in ((60, None), (2400, None), (60, {"tags": ["z"]}), (60, {"shelf": ["s1", "s2"]})):
        left = len(served.program.recommend(USERS[2], history, k, where=where, **more)[0])
        assert len(served.recommend(USERS[2], history, k, where=where, **more)[0]) == left == k
    assert len(served.recommend(USERS[2], history, NUM_ITEMS)[0]) == NUM_ITEMS // 2


def test_what_is_not_available_is_found_by_neither(served):
    best = served.recommend(USERS[3], [], 50)[0]
    assert served.set_available(best, False) == 50
    try:
        answer = served.recommend(USERS[3], [], 50)
        assert not set(answer[0]) & set(best)
        same(answer, served.program.recommend(USERS[3], [], 50))
    finally:
        served.set_available(best, True)
    assert served.recommend(USERS[3], [], 50)[0] == best


def test_the_manifest_says_what_the_index_finds_and_takes(exported):
    entry = exported.manifest["index"]
    assert (entry["kind"], entry["file"], entry["k"], entry["queries"]) == ("hnsw", "index.faiss", 50, 15)
    assert set(entry["settings"]) == {"ef_search"}
    assert 0.99 <= entry["recall"] <= 1
    assert entry["recall_at"] == entry["k"] == 50
    assert entry["recall_of_k"] == entry["recall"]
    assert min(entry["ms_a_query"], entry["exact_ms_a_query"]) > 0
    assert "index.faiss" in exported.manifest["files"]
    bundle = Bundle.open(exported.folder)
    assert bundle.index.settings == entry["settings"]
    assert bundle.index.num_items == NUM_ITEMS
    assert bundle.index.time_share == entry["ms_a_query"] / entry["exact_ms_a_query"]


def test_a_damaged_or_missing_file_is_named(exported, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(exported.folder, folder)
    for name in ("index.faiss", "recommender.pt"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=f"`.*{name}` is damaged: its SHA-256 is not the one"):
            Bundle.open(folder)
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"`.*{name}` is missing; make it anew with `python export.py"):
            Bundle.open(folder)
        (folder / name).write_bytes(content)
    Bundle.open(folder)


def asked_of(exported):
    """Four test requests."""
    contexts = [{} for _ in range(4)]
    return RecordedRequests("test", USERS[:4], contexts, [], HISTORIES[:4], None)


def ship(exported, folder, **keys):
    program = exported.program.retrieval
    return ship_index(program, asked_of(exported), folder, ExportOptions(**keys), k=50)


def test_a_small_catalogue_is_searched_exactly_and_the_manifest_says_why(exported, tmp_path):
    assert ship(exported, tmp_path) == {
        "kind": "exact",
        "why": "5000 items; below 20000 exact search takes a fraction of a millisecond",
    }
    assert ship(exported, tmp_path, index="exact") == {"kind": "exact", "why": "`export.index` is `exact`"}
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_finds_too_little_is_refused_with_what_it_found(exported, tmp_path, monkeypatch):
    # No search reads more than one list.
    monkeypatch.setattr(
        sys.modules["recsys.retrieval.ann"], "_settings", lambda index: [{"num_probes": 1}], raising=True
    )
    with pytest.raises(
        ValueError,
        match=r"`export.index=ivf_sq8` must find 0.99 of the 50 .*'num_probes': 1.* it finds 0\.\d+ on 4",
    ):
        ship(exported, tmp_path, index="ivf_sq8")
    # The choice is open: exact search is shipped.
    monkeypatch.setattr(sys.modules["recsys.exporting.index"], "_MEASURED_FROM", 0)
    monkeypatch.setattr(sys.modules["recsys.exporting.index"], "_KINDS", ("ivf_sq8",))
    entry = ship(exported, tmp_path)
    assert entry["kind"] == "exact"
    assert entry["why"].startswith("`ivf_sq8` finds 0.")
    assert entry["tried"][0]["recall"] < 0.99
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_is_quick_enough_is_shipped_without_building_another(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["recsys.exporting.index"], "_MEASURED_FROM", 0)
    times = iter([(0.2, 1.0)])
    monkeypatch.setattr(sys.modules["recsys.exporting.index"], "_milliseconds", lambda *_: next(times))
    entry = ship(exported, tmp_path)
    assert (entry["kind"], entry["ms_a_query"]) == ("ivf_sq8", 0.2)


def test_the_quickest_index_that_finds_enough_is_shipped_if_it_is_quicker(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["recsys.exporting.index"], "_MEASURED_FROM", 0)
    times = iter([(0.5, 1.0), (0.4, 1.0), (3.0, 1.0), (2.0, 1.0)])
    monkeypatch.setattr(sys.modules["recsys.exporting.index"], "_milliseconds", lambda *_: next(times))
    entry = ship(exported, tmp_path)
    assert (entry["kind"], entry["ms_a_query"]) == ("hnsw", 0.4)
    (tmp_path / "index.faiss").unlink()
    slow = ship(exported, tmp_path)
    assert slow["why"] == "`ivf_sq8` takes 3 ms, exact search 1; `hnsw` takes 2 ms, exact search 1"
    assert list(tmp_path.iterdir()) == []


def test_probabilities_are_those_of_the_file(exported):
    bundle = Bundle.open(exported.folder)
    rows = [{"user_id": "u3", "item_id": "p5"}, {"user_id": "u3", "item_id": "p6"}]
    assert torch.equal(bundle.predict(rows), bundle.program.ranking.predict(rows))


def test_what_a_bundle_does_not_have_is_named(exported):
    program = exported.program
    stages = exported.manifest["stages"]
    ranking = Bundle(exported.folder, stages["ranking"], program.ranking)
    assert ranking.predict([{}]).shape == (1,)
    with pytest.raises(ValueError, match=r"must hold a retrieval model to recommend, .* ranking model"):
        ranking.recommend({}, [], 3)
    retrieval = Bundle(exported.folder, stages["retrieval"], program.retrieval)
    with pytest.raises(ValueError, match="must hold a ranking model to predict, it holds a retrieval model"):
        retrieval.predict([{}])
    with pytest.raises(
        TypeError,
        match=r"takes history_times, .*, strict beside .* `diversity`",
    ):
        retrieval.recommend({}, [], 3, diversity=0.1)


def test_without_an_index_the_file_searches(exported):
    bundle = Bundle(exported.folder, exported.manifest, exported.program)
    answer = bundle.recommend(USERS[0], HISTORIES[0], 7, diversity=0.2)
    same(answer, exported.program.recommend(USERS[0], HISTORIES[0], 7, diversity=0.2))


def test_threads_are_as_told(exported):
    before = torch.get_num_threads()
    try:
        Bundle.open(exported.folder, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_items_that_are_added_are_recommended_at_once(exported, tmp_path):
    bundle = Bundle.open(exported.folder)
    if not hasattr(bundle.program, "add_items"):
        pytest.skip("programs cannot add items yet")
    best = bundle.program.retrieval.recommend(USERS[0], [], 1)[0][0]
    raw = next(row for row in exported.retrieval.dataset.raw_items.to_pylist() if row["item_id"] == best)
    new = {name.removeprefix("raw."): value for name, value in raw.items() if name.startswith("raw.")}
    new |= {"item_id": "new", "shelf": "brand new", "tags": None}
    assert bundle.add_items([new]) == 1
    assert bundle.index.num_items == NUM_ITEMS + 1
    assert bundle.recommend(USERS[0], [], 5, where={"shelf": ["brand new"]})[0] == ["new"]
    same(bundle.recommend(USERS[0], [], 50), bundle.program.recommend(USERS[0], [], 50))


def test_an_opened_bundle_has_answered_what_is_recorded_in_it(exported, monkeypatch):
    answered = []
    recommend = Bundle.recommend

    def spy(self, **arguments):
        answered.append(arguments["k"])
        return recommend(self, **arguments)

    monkeypatch.setattr(Bundle, "recommend", spy)
    Bundle.open(exported.folder)
    recorded = json.loads((exported.folder / "requests.json").read_text())
    lists = [one["arguments"]["k"] for one in recorded if one["method"] == "recommend"]
    assert len(lists) > 0
    # Once to record types, once to optimise for them.
    assert answered == lists + lists


def test_an_index_of_another_release_is_refused_by_its_kind(exported):
    entry = {**exported.manifest["index"], "kind": "ivf_pq"}
    with pytest.raises(ValueError, match=r"a kind among hnsw, ivf_sq8, its manifest says `ivf_pq`"):
        open_index(exported.folder, entry)

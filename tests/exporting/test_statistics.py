"""Statistics of a bundle: what is observed gives what preparing gave."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.options import Columns, DataOptions, InteractionsTable, Label, SideTable, StatisticOptions
from recsys.data.prepare import prepare
from recsys.exporting import bundle
from recsys.exporting.build import statistics_before
from recsys.exporting.bundle import load_scripted, save_scripted
from recsys.exporting.gate import observing
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.observed import Log
from recsys.models.wide_deep import WideDeep
from tests.exporting.conftest import export, lively, stage, two_tower
from tests.exporting.test_graphs import found_in

STATISTICS = {
    "user_share": StatisticOptions(("user_id",), "positive_share", strength=3),
    "user_since": StatisticOptions(("user_id",), "recency"),
    "plan_count": StatisticOptions(("plan",), "count", window="48 hours"),
    "device_share": StatisticOptions(("device",), "positive_share", window="20 events"),
    "item_stars": StatisticOptions(("item_id",), "label_mean"),
    "item_recent": StatisticOptions(("item_id",), "count", window="10 days"),
    "item_bucket": StatisticOptions(("item_id",), "count", transform="bucketise", num_buckets=4),
    "genre_since": StatisticOptions(("genres",), "recency"),
    "user_genre": StatisticOptions(("user_id", "genres"), "positive_share"),
    "user_last_5": StatisticOptions(("user_id",), "label_mean", window="5 events"),
}
HOUR = 3_600_000


def world(folder, *, seed=0, split="global_time", statistics=STATISTICS, count=900, **changes):
    """Text items, integer users, instants in milliseconds that several events share, unknown ids late."""
    rng = np.random.default_rng(seed)
    times = np.sort(1_600_000_000_000 + HOUR * rng.integers(0, 900, count))
    late = np.arange(count) > count * 7 // 9
    table = pa.table(
        {
            "uid": rng.integers(1, 30, count) + np.where(late, rng.integers(0, 12, count), 0),
            "sku": [
                f"s{n}" for n in rng.integers(0, 20, count) + np.where(late, rng.integers(0, 8, count), 0)
            ],
            "ts": times,
            "stars": rng.integers(1, 6, count),
            "device": rng.choice(["tv", "pc", None], count).tolist(),
        }
    )
    pq.write_table(table, folder / "events.parquet")
    plans = [["a", "b", None][n % 3] for n in range(35)]
    pq.write_table(pa.table({"uid": range(35), "plan": plans}), folder / "users.parquet")
    genres = [rng.choice(["x", "y", "z"], n).tolist() for n in rng.integers(0, 4, 22)]
    items = pa.table({"sku": [f"s{n}" for n in range(22)], "genres": pa.array(genres, pa.list_(pa.string()))})
    pq.write_table(items, folder / "items.parquet")
    options = DataOptions(
        name="observed",
        interactions=InteractionsTable(
            path=str(folder / "events.parquet"),
            columns=Columns(user_id="uid", item_id="sku", timestamp="ts"),
            features={"device": {"kind": "id"}},
        ),
        users=SideTable(path=str(folder / "users.parquet"), features={"plan": {"kind": "id"}}),
        items=SideTable(path=str(folder / "items.parquet"), features={"genres": {"kind": "multi_id"}}),
        label=Label(column="stars", positive_at_least=4),
        statistics=statistics,
        split=split,
        cache_dir=str(folder / "cache"),
        **changes,
    )
    return PreparedDataset.open(prepare(options))


def wide_deep(dataset):
    return lively(WideDeep(dataset.schema, embedding_dim=8, crosses=[["user_id", "genres"]]))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return world(tmp_path_factory.mktemp("observed"))


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory):
    return export(wide_deep(dataset), dataset, tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def at_test(exported, dataset, tmp_path):
    """A file like the bundle's, as of the first test event."""
    program = bundle.build_program(stage(exported.model, dataset))
    log = Log.read(dataset)
    first = int(dataset.events("test").timestamps.min())
    program.statistics = statistics_before(stage(exported.model, dataset), log, first)
    save_scripted(program, tmp_path / "ranking.pt")
    return load_scripted(tmp_path / "ranking.pt")


def rows_of(dataset):
    """Test rows as requests; and, as events, with their label."""
    rows = dataset.split_table("test").to_pylist()
    requests = [
        {
            "user_id": row["user_id"],
            "item_id": row["item_id"],
            "timestamp": row["raw.timestamp"],
            "device": row["raw.device"],
        }
        for row in rows
    ]
    return requests, [{**one, "stars": row["label"]} for one, row in zip(requests, rows, strict=True)]


@pytest.mark.slow
def test_nothing_scripted_is_miscompiled(exported):
    assert found_in([exported.program]) == []


def test_events_observed_at_once_and_one_by_one_are_the_same(exported, dataset, at_test):
    requests, observed = rows_of(dataset)
    at_test.observe(observed)
    later = [{**request, "timestamp": instants_end(dataset)} for request in requests]
    torch.testing.assert_close(at_test.features(later)[1], exported.program.features(later)[1])


def instants_end(dataset):
    return max(row["timestamp"] for row in rows_of(dataset)[0]) + HOUR


def test_many_items_of_one_user_are_answered_as_rows(exported, dataset):
    items = ["s1", "s2", "s21", "nothing"]
    user, context = {"user_id": 3}, {"timestamp": instants_end(dataset), "device": "tv"}
    rows = [{**user, **context, "item_id": item, "history": None} for item in items]
    found = exported.program.predict_items(user, items, [], context)
    torch.testing.assert_close(found, exported.program.predict(rows))


def test_a_value_that_a_request_gives_wins(exported, dataset):
    request = {"user_id": 3, "item_id": "s1", "timestamp": instants_end(dataset)}
    names = [feature.name for feature in dataset.schema.dense()]
    given = {"user_share": 0.25, "item_stars": None}
    plain, changed = (exported.program.features([row])[1][0] for row in (request, {**request, **given}))
    share = dataset.schema["user_share"]
    at = names.index("user_share")
    assert float(changed[at]) == pytest.approx((0.25 - share.mean) / share.std, abs=1e-5)
    assert float(changed[names.index("item_stars")]) == 0.0
    same = [name not in given for name in names]
    assert changed[same].tolist() == plain[same].tolist()


def test_a_new_user_and_a_new_item_are_counted_from_the_first_event_on(exported, dataset, at_test):
    end = instants_end(dataset)
    count = dataset.schema["item_recent"]
    at = [feature.name for feature in dataset.schema.dense()].index("item_recent")
    request = {"user_id": 7_000, "item_id": "never seen", "timestamp": end + 4}
    expected = [(np.log1p(n) - count.mean) / count.std for n in (0, 2)]
    assert float(at_test.features([request])[1][0, at]) == pytest.approx(expected[0], abs=1e-5)
    event = {"user_id": 7_000, "item_id": "never seen", "label": 5}
    at_test.observe([{**event, "timestamp": end + 1}, {**event, "timestamp": end + 2}])
    assert float(at_test.features([request])[1][0, at]) == pytest.approx(expected[1], abs=1e-5)
    # Ten days and an instant later the first has left the window.
    late = {**request, "timestamp": end + 2 + 10 * 24 * HOUR}
    one = (np.log1p(1) - count.mean) / count.std
    assert float(at_test.features([late])[1][0, at]) == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            {"item_id": "s1", "timestamp": 1, "label": 5},
            "`user_id` of row 0: an event that is observed needs",
        ),
        (
            {"user_id": 1, "item_id": "s1", "label": 5},
            "`timestamp` of row 0: an event that is observed needs",
        ),
        (
            {"user_id": 1, "item_id": "s1", "timestamp": 1, "label": "x"},
            "`label` of row 0: .* needs a number",
        ),
    ],
)
def test_an_event_that_lacks_something_is_refused(at_test, event, message):
    with pytest.raises(Exception, match=message):
        at_test.observe([event])


@pytest.mark.slow
@pytest.mark.parametrize("split", ["random", "leave_last_out"])
def test_the_gate_passes_on_splits_that_do_not_follow_time(tmp_path, split):
    found = world(tmp_path, split=split)
    export(wide_deep(found), found, tmp_path / "bundle")


def test_the_gate_notices_a_statistic_that_is_not_what_was_prepared(dataset, tmp_path, monkeypatch):
    def with_other_window(stage, log, instant):
        found = statistics_before(stage, log, instant)
        found.tallies[2].window_events += 1
        return found

    monkeypatch.setattr(observing, "statistics_before", with_other_window)
    with pytest.raises(ParityError, match=r"`device_share` is .* by preparing, .* in the file"):
        export(wide_deep(dataset), dataset, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_the_gate_notices_a_file_that_has_not_seen_all_events(dataset, tmp_path, monkeypatch):
    build = bundle.build_program

    def build_early(stage, tables):
        program = build(stage, tables)
        log = Log.read(dataset)
        program.statistics = statistics_before(stage, log, int(log.times[-30]))
        return program

    monkeypatch.setattr(bundle, "build_program", build_early)
    with pytest.raises(ParityError, match="after all events"):
        export(wide_deep(dataset), dataset, tmp_path / "bundle")


def test_a_retrieval_bundle_takes_the_values_that_requests_give(dataset, tmp_path):
    found = export(two_tower(dataset), dataset, tmp_path / "bundle")
    user = {"user_id": 3}
    given, other, none = (
        found.program.encode_user(user, [], context)
        for context in ({"user_share": 0.9}, {"user_share": 0.1}, {"user_share": None})
    )
    assert not torch.equal(given, other)
    torch.testing.assert_close(none, found.program.encode_user(user, [], {}))


def test_statistics_of_an_item_that_is_added_begin_with_nothing_and_learn(exported, dataset):
    program = load_scripted(exported.folder / "ranking.pt")
    end = instants_end(dataset)
    names = [feature.name for feature in dataset.schema.dense()]
    at = [names.index(name) for name in ("item_stars", "item_recent", "genre_since", "user_genre")]

    def statistics(item, **fields):
        row = {"user_id": 3, "item_id": item, "timestamp": end, **fields}
        return program.features([row])[1][0, at].tolist()

    # An id that was observed but is in no catalogue is among the numbers beyond it.
    observed = next(iter(program.statistics.item_numbers.others))
    expected = statistics("nobody's", genres=["x"])
    before = statistics(observed)
    assert program.add_items([{"item_id": "new", "genres": ["x"]}, {"sku": observed}]) == 2
    assert statistics("new") == pytest.approx(expected)
    assert statistics(observed) == pytest.approx(before)
    assert expected[:2] != before[:2]
    program.observe([{"user_id": 3, "item_id": "new", "timestamp": end - 1, "label": 5}])
    learnt = statistics("new")
    stars, recent = dataset.schema["item_stars"], dataset.schema["item_recent"]
    mean = (5 + stars.strength * stars.prior) / (1 + stars.strength)
    assert learnt[0] == pytest.approx((mean - stars.mean) / stars.std, abs=1e-5)
    assert learnt[1] == pytest.approx((np.log1p(1) - recent.mean) / recent.std, abs=1e-5)
    # A millisecond ago somebody saw the genre.
    assert learnt[2] < expected[2]
    assert statistics("nobody's") == pytest.approx(statistics("another nobody's"))

"""Leakage: what is promised, what is told of the other splits, and that a leak of any kind is caught."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import recsys.data.preparing.build as build
from recsys.data.preparing.splits import SPLIT, TEST, VALIDATION
from tests.data.preparing import STARS, manifest_of, prepared

EVENTS = {
    "user_id": [1, 2, 1, 2, 1, 2, 1, 2, 1, 2],
    "item_id": [1, 1, 2, 2, 3, 3, 4, 4, 5, 5],
    "timestamp": [1, 2, 3, 4, 5, 6, 7, 7, 7, 7],
    "device": ["a", "b", "a", "a", "a", "c", "c", "a", "c", "d"],
    "wait": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 700.0, 8.0, 9.0, 10.0],
}
CONTEXT = {"device": {"kind": "id"}, "wait": {"kind": "numeric"}}
BY_TIME = {"split": "global_time", "split_boundaries": (5, 7), "context": CONTEXT}


def checks_of(station):
    return {name: check["passed"] for name, check in manifest_of(station)["leakage"].items()}


@pytest.mark.parametrize("split", ["global_time", "leave_last_out"])
def test_splits_by_time_pass_every_check(tmp_path, split):
    assert checks_of(prepared(tmp_path, EVENTS, split=split, context=CONTEXT)) == {
        "no_event_in_two_splits": True,
        "train_before_test": True,
        "histories_strictly_before": True,
        "vocabularies_from_train_alone": True,
        "statistics_from_train_alone": True,
    }


@pytest.mark.parametrize("split", ["random", "cold_item"])
def test_splits_regardless_of_time_say_what_they_leak(tmp_path, split):
    rows = {
        "user_id": [user for user in range(8) for _ in range(10)],
        "item_id": [item for _ in range(8) for item in range(10)],
        "timestamp": [100 * user + (7 * item) % 10 for user in range(8) for item in range(10)],
    }
    station = prepared(tmp_path, rows, split=split)
    found = manifest_of(station)["leakage"]["train_before_test"]
    assert found["passed"] is False
    assert "train knows the future" in found["detail"]
    assert manifest_of(station)["split"]["leaks"] is (split == "random")


def test_without_timestamps_nothing_is_claimed_of_time(tmp_path):
    rows = {"user_id": [1, 2] * 10, "item_id": list(range(20))}
    station = prepared(tmp_path, rows, split="random", columns={"timestamp": None})
    assert manifest_of(station)["leakage"]["train_before_test"] == {
        "passed": False,
        "detail": "unknown: there are no timestamps, and `random` does not look at them",
    }


def test_an_event_in_two_splits_is_caught(tmp_path, monkeypatch):
    kept = []

    def write_split(engine, rows, folder, *, split, **others):
        if split == VALIDATION:
            kept.append(rows.read_bytes())
        if split == TEST:
            rows.write_bytes(kept[0])
        original(engine, rows, folder, split=split, **others)

    original = build.write_split
    monkeypatch.setattr(build, "write_split", write_split)
    with pytest.raises(AssertionError, match="no_event_in_two_splits: 2 events"):
        prepared(tmp_path, EVENTS, **BY_TIME)


def test_training_on_the_future_is_caught(tmp_path, monkeypatch):
    def split_events(*args, **kwargs):
        events, instants = original(*args, **kwargs)
        return events.mutate(**{SPLIT: (2 - events[SPLIT]).cast("int8")}), instants

    original = build.split_events
    monkeypatch.setattr(build, "split_events", split_events)
    with pytest.raises(AssertionError, match=r"train_before_test: .* 4 of 4 train events are later"):
        prepared(tmp_path, EVENTS, **BY_TIME)


def test_a_history_with_events_of_the_same_instant_is_caught(tmp_path, monkeypatch):
    original = build.follow_users
    monkeypatch.setattr(
        build,
        "follow_users",
        lambda *args, ties_by_item, **kwargs: original(*args, ties_by_item=True, **kwargs),
    )
    # Each user has two events at 7, of which the second would see the first.
    with pytest.raises(AssertionError, match="histories_strictly_before: 2 of 10 histories"):
        prepared(tmp_path, EVENTS, **BY_TIME)


def test_a_history_that_lacks_an_event_is_caught(tmp_path, monkeypatch):
    original = build.follow_users
    monkeypatch.setattr(
        build,
        "follow_users",
        lambda *args, ties_by_item, **kwargs: original(*args, ties_by_item=False, **kwargs),
    )
    rows = {"user_id": [1] * 4, "item_id": [1, 2, 3, 4], "timestamp": [5, 5, 5, 5]}
    # By item id the test event has three before it; by instant it has none.
    with pytest.raises(AssertionError, match="histories_strictly_before: 3 of 4 histories"):
        prepared(tmp_path, rows, split="leave_last_out")


def test_a_history_that_is_cut_short_is_caught(tmp_path, monkeypatch):
    def follow_users(*args, **kwargs):
        files = original(*args, **kwargs)
        for file in files:
            rows = pq.read_table(file)
            place = rows.column_names.index("history_length")
            none = pa.array([0] * rows.num_rows, pa.int32())
            pq.write_table(rows.set_column(place, "history_length", none), file)
        return files

    original = build.follow_users
    monkeypatch.setattr(build, "follow_users", follow_users)
    # Only the first event of each of the two users has nothing before it.
    with pytest.raises(AssertionError, match="histories_strictly_before: 8 of 10 histories"):
        prepared(tmp_path, EVENTS, **BY_TIME)


def test_counts_of_other_splits_are_caught(tmp_path, monkeypatch):
    original = build.read_entities

    def read_entities(engine, events, side, **others):
        everything = events.mutate(**{SPLIT: (events[SPLIT] * 0).cast("int8")})
        return original(engine, everything, side, **others)

    monkeypatch.setattr(build, "read_entities", read_entities)
    with pytest.raises(
        AssertionError, match=r"vocabularies_from_train_alone: .* differing: .*counts of items"
    ):
        prepared(tmp_path, EVENTS, **BY_TIME)


@pytest.mark.parametrize("check", ["vocabularies", "statistics"])
def test_context_fitted_on_other_splits_is_caught(tmp_path, monkeypatch, check):
    original = build.count_values

    def count_values(engine, events, feature):
        return original(engine, events.mutate(**{SPLIT: (events[SPLIT] * 0).cast("int8")}), feature)

    monkeypatch.setattr(build, "count_values", count_values)
    feature = {"vocabularies": "device", "statistics": "wait"}[check]
    with pytest.raises(AssertionError, match=f"{check}_from_train_alone: [^;]* differing: .*'{feature}'"):
        prepared(tmp_path, EVENTS, **BY_TIME)


@st.composite
def worlds(draw):
    """Interactions with the split that each is in, by time or as drawn."""
    size = draw(st.integers(8, 40))
    numbers = st.integers(1, 8)
    rows = {
        "user_id": draw(st.lists(numbers, min_size=size, max_size=size)),
        "item_id": draw(st.lists(st.sampled_from("abcdefg"), min_size=size, max_size=size)),
        "timestamp": draw(st.lists(st.integers(0, 30), min_size=size, max_size=size)),
        "stars": draw(st.lists(st.integers(1, 5), min_size=size, max_size=size)),
        "device": draw(st.lists(st.sampled_from(["tv", "app", None]), min_size=size, max_size=size)),
        "wait": draw(st.lists(st.floats(0, 100), min_size=size, max_size=size)),
        "tags": draw(st.lists(st.sampled_from(["x|y", "y", "", "z|x"]), min_size=size, max_size=size)),
    }
    if draw(st.booleans()):
        rows["part"] = [
            "train" if at < 15 else "validation" if at < 22 else "test" for at in rows["timestamp"]
        ]
    else:
        rows["part"] = draw(
            st.lists(st.sampled_from(["train", "validation", "test"]), min_size=size, max_size=size)
        )
    rows["part"][0], rows["timestamp"][0], rows["stars"][0] = "train", 0, 5
    return rows


def train_files(station):
    """Content of every file that training reads."""
    names = ["items.parquet", "users.parquet", "schema.json", "features.yaml", "histories/train.parquet"]
    names += [
        str(p.relative_to(station))
        for folder in ("train", "vocabularies")
        for p in (station / folder).iterdir()
    ]
    return {name: (station / name).read_bytes() for name in sorted(names)}


def without(rows, part):
    kept = [index for index, value in enumerate(rows["part"]) if value != part]
    return {name: [values[index] for index in kept] for name, values in rows.items()}


ITEMS = {"item_id": list("abcz"), "price": [1.0, 2.5, None, 9.0], "genres": ["u|v", "v", "v|w", ""]}


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=worlds(), with_items=st.booleans())
def test_removing_test_rows_changes_no_train_file(tmp_path_factory, rows, with_items):
    common = {
        "split": "predefined",
        "columns": {"split": "part"},
        "label": STARS,
        "items": ITEMS if with_items else None,
        "context": {"device": {"kind": "id"}, "wait": {"kind": "numeric"}, "tags": {"kind": "multi_id"}},
        "max_rejected_share": 1.0,
    }
    # Of repeated events the first is kept, which may be a test row: leave the later ones out beforehand.
    seen = {}
    for index, key in enumerate(zip(rows["user_id"], rows["item_id"], rows["timestamp"], strict=True)):
        seen.setdefault(key, index)
    rows = {name: [values[index] for index in seen.values()] for name, values in rows.items()}
    whole = train_files(prepared(tmp_path_factory.mktemp("whole"), rows, **common))
    rest = train_files(prepared(tmp_path_factory.mktemp("rest"), without(rows, "test"), **common))
    assert rest == whole


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=worlds())
def test_removing_test_rows_changes_no_train_file_of_a_split_by_time(tmp_path_factory, rows):
    common = {"split": "global_time", "split_boundaries": (15, 22), "label": STARS, "max_rejected_share": 1.0}
    rows["part"] = ["test" if at >= 22 else "earlier" for at in rows["timestamp"]]
    whole = train_files(prepared(tmp_path_factory.mktemp("whole"), rows, **common))
    rest = train_files(prepared(tmp_path_factory.mktemp("rest"), without(rows, "test"), **common))
    assert rest == whole

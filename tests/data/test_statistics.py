"""Statistics, recomputed row by row in plain Python."""

import dataclasses
import itertools
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.data.datamodule import RecDataModule
from recsys.data.dataset import PreparedDataset
from recsys.data.options import StatisticOptions
from recsys.data.preparing.splits import SPLIT_NAMES
from tests.data.preparing import STARS, events_of, manifest_of, options_for, prepared, rows_of

DAY = 86_400
GENRES = dict(enumerate(["a|b", "b", "", "c|a|c", "b|c", None]))
AGES = {user: f"age{user % 3}" for user in range(5)}
ALL = {
    "user_count": StatisticOptions(("user_id",), "count"),
    "user_share": StatisticOptions(("user_id",), "positive_share", strength=3),
    "user_since": StatisticOptions(("user_id",), "recency"),
    "item_stars": StatisticOptions(("item_id",), "label_mean"),
    "item_bare": StatisticOptions(("item_id",), "positive_share", strength=0),
    "item_4_days": StatisticOptions(("item_id",), "count", window="4 days"),
    "item_30_hours": StatisticOptions(("item_id",), "positive_share", window="30 hours"),
    "item_last_3": StatisticOptions(("item_id",), "label_mean", window="3 events", strength=1),
    "age_share": StatisticOptions(("age",), "positive_share"),
    "device_count": StatisticOptions(("device",), "count"),
    "genre_share": StatisticOptions(("genres",), "positive_share"),
    "genre_since": StatisticOptions(("genres",), "recency", window="2 days"),
    "genre_last_2": StatisticOptions(("genres",), "positive_share", window="2 events"),
    "user_genre": StatisticOptions(("user_id", "genres"), "positive_share", strength=2),
    "device_genre": StatisticOptions(("device", "genres"), "count", window="5 days"),
    "user_item": StatisticOptions(("user_id", "item_id"), "count"),
}
FEATURES = {
    "user_features": {"age": {"kind": "id"}},
    "item_features": {"genres": {"kind": "multi_id"}},
    "context": {"device": {"kind": "id"}},
}


def events(seed, size=90):
    """Many events share an instant; item 6 and user 5 are in no side table."""
    rng = random.Random(seed)
    drawn = {}
    while len(drawn) < size:
        key = (rng.randrange(6), rng.randrange(7), 1_600_000_000 + rng.randrange(20) * (DAY // 2))
        drawn.setdefault(key, (rng.randint(1, 5), rng.choice(["tv", "pc", None])))
    rows = [(*key, *rest) for key, rest in drawn.items()]
    names = ("user_id", "item_id", "timestamp", "stars", "device")
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def world(folder, table, **changes):
    tables = {
        "users": {"user_id": list(AGES), "age": list(AGES.values())},
        "items": {"item_id": list(GENRES), "genres": list(GENRES.values())},
    }
    return prepared(folder, table, **{**tables, **FEATURES, "label": STARS, "statistics": ALL, **changes})


@dataclasses.dataclass(frozen=True)
class Event:
    split: int
    user: int
    item: int
    instant: int
    stars: float
    values: dict


def splits_of(station):
    """The split of each event."""
    return {event: number for number, name in enumerate(SPLIT_NAMES) for event in events_of(station, name)}


def recomputed(table, splits):
    """Value of every statistic for every event, by (user, item, microseconds)."""
    known = {
        (u, i, t * 1_000_000): (stars, device) for u, i, t, stars, device in zip(*table.values(), strict=True)
    }
    genres = {item: set((text or "").split("|")) - {""} for item, text in GENRES.items()}
    trained = [(key, known[key]) for key, split in splits.items() if split == 0]
    # A value that train does not hold is unknown, and no key.
    seen_genres = set().union(*(genres.get(item, set()) for (_, item, _), _ in trained))
    seen_ages = {AGES.get(user) for (user, _, _), _ in trained}
    seen_devices = {device for _, (_, device) in trained}
    found = []
    for (user, item, instant), (stars, device) in known.items():
        values = {
            "user_id": {user},
            "item_id": {item},
            "age": {AGES.get(user)} & seen_ages - {None},
            "device": {device} & seen_devices - {None},
            "genres": genres.get(item, set()) & seen_genres,
        }
        found.append(Event(splits[user, item, instant], user, item, instant, stars, values))
    found.sort(key=lambda e: (e.instant, e.user, e.item))
    train = [event for event in found if event.split == 0]
    priors = {
        "positive_share": sum(e.stars >= 4 for e in train) / len(train),
        "label_mean": sum(e.stars for e in train) / len(train),
    }
    return {
        (event.user, event.item, event.instant): {
            name: one(statistic, event, found, priors) for name, statistic in ALL.items()
        }
        for event in found
    }


def one(statistic, event, in_order, priors):
    counts, sums, last = [], [], None
    for key in itertools.product(*(event.values[of] for of in statistic.of)):
        before = [
            e
            for e in in_order
            if e.split <= event.split
            and e.instant < event.instant
            and all(value in e.values[of] for of, value in zip(statistic.of, key, strict=True))
        ]
        if statistic.window.endswith(("days", "hours")):
            number, unit = statistic.window.split()
            oldest = event.instant - int(number) * (DAY if unit == "days" else DAY // 24) * 1_000_000
            before = [e for e in before if e.instant >= oldest]
        elif statistic.window.endswith("events"):
            before = before[-int(statistic.window.split()[0]) :]
        counts.append(len(before))
        is_share = statistic.measure == "positive_share"
        sums.append(sum((e.stars >= 4) if is_share else e.stars for e in before))
        last = max([e.instant for e in before] + ([] if last is None else [last]), default=None)
    count = sum(counts) / len(counts) if counts else 0
    total = sum(sums) / len(sums) if sums else 0
    if statistic.measure == "count":
        return count
    if statistic.measure == "recency":
        return None if last is None else (event.instant - last) / 1e6
    prior, strength = priors[statistic.measure], statistic.strength
    return (total + strength * prior) / (count + strength) if count + strength else prior


@pytest.mark.parametrize(
    "split",
    [
        "global_time",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("leave_last_out", "random", "cold_user")),
    ],
)
def test_every_value_is_what_plain_python_counts(tmp_path, split):
    table = events(seed=3)
    station = world(tmp_path, table, split=split, split_fractions=(0.5, 0.25, 0.25))
    expected = recomputed(table, splits_of(station))
    num_rows = 0
    for name in ("validation", "test"):
        for row in rows_of(station, name):
            values = expected[row["user_id"], row["item_id"], row["timestamp"]]
            found = {of: row[f"raw.{of}"] for of in ALL}
            assert [of for of in ALL if (found[of] is None) != (values[of] is None)] == []
            there = {of: value for of, value in values.items() if value is not None}
            assert {of: found[of] for of in there} == pytest.approx(there, rel=1e-12)
            num_rows += 1
    assert num_rows > 10


def test_train_rows_hold_the_same_standardised(tmp_path):
    table = events(seed=4)
    station = world(tmp_path, table, split="random")
    expected = recomputed(table, splits_of(station))
    dataset = PreparedDataset.open(station)
    rows = rows_of(station, "train")
    for name in ("user_share", "user_genre", "item_bare"):
        of_train = [expected[event][name] for event in events_of(station, "train")]
        mean = sum(of_train) / len(of_train)
        deviation = (sum((value - mean) ** 2 for value in of_train) / len(of_train)) ** 0.5
        assert dataset.schema[name].mean == pytest.approx(mean, rel=1e-6)
        scaled = [(value - mean) / deviation for value in of_train]
        assert [row[name] for row in rows] == pytest.approx(scaled, abs=1e-5)


def test_events_of_one_instant_do_not_see_each_other(tmp_path):
    table = {
        "user_id": [1, 1, 1, 1, 2],
        "item_id": [1, 2, 3, 4, 1],
        "timestamp": [100, 200, 200, 300, 400],
        "stars": [5, 5, 1, 5, 5],
    }
    changes = {"split_boundaries": (150, 150), "split": "global_time", "label": STARS}
    chosen = {name: ALL[name] for name in ("user_count", "user_since")}
    station = prepared(tmp_path, table, statistics=chosen, **changes)
    rows = rows_of(station, "test")
    assert [row["raw.user_count"] for row in rows] == [1, 1, 3, 0]
    assert [row["raw.user_since"] for row in rows] == [100, 100, 100, None]


def test_row_order_stands_in_for_time(tmp_path):
    table = {
        "user_id": [1, 2, 1, 1],
        "item_id": [7, 7, 7, 8],
        "stars": [5, 1, 4, 2],
        "part": ["train"] * 3 + ["test"],
    }
    statistics = {"share": StatisticOptions(("user_id",), "positive_share", strength=1)}
    columns = {"timestamp": None, "split": "part"}
    station = prepared(
        tmp_path, table, columns=columns, split="predefined", label=STARS, statistics=statistics
    )
    # Two positives of two before it, and one at the mean of train, 2 of 3.
    assert [row["raw.share"] for row in rows_of(station, "test")] == [pytest.approx((2 + 2 / 3) / 3)]


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6), cut=st.integers(3, 17), split=st.sampled_from(["global_time", "predefined"])
)
def test_what_comes_later_changes_nothing_earlier(tmp_path_factory, seed, cut, split):
    rng = random.Random(seed)
    table = events(seed)
    chosen = {name: ALL[name] for name in ("user_share", "item_last_3", "genre_since", "user_genre")}
    cut_at = 1_600_000_000 + cut * (DAY // 2)
    rows = list(zip(*table.values(), strict=True))
    # What is in train must stay as it is: the mean of train is known to all its rows.
    changed = [
        row if row[2] < cut_at else (rng.randrange(6), rng.randrange(7), row[2], rng.randint(1, 5), row[4])
        for row in rows
        if row[2] < cut_at or rng.random() < 0.7
    ]
    changed = list({row[:3]: row for row in changed}.values())
    found = []
    for version in (rows, changed):
        folder = tmp_path_factory.mktemp("world")
        columns = dict(zip(table, map(list, zip(*version, strict=True)), strict=True))
        names = ["train" if row[2] < 1_600_000_000 + DAY else "test" for row in version]
        changes = (
            {"split_boundaries": (1_600_000_000 + DAY,) * 2}
            if split == "global_time"
            else {"columns": {"split": "part"}}
        )
        table_of = {**columns, "part": names} if split == "predefined" else columns
        station = world(folder, table_of, split=split, statistics=chosen, **changes)
        found.append(
            {
                (row["user_id"], row["item_id"], row["timestamp"]): [row[f"raw.{name}"] for name in chosen]
                for row in rows_of(station, "test")
                if row["timestamp"] < cut_at * 1_000_000
            }
        )
    assert found[0] == found[1]


def test_a_dataset_that_extends_another_keeps_scale_buckets_and_prior(tmp_path):
    table = events(seed=5)
    chosen = {
        **ALL,
        "bucketed": StatisticOptions(("item_id",), "count", transform="bucketise", num_buckets=3),
    }
    first = world(tmp_path / "a", table, statistics=chosen, split_fractions=(0.4, 0.3, 0.3))
    second = world(
        tmp_path / "b", table, statistics=chosen, split_fractions=(0.8, 0.1, 0.1), extends=str(first)
    )
    before, after = (PreparedDataset.open(station).schema for station in (first, second))
    for name in chosen:
        assert before[name] == after[name]
    anew = PreparedDataset.open(world(tmp_path / "c", table, statistics=chosen)).schema
    assert anew["user_share"].prior != before["user_share"].prior


def test_batches_hold_pairs_between_context_and_item_and_queries_do_not(tmp_path):
    chosen = {
        "user_share": ALL["user_share"],
        "item_stars": ALL["item_stars"],
        "bucketed": StatisticOptions(("item_id",), "count", transform="bucketise", num_buckets=3),
    }
    station = world(
        tmp_path,
        events(seed=6),
        statistics=chosen,
        item_features={"genres": {"kind": "multi_id"}, "price": {"kind": "numeric"}},
        items={"item_id": [0, 1], "genres": ["a", "b"], "price": [1.0, 2.0]},
        split="random",
    )
    dataset = PreparedDataset.open(station)
    assert [f.name for f in dataset.schema.dense()] == ["user_share", "item_stars", "price"]
    assert dataset.schema["bucketed"].role == "pair"
    found, collator = dataset.events("test"), dataset.collator(0)
    rows, queries = collator.rows(found, None), collator.queries(found, None)
    names = ["user_id", "age", "history", "device", "bucketed", "item_id", "genres"]
    assert list(rows.ids.keys()) == names
    assert list(queries.ids.keys()) == names[:4]
    on_disk = rows_of(station, "test")
    assert rows.ids["bucketed"].values().tolist() == [row["bucketed"] for row in on_disk]
    assert rows.dense[:, :2].tolist() == [
        pytest.approx([row["user_share"], row["item_stars"]]) for row in on_disk
    ]
    assert rows.dense[:, 2].tolist() == dataset.items.dense[found.item_rows, 0].tolist()
    assert queries.dense.tolist() == [[pytest.approx(row["user_share"])] for row in on_disk]


def test_items_drawn_as_negatives_cannot_have_statistics(tmp_path):
    table = {"user_id": [1, 1, 2, 2, 3], "item_id": [1, 2, 1, 3, 2], "timestamp": [100, 200, 300, 400, 500]}
    for name, of in (("popular", ("item_id",)), ("active", ("user_id",))):
        options = options_for(tmp_path / name, table, statistics={name: StatisticOptions(of, "count")})
        module = RecDataModule(options, task="ranking")
        if name == "active":
            assert len(next(iter(module.train_dataloader()))) > 0
            continue
        with pytest.raises(
            ValueError,
            match=r"`data.statistics.popular` is of the item.*drawn.*`data.negatives_per_positive=0`",
        ):
            module.train_dataloader()


def test_all_mistakes_that_columns_tell_are_reported_together(tmp_path):
    statistics = {
        "share": StatisticOptions(("user_id",), "positive_share"),
        "recent": StatisticOptions(("item_id",), "count", window="30 days"),
        "since": StatisticOptions(("item_id",), "recency"),
        "item_id": StatisticOptions(("item_id",), "count"),
    }
    options = options_for(
        tmp_path,
        {"user_id": [1], "item_id": [2]},
        columns={"timestamp": None},
        split="random",
        statistics=statistics,
    )
    from recsys.data.prepare import prepare

    with pytest.raises(ValueError, match="needs labels") as refused:
        prepare(options)
    for text in (
        r"`data.statistics.share`: `measure: positive_share` needs labels, but `data.label.column` is null",
        r"`data.statistics.recent`: `window: 30 days` needs timestamps",
        r"`data.statistics.since`: `measure: recency` needs timestamps",
        r"`data.statistics.item_id`: the name `item_id` is taken",
    ):
        assert text in str(refused.value)


def test_keys_that_cannot_tell_events_apart_are_named_with_those_that_can(tmp_path):
    statistics = {
        "a": StatisticOptions(("genre",), "count"),
        "b": StatisticOptions(("history",), "count"),
        "device": StatisticOptions(("user_id",), "count"),
    }
    with pytest.raises(ValueError, match="genre") as refused:
        world(tmp_path, events(seed=1), statistics=statistics)
    assert "`data.statistics.a.of`: there is no feature `genre`; did you mean `genres`?" in str(refused.value)
    assert "`data.statistics.b.of`: `history` is of the kind sequence; expected id or" in str(refused.value)
    assert "`data.statistics.device`: another feature or column has this name" in str(refused.value)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"of": ()}, "`of` must name one feature or two, got \\[\\]"),
        ({"of": ("user_id", "user_id")}, "`of` must name one feature or two"),
        (
            {"window": "30 weeks"},
            "`window` must be `all` or the latest days, hours or events.*got `30 weeks`",
        ),
        ({"window": "0 days"}, "got `0 days`"),
        ({"strength": -1.0}, "`strength` must be a number of events, at least 0, got -1.0"),
    ],
)
def test_impossible_settings_are_refused(settings_, message):
    with pytest.raises(ValueError, match=message):
        StatisticOptions(**{"of": ("user_id",), "measure": "count", **settings_})


def test_the_leak_check_looks_at_statistics_too(tmp_path):
    station = world(tmp_path, events(seed=7))
    check = manifest_of(station)["leakage"]["statistics_strictly_before"]
    assert check["passed"]
    schema = json.loads((station / "schema.json").read_text())["features"]
    assert f"of {sum(f['kind'] == 'statistic' for f in schema)} statistics" in check["detail"]

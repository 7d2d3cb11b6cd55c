"""Requests to an opened bundle: checked and bounded before the file sees them, safe among threads."""

import datetime
import decimal
import enum
import math
import random
import sys
import threading
import time
import uuid

import numpy as np
import pandas as pd
import pytest
import torch

from recsys.serving.bundle import Bundle
from recsys.serving.values import RequestError
from tests.exporting.conftest import export_both, stage, two_tower
from tests.exporting.test_statistics import wide_deep, world

END = 1_603_240_000_000  # beyond the data, in its milliseconds


class Plan(str, enum.Enum):  # noqa: UP042 (the str of a StrEnum is no name)
    A = "a"


class Answer(enum.IntEnum):
    THREE = 3


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("observing")
    dataset = world(folder)
    stages = stage(two_tower(dataset), dataset), stage(wide_deep(dataset), dataset)
    return export_both(*stages, folder / "bundle", num_candidates=8)


@pytest.fixture(scope="module")
def served(exported):
    """A bundle that no test changes."""
    return Bundle.open(exported.folder)


@pytest.fixture
def bundle(exported):
    return Bundle.open(exported.folder)


def an_event(**fields):
    return {"user_id": 3, "item_id": "s4", "timestamp": END, "label": 5, **fields}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"user": None}, r"`user` must be a record of fields by name; got None"),
        (
            {"user": {"plan": ["a"]}},
            r"`user.plan` must be one value: text, a number, .*; got \['a'\] \(list\)",
        ),
        ({"user": {"user_id": {"a": 1}}}, r"`user.user_id` must be one value"),
        ({"user": {"user_id": "\ud800"}}, r"`user.user_id` must be text that UTF-8 can write"),
        ({"user": {"plan": "x" * 2_001}}, r"`user.plan` must be text of at most 2000 characters"),
        ({"user": {3: 4}}, r"`user` has the field 3, which no feature reads; it may have: .*`user_id`"),
        ({"user": dict.fromkeys(map(str, range(1001)))}, r"`user` must hold at most 1000 fields, got 1001"),
        ({"history": "abc"}, r"`history` must be a list; got 'abc' \(str\)"),
        ({"history": {"s1": 1}}, r"`history` must be a list"),
        ({"history": [["s1"]]}, r"`history\[0\]` must be one value"),
        ({"history": ["s1"] * 10_001}, r"`history` must hold at most 10000 values, got 10001"),
        ({"exclude": "s1"}, r"`exclude` must be a list"),
        ({"k": "10"}, r"`k` must be a whole number from 1 to 10000; got '10' \(str\)"),
        ({"k": True}, r"`k` must be a whole number"),
        ({"k": 0}, r"`k` must be a whole number"),
        ({"k": 10**30}, r"`k` must be a whole number"),
        ({"context": "now"}, r"`context` must be a record"),
        (
            {"context": {"timestamp": "yesterday"}},
            r"`context.timestamp` must be an instant: .*; got 'yesterday'",
        ),
        ({"context": {"timestamp": "2026-02-30"}}, r"`context.timestamp` must be an instant"),
        ({"context": {"timestamp": True}}, r"`context.timestamp` must be an instant"),
        ({"where": {"genres": "Drama"}}, r"`where.genres` must be a list; got 'Drama'"),
        ({"where": ["genres"]}, r"`where` must be lists of values by attribute"),
        ({"where": {"genres": ["x"] * 10_001}}, r"`where.genres` must hold at most 10000 values"),
        ({"where": {"size": ["x"]}}, r"`where` must name attributes of the items: `genres`; got `size`"),
        ({"num_candidates": 1.5}, r"`num_candidates` must be a whole number from 1 to 10000"),
        ({"diversity": "much"}, r"`diversity` must be a number from 0 to 1; got 'much'"),
        ({"diversity": math.nan}, r"`diversity` must be a number from 0 to 1"),
        ({"k": 5000, "num_candidates": 5000, "diversity": 0.5}, r"`diversity` must be 0 where .* 25000000"),
        ({"history": ["s1"], "history_liked": ["yes"]}, r"`history_liked` must be a list of truth values"),
        (
            {"history": ["s1"], "history_times": []},
            r"`history_times` must hold a value for each of the 1 items",
        ),
        ({"similar_to": "nobody"}, r"`similar_to` must be an item of the catalogue; got 'nobody'"),
    ],
)
def test_what_is_not_what_it_must_be_is_refused_by_name(served, request_, message):
    arguments = {"user": {"user_id": 3}, "history": [], "k": 5, **request_}
    with pytest.raises(RequestError, match=message) as refused:
        served.recommend(**arguments)
    assert refused.value.field.split(".")[0].split("[")[0] in request_


def test_a_field_of_a_batch_is_named_with_its_place(served):
    with pytest.raises(RequestError, match=r"`users\[1\].plan` must be one value") as refused:
        served.recommend_batch([{}, {"plan": [1]}], [[], []], 3)
    assert refused.value.field == "users[1].plan"
    with pytest.raises(RequestError, match=r"`histories` must hold one for each of the 2 users, got 1"):
        served.recommend_batch([{}, {}], [[]], 3)
    with pytest.raises(RequestError, match=r"`rows\[1\].history` must be a list; got 's1'"):
        served.predict([{}, {"history": "s1"}])


def test_a_number_that_is_text_is_refused_unless_it_is_digits(served):
    row = {"user_id": 3, "item_id": "s1", "user_share": "0.5"}
    assert served.predict([row]) == served.predict([{**row, "user_share": 0.5}])
    with pytest.raises(RequestError, match=r"`rows\[0\].user_share` must be a number, .* got 'old' \(str\)"):
        served.predict([{**row, "user_share": "old"}])


@pytest.mark.parametrize(
    "number",
    [20_240_531, "20240531", 1_600_000_000, 1_600_000_000_000_000, 45_314.86, 0, -1, 10**30, math.inf],
)
def test_numbers_that_are_instants_in_another_unit_are_refused(served, number):
    """The data counts milliseconds from 2020 on; as such they would be of 1970, or of the year 52670."""
    row = {"user_id": 3, "item_id": "s1"}
    with pytest.raises(RequestError, match=r"`rows\[0\].timestamp` must be an instant in the unit of"):
        served.predict([{**row, "timestamp": number}])
    assert served.predict([{**row, "timestamp": END}]) == served.predict([{**row, "timestamp": str(END)}])


@pytest.mark.parametrize("text", ["€0.50", "0,5", "50 %", "$ 0.5"])
def test_money_and_shares_are_read_as_in_tables(served, text):
    row = {"user_id": 3, "item_id": "s1"}
    assert served.predict([{**row, "user_share": text}]) == served.predict([{**row, "user_share": 0.5}])
    # One thousand and something, or one and something.
    with pytest.raises(RequestError, match=r"`rows\[0\].user_share` must be a number, .* got '\$1,234'"):
        served.predict([{**row, "user_share": "$1,234"}])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"user_id": np.int64(3)}, {"user_id": 3}),
        ({"user_id": np.float32(3)}, {"user_id": 3}),
        ({"user_id": "003"}, {"user_id": 3}),
        ({"user_id": np.str_("3"), "plan": np.str_("a")}, {"user_id": 3, "plan": "a"}),
        ({"user_id": decimal.Decimal(3)}, {"user_id": 3}),
        ({"user_id": Answer.THREE, "plan": Plan.A}, {"user_id": 3, "plan": "a"}),
        ({"user_id": 3, "plan": pd.NA}, {"user_id": 3, "plan": None}),
        ({"user_id": 3, "plan": "n/a"}, {"user_id": 3, "plan": None}),
        ({"user_id": 10**30}, {"user_id": -1}),
        ({"user_id": -(10**30)}, {"user_id": None}),
        ({"user_id": 10**10_000}, {"user_id": None}),
        ({"user_id": 3, "surname": [{}, object()]}, {"user_id": 3}),
        ({"user_id": 3, "plan": uuid.UUID(int=7)}, {"user_id": 3, "plan": str(uuid.UUID(int=7))}),
    ],
)
def test_values_that_mean_the_same_are_answered_alike(served, given, meant):
    assert served.recommend(given, [], 9) == served.program.recommend(meant, [], 9)


def test_lists_of_any_make_are_answered_alike(served):
    user = {"user_id": 3}
    expected = served.program.recommend(user, ["s1", "s2"], 9, exclude=["s3"])
    for make in (list, tuple, np.array):
        assert served.recommend(user, make(["s1", "s2"]), 9, exclude=make(["s3"])) == expected
    assert served.recommend(user, None, 9) == served.program.recommend(user, [], 9)
    instant = datetime.datetime(2020, 9, 20, 12, 30, tzinfo=datetime.UTC)
    row = {"user_id": 3, "item_id": "s1"}
    stamps = [instant, np.datetime64("2020-09-20T12:30"), instant.isoformat(), instant.timestamp() * 1000]
    stamps += ["20200920T123000", "2020-09-20 14:30:00,0 +0200", "2020-09-20t10:00\u221202:30"]
    answers = [served.predict([{**row, "timestamp": stamp}]).item() for stamp in stamps]
    assert len(set(answers)) == 1
    assert served.predict([{**row, "user_share": "\u22120.5"}]) == served.predict(
        [{**row, "user_share": -0.5}]
    )
    # The file itself takes no list of mixed types, no empty one and no truth value among others.
    genres = ([], [None], ["x", 1, 2.5, True, None], [True], (), np.array(["x"]))
    assert served.predict([{"item_id": "new", "genres": these} for these in genres]).isfinite().all()


@pytest.mark.parametrize("digits", [10_000, 1_000_000])
def test_an_id_of_very_many_digits_takes_milliseconds(served, digits):
    for program in (served, served.program):
        for user_id in ("9" * digits, "0" * digits, "x" * digits):
            seconds = []
            for _ in range(4):  # a file compiles in its first two answers
                started = time.thread_time()
                answer = program.recommend({"user_id": user_id}, [user_id], 5)
                seconds.append(time.thread_time() - started)
            assert min(seconds) < 0.05
            assert answer[0] == served.recommend({"user_id": "unknown"}, ["unknown"], 5)[0]


def test_a_field_that_no_feature_reads_is_said_once_and_refused_where_strict(served, exported, caplog):
    caplog.clear()
    for _ in range(2):
        served.recommend({"userid": 196}, [], 3)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["no feature reads the field 'userid' of `user`; it is ignored"]
    assert served.unread_fields({"userid": 1, "user_id": 2}, {"page": 3}) == ["userid", "page"]
    with pytest.raises(RequestError, match="`user` has the field 'userid', which no feature reads"):
        served.recommend({"userid": 196}, [], 3, strict=True)
    strict = Bundle.open(exported.folder, strict=True)
    with pytest.raises(RequestError, match=r"`rows\[0\]` has the field 'userid'"):
        strict.predict([{"userid": 196}])
    assert strict.recommend({"userid": 196}, [], 3, strict=False)


_SCALARS = (
    *(None, True, False, 0, 1, -7, 2**63, -(2**80), 10**30, 0.5, 1e308, math.nan, -math.inf, "", " ", "a"),
    *("s3", "10", "\ud800", "\x00", "é", "x" * 500, b"bytes", np.int8(3), np.float64(0.5), np.bool_(True)),
    *(np.str_("a"), decimal.Decimal("1.5"), datetime.date(2020, 1, 1), object(), 3j, {1}, range(3)),
)
_FIELDS = (
    "user_id",
    "uid",
    "plan",
    "timestamp",
    "ts",
    "device",
    "genres",
    "user_share",
    "typo",
    "history",
    7,
)


def _anything(rng, depth=2):
    choice = rng.random()
    if depth and choice < 0.15:
        return [_anything(rng, depth - 1) for _ in range(rng.randrange(4))]
    if depth and choice < 0.25:
        return {rng.choice(_FIELDS): _anything(rng, depth - 1) for _ in range(rng.randrange(4))}
    return rng.choice(_SCALARS)


def test_thousands_of_requests_of_wrong_types_are_answered_or_refused_by_name(served):
    rng = random.Random(4)
    good = {"user": {"user_id": 3}, "history": ["s1"], "k": 5}
    answered = refused = 0
    for _ in range(4_000):
        method, arguments = rng.choice([("recommend", dict(good)), ("predict", {"rows": [{}]})])
        if method == "predict":
            arguments["rows"] = (
                [_anything(rng, 3) for _ in range(2)] if rng.random() < 0.5 else _anything(rng)
            )
        for name in rng.sample(["user", "history", "k", "context", "exclude", "where", "diversity"], 2):
            if method == "recommend" and rng.random() < 0.7:
                fields = {rng.choice(_FIELDS): _anything(rng, 1) for _ in range(3)}
                arguments[name] = fields if name in ("user", "context") else _anything(rng)
        try:
            answer = getattr(served, method)(**arguments)
        except RequestError as error:
            refused += bool(error.field)
        else:
            answered += 1
            numbers = torch.as_tensor(answer if method == "predict" else answer[1])
            assert numbers.isfinite().all()
    assert answered + refused == 4_000
    assert min(answered, refused) > 300


def test_no_request_takes_longer_than_its_size_allows(served):
    rng = random.Random(5)
    ids = [f"s{n}" for n in range(40)]
    texts = ["9" * 2_000, "word " * 400, "é" * 1_999]
    for n in range(120):
        size = rng.choice([1, 10, 100, 1000, 9999])
        arguments = {
            "user": {"user_id": rng.choice([3, *texts])},
            "history": [],
            "k": rng.choice([1, 10, 9999]),
        }
        elements = size
        part = n % 6
        if part == 0:
            arguments["history"] = rng.choices([*ids, 7, None, 1.5, True], k=size)
        elif part == 1:
            arguments["exclude"] = rng.choices([*ids, "9" * 90], k=size)
        elif part == 2:
            arguments["where"] = {"genres": [f"g{at}" for at in range(size)]}
        elif part == 3:
            arguments["user"] = {"plan": rng.choice(texts), "device": rng.choice(texts)}
        else:
            arguments = {
                "rows": [{"user_id": at, "genres": [1, "x", *texts[:1]]} for at in range(min(size, 500))]
            }
            elements = 4 * len(arguments["rows"])
        method = served.predict if "rows" in arguments else served.recommend
        seconds = []
        for _ in range(3):  # another process may have the core
            started = time.thread_time()
            method(**arguments)
            seconds.append(time.thread_time() - started)
        assert min(seconds) < 0.05 + 1e-5 * elements, (part, size)


def test_events_of_the_far_future_are_refused_and_not_counted(bundle):
    row = {"user_id": 5, "item_id": "s4", "timestamp": END + 1000}
    before = bundle.predict([row])
    bundle.clock = lambda: END / 1000
    for instant in ("2100-01-01", END + 86_402_000, np.int64(4_102_444_800_000)):
        with pytest.raises(RequestError, match=r"`timestamp` of row 1 must lie at most 86400 seconds ahead"):
            bundle.observe([an_event(), an_event(timestamp=instant)])
    assert torch.equal(bundle.predict([row]), before)
    bundle.observe([an_event(), an_event(timestamp=END + 86_399_000)])
    assert not torch.equal(bundle.predict([{**row, "timestamp": END + 10**8}]), before)


def test_an_event_that_cannot_be_read_leaves_no_trace(bundle):
    known = dict(bundle.program.ranking.statistics.item_numbers.others)
    for event, message in (
        (an_event(label="good"), r"`rows\[1\].label` must be a number"),
        (an_event(timestamp=None), r"`timestamp` of row 1: an event that is observed needs one"),
        (an_event(user_id=None), r"`user_id` of row 1: an event that is observed needs one"),
    ):
        with pytest.raises(RequestError, match=message):
            bundle.observe([an_event(item_id="fresh"), event])
    assert dict(bundle.program.ranking.statistics.item_numbers.others) == known


def test_readers_observers_and_adders_at_once_get_answers_as_alone(exported, bundle):
    """Without the lock this ends the process, or lists go out of range."""
    bundle.clock = lambda: END / 1000
    rows = [{"user_id": 3, "item_id": f"s{n}", "timestamp": END - 10**9} for n in range(20)]
    alone = Bundle.open(exported.folder).predict(rows)
    until = time.monotonic() + 60
    failures, counts = [], dict.fromkeys(("read", "listed", "observed", "added"), 0)

    def repeat(name, action):
        # Three seconds on a machine with nothing else to do.
        while time.monotonic() < until and not failures and min(counts.values()) < 40:
            try:
                action(counts[name])
            except Exception as error:
                failures.append((name, error))
            counts[name] += 1

    def read(_):
        assert torch.equal(bundle.predict(rows), alone)

    def list_(_):
        answer = bundle.recommend({"user_id": 4}, ["s1"], 9, where={"genres": ["x", "y", "z"]})
        assert len(answer[0]) == 9 == len(set(answer[0]))

    def observe(number):
        name = threading.get_ident()
        bundle.observe([an_event(user_id=number % 50, item_id=f"unheard {name} {number}")])

    def add(number):
        bundle.add_items([{"sku": f"new {number}", "genres": ["x"]}])
        bundle.set_available([f"new {number}"], number % 2 == 0)

    actions = [("read", read)] * 2 + [("listed", list_)] * 2 + [("observed", observe)] * 3 + [("added", add)]
    threads = [threading.Thread(target=repeat, args=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert min(counts.values()) >= 10


def test_items_near_an_item_are_those_of_the_highest_cosine(served):
    first = served.retrieval
    ids, cosines = served.similar("s4", 5)
    vectors = torch.nn.functional.normalize(first.candidates, dim=1)
    row = int(first.known.rows_of_items(["s4"])[0])
    expected = sorted((float(vectors[row] @ vectors[at]), at) for at in range(1, len(vectors)) if at != row)
    best = [at for _, at in expected[::-1][:5]]
    assert ids == first.item_ids.ids_of(torch.tensor(best))
    assert cosines == pytest.approx([cosine for cosine, _ in expected[::-1][:5]], abs=1e-6)
    assert served.similar("s4", 4, exclude=ids[:1])[0] == ids[1:]
    assert len(served.similar("s4", 10_000)[0]) == len(vectors) - 2
    only = served.similar("s4", 10_000, where={"genres": ["x"]})[0]
    assert set(only) == {item for item in served.similar("s4", 10_000)[0] if item in only}
    with pytest.raises(RequestError, match="`item_id` must be an item of the catalogue; got 'nobody'"):
        served.similar("nobody", 3)


def test_a_new_item_is_near_at_once(bundle):
    bundle.similar("s4", 3)
    bundle.add_items([{"sku": "new", "genres": ["x"]}])
    assert "new" in bundle.similar("s4", 10_000)[0]


def test_a_list_for_the_page_of_an_item_holds_items_near_to_it(served, monkeypatch):
    monkeypatch.setattr(sys.modules["recsys.serving.candidates"], "_NEAREST", 6)
    near = set(served.similar("s4", 6)[0])
    answer = served.recommend({"user_id": 3}, [], 6, similar_to="s4")
    assert set(answer[0]) == near
    assert answer[1] == sorted(answer[1], reverse=True)
    # What was seen takes no place among the nearest.
    seen = answer[0][:2]
    again = served.recommend({"user_id": 3}, seen, 6, similar_to="s4")[0]
    assert len(again) == 6
    assert not set(again) & set(seen)


def test_places_of_a_page_show_no_item_twice(served):
    places = {
        "for you": {"k": 6},
        "more like it": {"k": 6, "similar_to": "s4"},
        "x": {"k": 3, "where": {"genres": ["x"]}},
    }
    lists = served.recommend_places({"user_id": 3}, ["s1"], places, exclude=["s2"])
    assert list(lists) == list(places)
    assert lists["for you"] == served.recommend({"user_id": 3}, ["s1"], 6, exclude=["s2"])
    shown = [item_id for answer in lists.values() for item_id in answer[0]]
    assert len(shown) == len(set(shown)) >= 12
    assert not {"s1", "s2"} & set(shown)


def test_given_items_are_ranked_by_probability(served):
    ids = ["s1", "s2", "nobody", "s4"]
    ranked, probabilities = served.rank({"user_id": 3, "plan": "a"}, ids, ["s7"], {"timestamp": END})
    rows = [{"user_id": 3, "plan": "a", "item_id": i, "history": ["s7"], "timestamp": END} for i in ranked]
    assert sorted(ranked) == sorted(ids)
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities == pytest.approx(served.predict(rows).tolist(), abs=1e-6)

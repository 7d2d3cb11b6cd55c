import itertools
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.serving.learning import ItemState, LinearHead, Positions, Taste
from recsys.serving.records import Forget, hash_of
from recsys.serving.rules import HOUR, Rules
from recsys.serving.state import ShownList, UserState, apply, counted_at, liked, touched
from recsys.serving.working import (
    HEAD,
    POSITIONS,
    Working,
    item_key,
    list_key,
    session_key,
    taste_key,
    user_key,
)
from tests.serving.events import NOW, did, shown


class Memory:
    """State in a dictionary."""

    def __init__(self):
        self.values, self.position = {}, 0

    def get(self, keys):
        return [self.values.get(key) for key in keys]

    def put(self, key, value, *, expires=None):
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value

    def apply(self, records, rules=None):
        for record in records:
            self.position += 1
            working = Working(self, touched([record]))
            apply(working, record, position=self.position, rules=rules or Rules())
            working.finish()
        return self

    def read(self, key, kind):
        return None if key not in self.values else msgspec.msgpack.decode(self.values[key], type=kind)

    def history(self, user="u"):
        return [(e.item_id, e.kind, e.inferred) for e in self.read(user_key(user), UserState).events]

    def item(self, item_id):
        return self.read(item_key(item_id), ItemState)


def test_an_event_joins_the_history_by_its_own_time():
    state = Memory().apply([did("click", "b", at=20), did("like", "a", at=10), did("skip", "c", at=30)])
    assert state.history() == [("a", "like", False), ("b", "click", False), ("c", "skip", False)]


def test_a_repeated_event_changes_nothing():
    once = Memory().apply([shown("r", ["a"]), did("click", "a", "r")])
    twice = Memory().apply([shown("r", ["a"]), did("click", "a", "r"), did("click", "a", "r")])
    assert once.values == twice.values
    assert counted_at(Working(twice), did("click", "a", "r").event_id) == 2


def test_numbers_and_their_text_are_the_same_id():
    state = Memory().apply([shown("r", [7], user=5), did("click", "7", "r", user="5")])
    assert state.item(7) == state.item("7")
    assert state.item(7).reward == 1
    assert state.history(5) == state.history("5") == [("7", "click", False)]


def test_the_history_is_bounded_by_time_not_by_arrival():
    events = [did("click", f"i{n}", at=n) for n in range(6)]
    for order in (events, events[::-1]):
        assert [item for item, *_ in Memory().apply(order, Rules(max_history=3)).history()] == [
            "i3", "i4", "i5",
        ]  # fmt: skip


def test_skips_do_not_crowd_likes_out_of_the_history():
    likes = [did("click", f"liked {n}", at=n) for n in range(3)]
    skips = [did("skip", f"skipped {n}", at=10 + n) for n in range(9)]
    for order in ([*likes, *skips], [*skips, *likes]):
        history = Memory().apply(order, Rules(max_history=3)).history()
        assert [item for item, kind, _ in history if kind == "click"] == ["liked 0", "liked 1", "liked 2"]
        assert [item for item, kind, _ in history if kind == "skip"] == [
            "skipped 6", "skipped 7", "skipped 8",
        ]  # fmt: skip


@given(st.permutations([(n, f"i{n % 7}") for n in range(12)]))
def test_what_was_liked_before_the_history_is_remembered_in_whatever_order_it_arrives(order):
    events = [did("click", item, at=n, event_id=str(n)) for n, item in order]
    state = Memory().apply(events, Rules(max_history=3, max_seen=4))
    assert [item for item, *_ in state.history()] == ["i2", "i3", "i4"]
    # i0 and i1 were liked twice, and the later time counts.
    seen = state.read(user_key("u"), UserState).seen
    assert list(seen) == ["i5", "i6", "i0", "i1"]


def test_what_is_above_a_click_was_passed_over():
    state = Memory().apply([shown("r", ["a", "b", "c", "d"]), did("click", "c", "r", at=5)])
    assert state.history() == [("a", "skip", True), ("b", "skip", True), ("c", "click", False)]


def test_what_is_clicked_later_was_not_passed_over():
    state = Memory().apply(
        [shown("r", ["a", "b"]), did("click", "b", "r", at=5), did("click", "a", "r", at=6)]
    )
    assert state.history() == [("b", "click", False), ("a", "click", False)]


def test_the_best_of_the_events_of_an_item_counts_once():
    rules = Rules(weights={"click": 0.25, "like": 0.75})
    state = Memory().apply(
        [
            shown("r", ["a"]),
            did("click", "a", "r"),
            did("like", "a", "r"),
            did("click", "a", "r", event_id="x"),
        ],
        rules,
    )
    assert state.item("a").reward == 0.75
    assert state.read(list_key("r"), ShownList).rewards == [0.75]


def test_dwell_counts_by_its_share():
    state = Memory().apply([shown("r", ["a"]), did("dwell", "a", "r", value=15.0)], Rules(dwell_seconds=60))
    assert state.item("a").reward == 0.25


def test_an_event_before_its_list_waits_for_it():
    late = Memory().apply([did("click", "b", "r", at=5), shown("r", ["a", "b"])])
    usual = Memory().apply([shown("r", ["a", "b"]), did("click", "b", "r", at=5)])
    assert late.item("b").reward == 1
    assert late.history() == usual.history()
    assert late.read(HEAD, LinearHead) == usual.read(HEAD, LinearHead)


def test_an_event_that_names_nobody_is_its_list_s_reader_s_even_before_the_list():
    click = did("click", "b", "r", user=None, at=5)
    late = Memory().apply([click, shown("r", ["a", "b"])])
    usual = Memory().apply([shown("r", ["a", "b"]), click])
    assert ("b", "click", False) in late.history()
    assert late.history() == usual.history()


def test_events_after_the_attribution_window_are_history_alone():
    late = 3600 * 25
    state = Memory().apply([shown("r", ["a"]), did("click", "a", "r", at=late)], Rules(attribution_hours=24))
    assert state.item("a").reward == 0
    assert state.history() == [("a", "click", False)]


def test_rewards_fade_with_their_half_life():
    state = Memory().apply(
        [shown("r", ["a"]), did("click", "a", "r"), shown("s", ["a"], at=3600)], Rules(half_life_hours=1)
    )
    item = state.item("a")
    assert item.shown == pytest.approx(0.5 + 1)
    assert item.reward == pytest.approx(0.5)
    assert item.looked == pytest.approx(0.5 + 1)
    assert item.features == pytest.approx([0.5 + 1, 0.25 + 0.5])
    assert item.taste == pytest.approx(0.125 + 0.25)
    assert item.since == NOW + HOUR


def test_windows_count_by_the_hour_and_are_bounded():
    state = Memory().apply(
        [did("click", "a", at=3600 * n) for n in range(6)] + [shown("r", ["a"], at=3600 * 5)],
        Rules(window_hours=3),
    )
    hours = state.item("a").hours
    assert len(hours) == 3
    assert sum(total for _, total in hours.values()) == 3
    assert hours[max(hours)] == (1, 1)


def test_a_user_is_forgotten_with_the_lists_and_items_keep_their_sums():
    state = Memory().apply([shown("r", ["a"]), did("click", "a", "r"), did("like", "b", user="other")])
    state.apply([Forget(hash_of("u"), NOW)])
    assert state.read(user_key("u"), UserState) is None
    assert state.read(list_key("r"), ShownList) is None
    assert state.item("a").reward == 1
    assert state.history("other") == [("b", "like", False)]
    state.apply([Forget(hash_of("nobody"), NOW)])


def test_lists_of_a_user_are_bounded():
    state = Memory().apply([shown(f"r{n}", ["a"], at=n) for n in range(5)], Rules(max_requests=2))
    assert [state.read(list_key(f"r{n}"), ShownList) is not None for n in range(5)] == [
        False, False, False, True, True,
    ]  # fmt: skip


def test_the_head_holds_the_normal_equations_of_what_was_shown():
    state = Memory().apply([shown("r", ["a", "b"]), did("click", "a", "r")])
    head = state.read(HEAD, LinearHead)
    # Features of every item are [1, .5]; the second position counts as half a look.
    assert head.gram == [1.5, 0.75, 0.75, 0.375]
    assert head.reward == [1.0, 0.5]


def test_a_taste_holds_what_its_reader_was_shown_and_earned():
    state = Memory().apply([shown("r", ["a", "b"], space="s"), did("click", "b", "r")])
    taste = state.read(taste_key(user_key("u")), Taste)
    z, x = np.array([2.0, -1.0]), np.array([1.0, 0.5])
    np.testing.assert_allclose(np.frombuffer(taste.gram).reshape(2, 2), 1.5 * np.outer(z, z))
    np.testing.assert_allclose(np.frombuffer(taste.cross).reshape(2, 2), 1.5 * np.outer(z, x))
    # One click, less what the items by themselves were known to earn in one and a half looks.
    np.testing.assert_allclose(np.frombuffer(taste.reward), (1 - 1.5 * 0.125) * z)
    # Coordinates of another bundle mean something else: it begins anew.
    state.apply([shown("t", ["a"], at=60, space="other")])
    assert np.frombuffer(state.read(taste_key(user_key("u")), Taste).gram)[0] == 4
    state.apply([Forget(hash_of("u"), NOW)])
    assert state.read(taste_key(user_key("u")), Taste) is None


def test_positions_hold_what_was_earned_and_expected_there():
    state = Memory().apply([shown("r", ["a", "b"]), shown("s", ["c"]), did("click", "b", "r")])
    positions = state.read(POSITIONS, Positions)
    assert (positions.reward, positions.expected) == ([0.0, 1.0], [1.0, 0.5])


def test_a_session_remembers_somebody_unknown():
    state = Memory().apply(
        [
            shown("r", ["a", "b"], user=None, session="visit"),
            did("click", "b", "r", user=None),
            did("like", "c", user=None, session="visit", at=9),
        ]
    )
    events = state.read(session_key("visit"), UserState).events
    assert [(event.item_id, event.kind) for event in events] == [("a", "skip"), ("b", "click"), ("c", "like")]
    assert state.read(taste_key(session_key("visit")), Taste) is not None


def test_shadows_change_nothing():
    assert Memory().apply([shown("r", ["a"], shadow=True)]).values == {}


@pytest.mark.parametrize(
    "record", [did("click", "x" * 3000), did("click", "\u6771" * 3000, user="\u4eac" * 999)]
)
def test_keys_are_short_whatever_ids_are(record):
    state = Memory().apply([record])
    assert max(map(len, state.values)) < 400


RECORDS = [
    *[shown(f"r{n}", ["a", "b", "c"], at=10.0 * n, user=f"u{n % 2}") for n in range(4)],
    *[
        did(kind, item, f"r{n}", at=10.0 * n + delay, user=f"u{n % 2}")
        for n, kind, item, delay in [
            (0, "click", "b", 1), (0, "click", "a", 3), (1, "dislike", "a", 1), (1, "like", "c", 2),
            (2, "click", "c", 2), (2, "click", "b", 9), (3, "skip", "a", 1), (3, "purchase", "a", 4),
        ]
    ],
    *[did("click", "z", at=2.5), did("view", "a", at=7), did("click", "c", "r1", at=17, user=None)],
]  # fmt: skip


def comparable(memory):
    """The state with sums rounded, and without the positions of events."""

    def rounded(value):
        if isinstance(value, float):
            return float(f"{value:.9g}")
        if isinstance(value, list | tuple):
            return [rounded(one) for one in value]
        if isinstance(value, bytes):
            return rounded(np.frombuffer(value).tolist())
        if isinstance(value, dict):
            return {key: rounded(one) for key, one in value.items()}
        return value

    return {
        key: rounded(msgspec.msgpack.decode(value, strict=False))
        for key, value in memory.values.items()
        if not key.startswith(b"e:")
    }


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(len(RECORDS))), repeats=st.lists(st.sampled_from(range(len(RECORDS)))))
def test_state_does_not_depend_on_the_order_of_arrival(order, repeats):
    rules = Rules(half_life_hours=0.01, weights={"click": 0.5})
    expected = comparable(Memory().apply(RECORDS, rules))
    arrived = [RECORDS[n] for n in itertools.chain(order, repeats)]
    assert comparable(Memory().apply(arrived, rules)) == expected


def test_kinds_say_whether_an_item_is_liked():
    rules = Rules(weights={"view": 0.0})
    events = Memory().apply(
        [did(k, k, at=n) for n, k in enumerate(["click", "dislike", "view", "skip"])], rules
    )
    state = events.read(user_key("u"), UserState)
    assert [liked(event, rules) for event in state.events] == [True, False, False, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"buy": 1}}, "`rules.weights` must name kinds of event among click, .* got `buy`"),
        ({"weights": {"click": 2}}, "`rules.weights.click` must lie between 0 and 1, got 2"),
        ({"half_life_hours": 0}, "`rules.half_life_hours` must be above 0, got 0"),
        ({"max_history": math.nan}, "`rules.max_history` must be above 0, got nan"),
    ],
)
def test_rules_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Rules(**changes)

"""Learns rewards from lists and events: sums that fade, so that their order does not matter.

    item       how often it was shown and looked at, and its reward; the same by the hour, for windows
    head       sufficient statistics of the linear rule that all items share, over what the bundle knows
    taste      those of a reader, over coordinates of items
    positions  what was earned by position, and what items that stood there were expected to earn
    popular    rewards of late, of everybody and of each segment of readers

An item far down a list is seldom looked at. So it counts as `looked` of an impression, the chance that it is,
which was written into the log when the list was shown: then a rule by weighted least squares is one of
how attractive items are where they are looked at.

Legend: D features, C coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from recsys.bandits.estimates import Floats
from recsys.serving.records import Id, ShownItem
from recsys.serving.rules import DAY, HOUR, Rules
from recsys.serving.working import HEAD, POLICIES, POPULAR, POSITIONS, Working, item_key, popular_key

# Items that are popular of late; twice as many are counted.
NUM_POPULAR = 500
# Further down, items are looked at as at the last of these.
NUM_POSITIONS = 50


class ItemState(msgspec.Struct):
    """Holds the counts of an item: how often it was shown, and its reward.

    Args:
        since: instant that the sums are brought to.
        shown: how often it was shown.
        looked: how often it was looked at, as far as is known.
        reward: what came of that.
        features: [D] sum of its features, times `looked`.
        taste: sum of what readers' tastes foretold, times `looked`.
        hours: by hour since 1970, how often shown and the reward.
        first: when it was first heard of.
    """

    since: int = 0
    shown: float = 0.0
    looked: float = 0.0
    reward: float = 0.0
    features: list[float] = []
    taste: float = 0.0
    hours: dict[int, tuple[float, float]] = {}
    first: int = 0


class ItemRewards(msgspec.Struct):
    """Holds what beliefs read of an `ItemState`; the rest of it is not even unpacked."""

    since: int = 0
    looked: float = 0.0
    reward: float = 0.0
    features: list[float] = []
    taste: float = 0.0


class LinearHead(msgspec.Struct):
    """Rewards over features: the Gram matrix row by row, and the reward by feature."""

    since: int
    gram: list[float]
    reward: list[float]


class Taste(msgspec.Struct):
    """Rewards of a reader over coordinates of items, beyond what the head foretells.

    Args:
        space: of the coordinates; those of another bundle say nothing here.
        since: instant that the sums are brought to.
        gram: [C, C] sum of z z', 64-bit floats, as are the others.
        cross: [C, D] sum of z x'.
        reward: [C] sum of z times the reward, less what items by themselves were known to earn.
    """

    space: str
    since: int
    gram: bytes
    cross: bytes
    reward: bytes


class Positions(msgspec.Struct):
    """By position, the reward and what was expected of the items that stood there, were they looked at."""

    since: int = 0
    reward: list[float] = []
    expected: list[float] = []


class PopularState(msgspec.Struct):
    """Rewards of items of late, fading: brought to `since`, by the item id's text."""

    since: int = 0
    rewards: dict[str, tuple[Id, float]] = {}


class PolicyTotals(msgspec.Struct):
    """Lists of a policy or an arm since the log began, their rewards, and their regret as was believed."""

    lists: int = 0
    reward: float = 0.0
    regret: float = 0.0


class Policies(msgspec.Struct):
    """Totals by the name of the arm, else of the policy."""

    totals: dict[str, PolicyTotals] = {}


def count_policy(
    working: Working, name: str, *, lists: int = 0, reward: float = 0.0, regret: float = 0.0
) -> None:
    """Adds to the totals of a policy or an arm."""
    policies = working.get(POLICIES, Policies) or Policies()
    before = policies.totals.get(name, PolicyTotals())
    after = PolicyTotals(before.lists + lists, before.reward + reward, before.regret + regret)
    working.put(POLICIES, Policies({**policies.totals, name: after}))


def faded(since: int, time: int, rules: Rules) -> float:
    """Returns what remains at an instant of what was counted until another.

    Example:
        >>> faded(0, 24 * HOUR, Rules(half_life_hours=24))
        0.5
    """
    return float(0.5 ** (max(time - since, 0) / (rules.half_life_hours * HOUR)))


def count_shown(
    working: Working,
    items: Sequence[ShownItem],
    time: int,
    *,
    taste_key: bytes | None,
    space: str,
    rules: Rules,
) -> None:
    """Counts the items of a list as shown.

    Args:
        working: the state.
        items: of the list.
        time: of the list.
        taste_key: of its reader; None for nobody.
        space: of the items' coordinates.
        rules: of fading.
    """
    for item in items:
        count_item(working, item.item_id, time, rules=rules, shown=item)
    _learn(working, time, [(item.features, item.looked, 0.0) for item in items], rules)
    _count_positions(
        working,
        time,
        [(place, 0.0, item.expected) for place, item in enumerate(items[:NUM_POSITIONS])],
        rules,
    )
    if taste_key is not None:
        _count_taste(working, taste_key, space, time, [(item, item.looked, 0.0) for item in items], rules)


def count_gained(
    working: Working, item: ShownItem, place: int, gained: float, time: int, *, taste_key: bytes | None,
    space: str, rules: Rules, segment: str = "",
) -> None:  # fmt: skip
    """Counts a reward for an item of a list.

    Args:
        working: the state.
        item: of the list.
        place: of the item, from 0.
        gained: the reward, beyond what was counted before.
        time: of the list.
        taste_key: of its reader; None for nobody.
        space: of the items' coordinates.
        rules: of fading.
        segment: of the reader.
    """
    count_item(working, item.item_id, time, rules=rules, reward=gained, hour=gained, segment=segment)
    _learn(working, time, [(item.features, 0.0, gained)], rules)
    if place < NUM_POSITIONS:
        _count_positions(working, time, [(place, gained, 0.0)], rules)
    if taste_key is not None:
        _count_taste(working, taste_key, space, time, [(item, 0.0, gained)], rules)


def count_item(
    working: Working,
    item_id: Id,
    time: int,
    *,
    rules: Rules,
    shown: ShownItem | None = None,
    reward: float = 0.0,
    hour: float = 0.0,
    segment: str = "",
) -> None:
    """Counts for an item that it was shown, or what it earned.

    Args:
        working: the state.
        item_id: of the item.
        time: of the list, or of the event.
        rules: of fading and windows.
        shown: the item in its list, if it was shown now.
        reward: of an impression.
        hour: reward of whatever kind, for windows and popularity.
        segment: of the reader, with whom it is popular beside everybody.
    """
    item = working.get(item_key(item_id), ItemState) or ItemState(since=time, first=time)
    item.first = min(item.first, time)
    item.since, (old, new) = _brought_together(item.since, time, rules)
    looked = 0.0 if shown is None else shown.looked
    item.shown = item.shown * old + (shown is not None) * new
    item.looked = item.looked * old + looked * new
    item.reward = item.reward * old + reward * new
    added = [] if shown is None else shown.features
    if added and len(added) != len(item.features):
        item.features = [0.0] * len(added)
    if added or old != 1.0:
        added = added or [0.0] * len(item.features)
        item.features = [
            one * old + looked * more * new for one, more in zip(item.features, added, strict=True)
        ]
    item.taste = item.taste * old + (0.0 if shown is None else looked * shown.taste) * new
    number = time // HOUR
    if hour > 0:
        for key in dict.fromkeys([POPULAR, popular_key(segment)]):
            _count_popular(working, key, item_id, time, hour, rules)
    count, total = item.hours.get(number, (0.0, 0.0))
    item.hours[number] = (count + (shown is not None), total + hour)
    newest = max(item.hours)
    if len(item.hours) > 1:
        item.hours = {one: sums for one, sums in item.hours.items() if one > newest - rules.window_hours}
    working.put(item_key(item_id), item)


def _count_popular(working: Working, key: bytes, item_id: Id, time: int, reward: float, rules: Rules) -> None:
    popular = working.get(key, PopularState) or PopularState(time)
    popular.since, (old, new) = _brought_together(popular.since, time, rules)
    if old != 1.0:
        popular.rewards = {name: (one, total * old) for name, (one, total) in popular.rewards.items()}
    _, before = popular.rewards.get(str(item_id), (item_id, 0.0))
    popular.rewards[str(item_id)] = (item_id, before + reward * new)
    if len(popular.rewards) > 2 * NUM_POPULAR:
        kept = sorted(popular.rewards.items(), key=lambda entry: -entry[1][1])[:NUM_POPULAR]
        popular.rewards = dict(kept)
    working.put(key, popular)


def _learn(
    working: Working, time: int, rows: Sequence[tuple[list[float], float, float]], rules: Rules
) -> None:
    """Adds features of items that were shown, and what came of them, to the linear head."""
    rows = [row for row in rows if row[0]]
    if not rows:
        return
    size = len(rows[0][0])
    head = working.get(HEAD, LinearHead)
    if head is None or len(head.reward) != size:
        head = LinearHead(time, [0.0] * size**2, [0.0] * size)
    head.since, (old, new) = _brought_together(head.since, time, rules)
    features_ND = np.array([row[0] for row in rows])
    weights_N, gained_N = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    gram_DD = (features_ND * weights_N[:, None]).T @ features_ND
    head.gram = (np.array(head.gram) * old + gram_DD.ravel() * new).tolist()
    head.reward = (np.array(head.reward) * old + gained_N @ features_ND * new).tolist()
    working.put(HEAD, head)


def _count_positions(
    working: Working, time: int, rows: Sequence[tuple[int, float, float]], rules: Rules
) -> None:
    positions = working.get(POSITIONS, Positions) or Positions(time)
    positions.since, (old, new) = _brought_together(positions.since, time, rules)
    missing = [0.0] * (max((row[0] for row in rows), default=0) + 1 - len(positions.reward))
    positions.reward = [one * old for one in (*positions.reward, *missing)]
    positions.expected = [one * old for one in (*positions.expected, *missing)]
    for place, reward, expected in rows:
        positions.reward[place] += reward * new
        positions.expected[place] += max(expected, 0.0) * new
    working.put(POSITIONS, positions)


def _count_taste(
    working: Working,
    key: bytes,
    space: str,
    time: int,
    rows: Sequence[tuple[ShownItem, float, float]],
    rules: Rules,
) -> None:
    rows = [row for row in rows if row[0].coordinates and row[0].features]
    if not rows:
        return
    coordinates_NC = np.array([coordinates_of(item) for item, *_ in rows], dtype=np.float64)
    features_ND = np.array([item.features for item, *_ in rows])
    taste = working.get(key, Taste)
    if taste is None or taste.space != space:
        taste = _no_taste(space, time, coordinates_NC.shape[1], features_ND.shape[1])
    taste.since, (old, new) = _brought_together(taste.since, time, rules)
    looked_N = np.array([looked for _, looked, _ in rows])
    gained_N = np.array([gained - looked * item.own for item, looked, gained in rows])
    weighted_NC = looked_N[:, None] * coordinates_NC
    for name, more in (
        ("gram", weighted_NC.T @ coordinates_NC),
        ("cross", weighted_NC.T @ features_ND),
        ("reward", gained_N @ coordinates_NC),
    ):
        setattr(taste, name, (np.frombuffer(getattr(taste, name)) * old + more.ravel() * new).tobytes())
    working.put(key, taste, expires=int((taste.since // DAY + 1 + rules.retention_days) * DAY))


def _no_taste(space: str, time: int, num_coordinates: int, num_features: int) -> Taste:
    sizes = (num_coordinates**2, num_coordinates * num_features, num_coordinates)
    return Taste(space, time, *(np.zeros(size).tobytes() for size in sizes))


def coordinates_of(item: ShownItem) -> Floats:
    """[C] the coordinates of an item as they were logged."""
    return np.frombuffer(item.coordinates, dtype="<f4").astype(np.float64)


def _brought_together(since: int, time: int, rules: Rules) -> tuple[int, tuple[float, float]]:
    """The later of two instants, and what remains at it of what was counted until either."""
    latest = max(since, time)
    return latest, (faded(since, latest, rules), faded(time, latest, rules))

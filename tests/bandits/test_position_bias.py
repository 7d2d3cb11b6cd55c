import numpy as np
import pytest
from scipy import optimize

from recsys.bandits.position_bias import harvested_examination, randomised_examination
from tests.bandits.worlds import log_of

CURVE = np.array([1.0, 0.6, 0.4, 0.25])


def shown(items, positions, attraction, seed, **others):
    rng = np.random.default_rng(seed)
    clicks = rng.random(len(items)) < CURVE[positions - 1] * attraction[items]
    return log_of(clicks, np.full(len(items), 0.25), items, positions=positions, **others)


def randomised(seed, num_rows=20_000):
    rng = np.random.default_rng(seed)
    items, positions = rng.integers(8, size=num_rows), rng.integers(1, 5, size=num_rows)
    return shown(items, positions, np.linspace(0.1, 0.8, 8), seed)


def confounded(seed, num_rows=30_000):
    """Attractive items stand high, and each moves between two neighbouring positions."""
    rng = np.random.default_rng(seed)
    items = rng.integers(30, size=num_rows)
    positions = 1 + items * 3 // 30 + rng.integers(2, size=num_rows)
    return shown(items, positions, np.linspace(0.9, 0.1, 30), seed)


def covers(curve):
    return ((curve.low_P <= CURVE) & (curve.high_P >= CURVE))[1:]


def test_randomised_log_gives_the_curve_and_its_intervals_cover():
    curves = [randomised_examination(randomised(seed)) for seed in range(100)]
    assert np.mean([one.values_P for one in curves], axis=0) == pytest.approx(CURVE, abs=0.01)
    assert 0.91 <= np.mean([covers(one) for one in curves]) <= 0.99  # 95 % of 300


def test_known_chances_of_an_uneven_shuffle_are_undone():
    rng = np.random.default_rng(0)
    items = rng.integers(2, size=60_000)
    chances = np.array([[0.9, 0.1], [0.2, 0.8]])  # item 0 mostly first, item 1 mostly second
    positions = 1 + (rng.random(60_000) > chances[items, 0])
    clicks = rng.random(60_000) < CURVE[positions - 1] * np.array([0.8, 0.2])[items]
    log = log_of(clicks, chances[items, positions - 1], items, positions=positions)
    assert randomised_examination(log).values_P == pytest.approx(CURVE[:2], abs=0.03)


def test_harvest_is_not_misled_by_attractive_items_standing_high():
    curves = [harvested_examination(log, np.zeros(30_000, dtype=int)) for log in map(confounded, range(100))]
    assert np.mean([one.values_P for one in curves], axis=0) == pytest.approx(CURVE, abs=0.01)
    assert 0.91 <= np.mean([covers(one) for one in curves]) <= 1
    naive = randomised_examination(confounded(0)).values_P
    assert naive[3] < 0.1  # a quarter is true


def test_harvest_maximises_the_conditional_likelihood():
    shows = np.array([[3, 1], [2, 5], [4, 4]])
    clicks = np.array([[2, 1], [1, 1], [3, 1]])
    rows = [
        (item, place + 1, n < clicks[item, place])
        for item in range(3)
        for place in range(2)
        for n in range(shows[item, place])
    ]
    items, positions, rewards = (np.array(column) for column in zip(*rows, strict=True))

    def loss(ratio):
        shares = shows * np.array([1, ratio])
        return -(clicks * np.log(shares / shares.sum(axis=1, keepdims=True))).sum()

    best = optimize.minimize_scalar(loss, bounds=(0.01, 10), method="bounded", options={"xatol": 1e-9}).x
    log = log_of(rewards, np.ones(len(rewards)), items, positions=positions)
    curve = harvested_examination(log, np.zeros(len(rewards), dtype=int))
    assert curve.values_P == pytest.approx([1, best], rel=1e-5)
    assert curve.rows_P.tolist() == [9, 10]


def test_contexts_are_kept_apart():
    """User 0 loves item 0 and gets it first, user 1 does not and gets it second: only user 2 saw it move."""
    seen = [(0, 1, 100, 90), (1, 2, 100, 5), (2, 1, 100, 40), (2, 2, 100, 20)]
    users, positions, clicks = (
        np.concatenate([np.repeat(one[n], one[2]) for one in seen])
        if n < 2
        else np.concatenate([np.arange(one[2]) < one[3] for one in seen])
        for n in range(3)
    )
    log = log_of(clicks, np.ones(400), np.zeros(400, dtype=int), positions=positions)
    assert harvested_examination(log, users).values_P == pytest.approx([1, 20 / 40])
    together = harvested_examination(log, np.zeros(400, dtype=int))
    assert together.values_P == pytest.approx([1, 25 / 130])


def test_a_position_without_a_click_is_named():
    log = log_of([1, 1, 0, 0], [1] * 4, [0] * 4, positions=[1, 1, 2, 2])
    with pytest.raises(ValueError, match=r"found no click on an item that has moved in \[2\]"):
        harvested_examination(log, np.zeros(4, dtype=int))


def test_positions_that_no_item_connects_are_named():
    log = log_of([1] * 4, [1] * 4, [0, 0, 1, 1], positions=[1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"found none between positions \[3, 4\] and the others"):
        harvested_examination(log, np.zeros(4, dtype=int))


def test_logs_without_what_is_needed_are_refused():
    with pytest.raises(ValueError, match=r"found no row in \[2\]"):
        randomised_examination(log_of([1, 1], [1, 1], [0, 1], positions=[1, 3]))
    with pytest.raises(ValueError, match=r"rewards in position 1 of the log, found a mean of 0"):
        randomised_examination(log_of([0, 1], [1, 1], [0, 1], positions=[1, 2]))
    with pytest.raises(ValueError, match=r"expected clicks \(0 or more\) .* found -1"):
        harvested_examination(log_of([-1, 1], [1, 1], [0, 0], positions=[1, 2]), np.zeros(2, dtype=int))

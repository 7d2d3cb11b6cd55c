import numpy as np
import pytest

from recsys.bandits.interleaving import NO_ITEM, TEAM_A, TEAM_B, preference, team_draft


def one_by_one(list_a, list_b, teams):
    """What the captains pick when `teams` says who is at the pick."""
    taken = []
    for team in teams:
        taken.append(next(item for item in (list_a, list_b)[team] if item not in taken))
    return taken


def test_captains_pick_their_best_item_that_is_left():
    list_a, list_b = [7, 3, 9, 1], [4, 3, 7, 8]
    items, teams = team_draft(np.array([list_a] * 50), np.array([list_b] * 50), k=4, seed=0)
    assert len({tuple(row) for row in teams}) == 4  # two rounds, either captain first
    for row, its_teams in zip(items, teams, strict=True):
        assert row.tolist() == one_by_one(list_a, list_b, its_teams)
        assert sorted(its_teams[:2]) == sorted(its_teams[2:]) == [TEAM_A, TEAM_B]


def test_short_lists_leave_the_pick_to_the_other_and_end_when_both_are_used_up():
    items, teams = team_draft(np.array([[5, NO_ITEM, NO_ITEM]]), np.array([[5, 6, 7]]), k=4, seed=0)
    assert sorted(items[0, :3]) == [5, 6, 7]
    assert items[0, 3] == NO_ITEM
    assert teams[0, 1:3].tolist() == [TEAM_B, TEAM_B]


def test_equal_rankers_win_equally_often_and_the_better_one_is_preferred():
    rng = np.random.default_rng(0)
    attraction = rng.uniform(0, 0.5, size=20)
    best, shuffled = np.argsort(-attraction), rng.permutation(20)

    def clicked(list_a, list_b, seed):
        items, teams = team_draft(np.tile(list_a, (4000, 1)), np.tile(list_b, (4000, 1)), k=6, seed=seed)
        clicks = rng.random(items.shape) < attraction[items]
        credits = [(clicks * (teams == team)).sum(axis=1) for team in (TEAM_A, TEAM_B)]
        return preference(*credits, np.arange(4000) // 2).interval(0.99)

    low, high = clicked(shuffled, shuffled, seed=1)
    assert low < 0 < high
    assert clicked(best, shuffled, seed=2)[0] > 0
    assert clicked(shuffled, best, seed=3)[1] < 0


def test_preference_is_wins_less_losses_over_all_requests():
    made = preference(np.array([1, 0, 0, 2]), np.array([0, 1, 0, 1]), np.arange(4))
    assert made.value == pytest.approx((1 - 1 + 0 + 1) / 4)

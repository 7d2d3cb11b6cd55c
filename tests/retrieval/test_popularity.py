import math
from types import SimpleNamespace

import pytest
import torch

from recsys.retrieval import popularity as module
from recsys.retrieval.exact import top_k
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.scorer import CatalogueScorer
from recsys.schema.jagged import JaggedColumn

DAY = 86_400_000_000
NUM_ITEMS = 6


@pytest.fixture
def log():
    generator = torch.Generator().manual_seed(3)
    timestamps = torch.randint(5 * DAY, 25 * DAY, (80,), generator=generator).sort().values
    return torch.randint(0, NUM_ITEMS, (80,), generator=generator), timestamps


def share(log, instant, item, window):
    """By hand: events of the days before the instant's day."""
    end = instant // DAY * DAY
    since = -math.inf if window is None else end - window * DAY
    counted = [i for i, t in zip(*(part.tolist() for part in log), strict=True) if since <= t < end]
    return math.log((counted.count(item) + 1) / (len(counted) + NUM_ITEMS) * NUM_ITEMS)


def test_features_count_what_came_before_the_day_of_the_request(log):
    popularity = Popularity(*log, num_items=NUM_ITEMS, windows=[3, None])
    instants = torch.tensor([5 * DAY, 7 * DAY + 4, 8 * DAY - 1, 20 * DAY])
    features = popularity.features(instants)
    for query, instant in enumerate(instants.tolist()):
        for item in range(NUM_ITEMS):
            for place, window in enumerate([3, None]):
                expected = share(log, instant, item, window)
                assert features[query, item, place].item() == pytest.approx(expected, abs=1e-6)


def test_later_events_change_no_earlier_feature(log):
    items, timestamps = log
    instants = timestamps[:50]
    whole = Popularity(items, timestamps, num_items=NUM_ITEMS, windows=[7])
    part = Popularity(items[:50], timestamps[:50], num_items=NUM_ITEMS, windows=[7])
    assert torch.equal(whole.features(instants), part.features(instants))


def test_latest_features_know_all_events(log):
    popularity = Popularity(*log, num_items=NUM_ITEMS, windows=[None])
    expected = [share(log, 30 * DAY, item, None) for item in range(NUM_ITEMS)]
    assert popularity.latest[:, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_periods_of_several_days_still_know_nothing_of_their_own_events(log, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 4 * NUM_ITEMS * 8)
    popularity = Popularity(*log, num_items=NUM_ITEMS, windows=[None])
    first = log[1][0] // DAY * DAY
    instants = first + torch.arange(0, 20) * DAY
    periods = popularity.periods(instants)
    assert len(periods.unique()) == 7  # of 3 days
    for period in periods.unique().tolist():
        begin = int(instants[periods == period][0])
        expected = [share(log, begin, item, None) for item in range(NUM_ITEMS)]
        for instant in instants[periods == period]:
            assert popularity.features(instant[None])[0, :, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_periods_are_the_features_of_every_instant_once(log):
    popularity = Popularity(*log, num_items=NUM_ITEMS, windows=[3, None])
    instants = torch.tensor([22 * DAY, 6 * DAY, 22 * DAY + 5, 11 * DAY])
    periods = popularity.by_period(instants)
    assert [positions.tolist() for positions, _ in periods] == [[1], [3], [0, 2]]
    expected = popularity.features(instants)
    for positions, features in periods:
        for position in positions.tolist():
            assert torch.equal(features, expected[position])


def test_scores_are_weights_times_features(log):
    popularity = Popularity(*log, num_items=NUM_ITEMS, windows=[3, None])
    instants = torch.tensor([22 * DAY, 6 * DAY, 22 * DAY + 5, 11 * DAY])
    weights = torch.randn(4, 2, requires_grad=True)
    expected = (popularity.features(instants) * weights[:, None]).sum(-1)
    torch.testing.assert_close(popularity.scores(weights, instants, torch.arange(NUM_ITEMS)), expected)
    some = torch.tensor([4, 1, 1])
    torch.testing.assert_close(popularity.scores(weights, instants, some), expected[:, some])
    popularity.scores(weights, instants, some).square().sum().backward()
    assert weights.grad.abs().min() > 0


def test_no_events_are_no_difference():
    nothing = torch.zeros(0, dtype=torch.int64)
    popularity = Popularity(nothing, nothing, num_items=4, windows=[3, None])
    assert torch.equal(popularity.features(torch.tensor([0, DAY])), torch.zeros(2, 4, 2))


def test_answers_are_the_best_at_each_query_s_own_instant(log):
    torch.manual_seed(0)
    popularity = Popularity(*log, num_items=NUM_ITEMS, windows=[3, None])
    queries, candidates = torch.randn(5, 6), torch.randn(NUM_ITEMS, 6)
    candidates[:, -2:] = 0
    instants = torch.tensor([22, 6, 22, 11, 6]) * DAY
    seen = [[1], [], [2, 3], [5], [4, 1]]
    lists = JaggedColumn.of_lists(seen)
    batch = SimpleNamespace(seen=lists, sequences=SimpleNamespace(query_instants=instants))
    scores, rows = CatalogueScorer(candidates, popularity).best(queries, 3, batch=batch)
    for query in range(5):
        filled = candidates.clone()
        filled[:, -2:] = popularity.features(instants[query : query + 1])[0]
        best = top_k(queries[query : query + 1], filled, 3, seen=JaggedColumn.of_lists([seen[query]]))
        torch.testing.assert_close(scores[query], best[0][0])
        assert rows[query].tolist() == best[1][0].tolist()
    plain = CatalogueScorer(candidates).best(queries, 3, batch=batch)
    expected = top_k(queries, candidates, 3, seen=lists)
    assert torch.equal(plain[1], expected[1])

"""The bootstrap of an evaluation: means, intervals, differences, bundles of users."""

import numpy as np
import pytest

from recsys.evaluation import summary
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.summary import Bootstrap

OPTIONS = EvaluationOptions(resamples=2000)


@pytest.fixture
def world():
    """300 users with 1 to 5 queries each, in no order, and two metrics."""
    rng = np.random.default_rng(0)
    users = rng.permutation(np.repeat(np.arange(300), rng.integers(1, 6, 300)))
    return users + 1000, {"a": rng.random(len(users)), "b": rng.random(len(users)) ** 2}


def test_means_are_over_queries_and_their_samples_centre_on_them(world):
    users, values = world
    figures = Bootstrap(users, OPTIONS).means(values)
    for key, value in values.items():
        assert figures.values[key] == pytest.approx(value.mean())
        assert figures.samples[key].mean() == pytest.approx(value.mean(), abs=0.002)


def test_mask_leaves_out_queries(world):
    users, values = world
    mask = values["a"] > 0.5
    figures = Bootstrap(users, OPTIONS).means(values, mask=mask)
    assert figures.values["b"] == pytest.approx(values["b"][mask].mean())
    assert figures.samples["a"].min() > 0.5


def test_slice_that_no_resample_holds_has_no_interval(world):
    users, values = world
    bootstrap = Bootstrap(users, EvaluationOptions(resamples=1))
    figures = [bootstrap.means(values, mask=users == user) for user in np.unique(users)]
    intervals = [bootstrap.block(one, keys=["a"])["intervals"]["a"] for one in figures]
    assert 0 < intervals.count(None) < 300


def test_difference_of_equal_figures_is_surely_nothing(world):
    users, values = world
    bootstrap = Bootstrap(users, OPTIONS)
    figures = bootstrap.means(values)
    better = bootstrap.means({key: value + 0.1 for key, value in values.items()})
    same = bootstrap.difference(figures, figures, key="a")
    assert same == {"metric": "a", "difference": 0.0, "interval": [0.0, 0.0]}
    paired = bootstrap.difference(better, figures, key="a")
    assert paired["interval"] == pytest.approx([0.1, 0.1], abs=1e-5)


def test_users_are_counted_among_the_queries_that_count(world):
    users, _ = world
    bootstrap = Bootstrap(users, OPTIONS)
    assert bootstrap.num_users == 300
    assert bootstrap.num_users_in(np.isin(users, [1000, 1001])) == 2


def test_bundles_of_users_give_intervals_as_wide_as_single_ones(world, monkeypatch):
    users, values = world
    labels = (values["b"] > 0.3).astype(int)

    def widths():
        bootstrap = Bootstrap(users, OPTIONS)
        assert bootstrap.num_users == 300
        samples = [
            bootstrap.means(values).samples["a"],
            *bootstrap.auc_samples(labels, values["a"], users_N=bootstrap.users_N),
            bootstrap.weighted_samples(
                np.sin(np.arange(300)), np.arange(300) % 7 + 1, users_U=np.arange(300)
            ),
        ]
        return [np.diff(bootstrap.interval(one))[0] for one in samples]

    single = widths()
    monkeypatch.setattr(summary, "_MAX_BUNDLES", 100)
    bundled = widths()
    assert bundled != single
    assert bundled == pytest.approx(single, rel=0.2)


def test_block_has_null_for_what_was_not_measured(world):
    users, values = world
    bootstrap = Bootstrap(users, OPTIONS)
    block = bootstrap.block(bootstrap.means(values), keys=["a", "c"])
    assert block["metrics"].keys() == block["intervals"].keys() == {"a", "c"}
    assert block["metrics"]["c"] is None
    assert block["intervals"]["c"] is None
    low, high = block["intervals"]["a"]
    assert low < block["metrics"]["a"] < high


def test_query_without_a_value_is_left_out_of_mean_and_samples(world):
    users, values = world
    known = values["a"] > 0.3
    bootstrap = Bootstrap(users, OPTIONS)
    holed = {"a": np.where(known, values["a"], np.nan), "b": values["b"], "none": np.full(len(users), np.nan)}
    figures, without = bootstrap.means(holed), bootstrap.means({"a": values["a"]}, mask=known)
    assert figures.values["a"] == pytest.approx(values["a"][known].mean())
    assert figures.samples["a"] == pytest.approx(without.samples["a"])
    assert figures.values["b"] == pytest.approx(values["b"].mean())
    block = bootstrap.block(figures, keys=["a", "none"])
    assert block["intervals"]["a"] == bootstrap.interval(figures.samples["a"])
    assert (block["metrics"]["none"], block["intervals"]["none"]) == (None, None)

"""What is fitted on train: vocabularies, means, deviations, edges."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.preparing.fit import fit
from recsys.data.preparing.kinds.values import ValueCounts
from recsys.schema.feature_kinds import (
    HistoryFeature,
    IdFeature,
    MultiIdFeature,
    TextFeature,
    TimeFeature,
    feature_of,
)


def counted(values, counts):
    column = values if isinstance(values, pa.Array) else pa.array(values)
    return ValueCounts(column, np.array(counts, dtype=np.int64))


def fit_one(settings, values, counts):
    """The fitted feature and its vocabulary as (value, count), in order of rows."""
    found = fit([feature_of({"name": "x", "role": "item", **settings})], {"x": counted(values, counts)})
    vocabulary = found.vocabularies.get("x")
    pairs = vocabulary and list(
        zip(vocabulary["value"].to_pylist(), vocabulary["count"].to_pylist(), strict=True)
    )
    return found.features[0], pairs


def test_frequent_values_come_first_and_equals_by_value():
    feature, pairs = fit_one({"kind": "id"}, ["c", "b", "a", "c", None], [1, 3, 3, 1, 9])
    assert pairs == [("a", 3), ("b", 3), ("c", 2)]
    assert feature.num_rows == 4
    assert feature.value_type == "string"


def test_integers_are_ordered_as_numbers():
    feature, pairs = fit_one({"kind": "id"}, [10, 9], [1, 1])
    assert pairs == [(9, 1), (10, 1)]
    assert feature.value_type == "integer"


def test_values_that_train_does_not_have_stay_out():
    assert fit_one({"kind": "id"}, ["a", "b"], [2, 0])[1] == [("a", 2)]


def test_rare_values_stay_out():
    feature, pairs = fit_one({"kind": "id", "min_count": 3}, ["a", "b"], [3, 2])
    assert pairs == [("a", 3)]
    assert feature.num_rows == 2


def test_prefixes_are_counted_together():
    _, pairs = fit_one({"kind": "id", "prefix": 2}, ["941", "942", "10"], [1, 1, 1])
    assert pairs == [("94", 2), ("10", 1)]


def test_pieces_count_each():
    _, pairs = fit_one({"kind": "multi_id"}, ["a|b", "b"], [2, 5])
    assert pairs == [("b", 7), ("a", 2)]


def test_a_hashed_feature_has_its_buckets_and_no_vocabulary():
    feature, pairs = fit_one({"kind": "id", "encoder": "hash", "num_buckets": 8}, [1, 2], [1, 1])
    assert (feature.num_rows, feature.value_type, pairs) == (9, "integer", None)
    assert fit_one({"kind": "text", "num_buckets": 8}, ["a"], [1])[0].num_rows == 9


def test_a_mean_is_weighted_by_train_interactions():
    feature, _ = fit_one({"kind": "numeric"}, [1.0, 5.0, None, 100.0], [3, 1, 7, 0])
    assert feature.mean == 2.0  # (3 * 1 + 5) / 4
    assert feature.std == pytest.approx(3**0.5)  # sqrt((3 * 1 + 9) / 4)


def test_log_statistics_are_of_the_logarithm():
    feature, _ = fit_one({"kind": "numeric", "transform": "log"}, [0.0, np.e - 1], [1, 1])
    assert feature.mean == pytest.approx(0.5)
    assert feature.std == pytest.approx(0.5)


@pytest.mark.parametrize(("values", "counts"), [([4.0, 4.0], [1, 1]), ([None, None], [1, 1]), ([4.0], [0])])
def test_nothing_to_divide_by_leaves_the_deviation_at_one(values, counts):
    feature, _ = fit_one({"kind": "numeric"}, pa.array(values, pa.float64()), counts)
    assert feature.std == 1.0


def test_statistics_do_not_depend_on_the_order_of_rows():
    # Sums of floats of such different sizes depend on the order in which they are added.
    values = np.exp(np.random.default_rng(0).normal(size=500) * 9)
    counts = np.arange(1, 501)
    one = fit_one({"kind": "numeric"}, pa.array(values), counts)[0]
    other = fit_one({"kind": "numeric"}, pa.array(values[::-1].copy()), counts[::-1])[0]
    assert (one.mean, one.std) == (other.mean, other.std)


def test_edges_are_quantiles_that_occur():
    settings = {"kind": "numeric", "transform": "bucketise", "num_buckets": 4}
    feature, _ = fit_one(settings, [float(n) for n in range(1, 9)], [1] * 8)
    # Two of eight values a bucket: 1 2 | 3 4 | 5 6 | 7 8.
    assert feature.boundaries == (3.0, 5.0, 7.0)
    assert feature.num_rows == 5


def test_equal_edges_become_one():
    settings = {"kind": "numeric", "transform": "bucketise", "num_buckets": 4}
    feature, _ = fit_one(settings, [0.0, 1.0, 2.0], [6, 1, 1])
    # Three quarters are 0, which is the lowest value and so no edge.
    assert feature.boundaries == (1.0,)
    assert feature.num_rows == 3


def test_features_of_one_table_share_a_vocabulary():
    features = [
        MultiIdFeature("genres", "item", table="genre"),
        IdFeature("favourite", "user", table="genre"),
    ]
    values = {"genres": counted(["a|b"], [4]), "favourite": counted(["c", "a"], [5, 2])}
    found = fit(features, values)
    assert found.vocabularies["genre"]["value"].to_pylist() == ["a", "c", "b"]  # 6, 5 and 4
    assert [feature.num_rows for feature in found.features] == [4, 4]


def test_integers_and_text_in_one_table_are_text():
    features = [IdFeature("one", "item", table="t"), IdFeature("two", "user", table="t")]
    found = fit(features, {"one": counted([7], [1]), "two": counted(["7", "x"], [1, 1])})
    assert found.vocabularies["t"]["value"].to_pylist() == ["7", "x"]
    assert {feature.value_type for feature in found.features} == {"string"}


@pytest.mark.parametrize(
    ("two", "message"),
    [
        (IdFeature("two", "user", table="t"), "agree on `min_count`, found: `one` has 2, `two` has 1"),
        (TextFeature("two", "user", table="t", num_buckets=9), "agree on `kind`, found: `one` has id"),
    ],
)
def test_features_of_one_table_must_agree(two, message):
    one = IdFeature("one", "item", table="t", min_count=2)
    with pytest.raises(ValueError, match=message):
        fit([one, two], {"one": counted([1], [1]), "two": counted(["a"], [1])})


def test_the_history_shares_the_items_table():
    features = [HistoryFeature("history", "user"), IdFeature("item_id", "item")]
    history, _ = fit(features, {"item_id": counted([5, 6], [1, 1])}).features
    assert (history.table, history.num_rows, history.value_type) == ("item_id", 3, "integer")


def test_times_have_a_row_for_every_hour_and_day():
    features = [TimeFeature(part, "context", part=part) for part in ("hour", "weekday")]
    assert [feature.num_rows for feature in fit(features, {}).features] == [25, 8]

import json

import pytest

from recsys.schema.feature_kinds import (
    HistoryFeature,
    IdFeature,
    MultiIdFeature,
    NumericFeature,
    StatisticFeature,
    TextFeature,
    TimeFeature,
    feature_of,
)
from recsys.schema.features import FeatureSchema


def schema() -> FeatureSchema:
    return FeatureSchema(
        (
            IdFeature("item_id", "item", num_rows=5),
            NumericFeature("price", "item", transform="log"),
            TimeFeature("hour", "context", num_rows=25),
            IdFeature("user_id", "user", num_rows=3),
            HistoryFeature("history", "user", num_rows=5),
            NumericFeature("age", "user", transform="bucketise", boundaries=(18.0, 65.0), num_rows=4),
        )
    )


def test_features_come_by_role_then_in_schema_order():
    assert [f.name for f in schema().sparse()] == ["user_id", "history", "age", "hour", "item_id"]
    assert [f.name for f in schema().dense()] == ["price"]
    assert [f.name for f in schema().sparse(["item", "context"])] == ["hour", "item_id"]


def test_bucketised_number_is_sparse_and_a_history_shares_the_item_table():
    assert schema()["age"].table == "age"
    assert schema()["price"].table == ""
    assert schema().num_rows == {"item_id": 5, "hour": 25, "user_id": 3, "age": 4}


def test_schema_survives_json():
    plain = json.loads(json.dumps(schema().to_dict()))
    assert FeatureSchema.from_dict(plain) == schema()


def test_unknown_feature_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no feature `gnres` .*it has: item_id, price"):
        schema()["gnres"]


def test_name_used_twice_is_refused():
    with pytest.raises(ValueError, match="unique, got `age` more than once"):
        FeatureSchema((NumericFeature("age", "user"), NumericFeature("age", "item")))


def test_features_of_one_table_must_agree_on_its_rows():
    with pytest.raises(ValueError, match="sharing table `item_id` must agree"):
        FeatureSchema((IdFeature("item_id", "item", num_rows=5), HistoryFeature("history", "user")))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "idd"}, "`kind` must be one of id, multi_id, .* got `idd`; did you mean `id`"),
        ({"kind": "id", "encoder": "hash"}, "a hashed feature needs `num_buckets`"),
        ({"kind": "numeric", "transform": "sqrt"}, "`transform` must be one of standardise, log, bucketise"),
    ],
)
def test_impossible_feature_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        feature_of({"name": "x", "role": "user", **keys})


def test_each_kind_makes_the_round_trip_through_plain_data():
    features = (
        IdFeature("item_id", "item", num_rows=5, value_type="integer"),
        MultiIdFeature("genres", "item", delimiter=", ", num_rows=9),
        NumericFeature("price", "item", transform="bucketise", boundaries=(1.0, 2.5), num_rows=4),
        TextFeature("title", "item", num_buckets=7, num_rows=8),
        TimeFeature("hour", "context", num_rows=25),
        HistoryFeature("history", "user", num_rows=5),
        StatisticFeature("count", "pair", of=("user_id", "genres"), window_days=3, prior=0.5),
    )
    plain = json.loads(json.dumps(FeatureSchema(features).to_dict()))
    assert FeatureSchema.from_dict(plain).features == features


def test_datasets_that_hold_the_fields_of_all_kinds_for_each_feature_open():
    plain = {"name": "x", "kind": "numeric", "role": "user", "table": "", "std": 2.0, "ngrams": 1, "of": []}
    assert feature_of(plain) == NumericFeature("x", "user", std=2.0)


def test_fitted_values_make_no_difference_and_declared_ones_do():
    def schema(**keys):
        return FeatureSchema((NumericFeature("price", "item", **keys),))

    assert schema(mean=3.0, std=2.0, column="cost").differences(schema()) == []
    changed = schema(transform="log").differences(schema())
    assert changed == ["`price` has transform 'log', it had 'standardise'"]
    other = FeatureSchema((IdFeature("price", "item"),))
    assert other.differences(schema()) == ["`price` has kind 'id', it had 'numeric'"]

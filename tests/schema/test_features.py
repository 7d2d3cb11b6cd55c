import json

import pytest

from recsys.schema.features import Feature, FeatureSchema


def schema() -> FeatureSchema:
    return FeatureSchema(
        (
            Feature("item_id", "id", "item", num_rows=5),
            Feature("price", "numeric", "item", transform="log"),
            Feature("hour", "time", "context", num_rows=25),
            Feature("user_id", "id", "user", num_rows=3),
            Feature("history", "sequence", "user", num_rows=5),
            Feature("age", "numeric", "user", transform="bucketise", boundaries=(18.0, 65.0), num_rows=4),
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
        FeatureSchema((Feature("age", "numeric", "user"), Feature("age", "numeric", "item")))


def test_features_of_one_table_must_agree_on_its_rows():
    with pytest.raises(ValueError, match="sharing table `item_id` must agree"):
        FeatureSchema((Feature("item_id", "id", "item", num_rows=5), Feature("history", "sequence", "user")))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "idd"}, "`kind` must be one of id, multi_id, .* got `idd`"),
        ({"kind": "id", "encoder": "hash"}, "a hashed feature needs `num_buckets`"),
        ({"kind": "numeric", "transform": "sqrt"}, "`transform` must be one of standardise, log, bucketise"),
    ],
)
def test_impossible_feature_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        Feature("x", role="user", **keys)

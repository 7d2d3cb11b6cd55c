from recsys.exporting.fields import fields_of
from recsys.schema.feature_kinds import Feature, HistoryFeature, IdFeature, TimeFeature
from recsys.schema.features import FeatureSchema

IDS = (
    IdFeature("user_id", "user", column="uid"),
    IdFeature("item_id", "item", column="sku"),
    HistoryFeature("history", "user"),
)
CONFIG = {
    "interactions": {"columns": {"user_id": "uid", "item_id": "sku", "timestamp": "ts"}},
    "users": {"id_column": None},
    "items": {"id_column": "code"},
}


def schema(*features: Feature) -> FeatureSchema:
    return FeatureSchema((*IDS, *features))


def test_ids_and_timestamps_go_by_our_names_and_by_those_of_the_raw_tables():
    fields = fields_of(schema(), CONFIG, flat=True)
    assert fields.user_id == ["user_id", "uid"]
    assert fields.item_id == ["item_id", "sku", "code"]
    assert fields.timestamp == ["timestamp", "ts"]
    assert fields.ambiguous == []


def test_a_column_of_two_tables_goes_by_table_and_name_in_a_flat_row():
    user, item = IdFeature("town", "user", column="city"), IdFeature("city", "item")
    fields = fields_of(schema(user, item), CONFIG, flat=True)
    assert fields.of(user) == ["users.city"]
    assert fields.of(item) == ["items.city"]
    assert fields.ambiguous == ["city"]


def test_a_column_of_two_tables_goes_by_its_name_where_each_table_has_its_record():
    user, item = IdFeature("town", "user", column="city"), IdFeature("city", "item")
    fields = fields_of(schema(user, item), CONFIG, flat=False)
    assert fields.of(user) == fields.of(item) == ["city"]
    assert fields.ambiguous == []


def test_an_id_column_that_both_side_tables_call_alike_is_ambiguous():
    config = {"interactions": {"columns": {"user_id": "u", "item_id": "i"}}, "users": {"id_column": "id"}}
    fields = fields_of(schema(), {**config, "items": {"id_column": "id"}}, flat=True)
    assert fields.user_id == ["user_id", "u", "users.id"]
    assert fields.item_id == ["item_id", "i", "items.id"]
    assert fields.ambiguous == ["id"]


def test_a_users_column_that_has_one_of_our_names_goes_by_table_and_name():
    favourite = IdFeature("favourite", "user", column="item_id")
    fields = fields_of(schema(favourite), CONFIG, flat=True)
    assert fields.of(favourite) == ["users.item_id"]
    assert fields.item_id == ["item_id", "sku", "code"]
    assert fields.ambiguous == []  # `item_id` in a row is the item


def test_a_time_is_read_from_the_timestamp():
    hour = TimeFeature("hour", "context", column="timestamp")
    assert fields_of(schema(hour), CONFIG, flat=True).of(hour) == ["timestamp", "ts"]

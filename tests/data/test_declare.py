"""Declarations of features: what they do, how mistakes are named, how they are written out and read back."""

import dataclasses
import json

import pytest
import yaml

from recsys.data.options import Label
from recsys.data.prepare import prepare
from recsys.data.preparing.declare import declaration, declared_features, features_yaml
from recsys.nn.embeddings import FeatureTables
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import IdFeature, feature_of
from tests.data.preparing import manifest_of, options_for, prepared

EVENTS = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2], "device": ["tv", "app"]}
USERS = {"user_id": [1, 2], "age": [30, 40], "zip": ["94110", "94111"]}
ITEMS = {"item_id": [1, 2], "genres": ["a;b", "b"], "price": [1.5, 2.5], "title": ["One Two", "Three Four"]}
ALL = {"split": "random", "split_fractions": (1.0, 0.0, 0.0), "users": USERS, "items": ITEMS}


def schema_of(station):
    return {f["name"]: f for f in json.loads((station / "schema.json").read_text())["features"]}


def test_declared_features_replace_what_would_be_inferred(tmp_path):
    station = prepared(
        tmp_path,
        EVENTS,
        user_features={"area": {"kind": "id", "column": "zip", "prefix": 3}},
        item_features={},
        context={
            "device": {"kind": "id", "encoder": "hash", "num_buckets": 4},
            "day": {"kind": "time", "part": "weekday"},
        },
        **ALL,
    )
    features = schema_of(station)
    assert list(features) == ["user_id", "area", "history", "device", "day", "item_id"]
    assert (features["area"]["column"], features["area"]["num_rows"]) == ("zip", 2)
    assert features["device"]["num_rows"] == 5
    assert (features["day"]["num_rows"], features["day"]["column"]) == (8, "timestamp")


@pytest.mark.parametrize(
    ("declarations", "message"),
    [
        (
            {"age": {"kind": "id", "min_cont": 2}},
            r"age.min_cont` is no key of a feature; did you mean `min_count`\?",
        ),
        (
            {"age": {"kind": "numerc"}},
            r"features.age.kind` must be one of .*, got `numerc`; did you mean `numeric`\?",
        ),
        ({"age": {}}, "`data.users.features.age.kind` must be one of .*, got `None`"),
        ({"age": {"knd": "id"}}, r"age.knd` is no key of a feature; did you mean `kind`\?"),
        (
            {"age": {"kind": "id", "transform": "log"}},
            "age.transform` is no key of the kind id; keys: kind, column, table, encoder",
        ),
        ({"agee": {"kind": "id"}}, r"there is no column `agee` in the users table; did you mean `age`\?"),
        (
            {"years": {"kind": "id", "column": "aeg"}},
            r"no column `aeg` in the users table; did you mean `age`\?",
        ),
        (
            {"age": {"kind": "id", "min_count": "2"}},
            "age.min_count` must be a whole number of at least 1, got `2`",
        ),
        ({"age": {"kind": "id", "min_count": 0}}, "must be a whole number of at least 1, got `0`"),
        ({"age": {"kind": "multi_id", "delimiter": ""}}, "age.delimiter` must be text, got ``"),
        ({"age": {"kind": "id", "encoder": "hash"}}, "a hashed feature needs `num_buckets`"),
        (
            {"age": {"kind": "numeric", "transform": "sqrt"}},
            "`transform` must be one of .* bucketise, got `sqrt`",
        ),
        ({"age": {"kind": "time"}}, "must be one of id, multi_id, numeric, text, vector, got `time`"),
        ({"age": "id"}, r"`data.users.features.age` must be settings such as `\{kind: id\}`, got `id`"),
        ({"user_id": {"kind": "id"}}, "the name `user_id` is taken"),
        ({"a.b": {"kind": "id", "column": "age"}}, "must be letters, digits and underscores, got `a.b`"),
    ],
)
def test_mistakes_are_named(declarations, message):
    with pytest.raises(ValueError, match=message):
        declared_features("users", declarations, columns=["user_id", "age", "zip"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"ids": {"userid": {"min_count": 2}}},
            r"`data.ids.userid`: only user_id, item_id, history .*mean `user_id`\?",
        ),
        ({"ids": {"item_id": {"column": "x"}}}, "`data.ids.item_id.column` is no key of the kind id"),
        (
            {"ids": {"history": {"min_count": 2}}},
            "`data.ids.history.min_count` is no key of a feature",
        ),
        (
            {"user_features": {"a": {"kind": "id"}}, "users": None},
            "`data.users.features` needs a users table",
        ),
        (
            {"context": {"d": {"kind": "id", "column": "device"}}, "label": Label(column="device")},
            "`data.interactions.features.d` reads the column `device`, which is not known before the event",
        ),
        (
            {"context": {"day": {"kind": "time"}}, "columns": {"timestamp": None}},
            "`data.interactions.features.day` needs timestamps",
        ),
        (
            {
                "user_features": {"n": {"kind": "id", "column": "age"}},
                "item_features": {"n": {"kind": "id", "column": "price"}},
            },
            "`data.items.features.n`: another feature has this name",
        ),
    ],
)
def test_mistakes_across_tables_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, EVENTS, **{**ALL, **changes})


def test_what_was_inferred_is_written_out_and_accepted_back(tmp_path):
    station = prepared(tmp_path / "first", EVENTS, **ALL)
    assert yaml.safe_load((station / "features.yaml").read_text()) == {
        "users": {
            "features": {"age": {"kind": "id", "column": "age"}, "zip": {"kind": "id", "column": "zip"}}
        },
        "items": {
            "features": {
                "genres": {"kind": "multi_id", "column": "genres", "delimiter": ";"},
                "price": {"kind": "numeric", "column": "price"},
                "title": {"kind": "text", "column": "title", "num_buckets": 5000},
            }
        },
        "interactions": {
            "features": {
                "hour": {"kind": "time", "part": "hour"},
                "weekday": {"kind": "time", "part": "weekday"},
            }
        },
    }
    again = prepared(tmp_path / "second", EVENTS, features_file=str(station / "features.yaml"), **ALL)
    assert schema_of(again) == schema_of(station)
    for file in ("items.parquet", "users.parquet", "train/part-00000.parquet", "features.yaml"):
        assert (again / file).read_bytes() == (station / file).read_bytes()


def test_an_edited_file_overrides_the_tables_it_names(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("users: {features: {age: {kind: numeric}}}\nitems: {features: }\n")
    station = prepared(
        tmp_path, EVENTS, features_file=str(path), item_features={"price": {"kind": "id"}}, **ALL
    )
    features = schema_of(station)
    assert features["age"]["kind"] == "numeric"
    assert "price" not in features
    assert "hour" in features
    assert manifest_of(station)["config"]["users"]["features"] == {"age": {"kind": "numeric"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("users: [", "cannot be read"),
        ("users: \udcff", "cannot be read"),
        ("users: {features: {a: 2024-13-45}}", "cannot be read"),
        ("users: " + "9" * 5_000, "cannot be read"),
        ("users: {" + ", ".join(f"a{n}" for n in range(50_001)) + "}", "at most 50,000 values"),
        ("[1]", "must hold `users`, `items` and `interactions`"),
        ("user: {features: {}}", r"unknown key `user`; did you mean `users`\?"),
        ("users: {age: {kind: id}}", "`users` must hold `features` and nothing else"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, EVENTS, features_file=str(path), **ALL)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "id", "column": "c", "min_count": 5, "prefix": 3, "table": "shared"},
        {"kind": "id", "column": "c", "encoder": "hash", "num_buckets": 7},
        {"kind": "multi_id", "column": "c", "delimiter": ";", "max_length": 3},
        {"kind": "numeric", "column": "c", "transform": "bucketise", "num_buckets": 20},
        {"kind": "numeric", "column": "c", "transform": "log"},
        {"kind": "text", "column": "c", "ngrams": 2, "num_buckets": 5000},
    ],
)
def test_a_declaration_survives_being_written_out(settings):
    [feature] = declared_features("items", {"x": settings}, columns=["c"])
    assert declaration(feature) == settings
    [again] = declared_features("items", {"x": declaration(feature)}, columns=["c"])
    assert again == feature


def test_features_yaml_is_made_of_declarations():
    text = features_yaml([IdFeature("user_id", "user"), IdFeature("größe", "item", column="größe")])
    assert yaml.safe_load(text)["items"]["features"] == {"größe": {"kind": "id", "column": "größe"}}


def test_tables_have_names_that_torchrec_can_hold(tmp_path):
    items = {"item_id": [1, 2], "type": ["film", "play"], "items": [3, 4]}
    station = prepared(tmp_path, EVENTS, **{**ALL, "items": items})
    features = [feature_of(feature) for feature in schema_of(station).values()]
    assert [f.name for f in features if f.role == "item"] == ["item_id", "type", "items"]
    FeatureTables([f for f in features if f.is_sparse], embedding_dim=4)
    assert (station / "vocabularies" / "type_table.parquet").is_file()


def test_a_title_column_must_be_there(tmp_path):
    options = options_for(tmp_path, EVENTS, **ALL)
    with_title = dataclasses.replace(options, items=dataclasses.replace(options.items, title_column="titel"))
    with pytest.raises(
        ValueError, match=r"there is no such column in the items table; did you mean `title`\?"
    ):
        prepare(with_title)
    named = dataclasses.replace(options, items=dataclasses.replace(options.items, title_column="genres"))
    assert manifest_of(prepare(named))["title_column"] == "genres"

"""The files of configs/data, built into options and used."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys.config.build import build
from recsys.config.check import Problem
from recsys.data.options import DataOptions
from recsys.data.prepare import prepare
from recsys.data.preparing.declare import declared_features
from recsys.data.sources.movielens import MovieLens
from recsys.data.sources.movielens_layouts import INTERACTIONS, ITEMS, USERS
from recsys.data.sources.synthetic import Synthetic

FOLDER = Path(__file__).parents[2] / "configs" / "data"
OTHERS = ["goodreads_once", "mind", "synthetic", "synthetic_bookstore", "table"]
MOVIELENS = ["movielens_100k", "movielens_1m", "movielens_20m", "movielens_32m"]


def options_of(name: str) -> DataOptions:
    problems: list[Problem] = []
    options = build(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()), DataOptions, "data", problems)
    assert problems == []
    assert isinstance(options, DataOptions)
    return options


def test_there_is_a_file_for_every_dataset() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted([*MOVIELENS, *OTHERS])


@pytest.mark.parametrize("name", [*MOVIELENS, *OTHERS])
def test_a_file_is_named_as_its_dataset(name: str) -> None:
    assert options_of(name).name == name


@pytest.mark.parametrize("name", MOVIELENS)
def test_movielens_files_name_their_variant_and_columns_that_it_has(name: str) -> None:
    options = options_of(name)
    assert options.source == MovieLens(name.removeprefix("movielens_"))  # type: ignore[arg-type]
    assert options.label.column in INTERACTIONS.names
    assert options.items.title_column in ITEMS.names
    for table, schema in (("interactions", INTERACTIONS), ("users", USERS), ("items", ITEMS)):
        features = getattr(options, table).features or {}
        assert len(declared_features(table, features, columns=schema.names)) == len(features)


def test_movielens_100k_has_the_features_that_peers_were_measured_with() -> None:
    options = options_of("movielens_100k")
    features = {**(options.users.features or {}), **(options.interactions.features or {})}
    features |= options.items.features or {}
    wanted = {"age", "gender", "occupation", "zip_code", "genres", "release_year", "hour", "weekday"}
    assert set(features) == wanted | {"title"}
    assert features["zip_code"]["prefix"] == 3


def test_synthetic_is_prepared_with_all_its_features(tmp_path: Path) -> None:
    options = options_of("synthetic")
    assert isinstance(options.source, Synthetic)
    small = dataclasses.replace(options.source, num_users=200, num_items=100, num_interactions=3_000)
    path = prepare(dataclasses.replace(options, source=small, cache_dir=str(tmp_path)))
    schema = json.loads((path / "schema.json").read_text())["features"]
    assert {feature["name"] for feature in schema} == {
        *("user_id", "age", "group", "history"),
        *("item_id", "categories", "price", "title"),
    }
    assert pq.read_table(path / "test").num_rows == pytest.approx(300, abs=2)


def test_table_needs_but_a_path_where_columns_are_named_as_ours(tmp_path: Path) -> None:
    rows: dict[str, Any] = {
        "user_id": [n % 7 for n in range(100)],
        "item_id": [n % 11 for n in range(100)],
        "timestamp": list(range(100)),
    }
    pq.write_table(pa.table(rows), tmp_path / "events.parquet")
    options = options_of("table")
    interactions = dataclasses.replace(options.interactions, path=str(tmp_path / "events.parquet"))
    options = dataclasses.replace(options, interactions=interactions, timestamp_unit="s")
    path = prepare(dataclasses.replace(options, cache_dir=str(tmp_path)))
    assert [pq.read_table(path / split).num_rows for split in ("train", "validation", "test")] == [80, 10, 10]

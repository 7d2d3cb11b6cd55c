"""Spark prepares the same dataset as DuckDB, to the byte, from tables that hold what tables hold."""

import dataclasses
import datetime
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.options import (
    Auxiliary,
    Columns,
    DataOptions,
    InteractionsTable,
    Label,
    NeighbourOptions,
    SideTable,
    StatisticOptions,
)
from recsys.data.prepare import prepare
from recsys.schema.errors import InputError
from tests.data.preparing import manifest_of

pytestmark = pytest.mark.slow
pytest.importorskip("pyspark", reason="pip install 'recsys[spark]'")

MASTER = {"master": "local[2]", "sql.shuffle.partitions": 3}
WORDS = ["Zoë", "naïve", "東京", "a,b", 'say "x"', "Ünïcode", "plain", "😀", "tab\there", "'quoted'"]


@pytest.fixture(scope="module", autouse=True)
def session():
    """One session for all tests: a new one takes many seconds."""
    from recsys.data.reading.spark import start_session

    session, _ = start_session(MASTER)
    yield session
    session.stop()


def write_tables(folder: Path) -> None:
    """Interactions in two Parquet files, users as CSV, items as Parquet; all with rows that are of no use."""
    rng = random.Random(0)
    users = [f"{rng.choice(WORDS)}-{number}" for number in range(40)]
    (folder / "events").mkdir(parents=True)
    for part in range(2):
        rows = events(rng, users)
        again = rows.slice(0, 20).set_column(3, "stars", pa.array([3.0] * 20))  # with another label
        pq.write_table(pa.concat_tables([rows, again]), folder / "events" / f"part-{part}.parquet")
    lines = [
        f"{user.replace(chr(9), ' ')};{number};{rng.choice(WORDS[:3])};2020-01-0{number % 9 + 1}"
        for number, user in enumerate(users)
    ]
    content = ["user;age;city;joined", *lines, ";3;Rome;x", lines[1]]
    (folder / "users.csv").write_text("\n".join(content), encoding="utf-8")
    items = {
        "item": [*range(34), None, 3],
        "title": [f"{rng.choice(WORDS)} {rng.choice(WORDS)}" for _ in range(36)],
        "tags": [rng.choice(["['a', \"b c\"]", "[x, y]", "[]", None, "['it\\'s']"]) for _ in range(36)],
        "cost": [rng.choice([1.5, 2.25, None, float("nan")]) for _ in range(36)],
    }
    pq.write_table(pa.table(items), folder / "items.parquet")


def events(rng: random.Random, users: list[str], size: int = 450) -> pa.Table:
    """Events with ties, nulls, NaN, infinities, zones, and text of all kinds."""

    def drawn(*values):
        return [rng.choice(values) for _ in range(size)]

    start = datetime.datetime(2023, 1, 1, tzinfo=datetime.UTC)
    instants = [start + datetime.timedelta(hours=6 * rng.randrange(200)) for _ in range(size)]
    return pa.table(
        {
            "user": [user if rng.random() < 0.98 else None for user in drawn(*users)],
            "item": [item if rng.random() < 0.98 else None for item in drawn(*range(30))],
            "at": pa.array(
                [instant if rng.random() < 0.99 else None for instant in instants],
                pa.timestamp("us", "Europe/Rome"),
            ),
            "stars": drawn(1.0, 2.0, 4.0, 5.0, float("nan"), None),
            "watched": drawn(0.1, 33.25, 1e-7, 1e22, None),
            "device": drawn("phone", "Tablet", " tv ", "", None, *WORDS),
            "price": drawn("$3.20", "1,5", "12%", "x", None, "1e3", "-7"),
            "queries": drawn(["a", "b"], [], None, ["é", None]),
            "is_new": drawn(True, False, None),
            "code": pa.array(drawn(7, -(2**62), 2**62, None), pa.int64()),
            "temperature": pa.array(drawn(0.1, float("inf"), None, 2.5), pa.float32()),
            "part": drawn("train", "train", "train", "valid", "test"),
        }
    )


def options(folder: Path, **changes) -> DataOptions:
    """Options for these tables, all features inferred."""
    columns = Columns(user_id="user", item_id="item", timestamp="at", split="part")
    table = InteractionsTable(path=str(folder / "events"), columns=columns, features=CONTEXT)
    given = DataOptions(
        interactions=table,
        users=SideTable(path=str(folder / "users.csv")),
        items=SideTable(path=str(folder / "items.parquet")),
        label=Label(column="stars", positive_at_least=4),
        max_rejected_share=0.9,
    )
    return dataclasses.replace(given, **changes)


CONTEXT = {
    "device": {"kind": "id"},
    "price": {"kind": "numeric"},
    "queries": {"kind": "multi_id"},
    "is_new": {"kind": "id"},
    "code": {"kind": "id"},
    "temperature": {"kind": "numeric"},
    "hour": {"kind": "time", "part": "hour"},
}
STATISTICS = {
    "user_count": StatisticOptions(("user_id",), "count"),
    "item_share": StatisticOptions(("item_id",), "positive_share", window="30 days"),
    "city_mean": StatisticOptions(("city",), "label_mean", window="5 events"),
    "since": StatisticOptions(("user_id", "device"), "recency"),
}
CASES = {
    "global_time": {"statistics": STATISTICS, "neighbours": NeighbourOptions(number=3, shrinkage=2.0)},
    "leave_last_out": {"statistics": {"count": STATISTICS["user_count"]}},
    "random": {"auxiliary_labels": {"watched": Auxiliary(column="watched", transform="log")}},
    "cold_item": {},
    "cold_user": {},
    "predefined": {"validation_from_train": "last"},
}


def files_of(station: Path) -> dict[str, bytes]:
    paths = (path for path in station.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(station)): path.read_bytes() for path in paths}


def approximately(plain):
    """The same values, numbers up to the order in which an engine has added them."""
    if isinstance(plain, dict):
        return {key: approximately(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [approximately(value) for value in plain]
    return pytest.approx(plain, rel=1e-12) if isinstance(plain, float) else plain


def told(station: Path) -> dict[str, object]:
    """What the manifest says, but for when it was made, and the engines' own names of types."""
    varying = ("created", "checksum", "fingerprint", "files")
    manifest = {key: value for key, value in manifest_of(station).items() if key not in varying}
    for column in manifest["understood"]["columns"]:
        del column["type"]
    return manifest


def both(folder: Path, given: DataOptions) -> tuple[Path, Path]:
    by_duckdb = prepare(dataclasses.replace(given, cache_dir=str(folder / "duckdb")))
    by_spark = prepare(
        dataclasses.replace(given, cache_dir=str(folder / "spark"), engine="spark", engine_options=MASTER)
    )
    return by_duckdb, by_spark


@pytest.mark.parametrize("split", CASES)
def test_spark_writes_the_same_files(split, tmp_path):
    write_tables(tmp_path)
    by_duckdb, by_spark = both(tmp_path, options(tmp_path, split=split, **CASES[split]))
    expected, found = files_of(by_duckdb), files_of(by_spark)
    assert sorted(found) == sorted(expected)
    schemas = [json.loads(files.pop("schema.json")) for files in (expected, found)]
    assert schemas[1] == approximately(schemas[0])
    assert [name for name in expected if found[name] != expected[name]] == []
    assert told(by_spark) == told(by_duckdb)


def test_rows_without_users_are_the_same(tmp_path):
    write_tables(tmp_path)
    given = options(tmp_path, split="predefined", users=SideTable(), items=SideTable())
    columns = Columns(user_id=None, item_id=None, timestamp=None, split="part")
    features = {name: declared for name, declared in CONTEXT.items() if name != "hour"}
    table = dataclasses.replace(given.interactions, columns=columns, features=features)
    given = dataclasses.replace(given, interactions=table)
    by_duckdb, by_spark = both(tmp_path, given)
    assert files_of(by_spark) == files_of(by_duckdb)


def test_text_of_instants_and_numbers_is_read_the_same(tmp_path):
    """Forms that the engine's own casts do not read, and names of zones that requests do not know."""
    write = (
        "%Y%m%dT%H%M%S",
        "%Y-%m-%d %H:%M:%S,5 +0200",
        "%Y-%m-%dt%H:%Mz",
        "%Y-%m-%d %H:%M:%S Europe/Berlin",
    )
    start = datetime.datetime(2023, 1, 1, 8, tzinfo=datetime.UTC)
    times = [(start + datetime.timedelta(minutes=n)).strftime(write[n % 4]) for n in range(60)]
    prices = [("\u22121.5", "2", "1e\u22122")[n % 3] for n in range(60)]
    table = {
        "user": [n % 9 for n in range(60)],
        "item": [n % 7 for n in range(60)],
        "at": times,
        "price": prices,
    }
    pq.write_table(pa.table(table), tmp_path / "events.parquet")
    columns = Columns(user_id="user", item_id="item", timestamp="at")
    features = {"price": {"kind": "numeric"}}
    interactions = InteractionsTable(
        path=str(tmp_path / "events.parquet"), columns=columns, features=features
    )
    by_duckdb, by_spark = both(tmp_path, DataOptions(interactions=interactions, split="random"))
    assert files_of(by_spark) == files_of(by_duckdb)
    assert manifest_of(by_spark)["counts"]["rows"] == manifest_of(by_duckdb)["counts"]["rows"]
    assert sum(manifest_of(by_spark)["counts"]["rows"].values()) == 60


def test_a_setting_that_preparing_relies_on_is_refused(tmp_path):
    write_tables(tmp_path)
    given = options(tmp_path, engine="spark", engine_options={"sql.session.timeZone": "Europe/Rome"})
    with pytest.raises(
        InputError, match=r"`spark.sql.session.timeZone` is set by preparing, which relies on `UTC`"
    ):
        prepare(dataclasses.replace(given, cache_dir=str(tmp_path / "cache")))

"""Raw tables on object storage and in a database, read from real servers on this machine."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys.data.options import Columns, DataOptions, InteractionsTable, Label
from recsys.data.prepare import prepare
from recsys.data.reading.remote import local_path
from recsys.schema.errors import InputError
from tests.servers import EVENTS


def options(path: str, cache: Path) -> DataOptions:
    table = InteractionsTable(path=path, columns=Columns())
    label = Label(column="stars", positive_at_least=4)
    return DataOptions(interactions=table, label=label, split="leave_last_out", cache_dir=str(cache))


def test_a_table_on_s3_is_prepared_as_the_file_is(store, tmp_path):
    (tmp_path / "a.csv").write_text(EVENTS)
    here = prepare(options(str(tmp_path / "a.csv"), tmp_path / "here"))
    there = prepare(options("s3://shop/events", tmp_path / "there"))
    for name in ("items.parquet", "histories/test.parquet", "train/part-00000.parquet"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
    assert "secret" not in (there / "manifest.json").read_text()
    assert prepare(options("s3://shop/events", tmp_path / "there")) == there


def test_a_changed_file_on_s3_is_fetched_anew(store, tmp_path):
    store.put_object(Bucket="shop", Key="changing.csv", Body=b"a\n1\n")
    first = local_path("s3://shop/changing.csv", cache=tmp_path, key="data.items.path")
    assert first.read_bytes() == b"a\n1\n"
    assert first.name == "changing.csv"
    store.put_object(Bucket="shop", Key="changing.csv", Body=b"a\n1\n2\n")
    second = local_path("s3://shop/changing.csv", cache=tmp_path, key="data.items.path")
    assert second.read_bytes() == b"a\n1\n2\n"


def test_what_is_not_on_s3_is_named(store, tmp_path):
    with pytest.raises(
        InputError, match=r"`data.items.path=s3://shop/none`: there is no such file or folder"
    ):
        local_path("s3://shop/none", cache=tmp_path, key="data.items.path")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("postgresql://me:secret@host/shop?table=events", "expected an address without a password"),
        ("postgresql://me@host/shop?password=secret&table=events", "expected an address without a password"),
        ("postgresql://me@host/shop", r"name the table: `...\?table=events`"),
        ("ftp://host/events.csv", "received `ftp`; fetch the table and name the file"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused(address, message, tmp_path):
    with pytest.raises(InputError, match=message) as refused:
        local_path(address, cache=tmp_path, key="data.interactions.path")
    assert "secret" not in str(refused.value)


@pytest.mark.slow
def test_a_table_of_a_database_is_prepared_and_found_again(database, tmp_path):
    path = f"{database}?table=shop.events"
    station = prepare(options(path, tmp_path / "cache"))
    found = pq.read_table(station / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    assert sorted(found[1:]) == list(range(8))
    assert prepare(options(path, tmp_path / "cache")) == station
    with pytest.raises(InputError, match=r"relation .*nothing.* does not exist"):
        prepare(options(f"{database}?table=nothing", tmp_path / "cache"))

"""Raw tables on object storage and in a database, read from real servers on this machine."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys.data.options import Columns, DataOptions, InteractionsTable, Label
from recsys.data.prepare import prepare
from recsys.data.reading.remote import local_path
from recsys.schema.errors import InputError

EVENTS = "user_id,item_id,timestamp,stars\n" + "".join(
    f"{user},{item},{1_600_000_000 + 100 * user + item},{1 + (user * item) % 5}\n"
    for user in range(6)
    for item in range(8)
)


@pytest.fixture(scope="module")
def store():
    """An S3 server, and a client of it."""
    moto = pytest.importorskip("moto.server", reason="pip install 'moto[server]' boto3")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    settings = {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="shop")
        client.put_object(Bucket="shop", Key="events/2024/a.csv", Body=EVENTS.encode())
        yield client
    server.stop()


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


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A PostgreSQL server with the table `shop.events`; its address without a table."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not programs or os.geteuid() != 0:
        pytest.skip("no PostgreSQL server (Debian: apt-get install postgresql) or not root")
    pytest.importorskip("adbc_driver_postgresql", reason="pip install 'recsys[postgresql]'")
    bin_, folder = programs[-1].parent, Path(tempfile.gettempdir()) / f"recsys-postgresql-{os.getpid()}"

    def run(*command: str) -> None:
        subprocess.run(
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command],
            check=True,
            capture_output=True,
            cwd="/",
        )

    run(str(bin_ / "initdb"), "-D", str(folder), "-A", "trust")
    run(
        str(bin_ / "pg_ctl"),
        "-D",
        str(folder),
        "-w",
        "-l",
        f"{folder}/log",
        "-o",
        f"-p 54329 -k {folder} -c fsync=off",
        "start",
    )
    try:
        (folder / "events.csv").write_text(EVENTS)
        psql = (
            str(bin_ / "psql"),
            "-h",
            str(folder),
            "-p",
            "54329",
            "-v",
            "ON_ERROR_STOP=1",
            "postgres",
            "-c",
        )
        run(*psql, "CREATE SCHEMA shop")
        run(*psql, "CREATE TABLE shop.events (user_id int, item_id bigint, timestamp bigint, stars real)")
        run(*psql, f"COPY shop.events FROM '{folder}/events.csv' CSV HEADER")
        yield "postgresql://postgres@127.0.0.1:54329/postgres"
    finally:
        run(str(bin_ / "pg_ctl"), "-D", str(folder), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_table_of_a_database_is_prepared_and_found_again(database, tmp_path):
    path = f"{database}?table=shop.events"
    station = prepare(options(path, tmp_path / "cache"))
    found = pq.read_table(station / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    assert sorted(found[1:]) == list(range(8))
    assert prepare(options(path, tmp_path / "cache")) == station
    with pytest.raises(InputError, match=r"relation .*nothing.* does not exist"):
        prepare(options(f"{database}?table=nothing", tmp_path / "cache"))

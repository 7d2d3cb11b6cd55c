"""Real servers on this machine: an S3 store by moto, and a PostgreSQL database."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

EVENTS = "user_id,item_id,timestamp,stars\n" + "".join(
    f"{user},{item},{1_600_000_000 + 100 * user + item},{1 + (user * item) % 5}\n"
    for user in range(6)
    for item in range(8)
)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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

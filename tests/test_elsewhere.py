"""Commands whose folders lie on object storage and whose tables go to a database."""

import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.commands import copy, elsewhere, embed, evaluate, prepare, recommend, train
from recsys.runs.environment import PROJECT
from recsys.schema.errors import InputError

SIZE = ["data=synthetic", "data.source.num_interactions=3000", "data.source.num_users=150"]
SIZE += ["data.source.num_items=100", "data.source.repeats=true"]


@pytest.fixture
def said(capsys):
    """Runs a command that must end well and returns the last line of its stdout."""

    def run(command, *words):
        with pytest.raises(SystemExit) as ended:
            command.main(list(map(str, words)))
        captured = capsys.readouterr()
        assert ended.value.code == 0, captured.err[-3000:]
        return captured.out.splitlines()[-1]

    return run


def exported(*words):
    """The path that the command prints; a process of its own, for torch.jit keeps types between exports."""
    command = [sys.executable, "-m", "recsys", "export", *words]
    return subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.mark.slow
def test_whole_way_on_object_storage_from_machine_to_machine(store, said, tmp_path, monkeypatch):
    def on_a_new_machine():
        monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / f"cache-{len(list(tmp_path.glob('cache-*')))}"))
        (tmp_path / f"cache-{len(list(tmp_path.glob('cache-*')))}").mkdir()

    on_a_new_machine()
    made = said(prepare, *SIZE)
    assert said(copy, f"what={made}", "to=s3://shop/way/data") == "s3://shop/way/data"
    shutil.rmtree(made)

    on_a_new_machine()
    words = ["data=synthetic", "data.prepared=s3://shop/way/data", "model=two_tower", "trainer.max_epochs=1"]
    run = "s3://shop/way/run"
    assert said(train, *words, f"run_dir={run}") == run
    assert not list((tmp_path / "cache-1" / "writing").rglob("*.json")), "a copy is left"

    on_a_new_machine()
    assert said(evaluate, f"run={run}", "evaluation=fast") == f"{run}/evaluation"
    on_a_new_machine()
    assert exported(f"run={run}") == f"{run}/bundle"
    on_a_new_machine()
    asked = [f"bundle={run}/bundle", "data=synthetic", "data.prepared=s3://shop/way/data", "k=5"]
    assert said(recommend, *asked, "out=s3://shop/way/lists.parquet") == "s3://shop/way/lists.parquet"
    store.download_file("shop", "way/lists.parquet", str(tmp_path / "lists.parquet"))
    assert set(pq.read_table(tmp_path / "lists.parquet").column_names) == {
        *("user_id", "rank", "item_id", "score")
    }
    copied = said(copy, f"what={run}/evaluation", f"to={tmp_path / 'evaluation'}")
    assert (tmp_path / "evaluation" / "report.html").is_file()
    assert copied == str(tmp_path / "evaluation")
    for entry in store.list_objects(Bucket="shop", Prefix="way")["Contents"]:
        if entry["Key"].endswith((".json", ".yaml", ".log")):
            content = store.get_object(Bucket="shop", Key=entry["Key"])["Body"].read()
            assert b"secret" not in content, entry["Key"]
    with pytest.raises(SystemExit) as ended:
        train.main([*words, f"run_dir={run}"])
    assert ended.value.code == 2


@pytest.mark.slow
def test_lists_and_vectors_go_to_a_database_and_replace_those_of_before(
    database, said, tmp_path, monkeypatch
):
    from adbc_driver_postgresql import dbapi

    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    words = [*SIZE, "model=two_tower", "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}"]
    said(train, *words)
    bundle = exported(f"run={tmp_path / 'run'}")
    prepared = next((tmp_path / "cache" / "prepared").glob("synthetic-*"))
    asked = [f"bundle={bundle}", "data=synthetic", f"data.prepared={prepared}"]
    for k in (5, 3):
        address = f"{database}?table=shop.lists"
        assert said(recommend, *asked, f"k={k}", f"out='{address}'") == address
        with dbapi.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT max(rank), count(DISTINCT user_id) FROM shop.lists")
            assert cursor.fetchone() == (k, pq.read_table(prepared / "users.parquet").num_rows - 1)
    said(embed, *asked, f"out='{database}?table=vectors'")
    with dbapi.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM vectors_items")
        items = cursor.fetchone()[0]
        cursor.execute("SELECT count(*) FROM vectors_users WHERE array_length(vector, 1) > 1")
        assert cursor.fetchone()[0] > 0
    assert items == pq.read_table(prepared / "items.parquet").num_rows - 1


def test_table_is_replaced_in_one_transaction(database, tmp_path):
    from adbc_driver_postgresql import dbapi

    file = tmp_path / "lists.parquet"
    pq.write_table(pa.table({"user_id": [1, 2]}), file)
    elsewhere._put(file, f"{database}?table=numbers", "out")

    class Rows:
        schema_arrow = pa.schema({"user_id": pa.int64()})

        def __init__(self, path):
            pass

        def iter_batches(self):
            yield pa.record_batch({"user_id": [7]})
            raise RuntimeError("the process ends in the middle")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq, "ParquetFile", Rows)
        with pytest.raises((RuntimeError, InputError), match=r"ends in the middle"):
            elsewhere._put(file, f"{database}?table=numbers", "out")
    with dbapi.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT user_id FROM numbers ORDER BY user_id")
        assert cursor.fetchall() == [(1,), (2,)]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["out=ftp://host/lists"], r"`out=ftp://host/lists`: expected a folder, or an address of s3,"),
        (["run_dir=postgresql://host/shop?table=x"], "`run_dir=postgresql://.*: expected a folder"),
        (["out=postgresql://host/shop"], r"name the table: `...\?table=lists`"),
        (["out=postgresql://me:word@host/shop?table=lists"], "expected an address without a password"),
        (["bundle=s3://me:word@shop/bundle"], "expected an address without a password"),
    ],
)
def test_address_that_nothing_can_be_written_to_is_named(words, match):
    with pytest.raises(InputError, match=match) as refused:
        elsewhere.with_places(words)
    assert ":word" not in str(refused.value)


def test_other_overrides_stay_as_they_are():
    words = ["run=runs/first", "+data.interactions.path=s3://shop/events", "seed=0,1", "out='a b.parquet'"]
    assert elsewhere.with_places(words).overrides == words


def test_several_trainings_do_not_write_to_a_store(store):
    places = elsewhere.with_places(["run_dir=s3://shop/sweep"])
    with pytest.raises(InputError, match="`run_dir=s3://shop/sweep`: several trainings write into a folder"):
        places.refuse_written("several trainings write")

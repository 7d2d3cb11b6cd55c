"""Lists for all users of a table: the same as one request after the other, resumed part by part."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.commands.embed import main as embed
from recsys.commands.recommend import main
from recsys.serving import bulk
from recsys.serving.bulk import BulkOptions, write_lists
from recsys.serving.bundle import Bundle
from recsys.serving.values import RequestError
from tests.exporting.conftest import export, export_both, stage, two_tower
from tests.exporting.test_statistics import wide_deep, world


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return world(tmp_path_factory.mktemp("everybody"))


@pytest.fixture(scope="module", params=["retrieval", pytest.param("two stages", marks=pytest.mark.slow)])
def bundle(request, dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    if request.param == "retrieval":
        export(two_tower(dataset), dataset, folder)
    else:
        export_both(
            stage(two_tower(dataset), dataset), stage(wide_deep(dataset), dataset), folder, num_candidates=9
        )
    return Bundle.open(folder)


USERS = pa.table(
    {
        "uid": [1, 2, 3, 999, 5, 6, 7],
        "plan": ["a", None, "b", "a", "never seen", None, None],
        "history": [
            ["s1", "s2"],
            [],
            ["s3"],
            ["nobody", "s4", "s4"],
            None,
            [f"s{n}" for n in range(19)],
            ["s1"],
        ],
    }
)


def lists_in(file):
    lists = {}
    for row in pq.read_table(file).to_pylist():
        lists.setdefault(row["user_id"], []).append((row["rank"], row["item_id"], row["score"]))
    return lists


@pytest.mark.parametrize("where", [{}, {"genres": ["x"]}])
def test_lists_of_a_table_are_those_of_single_requests(bundle, tmp_path, where):
    write_lists(
        bundle, USERS, tmp_path / "lists.parquet", BulkOptions(k=6, where=where, users_a_part=3, processes=1)
    )
    found = lists_in(tmp_path / "lists.parquet")
    for row in USERS.to_pylist():
        user = {name: row[name] for name in ("uid", "plan") if row[name] is not None}
        ids, scores, *_ = bundle.recommend(user, row["history"], 6, where=where)
        assert [one[:2] for one in found[row["uid"]]] == [*enumerate(ids, start=1)]
        assert [one[2] for one in found[row["uid"]]] == pytest.approx(scores, abs=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["lists.parquet"]


def test_work_goes_on_where_it_was_interrupted(bundle, tmp_path, monkeypatch):
    out, options = tmp_path / "lists.parquet", BulkOptions(k=4, users_a_part=2, processes=1)
    write_lists(bundle, USERS, out, options)
    whole = out.read_bytes()
    out.unlink()
    write_part, made = bulk._write_part, []

    def interrupted(work, part, opened=None):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(part)
        write_part(work, part, opened)

    monkeypatch.setattr(bulk, "_write_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_lists(bundle, USERS, out, options)
    assert made == [0, 1]
    monkeypatch.setattr(bulk, "_write_part", lambda *given: (made.append(given[1]), write_part(*given)))
    write_lists(bundle, USERS, out, options)
    assert made == [0, 1, 2, 3]
    assert out.read_bytes() == whole
    # Other work begins anew.
    monkeypatch.setattr(bulk, "_concatenate", None)
    with pytest.raises(TypeError):
        write_lists(bundle, USERS, out, options)
    monkeypatch.undo()
    write_lists(bundle, USERS.slice(0, 3), out, options)
    assert set(lists_in(out)) == {1, 2, 3}


def test_a_value_that_is_not_what_it_must_be_is_named_with_its_row(bundle, tmp_path):
    users = pa.table({"uid": [1, 2, 3], "plan": [["a"], ["b"], ["c"]]})
    with pytest.raises(RequestError, match=r"`row 1.plan` must be one value"):
        write_lists(bundle, users, tmp_path / "lists.parquet", BulkOptions(processes=1))


def run(capsys, *arguments, command=main):
    with pytest.raises(SystemExit) as ended:
        command(arguments)
    return ended.value.code, *capsys.readouterr()


def test_the_command_gives_lists_to_every_user_of_a_dataset(bundle, dataset, tmp_path, capsys):
    out = tmp_path / "lists.parquet"
    data = "data=table", f"data.prepared={dataset.path}"
    keys = f"bundle={bundle.folder}", f"out={out}", "k=3", "processes=2", "users_a_part=20"
    status, said, errors = run(capsys, *data, *keys)
    assert (status, said.strip().splitlines()[-1]) == (0, str(out)), errors
    found = lists_in(out)
    assert set(found) == set(dataset.user_ids[1:].tolist())
    columns = ["timestamp", "user_row", "item_row", "positive"]
    splits = [dataset.split_table(split).select(columns) for split in ("train", "validation", "test")]
    liked = {}
    for event in pa.concat_tables(splits).sort_by("timestamp").to_pylist():
        if event["positive"]:
            user_id, item_id = dataset.user_ids[event["user_row"]], dataset.item_ids[event["item_row"]]
            liked.setdefault(user_id, []).append(item_id)
    for user_id in (1, 5, 12):
        expected = bundle.recommend({"user_id": user_id}, liked[user_id], 3)[0]
        assert {one[1] for one in found[user_id]} == set(expected)


def test_a_mistake_of_the_user_ends_the_command_with_its_reason(bundle, tmp_path, capsys):
    (tmp_path / "users.csv").write_text("name\nAda\n")
    out = f"out={tmp_path / 'lists.parquet'}"
    status, _, errors = run(capsys, f"bundle={bundle.folder}", out, f"queries={tmp_path / 'users.csv'}")
    assert status == 2
    assert "lacks `user_id` or `uid`" in errors
    status, _, errors = run(capsys, f"bundle={bundle.folder}", out)
    assert status == 2
    assert "expected `queries=FILE`, a table of users, or `data=NAME`" in errors


@pytest.mark.parametrize(
    ("command", "out", "reason"),
    [
        (main, "users/part.csv", "is read as `queries`"),
        (main, "users/lists.parquet", "is read as `queries`"),
        (main, "letter.txt", "is there and no Parquet file"),
        (embed, "vectors", "is there and no Parquet file"),
    ],
)
def test_nothing_that_is_there_is_written_over(bundle, tmp_path, capsys, command, out, reason):
    texts = {"users/part.csv": "uid\n1\n", "letter.txt": "mine", "vectors/users.parquet": "mine"}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    keys = f"bundle={bundle.folder}", f"queries={tmp_path / 'users'}", f"out={tmp_path / out}"
    status, _, errors = run(capsys, *keys, command=command)
    assert (status, "Traceback" in errors) == (2, False)
    assert reason in errors
    assert {name: (tmp_path / name).read_text() for name in texts} == texts


def test_the_inner_products_of_vectors_are_the_scores(bundle, tmp_path, capsys):
    pq.write_table(USERS, tmp_path / "users.parquet")
    out, keys = tmp_path / "vectors", (f"bundle={bundle.folder}", f"out={tmp_path / 'vectors'}")
    for _ in range(2):  # an earlier folder is replaced
        status, said, errors = run(capsys, *keys, f"queries={tmp_path / 'users.parquet'}", command=embed)
        assert (status, said.strip().splitlines()[-1]) == (0, str(out)), errors
    items, users = (pq.read_table(out / f"{name}.parquet") for name in ("items", "users"))
    assert users["user_id"].to_pylist() == USERS["uid"].to_pylist()
    scores = np.array(users["vector"].to_pylist()) @ np.array(items["vector"].to_pylist()).T
    for row, user_scores in zip(USERS.to_pylist(), scores, strict=True):
        user = {name: row[name] for name in ("uid", "plan") if row[name] is not None}
        ids, found = bundle.retrieval.recommend(user, row["history"] or [], len(items))
        own = dict(zip(items["item_id"].to_pylist(), user_scores, strict=True))
        assert [own[item_id] for item_id in ids] == pytest.approx(found, abs=1e-5)
    (out / "mine.txt").write_text("mine")
    status, _, errors = run(capsys, *keys, command=embed)
    assert status == 2
    assert "must be a new folder or one of vectors" in errors


@pytest.mark.slow
def test_spark_makes_the_same_file_and_goes_on_where_it_was_stopped(bundle, tmp_path, capsys):
    pytest.importorskip("pyspark", reason="pip install 'recsys[spark]'")
    pq.write_table(USERS, tmp_path / "users.parquet")
    words = [f"bundle={bundle.folder}", f"queries={tmp_path / 'users.parquet'}", "k=4", "users_a_part=2"]
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    assert run(capsys, *words, f"out={here}", "processes=1")[0] == 0
    spark = ["engine=spark", "engine_options.master='local[2]'"]
    status, said, errors = run(capsys, *words, f"out={there}", *spark)
    assert (status, said.strip().splitlines()[-1]) == (0, str(there)), errors
    assert there.read_bytes() == here.read_bytes()

    pq.write_table(pa.table({"uid": [1, 2], "plan": [["a"], ["b"]]}), tmp_path / "users.parquet")
    status, _, errors = run(capsys, *words, f"out={there}", *spark)
    assert status == 2, errors
    assert "`row 1.plan` must be one value" in errors
    assert there.read_bytes() == here.read_bytes()


def test_options_of_spark_without_spark_are_refused(bundle, tmp_path, capsys):
    words = f"bundle={bundle.folder}", f"out={tmp_path / 'x'}", f"queries={tmp_path / 'y'}"
    status, _, errors = run(capsys, *words, "engine_options.master=yarn")
    assert status == 2
    assert "`engine_options` are for `engine=spark`; leave them out" in errors

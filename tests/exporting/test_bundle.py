"""A bundle's answers against the trained model's, computed here from the prepared data."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest
import torch

from recsys.exporting.bundle import export_bundle
from recsys.exporting.options import ExportOptions
from recsys.models.two_tower import TwoTower
from recsys.schema.manifest import read_station
from tests.exporting import worlds
from tests.exporting.conftest import HISTORY_LENGTH, export, matrix_factorization, stage, wide_deep


def known_queries(exported):
    """The test queries with what a client knows of them: user id, context columns, history."""
    dataset = exported.dataset
    queries = dataset.queries("test", mode="event", history_length=HISTORY_LENGTH)
    table = dataset.split_table("test")
    table = table.filter(table["positive"])
    raw = {name: table[name].to_pylist() for name in table.column_names if name.startswith("raw.")}
    contexts = [
        {name.removeprefix("raw."): values[row] or None for name, values in raw.items()}
        for row in range(len(queries))
    ]
    ids = dataset.item_ids
    histories = [
        [
            ids[row] if row else "nobody's"
            for row in queries.histories.select(torch.tensor([q])).values.tolist()
        ]
        for q in range(len(queries))
    ]
    users = [{"user_id": user} for user in table["user_id"].to_pylist()]
    return queries, users, histories, contexts


def test_batched_calls_equal_single_ones(retrieval):
    program = retrieval.program
    _, users, histories, contexts = known_queries(retrieval)
    vectors = program.encode_users(users, histories, contexts)
    ids, scores = program.recommend_batch(users, histories, 5, contexts, [["sku-1é"]] * len(users))
    for q in range(len(users)):
        single = program.encode_user(users[q], histories[q], contexts[q])
        torch.testing.assert_close(vectors[q], single, rtol=0, atol=1e-5)
        one, one_scores = program.recommend(users[q], histories[q], 5, contexts[q], ["sku-1é"])
        assert ids[q] == one
        assert scores[q] == pytest.approx(one_scores, abs=1e-5)
    items = [{"item_id": "sku-3é"}, {"title": "Toy story"}, {}]
    torch.testing.assert_close(program.encode_items(items)[1], program.encode_item(items[1]))


def test_many_items_for_one_user_equal_rows_of_them(ranker):
    program = ranker.program
    user = {"user_id": 5, "age": 33}
    history = ["sku-2é", "sku-9é"]
    context = {"timestamp": 1_600_000_000_000, "device": "tv", "basket": ["p", "q"]}
    ids = ["sku-4é", "sku-7é", "unheard of", "sku-4é"]
    found = program.predict_items(user, ids, history, context)
    rows = [{**user, **context, "item_id": item, "history": history} for item in ids]
    torch.testing.assert_close(found, program.predict(rows), rtol=0, atol=1e-6)
    assert found[0] == found[3] != found[1]
    assert program.predict_items(user, ["sku-4é"], [], None).shape == (1,)


def test_no_rows_give_no_probabilities(ranker):
    assert ranker.program.predict([]).shape == (0,)
    assert ranker.program.predict_items({"user_id": 5}, [], [], None).shape == (0,)


def test_a_given_value_overrides_what_is_stored_and_none_says_that_it_is_unknown(retrieval):
    encode = retrieval.program.encode_user
    dataset = retrieval.dataset
    raw = dataset.raw_users.select(["user_id", "raw.age"]).to_pylist()
    known = next(row for row in raw if row["raw.age"] is not None)
    stored = encode({"user_id": known["user_id"]}, [])
    torch.testing.assert_close(encode({"user_id": known["user_id"], "age": known["raw.age"]}, []), stored)
    older = encode({"user_id": known["user_id"], "age": known["raw.age"] + 30}, [])
    nothing = encode({"user_id": known["user_id"], "age": None}, [])
    assert not torch.allclose(older, stored)
    assert not torch.allclose(nothing, stored)
    assert not torch.allclose(nothing, older)


def test_a_user_of_whom_nothing_is_known_is_always_the_same(retrieval):
    expected = retrieval.program.encode_user({}, [])
    for user in ({"user_id": 10**9}, {"user_id": "nobody"}, {"user_id": None}, {"favourite_colour": "red"}):
        torch.testing.assert_close(retrieval.program.encode_user(user, []), expected)


def test_ids_may_be_written_as_text_or_number(retrieval, newcomer_retrieval):
    encode = retrieval.program.encode_user
    expected = encode({"user_id": 5}, ["sku-3é"])
    for user in ({"user_id": "5"}, {"user_id": 5.0}, {"uid": 5}):
        assert torch.equal(encode(user, ["sku-3é"]), expected)
    recommend = newcomer_retrieval.program.recommend
    assert recommend({"user_id": "u1"}, [3, -2], 20) == recommend({"user": "u1"}, ["3", -2.0], 20)


def test_raw_ids_keep_their_type(retrieval, newcomer_retrieval):
    ids, scores = newcomer_retrieval.program.recommend({"user": "u1"}, [], 3)
    assert [type(i) for i in ids] == [int] * 3
    assert [type(s) for s in scores] == [float] * 3
    ids, _ = retrieval.program.recommend({"user_id": 1}, [], 3)
    assert [type(i) for i in ids] == [str] * 3


def test_history_and_excluded_items_are_never_recommended_however_long(retrieval):
    every = retrieval.dataset.item_ids[1:].tolist()
    history, exclude = every[:20], every[20:25]
    ids, _ = retrieval.program.recommend({"user_id": 5}, history, 100, None, exclude)
    assert sorted(ids) == sorted(every[25:])
    assert retrieval.program.recommend({"user_id": 5}, every, 10)[0] == []


def test_only_the_latest_items_of_a_history_are_seen_by_the_model(retrieval):
    every = retrieval.dataset.item_ids[1:].tolist()
    encode = retrieval.program.encode_user
    long, latest = every[:12], every[12 - HISTORY_LENGTH : 12]
    assert torch.equal(encode({"user_id": 5}, long), encode({"user_id": 5}, latest))
    assert not torch.allclose(encode({"user_id": 5}, latest), encode({"user_id": 5}, latest[1:]))


def test_the_hour_of_a_timestamp_matters_and_its_text_will_do(newcomer, tmp_path):
    program = export(wide_deep(newcomer), newcomer, tmp_path / "bundle").program
    noon = datetime(2023, 5, 6, 12, 30, tzinfo=UTC)
    row = {"user": "u1", "product": 3}
    written = ["2023-05-06 12:30:00", noon.isoformat(), int(noon.timestamp()), "2023-05-06T14:30+02:00"]
    found = program.predict([{**row, "when": when} for when in written])
    assert len(set(found.tolist())) == 1
    others = [{**row, "when": "2023-05-06 13:00"}, row, {**row, "when": "soon"}]
    other = program.predict(others)
    assert other[0] != found[0]
    assert other[1] == other[2] != found[0]


@pytest.mark.parametrize("k", [0, -3])
def test_a_list_of_no_items_is_refused(retrieval, k):
    with pytest.raises(torch.jit.Error, match="`k` must be at least 1, got"):
        retrieval.program.recommend({"user_id": 5}, [], k)


def test_a_list_where_one_value_belongs_is_refused_by_name(retrieval, ranking):
    with pytest.raises(
        torch.jit.Error, match="`user_id` must be one value: text, a number or None; got a list"
    ):
        retrieval.program.recommend({"user_id": [5]}, [], 3)
    with pytest.raises(torch.jit.Error, match="`age` must be one value"):
        retrieval.program.recommend({"age": [5.0]}, [], 3)
    with pytest.raises(torch.jit.Error, match="`history` must be a list of item ids or None"):
        ranking.program.predict([{"history": "sku-1é"}])


def test_a_column_of_several_tables_is_refused_without_its_table(ranking):
    with pytest.raises(
        torch.jit.Error, match=r"`city` is a column of several tables; name the table, as in `users"
    ):
        ranking.program.predict([{"user_id": 5, "city": "Bonn"}])
    with pytest.raises(torch.jit.Error, match="`city` is a column of several tables"):
        ranking.program.predict_items({"user_id": 5, "city": "Bonn"}, ["sku-1é"], [])
    rows = [{"user_id": 5, "items.city": "Köln"}, {"user_id": 5, "users.city": "Köln"}, {"user_id": 5}]
    assert len(set(ranking.program.predict(rows).tolist())) == 3


def test_mistyped_fields_can_be_found(retrieval, ranking):
    unread = retrieval.program.unread_fields
    assert unread({"user_id": 5, "uid": 5, "age": 3, "ages": 3, "user": 5}) == ["ages", "user"]
    assert unread({"timestamp": 1, "ts": 1, "device": "tv", "genre": "Drama", "genres": "Drama"}) == ["genre"]
    row = {"user_id": 5, "sku": "x", "users.city": "Bonn", "city": "Bonn", "history": None}
    assert ranking.program.unread_fields(row) == ["city"]


def test_users_and_histories_must_be_as_many(retrieval):
    with pytest.raises(torch.jit.Error, match=r"as many histories and contexts as users \(2\), got 1 and 2"):
        retrieval.program.encode_users([{}, {}], [[]])


def test_the_manifest_says_what_the_bundle_is(retrieval, ranking):
    manifest = read_station(retrieval.folder, "bundle", verify_all=True)
    assert set(manifest["files"]) == {"retrieval.pt", "requests.json", "responses.json"}
    assert manifest["task"] == "retrieval"
    assert manifest["source"] == "run-fingerprint"
    assert manifest["config"] == {"seed": 3}
    assert manifest["run"] == {"path": "runs/1", "metrics": {"test": {"ndcg@10": 0.1}}}
    assert manifest["catalogue"] == {"items": 34, "users": 45}
    assert manifest["vocabulary_sizes"]["maker"] == 31
    assert manifest["prepared"]["fingerprint"] == retrieval.dataset.manifest["fingerprint"]
    assert manifest["parity"]["max_difference"] <= 1e-5
    signature = manifest["signature"]
    assert set(signature["methods"]) == {
        *("recommend", "recommend_batch", "encode_user", "encode_users", "encode_item", "encode_items"),
        *("add_items", "set_available", "unread_fields", "behaviour_weights"),
    }
    assert signature["user"]["user_id"]["accepted_names"] == ["user_id", "uid"]
    assert signature["user"]["age"]["features"] == ["age", "age_group"]
    assert signature["user"]["age"]["when_missing"] == "the train mean"
    assert signature["item"]["weight"]["type"] == "number"
    assert set(signature["context"]) == {"device", "timestamp", "basket", "dwell"}
    assert set(signature["item"]) == {
        *("item_id", "title", "genres", "tags", "colours", "price", "weight", "year", "maker", "city")
    }
    row = read_station(ranking.folder, "bundle")["signature"]["row"]
    assert {"user_id", "item_id", "users.city", "items.city", "timestamp", "history", "device"} <= set(row)


@pytest.mark.parametrize(
    "blocked", ["recsys,torchrec,fbgemm_gpu,tensordict,pytorch_lightning,pandas,pyarrow"]
)
def test_the_files_load_and_answer_in_a_python_that_has_torch_alone(retrieval, ranking, blocked):
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in "{blocked}".split(","):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import torch
ids, scores = torch.jit.load(sys.argv[1]).recommend({{"user_id": 5}}, ["sku-3é"], 10)
print(len(ids), "sku-3é" in ids)
print(tuple(torch.jit.load(sys.argv[2]).predict([{{"user_id": 5, "item_id": "sku-3é"}}]).shape))
print(sorted(set(sys.modules) & set("{blocked}".split(","))))
"""
    files = [str(retrieval.folder / "retrieval.pt"), str(ranking.folder / "ranking.pt")]
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", code, *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["10 False", "(1,)", "[]"], done.stderr


def test_the_item_table_is_in_the_file_once(shop, tmp_path):
    model = TwoTower(shop.schema, embedding_dim=2048, hidden=(4,))
    folder = export(model, shop, tmp_path / "bundle").folder
    weights = sum(weight.numel() for weight in model.state_dict().values()) * 4
    vectors = shop.num_items * 2048 * 4
    item_table = shop.schema["item_id"].num_rows * 2048 * 4
    assert weights + vectors < (folder / "retrieval.pt").stat().st_size < weights + vectors + item_table


def test_a_dataset_of_positives_without_timestamps_is_exported(tmp_path):
    dataset = worlds.clicks(tmp_path)
    program = export(wide_deep(dataset), dataset, tmp_path / "bundle").program
    assert program.predict([{"user_id": "u3", "item_id": 7}, {}]).shape == (2,)
    manifest = read_station(tmp_path / "bundle", "bundle")
    assert set(manifest["signature"]["row"]) == {"user_id", "item_id", "history"}


def test_exporting_leaves_the_model_as_it_was(shop, tmp_path):
    model = matrix_factorization(shop)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export(model, shop, tmp_path / "bundle")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_index_is_refused_where_there_is_no_catalogue(shop, tmp_path):
    message = "`export.index=hnsw` must be `auto` for the bundle of a ranking model, which has no catalogue"
    with pytest.raises(ValueError, match=message):
        export_bundle(stage(wide_deep(shop), shop), tmp_path / "bundle", options=ExportOptions(index="hnsw"))
    assert list(tmp_path.iterdir()) == []

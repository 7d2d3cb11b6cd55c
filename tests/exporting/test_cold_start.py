"""Bundles of models that mix content and behaviour: new items, new users, and histories of either."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.exporting.bundle import export_bundle, load_scripted, save_loaded
from recsys.exporting.options import ExportOptions
from recsys.models.protocols import embed
from recsys.models.sequence_two_tower import SequenceTwoTower
from recsys.models.two_tower import TwoTower
from recsys.retrieval import sums
from recsys.serving.bulk import BulkOptions, write_lists
from recsys.serving.bundle import Bundle
from recsys.serving.candidates import scores_of
from recsys.serving.values import RequestError
from recsys.training.fitted import positives_of
from tests.exporting.conftest import HISTORY_LENGTH, export, lively, stage
from tests.exporting.test_add_items import NEW, ROWS, new_items


def hybrid(dataset, cold_start="gate", **keys):
    model = TwoTower(dataset.schema, embedding_dim=8, cold_start=cold_start, **keys)
    model.counts.set(dataset.items.ids["item_id"].values(), dataset.item_counts)
    model.show_positives(positives_of(dataset))
    return lively(model)


@pytest.fixture(scope="module")
def exported(shop, tmp_path_factory):
    return export(hybrid(shop), shop, tmp_path_factory.mktemp("hybrid") / "bundle")


@pytest.mark.slow
def test_a_sequence_model_with_a_gate_passes_the_gate_of_the_export(shop, tmp_path):
    model = SequenceTwoTower(
        shop.schema,
        embedding_dim=8,
        max_length=HISTORY_LENGTH,
        temperature=0.1,
        cold_start="gate",
    )
    model.counts.set(shop.items.ids["item_id"].values(), shop.item_counts)
    export(lively(model), shop, tmp_path / "bundle")


@pytest.mark.slow
def test_a_rule_passes_the_gate_of_the_export(shop, tmp_path):
    export(hybrid(shop, "rule"), shop, tmp_path / "bundle")


@pytest.fixture(scope="module")
def with_neighbours(shop, tmp_path_factory):
    model = hybrid(shop, neighbour_weight=4.0)
    return export(model, shop, tmp_path_factory.mktemp("neighbours") / "bundle")


def test_a_bundle_with_neighbours_answers_as_evaluation_does_item_by_item(with_neighbours):
    bundle, dataset = Bundle.open(with_neighbours.folder), with_neighbours.dataset
    model = with_neighbours.model
    ids = dataset.item_ids.tolist()
    user, history = {"user_id": 3}, ids[2:5]
    listed = dict(zip(*bundle.recommend(user, history, len(ids)), strict=True))
    rows = torch.tensor([row for row, item in enumerate(ids) if item in listed])
    vector = bundle.retrieval.encode_user(user, history)
    products = model.encode_candidates(dataset.items.select(rows)) @ vector
    places = dataset.items.ids["item_id"].values()
    added = model.neighbours(places[2:5], torch.tensor([3]))[0, places[rows]]
    assert added.abs().max() > 0.1
    assert [listed[ids[row]] for row in rows] == pytest.approx((products + added).tolist(), abs=1e-4)
    vectors, _ = bundle.retrieval.questions([user], [history], [{}], None, None, None)
    torch.testing.assert_close(scores_of(bundle.retrieval, vectors[0], rows), products + added)
    _, among = bundle.retrieval.best_among(vectors[0], rows, torch.zeros(0).long(), len(rows))
    torch.testing.assert_close(among, (products + added).sort(descending=True)[0])
    some = bundle.recommend(user, history, 5, where={"genres": ["drama"]})
    assert some[1] == pytest.approx([listed[item] for item in some[0]], abs=1e-4)


def test_what_is_added_borrows_from_known_items_nearest_to_it(with_neighbours, tmp_path):
    save_loaded(with_neighbours.program, tmp_path / "retrieval.pt")
    program = load_scripted(tmp_path / "retrieval.pt")
    program.add_items(new_items(with_neighbours.dataset))
    ids = with_neighbours.dataset.item_ids[2:5].tolist()
    added = program.added(program.known.history_rows([ids, [NEW[0]]]))
    known = torch.from_numpy(with_neighbours.dataset.item_counts.numpy() > 0).nonzero().flatten()
    products = program.candidates[-2:] @ torch.nn.functional.normalize(program.candidates[known], dim=1).T
    lenders = known[products.topk(min(10, len(known)), dim=1)[1]]
    torch.testing.assert_close(added[:, -2:], 0.75 * added[:, lenders].mean(dim=2))
    assert len(program.recommend({"uid": 3}, ids, 50)[0]) > 30


def test_an_index_does_not_know_neighbours(with_neighbours):
    index = with_neighbours.folder / "manifest.json"
    why = json.loads(index.read_text())["index"]["why"]
    assert (
        why == "`model.neighbour_weight` adds to the products of vectors, which are all that an index knows"
    )
    stage_of = stage(with_neighbours.model, with_neighbours.dataset)
    with pytest.raises(ValueError, match=r"`export.index=hnsw` finds nothing here: `model.neighbour_weight`"):
        export_bundle(
            stage_of,
            with_neighbours.folder.parent / "other",
            options=ExportOptions(index="hnsw"),
            config={},
            source="run",
        )


def test_lists_for_everybody_hold_neighbours(with_neighbours, tmp_path, monkeypatch):
    monkeypatch.setattr(sums, "_BLOCK_SCORES", 100)
    bundle, ids = Bundle.open(with_neighbours.folder), with_neighbours.dataset.item_ids.tolist()
    users = pa.table({"uid": [1, 2, 3, 4], "history": [ids[2:4], [], ids[3:4], ids[1:9]]})
    for where in ({}, {"genres": ["drama"]}):
        options = BulkOptions(k=4, where=where, processes=1)
        write_lists(bundle, users, tmp_path / "lists.parquet", options)
        found = pq.read_table(tmp_path / "lists.parquet").to_pylist()
        expected = []
        for row in users.to_pylist():
            listed = bundle.recommend({"user_id": row["uid"]}, row["history"], 4, where=where)
            expected += [
                (row["uid"], item, pytest.approx(score, abs=1e-4))
                for item, score in zip(*listed, strict=True)
            ]
        assert [(row["user_id"], row["item_id"], row["score"]) for row in found] == expected


def test_added_item_is_placed_by_content_and_read_in_histories(exported, tmp_path):
    save_loaded(exported.program, tmp_path / "retrieval.pt")
    program = load_scripted(tmp_path / "retrieval.pt")
    items = new_items(exported.dataset)
    program.add_items(items)
    content = exported.model.candidate_tower.content
    assert program.recommend({"uid": 3}, [NEW[0]], 5)[0]
    batch = exported.dataset.items.select(torch.tensor(ROWS))
    expected = content(embed(exported.model, batch), batch.dense)
    torch.testing.assert_close(program.candidates[-2:], torch.nn.functional.normalize(expected, dim=1))
    nothing = program.encode_user({"uid": 3}, [])
    assert not torch.allclose(program.encode_user({"uid": 3}, [NEW[0]]), nothing, atol=1e-3)


def test_each_event_of_a_history_moves_the_weight_of_behaviour(exported):
    dataset = exported.dataset
    queries = dataset.queries("test", mode="event", history_length=HISTORY_LENGTH, events_read="content")
    batch = queries.batch(torch.arange(len(queries)))
    weights = exported.model.query_weights(batch)
    counts = batch.history.lengths
    assert (weights[counts == 0] == 0).all()
    assert (weights[counts > 0] > 0).all()


def test_each_answer_says_its_rung_and_the_weight_of_behaviour(exported):
    bundle = Bundle.open(exported.folder)
    ids = exported.dataset.item_ids[1:5].tolist()
    assert bundle.recommend_with_rung({"user_id": 3}, [], 1)[1] == ("profile", 0.0)
    rungs = [bundle.recommend_with_rung({"user_id": 3}, ids[:number], 1)[1] for number in (1, 2, 4)]
    weights = bundle.retrieval.behaviour_weights([{"user_id": 3}] * 3, [ids[:1], ids[:2], ids[:4]])
    assert [rung.weight for rung in rungs] == pytest.approx(weights, abs=1e-6)
    for rung in rungs:
        assert rung.name == ("personal" if rung.weight >= 0.5 else "few_events")
    assert len({rung.weight for rung in rungs}) == 3


def test_models_without_a_gate_have_no_rungs(retrieval):
    bundle = Bundle.open(retrieval.folder)
    assert bundle.recommend_with_rung({"user_id": 3}, [], 1)[1] is None
    assert not bundle._mixes_content  # from now on it is not asked again
    assert bundle.recommend_with_rung({"user_id": 3}, [], 1)[1] is None


def test_interests_count_as_events_with_items_of_which_nothing_else_is_known(exported):
    program = load_scripted(exported.folder / "retrieval.pt")
    program.add_items([{"sku": NEW[0], "genres": ["drama"]}, {"sku": NEW[1], "genres": ["comedy"]}])
    ids = exported.dataset.item_ids[1:4].tolist()
    liked = {"uid": 3, "interests.genres": ["drama", "comedy"]}
    expected = program.encode_user({"uid": 3}, [*NEW, *ids])
    torch.testing.assert_close(program.encode_user(liked, ids), expected)
    users, histories = [liked, {"uid": 4}, liked], [ids, ids[:1], []]
    alone = torch.stack(
        [program.encode_user(user, past) for user, past in zip(users, histories, strict=True)]
    )
    torch.testing.assert_close(program.encode_users(users, histories), alone)
    assert program.behaviour_weights([liked], [[]]) == program.behaviour_weights([{"uid": 3}], [NEW])


@pytest.mark.slow
def test_a_sequence_model_reads_interests_before_the_history(shop, tmp_path):
    model = SequenceTwoTower(shop.schema, embedding_dim=8, max_length=HISTORY_LENGTH, history_events="all")
    program = export(lively(model), shop, tmp_path / "bundle").program
    liked, ids = {"uid": 3, "interests.genres": ["drama"]}, shop.item_ids[1:3].tolist()
    program.add_items([{"sku": NEW[0], "genres": ["drama"]}])
    for judged, all_judged in ((None, None), ([True, False], [True, True, False])):
        expected = program.encode_user({"uid": 3}, [NEW[0], *ids], None, None, all_judged)
        torch.testing.assert_close(program.encode_user(liked, ids, None, None, judged), expected)


def test_a_bundle_takes_interests_by_field_and_says_their_rung(exported):
    bundle = Bundle.open(exported.folder, strict=True)
    reader = {"user_id": 3, "interests": {"genres": ["drama"]}}
    assert bundle.manifest["signature"]["user"]["interests.genres"]["kind"] == "list"
    assert bundle.recommend(reader, [], 5) != bundle.recommend({"user_id": 3}, [], 5)
    assert bundle.recommend_with_rung({"user_id": 3}, [], 1)[1].name == "profile"
    assert bundle.recommend_with_rung(reader, [], 1)[1].weight > 0
    # The users' table has a column of this name, which is read as before.
    assert bundle.recommend({"user_id": 3, "interests": ["a"]}, [], 5)
    with pytest.raises(RequestError, match=r"'interests\.colour', which no feature reads"):
        bundle.recommend({"user_id": 3, "interests": {"colour": ["red"]}}, [], 5)


def test_a_model_that_reads_ids_of_histories_takes_no_interests(retrieval):
    assert not [name for name in retrieval.program.read_fields if name.startswith("interests.")]

"""Bundles of models that mix content and behaviour: new items, new users, and histories of either."""

import pytest
import torch

from recsys.exporting.bundle import load_scripted, save_loaded
from recsys.models.protocols import embed
from recsys.models.sequence_two_tower import SequenceTwoTower
from recsys.models.two_tower import TwoTower
from recsys.serving.bundle import Bundle
from recsys.serving.rungs import rung_of
from tests.exporting.conftest import HISTORY_LENGTH, export, lively
from tests.exporting.test_add_items import NEW, ROWS, new_items


def hybrid(dataset, cold_start="gate"):
    model = TwoTower(dataset.schema, embedding_dim=8, cold_start=cold_start)
    model.counts.set(dataset.items.ids["item_id"].values(), dataset.item_counts)
    return lively(model)


@pytest.fixture(scope="module")
def exported(shop, tmp_path_factory):
    return export(hybrid(shop), shop, tmp_path_factory.mktemp("hybrid") / "bundle")


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
    assert rung_of(bundle, {"user_id": 3}, []) == ("profile", 0.0)
    rungs = [rung_of(bundle, {"user_id": 3}, ids[:number]) for number in (1, 2, 4)]
    for rung in rungs:
        assert rung.name == ("personal" if rung.weight >= 0.5 else "few_events")
    assert len({rung.weight for rung in rungs}) == 3


def test_models_without_a_gate_have_no_rungs(retrieval):
    assert rung_of(Bundle.open(retrieval.folder), {"user_id": 3}, []) is None

"""Whole lists of a file against those that evaluation makes."""

import pytest
import torch

from recsys.evaluation.recommendations import recommend
from recsys.exporting.build import scripted
from recsys.exporting.bundle import load_scripted
from recsys.exporting.gate import evaluated_lists
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.gate.evaluated_lists import check_evaluated_lists, lists_of_file
from recsys.exporting.gate.recorded import Recorder
from recsys.exporting.tasks.register import build_program
from recsys.models.protocols import events_read, popularity_windows
from recsys.schema.manifest import read_station
from tests.exporting import worlds
from tests.exporting.conftest import (
    HISTORY_LENGTH,
    matrix_factorization,
    sequence_two_tower,
    stage,
    two_tower,
)


def made(model, dataset):
    """A file of the model, and what records its requests."""
    trained = stage(model, dataset)
    return scripted(build_program(trained).eval()), Recorder(trained, "retrieval.pt")


def sequence(dataset):
    return sequence_two_tower(dataset, history_events="all")


@pytest.mark.parametrize("build", [two_tower, sequence])
def test_the_file_recommends_what_evaluation_does_for_every_query(shop, build):
    model = build(shop)
    program, recorder = made(model, shop)
    queries = shop.queries("test", history_length=HISTORY_LENGTH, events_read=events_read(model))
    expected = recommend(model, shop, queries, k=10, batch_size=7)
    asked = recorder.ask_queries(queries, torch.arange(len(queries)))
    popularity = shop.popularity("test", popularity_windows(model))
    before = program.candidates.clone()
    ids, scores = lists_of_file(program, asked, k=10, popularity=popularity)
    assert len(ids) == len(queries) > 40
    for rows, best, listed, found in zip(expected.item_rows, expected.scores, ids, scores, strict=True):
        assert listed == shop.item_ids[rows[rows > 0]].tolist()
        assert found == pytest.approx(best[rows > 0].tolist(), abs=1e-5)
    assert torch.equal(program.candidates, before)
    said = check_evaluated_lists(program, recorder, k=10, tolerance=1e-5)
    assert (said["compared"], said["of"]) == (len(queries), len(queries))


def test_where_there_is_no_time_a_user_is_asked_once(tmp_path):
    dataset = worlds.clicks(tmp_path)
    model = matrix_factorization(dataset)
    program, recorder = made(model, dataset)
    queries = dataset.queries("test", history_length=HISTORY_LENGTH)
    assert queries.mode == "user"
    expected = recommend(model, dataset, queries, k=5, batch_size=100)
    asked = recorder.ask_queries(queries, torch.arange(len(queries)))
    assert [user["user_id"] for user in asked.users] == queries.user_ids.tolist()
    ids, _ = lists_of_file(program, asked, k=5, popularity=None)
    rows = [[row for row in listed if row] for listed in expected.item_rows.tolist()]
    assert ids == [dataset.item_ids[listed].tolist() for listed in rows]


def test_the_manifest_says_how_many_lists_were_compared(retrieval, recommender):
    number = len(retrieval.dataset.queries("test"))
    for parity in (
        read_station(retrieval.folder, "bundle")["parity"],
        recommender.manifest["stages"]["retrieval"]["parity"],
    ):
        assert parity["lists"] == {
            "compared": number,
            "of": number,
            "queries": "event",
            "k": 10,
            "with": "what the evaluation of the model recommends on the test split",
        }
    assert "lists" not in recommender.manifest["parity"]


def test_a_thousand_lists_are_compared_where_there_are_more(retrieval, monkeypatch):
    recorder = Recorder(stage(retrieval.model, retrieval.dataset), "retrieval.pt")
    monkeypatch.setattr(evaluated_lists, "_MOST_QUERIES", 9)
    said = check_evaluated_lists(retrieval.program, recorder, k=3, tolerance=1e-5)
    assert (said["compared"], said["k"]) == (9, 3)
    assert said["of"] > 40


def test_the_first_list_that_differs_is_named_with_place_and_items(retrieval):
    program = load_scripted(retrieval.folder / "retrieval.pt")
    recorder = Recorder(stage(retrieval.model, retrieval.dataset), "retrieval.pt")
    queries = retrieval.dataset.queries("test", history_length=HISTORY_LENGTH)
    asked = recorder.ask_queries(queries, torch.tensor([0]))
    [ids], [scores] = lists_of_file(program, asked, k=10, popularity=None)
    third = int(program.known.rows_of_items(ids[2:3])[0])
    program.candidates[third] *= -1
    with pytest.raises(
        ParityError,
        match=rf"(?s)`retrieval.pt` must recommend what the evaluation of its model does; but for query 0 "
        rf"\(\{{'user': \{{'user_id': {asked.users[0]['user_id']}\}}.*evaluation has item '{ids[2]}' with "
        rf"score {str(scores[2])[:6]}.* at place 3, the file item '{ids[3]}'",
    ):
        check_evaluated_lists(program, recorder, k=10, tolerance=1e-5)

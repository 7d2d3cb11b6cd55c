"""Filters against the raw items' table, read here."""

import json

import pytest
import torch

from recsys.exporting.options import ExportOptions
from recsys.exporting.program.filters import Attribute, Filters
from recsys.schema.feature_kinds import MultiIdFeature

USER = {"user_id": 5}


@pytest.fixture(scope="module")
def rows(retrieval):
    """Raw columns of the items by their id."""
    table = retrieval.dataset.raw_items
    names = [name for name in table.column_names if name.startswith("raw.") or name == "item_id"]
    rows = table.select(names).to_pylist()[1:]
    return {row["item_id"]: {n.removeprefix("raw."): v for n, v in row.items()} for row in rows}


def listed(retrieval, where, k=34, **more):
    return retrieval.program.recommend(USER, [], k, where=where, **more)[0]


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ({"genres": ["Drama"]}, lambda row: "Drama" in (row["genres"] or [])),
        ({"genres": ["Drama", "Kids"]}, lambda row: {"Drama", "Kids"} & set(row["genres"] or [])),
        ({"genres": ["Drama|Kids"]}, lambda row: {"Drama", "Kids"} & set(row["genres"] or [])),
        ({"tags": [-2, "3", 4.0]}, lambda row: {-2, 3, 4} & set(row["tags"] or [])),
        ({"colours": ["rot", " blau "]}, lambda row: "blau" in (row["colours"] or "").split("::")),
        ({"year": [1994, "1996"]}, lambda row: row["year"] in (1994, 1996)),
        ({"city": ["Bonn"]}, lambda row: row["city"] == "Bonn"),
        (
            {"genres": ["Drama"], "city": ["Bonn"], "colours": ["red", "blau"]},
            lambda row: (
                "Drama" in (row["genres"] or [])
                and row["city"] == "Bonn"
                and {"red", "blau"} & set((row["colours"] or "").split("::"))
            ),
        ),
    ],
)
def test_a_list_holds_all_items_with_one_of_the_values_of_each_attribute(retrieval, rows, where, holds):
    expected = {item_id for item_id, row in rows.items() if holds(row)}
    assert 1 < len(expected) < 30
    found = listed(retrieval, where)
    assert set(found) == expected
    best = [item_id for item_id in listed(retrieval, None) if item_id in expected]
    assert found == best
    assert listed(retrieval, where, k=3) == best[:3]


def test_values_that_share_a_row_of_a_model_are_told_apart(retrieval, rows):
    # Forty makers in thirty buckets, and the third genre of an item is one that no model sees.
    for maker in {row["maker"] for row in rows.values()} - {None}:
        expected = {item_id for item_id, row in rows.items() if row["maker"] == maker}
        assert set(listed(retrieval, {"maker": [maker]})) == expected
    assert max(len(set(row["genres"] or [])) for row in rows.values()) == 3


def test_nothing_holds_an_unknown_value_or_one_of_none(retrieval):
    for values in (["Western"], [None], [""], []):
        assert listed(retrieval, {"genres": values}) == []
    assert len(listed(retrieval, {})) == 34


def test_a_filter_leaves_as_many_as_there_are_beside_what_was_seen(retrieval, rows):
    drama = sorted(item_id for item_id, row in rows.items() if "Drama" in (row["genres"] or []))
    history, exclude = drama[:2], drama[2:4]
    ids, _ = retrieval.program.recommend(USER, history, 34, None, exclude, where={"genres": ["Drama"]})
    assert sorted(ids) == drama[4:]
    many = retrieval.program.recommend_batch(
        [USER, USER], [history, []], 34, None, [exclude, []], where={"genres": ["Drama"]}
    )[0]
    assert [sorted(ids) for ids in many] == [drama[4:], drama]


def test_an_unknown_attribute_is_refused_with_those_there_are(retrieval, newcomer_retrieval):
    with pytest.raises(
        torch.jit.Error,
        match="`where` must name attributes of the items: `genres`, `tags`, `colours`, `year`, `maker`, "
        "`city`; got `price`",
    ):
        listed(retrieval, {"city": ["Bonn"], "price": [3.0]})
    with pytest.raises(torch.jit.Error, match="attributes of the items: there are none; got `genres`"):
        newcomer_retrieval.program.recommend({}, [], 3, where={"genres": ["Drama"]})


def test_what_is_not_available_is_not_recommended_until_it_is_again(retrieval, recommender):
    for program in (retrieval.program, recommender.program):
        before = program.recommend(USER, [], 34)[0]
        gone = before[:3]
        assert program.set_available([*gone, "unheard of"], False) == 3
        try:
            assert set(program.recommend(USER, [], 34)[0]) == set(before) - set(gone)
            bonn = program.recommend(USER, [], 34, where={"city": ["Bonn"]})[0]
            assert not set(bonn) & set(gone)
            assert program.set_available(gone[:1], True) == 1
            assert set(program.recommend(USER, [], 34)[0]) == set(before) - set(gone[1:])
            program.set_available(before, False)
            assert program.recommend(USER, [], 5)[0] == []
        finally:
            program.set_available(before, True)
        assert program.recommend(USER, [], 34)[0] == before


def test_two_stages_rank_what_a_filter_leaves(recommender, rows):
    bonn = {item_id for item_id, row in rows.items() if row["city"] == "Bonn"}
    ids, probabilities, _, _ = recommender.program.recommend(USER, [], 34, where={"city": ["Bonn"]})
    assert set(ids) == bonn
    expected = recommender.program.ranking.predict_items(USER, ids, [])
    assert probabilities == pytest.approx(expected.tolist(), abs=1e-6)
    # Eight candidates, all of them of what is left.
    few = recommender.program.recommend(USER, [], 8, where={"city": ["Bonn"]})[0]
    assert set(few) == set(recommender.program.retrieval.recommend(USER, [], 8, where={"city": ["Bonn"]})[0])


def test_the_signature_names_the_attributes(retrieval):
    methods = json.loads((retrieval.folder / "manifest.json").read_text())["signature"]["methods"]
    where = methods["recommend"]["arguments"][-1]
    assert (where["name"], where["type"]) == ("where", "Optional[Dict[str, List[Any]]]")
    assert where["attributes"] == ["genres", "tags", "colours", "year", "maker", "city"]
    assert methods["recommend_batch"]["arguments"][-1] == where


def test_items_that_were_added_are_filtered_like_the_others():
    kind = MultiIdFeature("shelf", "item")
    filters = torch.jit.script(Filters({"shelf": Attribute(kind, [None, ["a", "b"], "b|c", None])}, 4))
    filters.add([{"shelf": "b|new"}, {"other": 1}, {"shelf": ["a"]}], 4)
    assert filters.allowed({"shelf": ["b"]}).nonzero().flatten().tolist() == [1, 2, 4]
    assert filters.allowed({"shelf": ["new", "c"]}).nonzero().flatten().tolist() == [2, 4]
    assert filters.allowed({"shelf": ["a"]}).nonzero().flatten().tolist() == [1, 6]
    assert filters.allowed(None) is None
    filters.check([{"shelf": 3}, {}])
    with pytest.raises(torch.jit.Error, match="`shelf` must be one value: text, a number or None"):
        filters.check([{"shelf": {"a": 1}}])
    assert filters.set_available(torch.tensor([0, 5]), False) == 1
    assert filters.allowed(None).nonzero().flatten().tolist() == [1, 2, 3, 4, 6]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"index": "flat"}, r"`export.index` must be one of .*'ivf_sq8'\), got 'flat'"),
        ({"min_recall": 0.0}, r"`export.min_recall` must lie above 0 and at most at 1, got 0\.0"),
        ({"min_recall": 1.01}, r"`export.min_recall` must lie above 0 and at most at 1, got 1\.01"),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        ExportOptions(**keys)

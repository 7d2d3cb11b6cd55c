"""New items in a bundle that was trained without them."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.exporting.build import scripted
from recsys.exporting.bundle import load_scripted, save_loaded
from recsys.exporting.gate.recorded import with_unknown_ids
from recsys.exporting.options import ExportOptions
from recsys.exporting.tasks.register import build_program
from recsys.exporting.two_stages import join_programs
from tests.exporting.conftest import (
    matrix_factorization,
    sequence_two_tower,
    stage,
    two_tower,
    wide_deep,
)
from tests.exporting.test_fuzz import FUZZ, ITEM_FIELDS, ITEM_IDS, MULTIVALUED, wild_records

USER = {"user_id": 5}
ROWS = [5, 9]
NEW = ["new-1é", "new-2é"]


def raw_item(dataset, row):
    """What the items' table says of an item, but for its id."""
    values = dataset.raw_items.slice(row, 1).to_pydict()
    return {
        name.removeprefix("raw."): value[0] if value[0] != [] else None
        for name, value in values.items()
        if name.startswith("raw.") and name != "raw.sku"
    }


def new_items(dataset):
    """Two items with the content of known ones and ids of their own."""
    return [{"sku": item_id, **raw_item(dataset, row)} for item_id, row in zip(NEW, ROWS, strict=True)]


def flat(item):
    """The fields of an item as part of a row of all tables, of an unknown item."""
    return {("items.city" if name == "city" else name): v for name, v in item.items() if name != "sku"}


@pytest.fixture(scope="module")
def grown(retrieval):
    """The retrieval bundle with two new items."""
    program = load_scripted(retrieval.folder / "retrieval.pt")
    assert program.add_items(new_items(retrieval.dataset)) == 2
    return program


@pytest.fixture(scope="module")
def grown_ranking(ranking):
    program = load_scripted(ranking.folder / "ranking.pt")
    assert program.add_items(new_items(ranking.dataset)) == 2
    return program


def test_a_new_item_scores_as_the_trained_model_says_of_its_content(retrieval, grown):
    batch = with_unknown_ids(retrieval.dataset.items.select(torch.tensor(ROWS)))
    vectors = retrieval.model.encode_candidates(batch)
    torch.testing.assert_close(grown.candidates[-2:], vectors)
    ids, scores = grown.recommend(USER, ["sku-3é"], 100)
    assert len(ids) == 34 + 2 - 1
    found = dict(zip(ids, scores, strict=True))
    expected = vectors @ retrieval.program.encode_user(USER, ["sku-3é"])
    assert [found[item_id] for item_id in NEW] == pytest.approx(expected.tolist(), abs=1e-5)
    assert scores == sorted(scores, reverse=True)


def test_what_was_known_stays_as_it_was(retrieval, grown):
    before = retrieval.program.recommend(USER, ["sku-3é"], 10)
    ids, scores = grown.recommend(USER, ["sku-3é"], 10, None, NEW)
    assert ids == before[0]
    assert scores == pytest.approx(before[1], abs=1e-6)
    assert torch.equal(grown.candidates[:35], retrieval.program.candidates)


def test_a_new_item_is_recognised_in_a_history_and_where_it_is_excluded(retrieval, grown):
    for history, exclude in (([NEW[0]], None), ([], [NEW[0]]), ([], [NEW[0], "nobody's"])):
        ids, _ = grown.recommend(USER, history, 100, None, exclude)
        assert NEW[0] not in ids
        assert NEW[1] in ids
    # To a model that reads a bag of ids it is an unknown item, as it was in training.
    known, unknown = (grown.encode_user(USER, [one, "sku-3é"]) for one in (NEW[0], "nobody's"))
    assert torch.equal(known, unknown)
    torch.testing.assert_close(known, retrieval.program.encode_user(USER, [NEW[0], "sku-3é"]))


def test_of_a_new_item_the_id_is_enough(retrieval, grown):
    for item_id, item in zip(NEW, new_items(retrieval.dataset), strict=True):
        torch.testing.assert_close(grown.encode_item({"item_id": item_id}), grown.encode_item(item))
        other = grown.encode_item({"item_id": item_id, "title": "GOLDEN-eye"})
        assert not torch.allclose(other, grown.encode_item(item))


def test_a_saved_file_still_knows_what_was_added(grown, tmp_path):
    save_loaded(grown, tmp_path / "retrieval.pt")
    again = load_scripted(tmp_path / "retrieval.pt")
    assert again.recommend(USER, [NEW[0]], 100) == grown.recommend(USER, [NEW[0]], 100)
    assert again.add_items([{"item_id": "third", "maker": 77}]) == 1
    assert "third" in again.recommend(USER, [], 100)[0]
    assert again.recommend(USER, [], 100, where={"maker": [77]})[0] == ["third"]
    towns = again.recommend(USER, [], 100, where={"city": ["Bonn", "Köln"]})[0]
    assert set(NEW) < set(towns)
    assert "third" not in towns
    assert again.set_available(["third"], False) == 1
    assert "third" not in again.recommend(USER, [], 100)[0]


def test_a_new_item_is_ranked_by_its_content(ranking, grown_ranking):
    history = ["sku-2é", NEW[1]]
    rows = [{**USER, **flat(item), "history": history} for item in new_items(ranking.dataset)]
    expected = ranking.program.predict(rows)
    found = grown_ranking.predict([{**USER, "item_id": item_id, "history": history} for item_id in NEW])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(grown_ranking.predict_items(USER, NEW, history), expected)
    assert found[0] != found[1]
    known = [{**USER, "item_id": "sku-3é"}]
    torch.testing.assert_close(grown_ranking.predict(known), ranking.program.predict(known))


def test_a_column_of_several_tables_may_go_by_the_name_of_its_table_too(ranking, grown_ranking):
    program = load_scripted(ranking.folder / "ranking.pt")
    items = [{"item_id": item["sku"], **flat(item)} for item in new_items(ranking.dataset)]
    assert program.add_items(items) == 2
    rows = [{**USER, "item_id": item_id} for item_id in NEW]
    assert torch.equal(program.predict(rows), grown_ranking.predict(rows))


def test_two_stages_retrieve_and_rank_new_items(recommender):
    program = load_scripted(recommender.folder / "recommender.pt")
    items = new_items(recommender.retrieval.dataset)
    expected = program.ranking.predict([{**USER, **flat(item)} for item in items])
    alone = program.retrieval.encode_items(items) @ program.retrieval.encode_user(USER, [])
    assert program.add_items(items) == 2
    ids, probabilities, scores, _ = program.recommend(USER, [], 36, num_candidates=36)
    assert len(ids) == 36
    places = [ids.index(item_id) for item_id in NEW]
    assert [probabilities[place] for place in places] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [scores[place] for place in places] == pytest.approx(alone.tolist(), abs=1e-5)
    left = program.recommend(USER, [NEW[0]], 36, None, [NEW[1]])[0]
    assert len(left) == 34
    assert not set(NEW) & set(left)
    before = recommender.program.recommend(USER, ["sku-3é"], 6)
    after = program.recommend(USER, ["sku-3é"], 6, None, NEW)
    assert after[0] == before[0]
    assert after[1] == pytest.approx(before[1], abs=1e-6)


def test_what_the_ranking_model_knows_already_stays_as_it_is_there(lean_shop, shop):
    stages = stage(matrix_factorization(lean_shop), lean_shop), stage(wide_deep(shop), shop)
    joined = join_programs(*stages, *map(build_program, stages), options=ExportOptions())
    program = scripted(joined.eval())
    known = sorted(set(shop.item_ids[1:]) - set(lean_shop.item_ids[1:]))[0]
    expected = float(program.ranking.predict_items(USER, [known], [])[0])
    assert program.add_items([{"item_id": known, "title": "other"}, {"item_id": NEW[0]}]) == 2
    ids, probabilities, _, _ = program.recommend(USER, [], 50, num_candidates=50)
    assert {known, NEW[0]} <= set(ids)
    assert probabilities[ids.index(known)] == pytest.approx(expected, abs=1e-6)
    stranger = float(program.ranking.predict_items(USER, ["nobody's"], [])[0])
    assert probabilities[ids.index(NEW[0])] == pytest.approx(stranger, abs=1e-6)


def test_nobody_has_liked_a_new_item_of_late_and_a_history_of_it_is_read(shop):
    model = sequence_two_tower(shop)
    program = scripted(build_program(stage(model, shop)).eval())
    items = new_items(shop)
    assert program.add_items(items) == 2
    vectors = model.encode_candidates(with_unknown_ids(shop.items.select(torch.tensor(ROWS))))
    torch.testing.assert_close(program.candidates[-2:, :-3], vectors[:, :-3])
    # Windows of 7 days, 30 days and all; with C likes in one, none is 1 of C + 35 shares, times 35.
    events = [shop.events(split) for split in ("train", "validation", "test")]
    likes = torch.cat([one.timestamps[one.positives] for one in events])
    day = 86_400_000_000
    end = (likes.max() // day + 1) * day
    counts = [int(((likes >= end - days * day) & (likes < end)).sum()) for days in (7, 30, 10_000)]
    expected = [math.log(35 / (count + 35)) for count in counts]
    for item in (-1, -2):
        assert program.candidates[item, -3:].tolist() == pytest.approx(expected, abs=1e-5)
    known, unknown = (program.encode_user(USER, [one, "sku-3é"]) for one in (NEW[0], "nobody's"))
    assert not torch.allclose(known, unknown)


def test_ids_that_are_whole_numbers_may_be_written_as_they_like(newcomer_retrieval):
    program = load_scripted(newcomer_retrieval.folder / "retrieval.pt")
    num_items = newcomer_retrieval.dataset.num_items
    assert program.add_items([{"product": "700"}, {"item_id": -900.0}, {"product": 5000}]) == 3
    ids, _ = program.recommend({"user": "u1"}, [], 100)
    assert {700, -900, 5000} <= set(ids)
    assert len(ids) == num_items - 1 + 3
    assert len(program.recommend({"user": "u1"}, ["700", -900], 100)[0]) == num_items - 1 + 1
    with pytest.raises(torch.jit.Error, match="`item_id` of item 1: a new item needs an id, a whole number"):
        program.add_items([{"product": 701}, {"product": "seven"}])
    with pytest.raises(torch.jit.Error, match="`item_id` of item 0 is `5000`, which is known already"):
        program.add_items([{"product": 5000.0}])
    with pytest.raises(torch.jit.Error, match="`item_id` of item 1 is `800`, as that of item 0"):
        program.add_items([{"product": 800}, {"product": "800"}])
    assert program.recommend({"user": "u1"}, [], 100)[0] == ids


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"title": "Toy story"}], "`item_id` of item 0: a new item needs an id, text; nothing was added"),
        ([{"item_id": "a"}, {"item_id": "  "}], "`item_id` of item 1: a new item needs an id"),
        ([{"item_id": None, "sku": "a"}], "`item_id` of item 0: a new item needs an id"),
        (
            [{"item_id": "sku-3é"}],
            "`item_id` of item 0 is `sku-3é`, which is known already; leave such items",
        ),
        ([{"item_id": " sku-3é "}], "which is known already"),
        (
            [{"item_id": "a\0"}, {"item_id": "a\0"}],
            r"item 1 is `a\\0`, as that of item 0; .* nothing was added",
        ),
        (
            [{"sku": "a"}, {"sku": "b"}, {"sku": " a"}],
            "item 2 is `a`, as that of item 0; give every new item",
        ),
        ([{"item_id": ["a"]}], "`item_id` must be one value"),
        ([{"item_id": "a"}, {"item_id": "b", "price": [3.5]}], "`price` must be one value"),
    ],
)
def test_items_that_can_t_be_read_are_refused_and_none_is_added(grown, grown_ranking, items, message):
    for program in (grown, grown_ranking):
        before = program.state_dict()
        with pytest.raises(torch.jit.Error, match=message):
            program.add_items(items)
        after = program.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert not program.known.rows_of_items(["a", "b"]).any()


def test_no_items_are_added_by_an_empty_list(grown, grown_ranking, recommender):
    two_stages = load_scripted(recommender.folder / "recommender.pt")
    assert [program.add_items([]) for program in (grown, grown_ranking, two_stages)] == [0, 0, 0]


@settings(FUZZ, max_examples=60)
@given(st.lists(st.tuples(ITEM_IDS, wild_records(ITEM_FIELDS)), max_size=3))
def test_odd_items_are_added_whole_or_refused_by_name(growing, parts):
    program, ids = growing
    items = [{**record, "item_id": item_id} for item_id, record in parts]
    wrong = {
        name
        for name, value in itertools.chain.from_iterable(item.items() for item in items)
        if isinstance(value, list) and name not in MULTIVALUED and name != "sku"
    }
    refusal = ""
    try:
        added = program.add_items(items)
    except torch.jit.Error as error:
        refusal, added = str(error), 0
    if refusal:
        assert "must be one value" in refusal or "nothing was added" in refusal
    else:
        assert added == len(items)
        assert not wrong
        ids += program.retrieval.item_ids.ids_of(torch.arange(added) + len(ids) + 1)
    assert program.retrieval.candidates.isfinite().all()
    rows = torch.arange(1, len(ids) + 1)
    assert program.retrieval.known.rows_of_items(ids).tolist() == rows.tolist()
    assert program.ranker_rows.tolist() == [0, *program.ranking.known.rows_of_items(ids).tolist()]
    assert (program.ranker_rows[1:] > 0).all()
    found, probabilities, _, _ = program.recommend(USER, [], 1000, num_candidates=1000)
    assert sorted(found) == sorted(ids)
    assert all(0 <= probability <= 1 for probability in probabilities)


@pytest.fixture(scope="module")
def growing(recommender):
    """A two-stage bundle of one's own, and the ids that it knows."""
    program = load_scripted(recommender.folder / "recommender.pt")
    return program, recommender.retrieval.dataset.item_ids[1:].tolist()


def test_an_eager_program_adds_as_a_scripted_one(retrieval, grown):
    dataset = retrieval.dataset
    program = build_program(stage(two_tower(dataset), dataset)).eval()
    assert program.add_items(new_items(dataset)) == 2
    torch.testing.assert_close(program.candidates, grown.candidates)
    assert program.recommend(USER, [NEW[0]], 36)[0] == grown.recommend(USER, [NEW[0]], 36)[0]

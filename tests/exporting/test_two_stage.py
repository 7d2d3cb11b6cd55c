"""Two stages in one file: what is retrieved, ranked, spread and left out."""

import json
import math

import pytest
import torch

from recsys.exporting.bundle import load_bundle
from recsys.exporting.program.diverse import by_probability, choose, sources_of
from recsys.schema.program import load_scripted
from tests.exporting.conftest import (
    export_both,
    matrix_factorization,
    sequence_two_tower,
    stage,
    two_tower,
    wide_deep,
)
from tests.exporting.test_bundle import known_queries
from tests.exporting.test_graphs import hazards, optimised
from tests.exporting.test_statistics import wide_deep as wide_deep_on_statistics
from tests.exporting.test_statistics import world

USER = {"user_id": 5}


def test_batched_calls_equal_single_ones(recommender):
    program = recommender.program
    _, users, histories, contexts = known_queries(recommender.retrieval)
    excludes = [["sku-1é"], []] * (len(users) // 2) + [[]] * (len(users) % 2)
    found = program.recommend_batch(users, histories, 5, contexts, excludes, diversity=0.2)
    for q in range(0, len(users), 5):
        single = program.recommend(users[q], histories[q], 5, contexts[q], excludes[q], diversity=0.2)
        assert (single[0], single[3]) == (found[0][q], found[3][q])
        assert single[1] == pytest.approx(found[1][q], abs=1e-5)
        assert single[2] == pytest.approx(found[2][q], abs=1e-5)
    assert program.recommend_batch([], [], 5) == ([], [], [], [])


def test_what_is_left_out_takes_no_place_of_a_candidate(recommender):
    program = recommender.program
    every = program.retrieval.recommend(USER, [], 34)[0]
    history, exclude = every[:12], every[12:20]
    ids, _, scores, sources = program.recommend(USER, history, 5, None, exclude, num_candidates=5)
    assert set(ids) == set(program.retrieval.recommend(USER, history, 5, None, exclude)[0])
    assert sorted(scores, reverse=True) == pytest.approx(
        program.retrieval.recommend(USER, history, 5, None, exclude)[1]
    )
    assert sources == ["retrieval"] * 5


def test_lists_are_as_long_as_asked_while_items_are_left(recommender):
    program = recommender.program
    every = recommender.retrieval.dataset.item_ids[1:].tolist()
    assert len(program.recommend(USER, [], 20)[0]) == 20  # more than the eight candidates of the bundle
    assert sorted(program.recommend(USER, every[:20], 100, None, every[20:25])[0]) == sorted(every[25:])
    assert program.recommend(USER, every, 10) == ([], [], [], [])
    assert program.recommend(USER, [], 10, None, every, diversity=0.5) == ([], [], [], [])


def test_more_candidates_give_lists_of_higher_probability(recommender):
    few, many = (recommender.program.recommend(USER, [], 5, num_candidates=n) for n in (5, 34))
    assert sum(many[1]) > sum(few[1]) + 0.01
    assert "ranking" in many[3]
    every = recommender.program.retrieval.recommend(USER, [], 34)[0]
    probabilities = recommender.program.ranking.predict_items(USER, every, [])
    assert many[1] == pytest.approx(probabilities.sort(descending=True).values[:5].tolist(), abs=1e-6)


def test_a_spread_list_begins_with_the_best_and_holds_items_less_alike(recommender):
    def closeness(found):
        items = recommender.program.retrieval.encode_items([{"item_id": i} for i in found[0]])
        unit = torch.nn.functional.normalize(items, dim=1)
        return float((unit @ unit.T - torch.eye(len(items))).max(dim=1).values.mean())

    plain, spread = (recommender.program.recommend(USER, [], 6, diversity=d) for d in (0.0, 0.9))
    assert plain[0][0] == spread[0][0]
    assert closeness(spread) < closeness(plain) - 0.05
    wide = recommender.program.recommend(USER, [], 4, num_candidates=34, diversity=0.9)
    assert "diversity" in wide[3]


def _chosen(probabilities, vectors, k, diversity):
    return choose(probabilities, by_probability(probabilities), vectors, k, diversity)


def test_the_next_of_a_list_is_best_by_its_own_worth_less_its_likeness():
    # Two alike, one the opposite, one at a right angle.
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 3.0]])
    probabilities = torch.tensor([0.9, 0.8, 0.1, 0.5])
    assert _chosen(probabilities, vectors, 4, 0.0).tolist() == [0, 1, 3, 2]
    # After 0: 1 is .5 x .8 - .5 x 1 = -.1, 2 is .05 + .5 = .55, 3 is .25 - 0 = .25.
    # After 2: 1 is -.1, 3 is .25 - 0.
    assert _chosen(probabilities, vectors, 4, 0.5).tolist() == [0, 2, 3, 1]
    # After 0: 1 is .72 - .1 = .62, 2 is .09 + .1, 3 is .45.
    assert _chosen(probabilities, vectors, 2, 0.1).tolist() == [0, 1]
    assert _chosen(probabilities[:0], vectors[:0], 4, 0.5).tolist() == []


def test_ties_go_to_the_higher_retrieval_score():
    same = torch.full((5,), 0.5)
    assert _chosen(same, torch.ones(5, 2), 3, 0.0).tolist() == [0, 1, 2]
    assert _chosen(same, torch.ones(5, 2), 3, 0.4).tolist() == [0, 1, 2]


def test_a_source_is_the_first_stage_that_would_have_chosen_the_item():
    order = by_probability(torch.tensor([0.1, 0.7, 0.9, 0.8]))
    # Retrieval's best two are 0 and 1, ranking's 2 and 3.
    assert sources_of(torch.tensor([2, 1, 0]), order, 2) == ["ranking", "retrieval", "retrieval"]
    assert sources_of(torch.tensor([3, 2]), order, 1) == ["diversity", "ranking"]


def test_a_column_of_several_tables_goes_by_its_name_in_the_record_of_its_table(recommender):
    program = recommender.program
    ids, probabilities, _, _ = program.recommend({"uid": 5, "city": "Bonn"}, [], 4, num_candidates=34)
    expected = program.ranking.predict_items({"user_id": 5, "users.city": "Bonn"}, ids, [])
    assert probabilities == pytest.approx(expected.tolist(), abs=1e-6)
    other = program.ranking.predict_items({"user_id": 5, "users.city": "東京"}, ids, [])
    assert not torch.allclose(expected, other, atol=1e-4)
    record = {"user_id": 5, "city": "Bonn", "ages": 3, "history": None}
    assert program.unread_fields({**record, "device": "tv"}) == ["ages"]


def test_items_that_were_prepared_are_ranked_as_before(recommender):
    program = load_scripted(recommender.folder / "recommender.pt")
    program.add_items([{"sku": "first"}])
    ids = [*program.retrieval.recommend(USER, [], 34)[0], "first", "never heard of"]
    before = program.ranking.predict_items(USER, ids, ["sku-2é"], {"device": "tv"})
    assert program.ranking.prepare_items(1000) == 0  # more memory than it may take
    assert program.ranking.prepare_items(10**9) == 4 * program.ranking.network.inputs.of_items.numel() > 1000
    torch.testing.assert_close(
        program.ranking.predict_items(USER, ids, ["sku-2é"], {"device": "tv"}), before, rtol=0, atol=1e-6
    )
    program.add_items([{"sku": "second", "price": 12.5}])
    new = program.ranking.predict_items(USER, ["second", "first"], [])
    rows = [{**USER, "item_id": item_id} for item_id in ("second", "first")]
    torch.testing.assert_close(new, program.ranking.predict(rows), rtol=0, atol=1e-6)
    assert new[0] != new[1]


def test_the_ranking_model_is_shown_what_was_liked_alone(recommender):
    program = recommender.program
    history = ["sku-2é", "sku-4é", "sku-9é"]
    liked = [True, False, True]
    ids, probabilities, _, _ = program.recommend(USER, history, 4, None, None, None, liked)
    expected = program.ranking.predict_items(USER, ids, ["sku-2é", "sku-9é"])
    assert probabilities == pytest.approx(expected.tolist(), abs=1e-6)
    assert not torch.allclose(expected, program.ranking.predict_items(USER, ids, history), atol=1e-4)
    assert "sku-4é" not in program.recommend(USER, history, 34, None, None, None, liked)[0]


@pytest.mark.slow
def test_each_stage_alone_answers_what_its_own_bundle_answers(recommender, retrieval, ranking):
    history, context = ["sku-2é", "sku-4é"], {"device": "tv"}
    alone = retrieval.program.recommend(USER, history, 10, context)
    within = recommender.program.retrieval.recommend(USER, history, 10, context)
    assert alone[0] == within[0]
    assert alone[1] == pytest.approx(within[1], abs=1e-6)
    row = [{**USER, "item_id": "sku-4é", "history": history}]
    torch.testing.assert_close(recommender.program.ranking.predict(row), ranking.program.predict(row))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "`k` must be at least 1, got 0"),
        ({"num_candidates": 0}, "`num_candidates` must be at least 1, got 0"),
        ({"diversity": 1.5}, r"`diversity` must lie between 0 and 1, got 1\.5"),
        ({"diversity": math.nan}, "`diversity` must lie between 0 and 1"),
        (
            {"history_liked": [True]},
            "`history_liked` must have a truth value for each of the 2 items .* got 1",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(recommender, arguments, message):
    asked = {"user": USER, "history": ["sku-2é", "sku-4é"], "k": 3, **arguments}
    with pytest.raises(torch.jit.Error, match=message):
        recommender.program.recommend(**asked)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"excludes": [[]]}, "`excludes` must have a list for each of the 2 users, got 1"),
        ({"history_liked": [[]]}, "`history_liked` must be about 2 histories, it is about 1"),
        ({"contexts": [{}]}, r"as many histories and contexts as users \(2\), got 2 and 1"),
    ],
)
def test_lists_that_do_not_fit_the_users_are_refused(recommender, arguments, message):
    with pytest.raises(torch.jit.Error, match=message):
        recommender.program.recommend_batch([USER, {}], [[], []], 3, **arguments)


@pytest.fixture(scope="module")
def mixed(other_shop, lean_shop, tmp_path_factory):
    """Models of two datasets of one shop: another split, other features, other catalogues."""
    folder = tmp_path_factory.mktemp("mixed") / "bundle"
    retrieval = stage(sequence_two_tower(other_shop, history_events="all"), other_shop, run="runs/1")
    ranking = stage(wide_deep(lean_shop), lean_shop, run="runs/2")
    return export_both(retrieval, ranking, folder, diversity=0.25)


@pytest.mark.slow
def test_an_item_that_the_ranking_model_does_not_know_is_ranked_as_unknown(mixed):
    known = set(mixed.ranking.dataset.item_ids[1:])
    unknown = [i for i in mixed.retrieval.dataset.item_ids[1:] if i not in known]
    assert len(unknown) > 2
    assert mixed.manifest["catalogue"] == {
        "items": 34,
        "known_to_ranking_model": 34 - len(unknown),
        "unknown_to_ranking_model": len(unknown),
    }
    ids, probabilities, _, _ = mixed.program.recommend(USER, [], 34)
    found = dict(zip(ids, probabilities, strict=True))
    stranger = float(mixed.program.ranking.predict_items(USER, ["unheard of"], [])[0])
    assert [found[i] for i in unknown] == pytest.approx([stranger] * len(unknown), abs=1e-6)
    for item_id in sorted(known)[:5]:
        expected = mixed.program.ranking.predict_items(USER, [item_id], [])
        assert found[item_id] == pytest.approx(float(expected[0]), abs=1e-6)


def test_the_default_spread_is_that_of_the_export(mixed):
    asked = (USER, ["sku-3é"], 8)
    assert mixed.program.recommend(*asked) == mixed.program.recommend(*asked, diversity=0.25)
    assert mixed.program.recommend(*asked)[0] != mixed.program.recommend(*asked, diversity=0.0)[0]


def test_the_signature_has_the_fields_of_either_model(mixed, recommender):
    signature = mixed.manifest["signature"]
    assert signature["user"]["user_id"]["read_by"] == ["retrieval", "ranking"]
    assert signature["user"]["age"]["read_by"] == ["retrieval"]
    # The sequence model reads nothing of a context but its time.
    assert signature["context"]["device"]["accepted_names"] == ["device"]
    methods = signature["methods"]
    assert set(methods) == {
        *("recommend", "recommend_batch", "add_items", "set_available", "observe", "unread_fields"),
    }
    single = {argument["name"]: argument for argument in methods["recommend"]["arguments"]}
    assert single["num_candidates"]["default"] == 500
    assert single["diversity"]["default"] == 0.25
    assert (single["history"]["type"], single["history"]["shape"]) == ("List[Any]", ["L"])
    assert "default" not in single["k"]
    many = {argument["name"]: argument for argument in methods["recommend_batch"]["arguments"]}
    assert many["excludes"]["type"] == "Optional[List[List[Any]]]"
    assert (many["histories"]["shape"], many["k"]["shape"]) == (["B", "L"], [])
    assert recommender.manifest["signature"]["user"]["city"]["features"] == ["city"]


def test_the_methods_take_the_arguments_that_the_signature_names(recommender, retrieval):
    manifest = json.loads((retrieval.folder / "manifest.json").read_text())
    for program, signature in (
        (recommender.program, recommender.manifest["signature"]),
        (recommender.program.retrieval, recommender.manifest["stages"]["retrieval"]["signature"]),
        (recommender.program.ranking, recommender.manifest["stages"]["ranking"]["signature"]),
        (retrieval.program, manifest["signature"]),
    ):
        for name, method in signature["methods"].items():
            schema = getattr(program, name).schema
            assert [a["name"] for a in method["arguments"]] == [a.name for a in schema.arguments[1:]]
            has_default = [a.has_default_value() for a in schema.arguments[1:]]
            assert ["default" in a for a in method["arguments"]] == has_default


def test_the_manifest_says_what_both_models_are(recommender, mixed):
    manifest = mixed.manifest
    assert (manifest["task"], manifest["file"], manifest["source"]) == (
        "two_stage",
        "recommender.pt",
        "first-run",
    )
    assert set(manifest["files"]) == {"recommender.pt", "requests.json", "responses.json"}
    stages = manifest["stages"]
    assert {name: one["run"] for name, one in stages.items()} == {
        "retrieval": {"run": "runs/1"},
        "ranking": {"run": "runs/2"},
    }
    assert [one["model"] for one in stages.values()] == ["SequenceTwoTower", "WideDeep"]
    for name, one in (("retrieval", mixed.retrieval), ("ranking", mixed.ranking)):
        assert stages[name]["prepared"]["fingerprint"] == one.dataset.manifest["fingerprint"]
        assert stages[name]["vocabulary_sizes"] == one.dataset.schema.num_rows
        assert stages[name]["parity"]["max_difference"] <= 1e-5
    assert manifest["parity"]["max_difference"] <= 1e-5
    assert manifest["parity"]["requests"] >= 6 * 15
    assert manifest["licence"] == "none is known: the raw tables were the user's own"


@pytest.mark.slow
def test_statistics_of_a_user_and_an_item_are_computed_for_every_candidate(tmp_path):
    (tmp_path / "without").mkdir()
    dataset, without = world(tmp_path), world(tmp_path / "without", statistics={})
    done = export_both(
        stage(two_tower(without), without),
        stage(wide_deep_on_statistics(dataset), dataset),
        tmp_path / "bundle",
    )
    program, end = done.program, 1_700_000_000_000
    context = {"timestamp": end, "device": "tv"}
    ids, before, _, _ = program.recommend({"uid": 3}, [], 6, context)
    rows = [{"user_id": 3, "item_id": i, "timestamp": end, "device": "tv"} for i in ids]
    assert before == pytest.approx(program.ranking.predict(rows).tolist(), abs=1e-6)
    program.observe([{"user_id": 9, "item_id": ids[0], "timestamp": end - 1, "label": 1}])
    assert program.ranking.predict(rows[:1]).item() != pytest.approx(before[0], abs=1e-6)
    after = dict(zip(*program.recommend({"uid": 3}, [], 22, context)[:2], strict=True))
    assert after[ids[0]] == pytest.approx(program.ranking.predict(rows[:1]).item(), abs=1e-6)


def test_nothing_scripted_is_miscompiled(recommender):
    # Both stages alone are searched where their own bundles are.
    methods = recommender.program._c._method_names()
    graphs = [recommender.program._c._get_method(name).inlined_graph for name in methods]
    assert len(graphs) >= 7
    assert [h for graph in graphs for h in [*hazards(graph), *hazards(optimised(graph))]] == []


@pytest.mark.parametrize("name", ["recommender.pt", "requests.json", "responses.json"])
def test_a_damaged_or_incomplete_bundle_is_refused_by_the_name_of_the_file(recommender, tmp_path, name):
    for file in recommender.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    load_bundle(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"`.*{name}` is damaged: its SHA-256 is not the one"):
        load_bundle(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"`.*{name}` is missing; make it anew with `python export.py"):
        load_bundle(tmp_path)


@pytest.mark.slow
def test_matrix_factorization_may_come_first(newcomer, tmp_path):
    done = export_both(
        stage(matrix_factorization(newcomer), newcomer),
        stage(wide_deep(newcomer), newcomer),
        tmp_path / "bundle",
    )
    ids, _, _, _ = done.program.recommend({"user": "u1"}, ["3"], 3, {"when": "2023-05-06 12:30"})
    assert [type(i) for i in ids] == [int] * 3

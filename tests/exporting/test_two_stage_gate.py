"""The gate of two stages must catch what it is there for: each test breaks one thing in the file."""

import numpy as np
import pyarrow.compute as pc
import pytest

from recsys.exporting import bundle
from recsys.exporting.gate.composed import first_wrong_pick
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.gate.parity import Parity
from recsys.exporting.gate.shared_rows import shared_rows
from recsys.exporting.stage import Stage
from recsys.exporting.two_stages import check_stages, names_for_ranker
from recsys.schema import tables
from tests.exporting import worlds
from tests.exporting.conftest import (
    HISTORY_LENGTH,
    export_both,
    matrix_factorization,
    stage,
    two_tower,
    wide_deep,
)


@pytest.fixture
def broken(shop, other_shop, monkeypatch, tmp_path):
    """Exports two models with a program that `damage` has been at; the stages alone are not checked."""
    build = bundle.join_programs

    def run(damage, **keys):
        def build_and_damage(*args, **keys):
            program = build(*args, **keys)
            damage(program)
            return program

        monkeypatch.setattr(bundle, "join_programs", build_and_damage)
        # What each stage does alone is for `test_gate`.
        monkeypatch.setattr(bundle, "check_stage", lambda *args: Parity(0, 0.0))
        try:
            export_both(
                stage(matrix_factorization(shop), shop),
                stage(wide_deep(shop), shop),
                tmp_path / "bundle",
                num_candidates=12,
                **keys,
            )
        finally:
            assert list(tmp_path.iterdir()) == []

    return run


def test_fields_that_the_second_stage_does_not_get_by_its_names_are_noticed(broken):
    def damage(program):
        program.user_fields = {}

    with pytest.raises(ParityError, match=r"\(unknown ids, raw .* it gives the probabilities"):
        broken(damage)


def test_an_item_mistaken_for_another_is_noticed(broken):
    def damage(program):
        program.ranker_rows[1:] = program.ranker_rows[1:].flip(0)

    with pytest.raises(
        ParityError, match=r"\(ids alone: .* it gives the probabilities .* which are not those"
    ):
        broken(damage)


def test_too_few_candidates_are_noticed(broken):
    def damage(program):
        program.num_candidates = 10

    with pytest.raises(ParityError, match=r"at place \d+ is not the best that is left; nothing was written"):
        broken(damage, k=6)


def test_a_list_spread_otherwise_is_noticed(broken):
    def damage(program):
        program.diversity = 0.5

    with pytest.raises(ParityError, match=r"diversity=0, .* at place \d+ is not the best that is left"):
        broken(damage)


def test_vectors_compared_otherwise_are_noticed(broken):
    def damage(program):
        program.retrieval.popularity_windows = program.retrieval.candidates.size(1) - 1

    with pytest.raises(ParityError, match=r"diversity=0.3, .* is not the best that is left"):
        broken(damage)


def test_the_first_place_that_another_item_deserves_is_found():
    probabilities, vectors = np.array([0.9, 0.8, 0.3]), np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    assert first_wrong_pick(probabilities, vectors, [0, 1, 2], diversity=0, tolerance=1e-6) is None
    assert first_wrong_pick(probabilities, vectors, [0, 2, 1], diversity=0, tolerance=1e-6) == 1
    assert first_wrong_pick(probabilities, vectors, [0, 2, 1], diversity=0.5, tolerance=1e-6) is None
    assert first_wrong_pick(probabilities, vectors, [1, 0, 2], diversity=0, tolerance=0.2) is None
    assert first_wrong_pick(np.array([np.nan]), vectors[:1], [0], diversity=0, tolerance=0.2) == 0


def test_rows_of_two_splits_are_the_same_events_and_the_longest_history_is_among_them(shop, other_shop):
    (split, ours), (other_split, theirs) = shared_rows(shop, other_shop, num_rows=10)
    assert {split, other_split} <= {"test", "validation"}
    assert 10 <= ours.num_rows == theirs.num_rows <= 11
    for name in (tables.USER_ID, tables.ITEM_ID, tables.TIMESTAMP):
        assert ours[name].to_pylist() == theirs[name].to_pylist()
    assert pc.all(ours[tables.POSITIVE]).as_py()
    every = shared_rows(shop, other_shop, num_rows=10_000)[0][1]
    assert pc.max(every[tables.HISTORY_LENGTH]) == pc.max(ours[tables.HISTORY_LENGTH])
    known = other_shop.split_table(other_split)
    keys = set(zip(known["user_id"].to_pylist(), known["item_id"].to_pylist(), strict=True))
    positives = shop.split_table(split)
    positives = positives.filter(positives[tables.POSITIVE])
    expected = [
        pair in keys for pair in zip(*(positives[n].to_pylist() for n in ("user_id", "item_id")), strict=True)
    ]
    assert 0 < every.num_rows <= sum(expected)


def test_datasets_that_hold_out_nothing_in_common_are_refused(shop, tmp_path):
    later = worlds.newcomer(tmp_path)
    with pytest.raises(
        ValueError, match=r"(?s)`run` and `ranker` must hold out events in common .* same `data.split`"
    ):
        shared_rows(shop, later, num_rows=5)


def test_models_that_cannot_work_together_are_refused(shop, newcomer, tmp_path):
    retrieval, ranking = stage(two_tower(shop), shop), stage(wide_deep(shop), shop)
    with pytest.raises(ValueError, match=r"`ranker` must name a run of a ranking model .* one of TwoTower"):
        check_stages(retrieval, retrieval)
    with pytest.raises(ValueError, match=r"`run` must name a run of a retrieval model .* one of WideDeep"):
        check_stages(ranking, ranking)
    with pytest.raises(
        ValueError, match=r"`run` and `ranker` must read timestamps alike.* found ms and text;"
    ):
        check_stages(retrieval, stage(wide_deep(newcomer), newcomer))
    clicks = worlds.clicks(tmp_path)
    with pytest.raises(
        ValueError, match=r"`ranker` must know items of the catalogue of `run`, but of 34 item"
    ):
        export_both(retrieval, stage(wide_deep(clicks), clicks), tmp_path / "bundle")


def test_names_of_the_ranking_model_are_found(shop, newcomer):
    retrieval, ranking = stage(two_tower(shop), shop), stage(wide_deep(shop), shop)
    assert names_for_ranker(retrieval, ranking, "user") == {"city": "users.city"}
    assert names_for_ranker(retrieval, ranking, "context") == {}
    other = Stage(two_tower(newcomer), newcomer, HISTORY_LENGTH)
    assert names_for_ranker(other, ranking, "user") == {"city": "users.city", "user": "user_id"}
    assert names_for_ranker(other, ranking, "context") == {"when": "timestamp"}

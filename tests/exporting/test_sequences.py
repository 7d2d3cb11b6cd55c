"""Bundles of models that read histories item by item: times and orders as the model sees them."""

import pytest
import torch

from tests.exporting import worlds
from tests.exporting.conftest import HISTORY_LENGTH, export, sequence_two_tower


@pytest.fixture(scope="module")
def exported(shop, tmp_path_factory):
    return export(sequence_two_tower(shop), shop, tmp_path_factory.mktemp("sequences") / "bundle")


@pytest.mark.parametrize(
    "encoder", ["attention", *(pytest.param(one, marks=pytest.mark.slow) for one in ("mean", "hstu", "gru"))]
)
def test_every_encoder_passes_the_gate(newcomer, tmp_path, encoder):
    # Timestamps are ISO text there.
    export(sequence_two_tower(newcomer, history_encoder=encoder), newcomer, tmp_path / "bundle")


@pytest.mark.slow
def test_cosines_pass_the_gate(shop, tmp_path):
    export(sequence_two_tower(shop, temperature=0.1), shop, tmp_path / "bundle")


@pytest.mark.slow
def test_what_was_not_liked_is_read_and_not_recommended(shop, tmp_path):
    done = export(sequence_two_tower(shop, history_events="all"), shop, tmp_path / "bundle")
    ids = shop.item_ids[1:6].tolist()
    encode, user = done.program.encode_user, {"user_id": 3}
    liked = encode(user, ids)
    torch.testing.assert_close(encode(user, ids, None, None, [True] * 5), liked)
    assert not torch.allclose(
        encode(user, ids, None, None, [True, True, True, True, False]), liked, atol=1e-3
    )
    # The model sees the latest four.
    torch.testing.assert_close(encode(user, ids, None, None, [False, True, True, True, True]), liked)
    found, _ = done.program.recommend(user, ids, 50, None, None, None, [False] * 5)
    assert not set(found) & set(ids)
    with pytest.raises(
        Exception, match=r"`history_liked` must have a truth value for each of the 5 items .* 2"
    ):
        done.program.recommend(user, ids, 5, None, None, None, [True, False])


@pytest.mark.slow
def test_data_without_timestamps_pass_the_gate(tmp_path):
    clicks = worlds.clicks(tmp_path)
    done = export(sequence_two_tower(clicks), clicks, tmp_path / "bundle")
    ids, _ = done.program.recommend({"user_id": "u3"}, [4, 5], 3)
    assert len(ids) == 3


def test_times_count_where_those_of_all_items_and_of_the_request_are_known(exported):
    ids, encode = exported.dataset.item_ids[1:4].tolist(), exported.program.encode_user
    times, context = (
        [1_600_000_000_000, 1_600_500_000_000, 1_601_000_000_000],
        {"timestamp": 1_602_000_000_000},
    )
    without = encode({"user_id": 3}, ids, context)
    assert not torch.allclose(encode({"user_id": 3}, ids, context, times), without, atol=1e-4)
    torch.testing.assert_close(encode({"user_id": 3}, ids, {}, times), without)
    torch.testing.assert_close(encode({"user_id": 3}, ids, context, [None, *times[1:]]), without)


def test_order_of_the_history_matters_and_its_early_part_does_not(exported):
    ids = exported.dataset.item_ids[1:]
    history = ids[:HISTORY_LENGTH].tolist()
    encode = exported.program.encode_user
    vector = encode({"user_id": 3}, history)
    assert not torch.allclose(vector, encode({"user_id": 3}, history[::-1]), atol=1e-4)
    torch.testing.assert_close(encode({"user_id": 3}, [ids[9], ids[8], *history]), vector)


def test_batch_equals_single_requests(exported):
    ids = exported.dataset.item_ids[1:].tolist()
    histories = [[], ids[:2], ids[3:12]]
    times = [[], [10, 20], list(range(100, 1000, 100))]
    users, contexts = [{"user_id": n} for n in (1, 2, 99)], [{"timestamp": 5000}, {}, {"timestamp": 2000}]
    program = exported.program
    lists, scores = program.recommend_batch(users, histories, 5, contexts, None, times)
    for q in range(3):
        single = program.recommend(users[q], histories[q], 5, contexts[q], None, times[q])
        assert single[0] == lists[q]
        assert single[1] == pytest.approx(scores[q], abs=1e-5)
        assert not set(lists[q]) & set(histories[q])


def test_no_users_get_no_lists(exported):
    assert exported.program.recommend_batch([], [], 5) == ([], [])


@pytest.mark.parametrize(
    ("times", "match"),
    [
        ([5], r"`history_times` must have a time for each of the 2 items of the history, got 1"),
        ([5, [6]], r"`history_times` must be one value"),
    ],
)
def test_times_that_do_not_fit_are_refused(exported, times, match):
    ids = exported.dataset.item_ids[1:3].tolist()
    with pytest.raises(Exception, match=match):
        exported.program.recommend({"user_id": 1}, ids, 5, {"timestamp": 9}, None, times)


def test_popular_items_of_late_are_in_the_catalogue_s_vectors(exported):
    popularity = exported.dataset.popularity("test", exported.model.popularity_windows)
    assert torch.equal(exported.program.candidates[:, -3:], popularity.latest)
    assert exported.program.candidates[:, -3:].std() > 0.1

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from recsys.data.sources import synthetic, synthetic_events
from recsys.data.sources.synthetic import START_SECONDS, Synthetic
from recsys.data.sources.synthetic_events import _ChosenPairs, _CumulativeSearch, event_blocks
from recsys.data.sources.synthetic_world import World

SMALL = {"num_users": 300, "num_items": 200, "num_interactions": 6_000}


def interactions_of(source: Synthetic, cache_dir: Path) -> pa.Table:
    return pq.read_table(source.tables(cache_dir).interactions)


def drawn(world: World, num_events: int, *, repeats: bool = True) -> synthetic_events.Events:
    blocks = list(event_blocks(world, num_events=num_events, seed=1, repeats=repeats))
    parts = zip(*[(block.users, block.items, block.times, block.ratings) for block in blocks], strict=True)
    return synthetic_events.Events(*[np.concatenate(part) for part in parts])


def numbers_of(ids: np.ndarray[Any, Any], wanted: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """The world's numbers of raw ids."""
    order = np.argsort(ids)
    return order[np.searchsorted(ids[order], wanted.to_numpy())]


def test_tables_have_the_documented_columns_and_ids_without_gaps(tmp_path: Path) -> None:
    tables = Synthetic(**SMALL).tables(tmp_path)
    assert tables.users is not None
    assert tables.items is not None
    interactions, users, items = (pq.read_table(p) for p in (tables.interactions, tables.users, tables.items))
    assert interactions.column_names == ["user_id", "item_id", "rating", "timestamp"]
    assert users.column_names == ["user_id", "age", "group"]
    assert items.column_names == ["item_id", "title", "categories", "price"]
    assert interactions.num_rows == 6_000
    assert users["user_id"].to_pylist() == list(range(1, 301))
    assert items["item_id"].to_pylist() == list(range(1, 201))
    assert set(interactions["user_id"].to_pylist()) <= set(range(1, 301))
    assert set(interactions["rating"].to_pylist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert all(1 <= len(names) <= 3 for names in items["categories"].to_pylist())
    assert all(len(title.split()) == 3 for title in items["title"].to_pylist())


def test_events_are_in_time_order_and_fill_the_days(tmp_path: Path) -> None:
    seconds = interactions_of(Synthetic(**SMALL, days=10), tmp_path)["timestamp"].to_numpy()
    assert (np.diff(seconds) >= 0).all()
    assert seconds[0] - START_SECONDS < 864_000 * 0.01
    assert 864_000 * 0.99 < seconds[-1] - START_SECONDS < 864_000


def test_the_seed_decides_every_row(tmp_path: Path) -> None:
    first = Synthetic(**SMALL, seed=5).tables(tmp_path / "a")
    second = Synthetic(**SMALL, seed=5).tables(tmp_path / "b")
    other = Synthetic(**SMALL, seed=6).tables(tmp_path / "a")
    for name in ("interactions", "users", "items"):
        path, same, different = (getattr(tables, name) for tables in (first, second, other))
        assert pq.read_table(path).equals(pq.read_table(same))
        assert not pq.read_table(path).equals(pq.read_table(different))


def test_events_of_one_world_differ_by_seed_and_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic_events, "BLOCK_ROWS", 1_000)
    world = Synthetic(**SMALL, new_user_share=0).world(tmp_path)
    first, second = (list(event_blocks(world, num_events=2_000, seed=s, repeats=True)) for s in (1, 2))
    assert (first[0].users != second[0].users).any()
    assert (first[0].users != first[1].users).any()


def test_rows_do_not_depend_on_the_size_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (synthetic, synthetic_events):
        monkeypatch.setattr(module, "BLOCK_ROWS", 1_000)
    many = Synthetic(**SMALL, rows_per_part=1_500).tables(tmp_path).interactions
    one = Synthetic(**SMALL, rows_per_part=100_000).tables(tmp_path).interactions
    num_rows = [pq.read_metadata(path).num_rows for path in sorted(many.iterdir())]
    assert num_rows == [2_000, 2_000, 2_000]  # parts are whole blocks
    assert [path.name for path in one.iterdir()] == ["part-00000.parquet"]
    assert pq.read_table(many).equals(pq.read_table(one))


def test_nobody_chooses_an_item_twice_across_blocks_unless_repeats_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic_events, "BLOCK_ROWS", 1_000)
    once = interactions_of(Synthetic(**SMALL), tmp_path)
    assert once.group_by(["user_id", "item_id"]).aggregate([]).num_rows == 6_000
    often = interactions_of(Synthetic(**SMALL, repeats=True), tmp_path)
    assert often.group_by(["user_id", "item_id"]).aggregate([]).num_rows < 5_500


def test_nothing_happens_before_it_is_born_and_births_go_on_to_the_end(tmp_path: Path) -> None:
    source = Synthetic(**SMALL, new_item_share=0.5, new_user_share=0.4)
    world, table = source.world(tmp_path), interactions_of(source, tmp_path)
    # A timestamp is a whole second, up to one earlier than the event.
    times = (table["timestamp"].to_numpy() - START_SECONDS + 1) / (365 * 86_400)
    assert (world.item_births[numbers_of(world.item_ids, table["item_id"])] <= times).all()
    assert (world.user_births[numbers_of(world.user_ids, table["user_id"])] <= times).all()
    assert (world.item_births > 0).sum() == 100
    assert (world.user_births > 0).sum() == 120
    late = world.item_births[numbers_of(world.item_ids, table["item_id"][-1_000:])]
    assert late.max() > 0.9


def test_a_user_who_has_seen_everything_leaves_events_to_others(tmp_path: Path) -> None:
    # The most active of 40 users is due an eighth of the 80 events, and there are but 8 items.
    table = interactions_of(Synthetic(num_users=40, num_items=8, num_interactions=80, seed=3), tmp_path)
    assert table.num_rows == 80
    assert table.group_by(["user_id", "item_id"]).aggregate([]).num_rows == 80


def test_popularity_alone_follows_zipfs_law(tmp_path: Path) -> None:
    source = Synthetic(
        num_users=50,
        num_items=100,
        num_interactions=100_000,
        popularity_skew=1.2,
        taste_strength=0,
        drift=0,
        new_item_share=0,
        repeats=True,
    )
    counts = np.sort(
        np.unique(interactions_of(source, tmp_path)["item_id"].to_numpy(), return_counts=True)[1]
    )[::-1]
    expected = np.arange(1, 101) ** -1.2
    np.testing.assert_allclose(counts / 100_000, expected / expected.sum(), rtol=0.2)


@pytest.mark.parametrize("drift", [0.0, 0.8])
def test_choices_follow_the_stated_law_early_and_late(drift: float, tmp_path: Path) -> None:
    # In two dimensions many items are near the top of a taste, where proposals are accepted always.
    source = Synthetic(
        num_users=3, num_items=30, num_interactions=60_000, latent_dim=2, drift=drift, repeats=True
    )
    world = source.world(tmp_path)
    events = drawn(world, 60_000)
    for user in range(3):
        for low, high in ((0.0, 0.4), (0.6, 1.0)):
            rows = (events.users == user) & (low <= events.times) & (events.times < high)
            found = np.bincount(events.items[rows], minlength=30)
            law = np.mean([world.choice_probability(user, time) for time in events.times[rows][::20]], axis=0)
            assert (found[law == 0] == 0).all()
            result = stats.chisquare(found[law > 0], law[law > 0] * found.sum() / law.sum())
            assert result.pvalue > 1e-4


def test_drift_decides_whether_early_popularity_and_taste_still_hold_late(tmp_path: Path) -> None:
    everybody = np.arange(300)
    for drift, popularity_holds, taste_holds in ((0.0, True, True), (1.0, False, False)):
        world = Synthetic(**SMALL, drift=drift, new_item_share=0).world(tmp_path)
        correlation = stats.spearmanr(world.popularity(0.0), world.popularity(1.0)).statistic
        assert (correlation > 0.99) == popularity_holds
        assert abs(correlation) < 0.3 or popularity_holds
        cosines = (world.tastes(everybody, np.zeros(300)) * world.tastes(everybody, np.ones(300))).sum(axis=1)
        assert (cosines.mean() > 0.99) == taste_holds
        assert abs(cosines.mean()) < 0.1 or taste_holds


def test_ratings_follow_the_stated_probability(tmp_path: Path) -> None:
    world = Synthetic(num_users=200, num_items=200, num_interactions=1, drift=0.5).world(tmp_path)
    events = drawn(world, 50_000)
    for at_least in (3, 4, 5):
        probability = world.rating_probability(events.users, events.items, events.times, at_least=at_least)
        assert 0.1 < probability.mean() < 0.9
        for bucket in np.array_split(np.argsort(probability), 10):
            share = (events.ratings[bucket] >= at_least).mean()
            assert share == pytest.approx(probability[bucket].mean(), abs=0.03)


def explained(target_ND: np.ndarray[Any, Any], columns: list[np.ndarray[Any, Any]]) -> float:
    """Share of the variance of `target_ND` that a linear regression on the columns explains."""
    design = np.column_stack([np.ones(len(target_ND)), *columns])
    fitted, *_ = np.linalg.lstsq(design, target_ND, rcond=None)
    centred = target_ND - target_ND.mean(axis=0)
    return float(1 - ((target_ND - design @ fitted) ** 2).sum() / (centred**2).sum())


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.0, 0.1), (0.5, 0.3, 0.6), (1.0, 0.7, 1.0)])
def test_content_and_profile_explain_their_share_of_taste(
    share: float, low: float, high: float, tmp_path: Path
) -> None:
    source = Synthetic(
        num_users=2_000, num_items=2_000, num_interactions=1, content_share=share, profile_share=share
    )
    tables, world = source.tables(tmp_path), source.world(tmp_path)
    assert tables.items is not None
    assert tables.users is not None
    items, users = pq.read_table(tables.items), pq.read_table(tables.users)
    categories = [
        np.array([f"category {c}" in names for names in items["categories"].to_pylist()]) for c in range(20)
    ]
    vectors = world.item_vectors[numbers_of(world.item_ids, items["item_id"])]
    assert low <= explained(vectors, [*categories, np.log(items["price"].to_numpy())]) <= high
    groups = [np.array(users["group"]) == f"group {g}" for g in range(8)]
    tastes = world.tastes_start[numbers_of(world.user_ids, users["user_id"])]
    assert low <= explained(tastes, [*groups, users["age"].to_numpy()]) <= high


def test_titles_carry_a_word_of_the_first_category(tmp_path: Path) -> None:
    items = pq.read_table(Synthetic(num_users=9, num_items=3_000, num_interactions=9).tables(tmp_path).items)
    words: dict[str, set[str]] = {}
    for title, names in zip(items["title"].to_pylist(), items["categories"].to_pylist(), strict=True):
        if len(names) == 1:
            words.setdefault(names[0], set()).add(title.split()[1])
    assert len(words) == 20
    assert sum(map(len, words.values())) == len(set.union(*words.values())) <= 20 * 8


def test_a_world_is_the_same_after_saving(tmp_path: Path) -> None:
    source = Synthetic(**SMALL)
    world = source.world(tmp_path)
    world.save(tmp_path / "again.npz")
    again = World.load(tmp_path / "again.npz")
    assert (again.taste_strength, again.drift, again.rating_noise) == (3.0, 0.3, 0.7)
    np.testing.assert_array_equal(again.item_vectors, world.item_vectors)
    np.testing.assert_array_equal(again.choice_probability(7, 0.5), world.choice_probability(7, 0.5))


def test_probabilities_of_a_choice_sum_to_one_over_the_items_born(tmp_path: Path) -> None:
    world = Synthetic(**SMALL, new_item_share=0.5).world(tmp_path)
    probability = world.choice_probability(3, 0.25)
    assert probability.sum() == pytest.approx(1)
    assert ((probability > 0) == (world.item_births <= 0.25)).all()
    taste, time = world.tastes(np.array([3]), np.array([0.25]))[0], 0.25
    ratio = world.popularity(time)[1] / world.popularity(time)[0]
    ratio *= np.exp(3.0 * (taste @ world.item_vectors[1] - taste @ world.item_vectors[0]))
    assert probability[1] / probability[0] == pytest.approx(ratio, rel=1e-5)


@pytest.mark.parametrize("skew", [0.0, 1.0, 3.0])
def test_indexed_search_finds_what_a_binary_search_finds(skew: float) -> None:
    generator = np.random.default_rng(0)
    cumulative = np.cumsum(generator.permutation(np.arange(1, 5_001) ** -skew))
    positions = generator.random(20_000) * cumulative[-1]
    positions[:5_000] = cumulative  # the edges themselves, the last of which is above all weights
    expected = np.minimum(np.searchsorted(cumulative, positions, side="right"), 4_999)
    np.testing.assert_array_equal(_CumulativeSearch(cumulative).find(positions), expected)


@pytest.mark.parametrize("max_bits", [2**32, 2**16])
def test_chosen_pairs_are_remembered_and_equal_ones_counted_once(
    max_bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic_events, "MAX_BITS", max_bits)
    chosen = _ChosenPairs(num_users=1_000, num_items=1_000)
    users, items = np.array([1, 2, 1, 999]), np.array([7, 7, 7, 999])
    assert chosen.add(users, items).tolist() == [True, True, False, True]
    assert chosen.contains(users, items).tolist() == [True, True, True, True]
    everyone = np.arange(1_000)
    num_others = chosen.contains(everyone, np.full(1_000, 5)).sum()
    assert num_others <= (0 if max_bits == 2**32 else 1)


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`data\.source\.drift` must be between 0 and 1, got 1\.5"):
        Synthetic(drift=1.5)
    with pytest.raises(ValueError, match=r"`data\.source\.num_users` must be between 1 and .*, got 0"):
        Synthetic(num_users=0)
    with pytest.raises(ValueError, match=r"at most a quarter of the 10 x 10 pairs.*got 26.*repeats=true"):
        Synthetic(num_users=10, num_items=10, num_interactions=26)

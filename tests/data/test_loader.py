"""BatchLoader over hand-written Parquet: order, shuffling, positions."""

import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data.blocks import RowFilter
from recsys.data.loader import BatchLoader
from recsys.data.parts import Ranks
from recsys.schema.feature_kinds import IdFeature, MultiIdFeature, NumericFeature
from recsys.schema.features import FeatureSchema

SCHEMA = FeatureSchema(
    (
        IdFeature("user_id", "user", num_rows=9),
        MultiIdFeature("tags", "context", num_rows=200),
        NumericFeature("speed", "context"),
    )
)
NUM_ROWS = 103


@pytest.fixture
def files(tmp_path):
    number = np.arange(NUM_ROWS)
    table = pa.table(
        {
            "user_row": pa.array(number % 8 + 1, pa.int32()),
            "item_row": pa.array(number, pa.int32()),
            "timestamp": pa.array(number * 10, pa.int64()),
            "positive": pa.array(number % 3 == 0),
            "history_row": pa.array(number % 8, pa.int32()),
            "history_length": pa.array(number // 8, pa.int32()),
            "tags": pa.array([list(range(n % 4)) for n in number], pa.list_(pa.int32())),
            "speed": pa.array(number / 2, pa.float32()),
        }
    )
    pq.write_table(table.slice(0, 60), tmp_path / "part-0.parquet", row_group_size=16)
    pq.write_table(table.slice(60), tmp_path / "part-1.parquet", row_group_size=16)
    return [tmp_path / "part-0.parquet", tmp_path / "part-1.parquet"]


def loader(files, **keys) -> BatchLoader:
    filters = {name: keys.pop(name) for name in ("only_positives", "since") if name in keys}
    keys = {"batch_size": 10, "wanted": RowFilter(**filters), **keys}
    return BatchLoader(files, SCHEMA, lambda events, part, generator: events, **keys)


def item_rows(batches) -> list[int]:
    return [row for events in batches for row in events.item_rows.tolist()]


def test_unshuffled_rows_keep_their_order_across_row_groups_and_files(files):
    batches = list(loader(files))
    assert item_rows(batches) == list(range(NUM_ROWS))
    assert [len(events) for events in batches] == [10] * 10 + [3]
    assert len(loader(files)) == 11


def test_columns_of_a_row_stay_together_when_batches_cross_blocks(files):
    for events in loader(files, shuffle_rows=20, seed=3):
        number = events.item_rows
        assert torch.equal(events.user_rows, number % 8 + 1)
        assert torch.equal(events.timestamps, number * 10)
        assert torch.equal(events.positives, number % 3 == 0)
        assert torch.equal(events.dense[:, 0], number / 2)
        assert torch.equal(events.bags["tags"].lengths, number % 4)
        expected = [tag for n in number.tolist() for tag in range(n % 4)]
        assert events.bags["tags"].values.tolist() == expected


@pytest.mark.parametrize("shuffle_rows", [20, 50, 1000])
def test_each_epoch_shows_every_row_once_in_another_order(files, shuffle_rows):
    shuffled = loader(files, shuffle_rows=shuffle_rows, seed=1)
    first, second = item_rows(shuffled), item_rows(shuffled)
    assert sorted(first) == sorted(second) == list(range(NUM_ROWS))
    assert first != second != list(range(NUM_ROWS))


def test_order_depends_on_the_seed_alone(files):
    orders = [item_rows(loader(files, shuffle_rows=50, seed=seed)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_only_positives(files):
    kept = loader(files, only_positives=True, shuffle_rows=50)
    assert sorted(item_rows(kept)) == list(range(0, NUM_ROWS, 3))
    assert len(kept) == 4


@pytest.mark.parametrize("shuffle_rows", [0, 20, 50, 1000])
@pytest.mark.parametrize("consumed", [0, 1, 5, 10, 11])
def test_goes_on_where_its_state_was_taken(files, shuffle_rows, consumed):
    whole = loader(files, shuffle_rows=shuffle_rows, seed=7)
    item_rows(whole)
    iterator = iter(whole)
    for _ in range(consumed):
        next(iterator)
    state = whole.state_dict()
    expected = item_rows(iterator) + item_rows(whole)
    again = loader(files, shuffle_rows=shuffle_rows)
    again.load_state_dict(state)
    remaining = item_rows(again) if consumed < len(whole) else []
    assert remaining + item_rows(again) == expected


def test_epoch_left_early_is_followed_by_a_new_one(files):
    left = loader(files, shuffle_rows=1000, seed=1)
    first_batch = next(iter(left)).item_rows.tolist()
    complete = item_rows(left)
    assert sorted(complete) == list(range(NUM_ROWS))
    assert complete[:10] != first_batch


def test_only_rows_from_an_instant_on_are_read(files):
    # Row n is at instant 10 n: 55 and what follows, across a part of a row group and two files.
    late = loader(files, since=545)
    assert item_rows(late) == list(range(55, NUM_ROWS))
    assert len(late) == 5
    assert item_rows(loader(files, since=550, only_positives=True)) == list(range(57, NUM_ROWS, 3))
    assert sorted(item_rows(loader(files, since=550, shuffle_rows=7))) == list(range(55, NUM_ROWS))
    assert (
        min(group.index for group in late.rows.row_groups if group.file == files[0]) == 3
    )  # the others are not read


def test_nothing_is_read_after_the_last_instant(files):
    assert len(loader(files, since=10 * NUM_ROWS)) == 0


def test_order_at_a_seed_stays_what_it_was(files):
    # The order of release 0.1 at commit ee502fe, from which published figures come.
    found = item_rows(loader(files, shuffle_rows=20, seed=1))
    assert found[:12] == [71, 65, 60, 73, 68, 75, 61, 64, 69, 72, 70, 74]
    assert found[-12:] == [48, 59, 54, 57, 56, 55, 53, 51, 58, 49, 52, 50]
    positives = item_rows(loader(files, shuffle_rows=50, seed=1, only_positives=True))
    assert positives[:6] == [81, 87, 48, 60, 9, 42]


@pytest.mark.parametrize("shuffle_rows", [0, 20, 1000])
@pytest.mark.parametrize("keys", [{"memory_budget": 1e6}, {"prefetch_batches": 3}])
def test_batches_are_the_same_held_streamed_or_made_ahead(files, shuffle_rows, keys):
    plain = loader(files, shuffle_rows=shuffle_rows, seed=2)
    other = loader(files, shuffle_rows=shuffle_rows, seed=2, **keys)
    assert other.rows.is_held == ("memory_budget" in keys)
    for _ in range(2):
        for expected, events in zip(plain, other, strict=True):
            assert torch.equal(events.rows, expected.rows)
            assert torch.equal(events.dense, expected.dense)
            assert torch.equal(events.bags["tags"].values, expected.bags["tags"].values)


def test_a_split_is_held_when_it_fits_with_its_bags(files):
    # User, item, positive, history row and length, and speed are 4 bytes each, the instant 8. Parquet counts
    # an empty list of tags as one value.
    size = NUM_ROWS * (6 * 4 + 8) + 4 * sum(max(n % 4, 1) for n in range(NUM_ROWS))
    assert loader(files, memory_budget=size).rows.is_held
    assert not loader(files, memory_budget=size - 1).rows.is_held


@pytest.mark.parametrize("consumed", [1, 5])
def test_state_says_what_was_consumed_and_not_what_was_made_ahead(files, consumed):
    whole = loader(files, shuffle_rows=20, seed=7, prefetch_batches=4)
    iterator = iter(whole)
    for _ in range(consumed):
        next(iterator)
    time.sleep(0.05)  # for the thread to get ahead
    again = loader(files, shuffle_rows=20, prefetch_batches=2)
    again.load_state_dict(whole.state_dict())
    assert item_rows(again) == item_rows(loader(files, shuffle_rows=20, seed=7))[10 * consumed :]


def test_error_of_the_thread_comes_with_its_traceback_where_its_batch_would_have_come(files):
    def fail_at_third(events, part, generator):
        if 25 in events.item_rows:
            raise ValueError("row 25 is bad")
        return events

    failing = BatchLoader(files, SCHEMA, fail_at_third, batch_size=10, prefetch_batches=4)
    iterator = iter(failing)
    next(iterator), next(iterator)
    with pytest.raises(ValueError, match="row 25 is bad") as caught:
        next(iterator)
    assert "fail_at_third" in [entry.name for entry in caught.traceback]
    assert failing.state_dict()["next_batch"] == 2


def test_thread_ends_when_iteration_is_abandoned(files):
    before = threading.active_count()
    iterator = iter(loader(files, prefetch_batches=2))
    next(iterator)
    assert threading.active_count() == before + 1
    del iterator
    assert threading.active_count() == before


@pytest.mark.slow
def test_program_ends_in_the_middle_of_an_epoch(files):
    program = """if True:
        import sys
        from pathlib import Path
        from recsys.data.loader import BatchLoader
        from recsys.schema.feature_kinds import IdFeature
        from recsys.schema.features import FeatureSchema
        schema = FeatureSchema((IdFeature("user_id", "user", num_rows=9),))
        files = [Path(name) for name in sys.argv[1:]]
        loader = BatchLoader(files, schema, lambda e, *_: e, batch_size=10, prefetch_batches=4)
        iterator = iter(loader)
        print(len(next(iterator)))
    """
    run = [sys.executable, "-W", "ignore", "-c", program, *map(str, files)]
    found = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout) == (0, "10\n")


def ranked(files, num_ranks, **keys):
    return [list(loader(files, ranks=Ranks(rank, num_ranks), seed=5, **keys)) for rank in range(num_ranks)]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("batch_size", "shuffle_rows"), [(10, 0), (10, 20), (7, 1000), (101, 50)])
def test_ranks_share_out_the_batches_of_one(files, num_ranks, batch_size, shuffle_rows):
    keys = {"batch_size": batch_size, "shuffle_rows": shuffle_rows}
    [alone] = ranked(files, 1, **keys)
    together = ranked(files, num_ranks, **keys)
    assert {len(batches) for batches in together} == {len(alone)}
    for batch, *parts in zip(alone, *together, strict=True):
        sizes = [len(part) if part.share else 0 for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)
        assert item_rows([part for part in parts if part.share]) == batch.item_rows.tolist()
        assert [part.share for part in parts] == [num_ranks * size / len(batch) for size in sizes]


def test_rank_without_rows_gets_one_that_does_not_count(files):
    # 103 rows are 25 batches of 4 and one of 3.
    *_, (last,) = zip(ranked(files, 4, batch_size=4)[3], strict=True)
    assert last.item_rows.tolist() == [100]
    assert last.weights.tolist() == [0.0]
    assert last.share == 0.0


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (3, 2)])
def test_any_number_of_ranks_goes_on_where_another_stopped(files, before, after):
    first = [loader(files, ranks=Ranks(r, before), shuffle_rows=20, seed=3) for r in range(before)]
    iterators = [iter(one) for one in first]
    for _ in range(4):
        shown = [next(iterator) for iterator in iterators]
    states = [one.state_dict() for one in first]
    assert all(state == states[0] for state in states)
    assert len(shown) == before
    rest = [loader(files, ranks=Ranks(r, after), shuffle_rows=20) for r in range(after)]
    for one in rest:
        one.load_state_dict(states[0])
    found = [row for parts in zip(*rest, strict=True) for row in item_rows(parts)]
    assert found == item_rows(loader(files, shuffle_rows=20, seed=3))[40:]


@pytest.mark.parametrize("rank", [-1, 2])
def test_rank_out_of_range_is_refused(rank):
    with pytest.raises(ValueError, match=rf"`rank` must be between 0 and 1, got {rank}"):
        Ranks(rank, 2)

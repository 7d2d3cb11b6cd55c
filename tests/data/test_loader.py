"""BatchLoader over hand-written Parquet: order, shuffling, positions."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data.loader import BatchLoader
from recsys.schema.features import Feature, FeatureSchema

SCHEMA = FeatureSchema(
    (
        Feature("user_id", "id", "user", num_rows=9),
        Feature("tags", "multi_id", "context", num_rows=200),
        Feature("speed", "numeric", "context"),
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
    return BatchLoader(files, SCHEMA, lambda events, generator: events, batch_size=10, **keys)


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
        assert torch.equal(events.sparse["tags"].lengths, number % 4)
        expected = [tag for n in number.tolist() for tag in range(n % 4)]
        assert events.sparse["tags"].values.tolist() == expected


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
    assert min(group.index for group in late.row_groups if group.file == files[0]) == 3  # no other is read


def test_nothing_is_read_after_the_last_instant(files):
    assert len(loader(files, since=10 * NUM_ROWS)) == 0

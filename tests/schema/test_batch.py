import torch

from recsys.schema.batch import Batch
from recsys.schema.jagged import JaggedColumn
from tests.worlds import keyed


def batch() -> Batch:
    ids = keyed({"user_id": [[7], [8], [9]], "genres": [[2, 5], [], [1]]})
    return Batch(ids, dense=torch.tensor([[0.0], [1.0], [2.0]]))


def bags(ids, key):
    return [bag.tolist() for bag in ids[key].to_dense()]


def test_selected_rows_come_in_the_order_asked_for_and_may_repeat():
    chosen = batch().select(torch.tensor([2, 0, 0, 1]))
    assert bags(chosen.ids, "user_id") == [[9], [7], [7], [8]]
    assert bags(chosen.ids, "genres") == [[1], [2, 5], [2, 5], []]
    assert chosen.dense[:, 0].tolist() == [2.0, 0.0, 0.0, 1.0]


def test_selecting_nothing_gives_an_empty_batch():
    chosen = batch().select(torch.tensor([], dtype=torch.int64))
    assert len(chosen) == 0
    assert chosen.ids.values().numel() == 0


def test_selecting_from_a_table_of_single_values_gives_one_row_each():
    table = Batch(keyed({"user_id": [[7], [8], [9]], "age": [[1], [3], [2]]}), dense=torch.zeros(3, 0))
    chosen = table.select(torch.tensor([2, 2, 0])).ids
    assert bags(chosen, "user_id") == [[9], [9], [7]]
    assert bags(chosen, "age") == [[2], [2], [1]]
    assert chosen.lengths().dtype == torch.int32


def test_every_field_moves_to_the_device():
    full = batch()
    full.labels = torch.ones(3)
    full.seen = JaggedColumn.of_lists([[1, 2], [], []])
    full.share = 0.5
    moved = full.to(torch.device("meta"))
    assert moved.labels.device.type == moved.dense.device.type == "meta"
    assert moved.ids.values().device.type == moved.seen.values.device.type == "meta"
    assert moved.weights is None
    assert moved.share == 0.5

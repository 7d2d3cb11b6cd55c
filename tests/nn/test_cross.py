import pytest
import torch

from recsys.nn.cross import Cross, cross_ids


def bag(*bags):
    return torch.tensor([v for one in bags for v in one], dtype=torch.int64), torch.tensor(
        [len(one) for one in bags]
    )


def test_each_value_of_the_multivalued_part_meets_the_single_one():
    values, lengths = cross_ids([bag([3], [4]), bag([1, 2], [1])], 1_000_001)
    assert lengths.tolist() == [2, 1]
    alone = [cross_ids([bag([a]), bag([b])], 1_000_001)[0].item() for a, b in ((3, 1), (3, 2), (4, 1))]
    assert values.tolist() == alone
    assert len(set(alone)) == 3


def test_order_of_the_parts_of_a_bag_does_not_mix_examples():
    values, lengths = cross_ids([bag([1, 2], [], [3]), bag([7], [8], [9])], 1_000_001)
    assert lengths.tolist() == [2, 0, 1]
    assert values[2] == cross_ids([bag([3]), bag([9])], 1_000_001)[0][0]


def test_empty_part_leaves_the_cross_empty():
    values, lengths = cross_ids([bag([5]), bag([])], 100)
    assert values.numel() == 0
    assert lengths.tolist() == [0]


def test_rows_spread_over_the_table_without_row_zero():
    first, second = torch.arange(300).repeat_interleave(300), torch.arange(300).repeat(300)
    ones = torch.ones(90_000, dtype=torch.int64)
    values, _ = cross_ids([(first, ones), (second, ones)], 1001)
    assert values.min() == 1
    assert values.max() == 1000
    counts = torch.bincount(values, minlength=1001)[1:]
    assert counts.min() > 45  # 90 expected in each of 1,000 rows, standard deviation 9.5
    assert counts.max() < 135


def test_scripted_equals_eager():
    parts = [bag([3], [2**31 - 1]), bag([1, 2], [2**31 - 1])]
    scripted = torch.jit.script(cross_ids)(parts, 1001)
    assert all(torch.equal(a, b) for a, b in zip(scripted, cross_ids(parts, 1001), strict=True))


def test_cross_is_named_after_its_parts():
    cross = Cross(("gender", "genres"), 10)
    assert (cross.name, cross.num_rows) == ("gender_x_genres", 11)
    with pytest.raises(AttributeError):
        cross.num_buckets = 3

import io

import pytest
import torch

from recsys.exporting.program.search import best_items
from recsys.retrieval.exact import top_k
from recsys.schema.jagged import JaggedColumn


@pytest.fixture(scope="module")
def scripted_best():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(best_items), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


@pytest.mark.parametrize("num_items", [2, 50, 5000, 20_011])
@pytest.mark.parametrize("num_levels", [3, 1_000_000])
@pytest.mark.parametrize("k", [1, 10, 60])
def test_the_list_is_that_of_the_exact_search(scripted_best, num_items, num_levels, k):
    generator = torch.Generator().manual_seed(num_items + k)
    scores = torch.randint(num_levels, (num_items,), generator=generator).float()  # few levels: many ties
    excluded = torch.randint(num_items, (min(20, num_items),), generator=generator)
    expected_scores, expected_rows = top_k(
        torch.ones(1, 1),
        scores[:, None],
        k,
        seen=JaggedColumn.of_lists([excluded.tolist()]),
    )
    left = expected_scores[0].isfinite()
    rows, found = scripted_best(scores.clone(), excluded, k)
    assert rows.tolist() == expected_rows[0][left].tolist()
    assert found.tolist() == expected_scores[0][left].tolist()


def test_ties_go_to_the_lower_row_and_row_0_is_never_returned(scripted_best):
    rows, scores = scripted_best(
        torch.tensor([9.0, 5.0, 7.0, 5.0, 5.0]), torch.tensor([], dtype=torch.int64), 3
    )
    assert rows.tolist() == [2, 1, 3]
    assert scores.tolist() == [7.0, 5.0, 5.0]


def test_a_list_is_shorter_where_fewer_items_are_left(scripted_best):
    rows, _ = scripted_best(torch.tensor([9.0, 1.0, 2.0, 3.0]), torch.tensor([2, 2, 0]), 10)
    assert rows.tolist() == [3, 1]

import math

import pytest
import torch

from recsys.models.autoint import AutoInt, FieldAttention
from tests.models.contract import RankingContract
from tests.worlds import SCHEMA


class TestAutoInt(RankingContract):
    def build(self, schema):
        return AutoInt(schema, embedding_dim=8, hidden=(32,), attention_dim=8, id_dropout=0.05)


class TestWithoutAnMLP(RankingContract):
    def build(self, schema):
        return AutoInt(schema, embedding_dim=8, hidden=(), num_layers=1, attention_dim=8, id_dropout=0.05)


def test_attention_is_that_of_the_paper():
    """Equations 5 to 8, a loop over heads and fields."""
    torch.manual_seed(0)
    layer = FieldAttention(4, 6, num_heads=2).requires_grad_(False)
    fields = torch.randn(1, 3, 4)
    query, key, value = (part.T for part in layer.projections.weight.split(6))
    expected = []
    for m in range(3):
        heads = []
        for head in (slice(0, 3), slice(3, 6)):
            weights = [
                math.exp(float((fields[0, m] @ query[:, head]) @ (fields[0, k] @ key[:, head])))
                for k in range(3)
            ]
            heads.append(
                sum(w / sum(weights) * (fields[0, k] @ value[:, head]) for k, w in enumerate(weights))
            )
        expected.append(torch.relu(torch.cat(heads) + fields[0, m] @ layer.residual.weight.T))
    torch.testing.assert_close(layer(fields)[0], torch.stack(expected))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match=r"`model.attention_dim` must be a multiple of .*, got 9 and 2"):
        AutoInt(SCHEMA, attention_dim=9)

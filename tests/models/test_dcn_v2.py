import torch

from recsys.models.dcn_v2 import DCNv2
from tests.models.contract import RankingContract
from tests.worlds import SCHEMA


class TestParallelFullRank(RankingContract):
    def build(self, schema):
        return DCNv2(schema, embedding_dim=8, hidden=(32,), id_dropout=0.05)


class TestStackedMixture(RankingContract):
    def build(self, schema):
        return DCNv2(
            schema,
            embedding_dim=8,
            hidden=(32,),
            structure="stacked",
            rank=8,
            num_experts=2,
            normalisation="layer",
            id_dropout=0.05,
        )


def test_low_rank_layers_have_fewer_weights():
    full, low = (
        sum(p.numel() for p in DCNv2(SCHEMA, embedding_dim=16, rank=rank).head.cross.parameters())
        for rank in (0, 4)
    )
    assert low < full / 4


def test_without_cross_layers_and_hidden_ones_it_is_linear():
    torch.manual_seed(0)
    head = DCNv2(SCHEMA, embedding_dim=8, hidden=(), num_cross_layers=0).eval().head
    embedded = {name: torch.randn(2, 8) for name in head.fields.names}
    dense = torch.randn(2, 2)
    nothing = head({name: torch.zeros(2, 8) for name in embedded}, torch.zeros(2, 2))
    twice = head({name: 2 * value for name, value in embedded.items()}, 2 * dense)
    torch.testing.assert_close(twice - nothing, 2 * (head(embedded, dense) - nothing))

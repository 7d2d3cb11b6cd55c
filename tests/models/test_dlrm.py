import torch

from recsys.models.dlrm import DLRM
from recsys.schema.features import FeatureSchema
from tests.models.contract import RankingContract
from tests.worlds import SCHEMA


class TestDLRM(RankingContract):
    def build(self, schema):
        return DLRM(schema, embedding_dim=8, hidden=(32,), id_dropout=0.05)


def test_top_reads_the_bottom_vector_and_the_dots_of_every_pair():
    model = DLRM(SCHEMA, embedding_dim=8)
    num_vectors = 5 + 1
    assert model.head.top.layers[0].in_features == 8 + num_vectors * (num_vectors - 1) // 2


def test_ids_matter_without_numbers():
    torch.manual_seed(0)
    schema = FeatureSchema(tuple(f for f in SCHEMA.features if f.is_sparse))
    head = DLRM(schema, embedding_dim=8).eval().head
    embedded = {name: torch.zeros(2, 8) for name in head.fields.names}
    embedded["item_id"][1] = 1.0  # its only dot product that is not 0 is with the bottom's vector
    logits = head(embedded, torch.empty(2, 0))
    assert (logits[0] - logits[1]).abs() > 1e-6

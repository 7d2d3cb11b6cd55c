import pytest
import torch

from recsys.models.final_mlp import FinalMLP
from tests.models.contract import RankingContract
from tests.worlds import SCHEMA


class TestFinalMLP(RankingContract):
    def build(self, schema):
        return FinalMLP(schema, embedding_dim=8, hidden=(32,), num_heads=2, id_dropout=0.05)


class TestBatchNormAndLearnedGates(RankingContract):
    def build(self, schema):
        return FinalMLP(
            schema,
            embedding_dim=8,
            hidden=(32,),
            second_hidden=(16,),
            first_gates=[],
            second_gates=["user_id", "item_id"],
            normalisation="batch",
            id_dropout=0.05,
        )


def test_streams_are_gated_by_features_of_their_own():
    head = FinalMLP(SCHEMA, embedding_dim=8).head
    names = head.fields.names
    assert [names[at] for at in head.first.gates] == ["user_id", "history", "hour"]
    assert [names[at] for at in head.second.gates] == ["item_id", "genres"]


def test_gating_by_an_unknown_feature_is_refused():
    with pytest.raises(ValueError, match=r"`model.second_gates`, got \['colour'\]; there are: user_id, "):
        FinalMLP(SCHEMA, second_gates=["colour"])


def test_gating_by_a_feature_left_out_is_refused():
    with pytest.raises(ValueError, match=r"got \['genres'\]"):
        FinalMLP(SCHEMA, leave_out=["genres"], second_gates=["genres"])


def test_no_hidden_layer_is_refused():
    with pytest.raises(ValueError, match=r"`model.hidden` must name at least one layer"):
        FinalMLP(SCHEMA, hidden=[])


def test_field_dropout_reaches_the_gates():
    torch.manual_seed(0)
    head = FinalMLP(SCHEMA, embedding_dim=8, field_dropout=0.5, dropout=0.0).head
    head.fields.dropout.p = 1.0 - 1e-7  # everything is dropped
    embedded = {name: torch.randn(2, 8) for name in head.fields.names}
    logits = head(embedded, torch.randn(2, 2))
    torch.testing.assert_close(logits[0], logits[1])

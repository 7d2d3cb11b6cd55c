import dataclasses

import pytest
import torch

from recsys.models.mmoe import MMoE
from recsys.schema.labels import AuxiliaryLabel
from tests.models.contract import RankingContract
from tests.worlds import SCHEMA

LABELS = (AuxiliaryLabel("liked", "binary", "liked"), AuxiliaryLabel("dwell", "numeric", "seconds"))


class TestOneHead(RankingContract):
    def build(self, schema):
        return MMoE(schema, embedding_dim=8, hidden=(32,), id_dropout=0.05)


class TestSharedBottomOfThreeHeads(RankingContract):
    def build(self, schema):
        schema = dataclasses.replace(schema, labels=LABELS)
        return MMoE(schema, embedding_dim=8, num_experts=1, hidden=(32,), id_dropout=0.05)

    def test_the_label_is_the_first_head(self, model, every_pair):
        outputs = model.every_head(every_pair)
        assert outputs.shape == (len(every_pair), 3)
        assert torch.equal(outputs[:, 0], model(every_pair))
        assert not torch.allclose(outputs[:, 1], outputs[:, 0])


@pytest.mark.parametrize("keys", [{"hidden": []}, {"num_experts": 0}])
def test_no_expert_to_speak_of_is_refused(keys):
    with pytest.raises(ValueError, match=r"`model.hidden` must name at least one layer and `model.num_expe"):
        MMoE(SCHEMA, **keys)

import dataclasses

import pytest
import torch
from torch import nn

from recsys.models.ple import PLE, ExtractionLevel
from tests.models.contract import RankingContract
from tests.models.test_mmoe import LABELS
from tests.worlds import SCHEMA


class TestOneHead(RankingContract):
    def build(self, schema):
        return PLE(schema, embedding_dim=8, hidden=(32,), num_levels=1, id_dropout=0.05)


class TestTwoLevelsOfThreeHeads(RankingContract):
    def build(self, schema):
        schema = dataclasses.replace(schema, labels=LABELS)
        return PLE(schema, embedding_dim=8, hidden=(32,), id_dropout=0.05)

    def test_the_label_is_the_first_head(self, model, every_pair):
        outputs = model.every_head(every_pair)
        assert outputs.shape == (len(every_pair), 3)
        assert torch.equal(outputs[:, 0], model(every_pair))
        assert not torch.allclose(outputs[:, 1], outputs[:, 0])


def test_own_experts_are_hidden_from_other_heads():
    torch.manual_seed(0)
    experts = [[nn.Linear(4, 3)] for _ in range(3)]  # of head 0, of head 1, shared
    level = ExtractionLevel(experts, width=4, is_last=False)
    inputs = torch.randn(2, 4)[:, None].expand(-1, 3, -1)
    before = level(inputs)
    with torch.no_grad():
        level.experts[0].experts[0].weight.add_(1.0)
    changed = (level(inputs) - before).abs().amax(dim=(0, 2)) > 0
    assert changed.tolist() == [True, False, True]


@pytest.mark.parametrize("keys", [{"hidden": []}, {"num_levels": 0}])
def test_no_expert_to_speak_of_is_refused(keys):
    with pytest.raises(ValueError, match=r"`model.hidden` must name at least one layer, and `model.num_sh"):
        PLE(SCHEMA, **keys)

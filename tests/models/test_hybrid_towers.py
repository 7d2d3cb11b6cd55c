"""`model.cold_start`: content where there is no behaviour, behaviour where there is enough."""

import dataclasses

import pytest
import torch

from recsys.models.hybrid_towers import HISTORY_COUNT
from recsys.models.protocols import embed
from recsys.models.two_tower import TwoTower
from recsys.nn.cold_start import ColdStartMix, EventCounts
from recsys.schema.batch import Batch, HistoryItems
from recsys.schema.features import FeatureSchema
from tests.models.contract import RetrievalContract
from tests.worlds import SCHEMA, SIZE, checkerboard

ROWS = torch.arange(SIZE + 1)


def with_history(batch: Batch) -> Batch:
    """The queries with the items of their histories, whose rows are those of the catalogue."""
    bags = batch.ids["history"]
    rows, positions = torch.unique(bags.values(), return_inverse=True)
    items = checkerboard().catalogue.select(rows if len(rows) else torch.zeros(1).long())
    return dataclasses.replace(batch, history=HistoryItems(items, positions, bags.lengths().long()))


def hybrid(schema=SCHEMA, *, counts=5.0, **keys) -> TwoTower:
    model = TwoTower(schema, embedding_dim=8, hidden=(16,), cold_start=keys.pop("cold_start", "gate"), **keys)
    model.counts.set(ROWS, torch.full((SIZE + 1,), counts))
    return model


class TestGate(RetrievalContract):
    cold_start = "gate"

    def build(self, schema):
        return hybrid(schema, cold_start=self.cold_start, behaviour_dropout=0.1, id_dropout=0.0)

    def queries(self, users):
        return with_history(super().queries(users))

    def query_inputs(self, model, batch):
        return embed(model, batch) | model._history(batch), batch.dense

    # The unknown has no behaviour here: its content is what places it.
    test_unknown_user_and_item_are_trained = None


class TestRule(TestGate):
    cold_start = "rule"


def test_item_without_events_is_placed_by_its_content_alone():
    model, catalogue = hybrid().eval(), checkerboard().catalogue
    model.counts.counts[3] = 0
    before = model.encode_candidates(catalogue)
    weights = model.ids.state_dict()["collection.embedding_bags.item_id.weight"]
    weights += 1.0
    after = model.encode_candidates(catalogue)
    assert torch.equal(before[3], after[3])
    assert not torch.allclose(before[4], after[4])


def test_gate_opens_with_the_number_of_events():
    mix = ColdStartMix("gate", embedding_dim=4, min_events=3)
    content = torch.nn.functional.normalize(torch.ones(5, 4), dim=1)
    weights = mix.weights(content, torch.tensor([0.0, 1, 3, 20, 500])[:, None]).flatten().detach()
    assert weights[0] == 0
    assert weights[2] == pytest.approx(0.5)
    assert (weights.diff() > 0).all()


def test_rule_switches_at_a_number_of_events():
    mix = ColdStartMix("rule", embedding_dim=2, min_events=3)
    content, behaviour = torch.tensor([[1.0, 0.0]]).expand(3, 2), torch.tensor([[0.0, 1.0]]).expand(3, 2)
    mixed = mix(content, behaviour, torch.tensor([0.0, 2.0, 3.0])[:, None])
    assert mixed.tolist() == [[1, 0], [1, 0], [0, 1]]


def test_gate_that_keeps_content_adds_behaviour_to_it():
    mix = ColdStartMix("gate", embedding_dim=2, min_events=3, keeps_content=True)
    content, behaviour = torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[0.0, 1.0]] * 2)
    counts = torch.tensor([0.0, 3.0])[:, None]
    torch.testing.assert_close(mix(content, behaviour, counts), torch.tensor([[1.0, 0.0], [1.0, 0.5]]))
    mix.forced = 1.0
    assert mix(content, behaviour, counts).tolist() == [[0, 0], [0, 1]]


def test_forced_weight_gives_either_side_alone():
    mix = ColdStartMix("gate", embedding_dim=2, min_events=3)
    content, behaviour = torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[0.0, 1.0]] * 2)
    counts = torch.tensor([0.0, 5.0])[:, None]
    mix.forced = 0.0
    assert mix(content, behaviour, counts).tolist() == [[1, 0], [1, 0]]
    mix.forced = 1.0
    assert mix(content, behaviour, counts).tolist() == [[0, 0], [0, 1]]


def test_counts_of_items_that_share_a_row_add_up_and_the_unknown_row_has_none():
    counts = EventCounts("item_id", 3)
    counts.set(torch.tensor([0, 1, 2, 2]), torch.tensor([7, 1, 2, 3]))
    assert counts(torch.tensor([0, 1, 2])).flatten().tolist() == [0, 1, 5]


def test_history_counts_each_event_and_training_forgets_some():
    torch.manual_seed(0)
    model = hybrid(history_dropout=0.9)
    batch = with_history(checkerboard().queries)
    lengths = batch.ids["history"].lengths()[:, None]
    assert torch.equal(model.eval()._history(batch)[HISTORY_COUNT], lengths.float())
    lowered = model.train()._history(batch)[HISTORY_COUNT]
    assert (lowered <= lengths).all()
    assert (lowered < lengths).any()


def test_content_of_the_history_reaches_the_query():
    model, batch = hybrid().eval(), with_history(checkerboard().queries)
    before = model.encode_queries(batch)
    model.tables.state_dict()["collection.embedding_bags.genres.weight"].mul_(-1)
    assert not torch.allclose(model.encode_queries(batch)[1:], before[1:], atol=1e-4)


def test_a_batch_without_histories_is_refused():
    with pytest.raises(ValueError, match="reads the content of histories, and the batch has none"):
        hybrid().encode_queries(checkerboard().queries)


def test_items_without_content_are_refused():
    bare = FeatureSchema(tuple(f for f in SCHEMA.features if f.name not in ("genres", "price")))
    with pytest.raises(ValueError, match=r"the items have no content: expected features in `data.items"):
        hybrid(bare)
    with pytest.raises(ValueError, match=r"keep both out of `model.leave_out`"):
        hybrid(leave_out=["item_id"])

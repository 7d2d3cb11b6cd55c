import pytest
import torch

from recsys.losses.full_softmax import full_softmax
from recsys.models.protocols import embed
from recsys.models.two_tower import TwoTower
from tests.models.contract import RetrievalContract, train
from tests.worlds import SCHEMA, checkerboard


class TestTwoTower(RetrievalContract):
    def build(self, schema):
        return TwoTower(schema, embedding_dim=8, hidden=(16,), id_dropout=0.05)

    def test_candidates_have_length_one_and_queries_one_over_temperature(self):
        model = TwoTower(SCHEMA, embedding_dim=8, temperature=0.25).eval()
        world = checkerboard()
        queries = model.encode_queries(world.queries).norm(dim=1)
        candidates = model.encode_candidates(world.catalogue).norm(dim=1)
        torch.testing.assert_close(queries, torch.full_like(queries, 4.0))
        torch.testing.assert_close(candidates, torch.ones_like(candidates))

    def test_learned_temperature_begins_where_it_is_put_and_moves(self):
        torch.manual_seed(0)
        model = TwoTower(SCHEMA, embedding_dim=8, temperature=0.25, learn_temperature=True)
        world = checkerboard()
        norms = model.eval().encode_queries(world.queries).norm(dim=1)
        torch.testing.assert_close(norms, torch.full_like(norms, 4.0))
        users, items = world.likes.nonzero(as_tuple=True)

        def loss():
            queries = model.encode_queries(world.queries)[users]
            return full_softmax(queries, model.encode_candidates(world.catalogue), items)

        train(model, loss, steps=20)
        moved = model.encode_queries(world.queries).norm(dim=1)
        torch.testing.assert_close(moved, moved[:1].expand_as(moved))
        assert abs(moved[0].item() - 4.0) > 0.1
        scripted = torch.jit.script(model.query_tower)
        embedded = embed(model, world.queries)
        torch.testing.assert_close(
            scripted(embedded, world.queries.dense), model.query_tower(embedded, world.queries.dense)
        )

    def test_history_reads_the_item_table(self, model):
        tables = {table: names for table, (_, names) in model.tables.tables().items()}
        assert tables["item_id"] == ["history", "item_id"]
        assert "history" not in tables

    def test_feature_left_out_does_not_matter(self):
        torch.manual_seed(0)
        model = TwoTower(SCHEMA, embedding_dim=8, leave_out=["hour"]).eval()
        world = checkerboard()
        before = model.encode_queries(world.queries)
        values = world.queries.ids.values()
        values[-1] = 24 if values[-1] != 24 else 1
        assert torch.equal(model.encode_queries(world.queries), before)

    def test_leaving_out_an_unknown_feature_is_refused(self):
        with pytest.raises(ValueError, match=r"`model.leave_out` names features .* \['colour'\]"):
            TwoTower(SCHEMA, leave_out=["colour"])

    def test_embedding_dim_that_is_no_multiple_of_four_is_refused(self):
        with pytest.raises(ValueError, match="must be a positive multiple of 4, got 10"):
            TwoTower(SCHEMA, embedding_dim=10)

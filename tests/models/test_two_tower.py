import dataclasses

import pytest
import torch

from recsys.losses.full_softmax import full_softmax
from recsys.models import two_tower
from recsys.models.encoding import catalogue_scorer
from recsys.models.protocols import embed
from recsys.models.two_tower import TwoTower
from recsys.models.weights import grow_weights
from recsys.schema.jagged import JaggedColumn
from tests.models.contract import RetrievalContract, train
from tests.models.test_ease import drawn_positives
from tests.worlds import SCHEMA, SIZE, checkerboard


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


class TestNeighbours:
    positives = drawn_positives(items=SIZE)

    def build(self, **keys):
        torch.manual_seed(0)
        model = TwoTower(SCHEMA, embedding_dim=8, **keys)
        model.show_positives(self.positives)
        return model

    def test_cosines_to_the_history_by_who_liked_both_are_added_to_the_products(self):
        model, world = self.build(neighbour_weight=3.0).eval(), checkerboard()
        queries = dataclasses.replace(world.queries, seen=JaggedColumn.of_lists([[]] * (SIZE + 1)))
        vectors = model.encode_queries(queries)
        scorer = catalogue_scorer(model, world.catalogue, None)
        scores, rows = scorer.best(vectors, SIZE, batch=queries)
        liked = torch.zeros(60, SIZE + 1)
        liked[self.positives.user_rows, self.positives.item_rows] = 1
        counts, norms = liked.sum(0), liked.norm(dim=0)
        cosines = (liked.T @ liked / (norms[:, None] * norms + 10.0)).fill_diagonal_(0)
        popularity = ((counts + 1) / (counts.sum() + SIZE + 1) * (SIZE + 1)).log()
        history = [user for user in range(1, SIZE + 1, 2) if user != 5]
        expected = model.encode_candidates(world.catalogue) @ vectors[5] + 3.0 * cosines[history].sum(0)
        expected += popularity / (1 + len(history))
        torch.testing.assert_close(scores[5], expected[1:].sort(descending=True)[0])
        assert rows[5].tolist() == (expected[1:].argsort(descending=True) + 1).tolist()

    def test_training_knows_nothing_of_them(self):
        world = checkerboard()
        plain, model = self.build().train(), self.build(neighbour_weight=3.0).train()
        assert [*plain.state_dict()] == [n for n in model.state_dict() if not n.startswith("neighbours.")]
        assert not list(model.neighbours.parameters())
        for encode, batch in (("encode_queries", world.queries), ("encode_candidates", world.catalogue)):
            vectors = []
            for one in (plain, model):
                torch.manual_seed(1)
                vectors.append(getattr(one, encode)(batch))
            assert torch.equal(*vectors)

    def test_weights_that_grow_take_the_neighbours_of_the_newer_data(self):
        model = self.build(neighbour_weight=3.0)
        earlier = {name: torch.ones_like(value) for name, value in model.state_dict().items()}
        rows = {table: torch.arange(len(model.tables.weight(table))) for table in model.tables.tables()}
        before = model.neighbours.cosines.clone()
        grow_weights(model, earlier, rows)
        assert torch.equal(model.neighbours.cosines, before)
        assert (model.tables.weight("item_id") == 1).all()

    @pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
    def test_a_weight_that_is_no_number_of_zero_or_more_is_refused(self, weight):
        with pytest.raises(ValueError, match=r"`model.neighbour_weight` must be a number of 0 or more"):
            TwoTower(SCHEMA, neighbour_weight=weight)

    def test_without_a_history_there_are_none(self):
        with pytest.raises(ValueError, match=r"`model.neighbour_weight` adds the neighbours .* is none"):
            TwoTower(SCHEMA, neighbour_weight=1.0, leave_out=["history"])

    def test_more_items_than_can_be_compared_are_refused(self, monkeypatch):
        monkeypatch.setattr(two_tower, "_MOST_ITEMS", 15)
        with pytest.raises(ValueError, match=r"of which train has 16; at most 15 are possible"):
            TwoTower(SCHEMA, neighbour_weight=1.0)

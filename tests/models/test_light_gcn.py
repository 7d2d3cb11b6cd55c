import pytest
import torch

from recsys.models.light_gcn import LightGCN
from tests.models.contract import RetrievalContract, world_positives
from tests.worlds import SCHEMA, SIZE, checkerboard


class TestLightGCN(RetrievalContract):
    def build(self, schema):
        model = LightGCN(schema, embedding_dim=8, num_layers=2)
        model.show_positives(world_positives())
        return model

    def test_vectors_are_means_of_the_layers_of_the_graph(self):
        """Equations 3 and 4 by a dense matrix of the graph."""
        torch.manual_seed(0)
        model, world, positives = self.build(SCHEMA), checkerboard(), world_positives()
        size = SIZE + 1
        graph = torch.zeros(2 * size, 2 * size)
        graph[positives.user_rows, size + positives.item_rows] = 1
        graph = graph + graph.T
        degrees = graph.sum(dim=1).clamp(min=1)
        graph = graph / (degrees[:, None] * degrees).sqrt()
        nodes = model.nodes.detach()
        expected = (nodes + graph @ nodes + graph @ graph @ nodes) / 3
        with torch.no_grad():
            trained = model.encode_queries(world.queries), model.encode_candidates(world.catalogue)
            model.eval()
            served = model.encode_queries(world.queries), model.encode_candidates(world.catalogue)
        for (users, items), first in ((trained, 0), (served, 1)):
            torch.testing.assert_close(users[first:, :8], expected[first:size])
            torch.testing.assert_close(items[:, :8], expected[size:])

    def test_tables_hold_what_was_learnt_when_training_was_left(self):
        model, world = self.build(SCHEMA), checkerboard()
        before = model.eval().encode_queries(world.queries)
        model.train()
        with torch.no_grad():
            model.nodes.mul_(2)
        torch.testing.assert_close(model.eval().encode_queries(world.queries)[1:, :8], 2 * before[1:, :8])

    def test_unknown_user_gets_what_is_popular(self):
        model, world = self.build(SCHEMA), checkerboard()
        positives = world_positives()
        more = torch.arange(1, 4)
        model.show_positives(
            type(positives)(
                torch.cat([positives.user_rows, more]),
                torch.cat([positives.item_rows, torch.full_like(more, 7)]),
            )
        )
        model.eval()
        scores = model.encode_queries(world.queries)[0] @ model.encode_candidates(world.catalogue).T
        assert scores.argmax() == 7


def test_a_layer_at_least():
    with pytest.raises(ValueError, match=r"`model.num_layers` must be at least 1, got 0"):
        LightGCN(SCHEMA, num_layers=0)

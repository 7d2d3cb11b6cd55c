import torch

from recsys.models.popularity import MostPopular
from recsys.schema.positives import TrainPositives
from tests.models.contract import FittedContract, world_positives
from tests.worlds import checkerboard


class TestMostPopular(FittedContract):
    def build(self, schema):
        return MostPopular(schema)

    def test_solves_the_checkerboard(self, model):
        """It can't: everybody gets the same. What is liked most comes first."""
        positives = world_positives()
        liked = TrainPositives(torch.arange(1, 4), torch.tensor([7, 7, 2]))
        model.fit(TrainPositives(*map(torch.cat, zip(positives, liked, strict=True))), 0)
        world = checkerboard()
        scores = model.encode_queries(world.queries) @ model.encode_candidates(world.catalogue).T
        assert (scores.argsort(dim=1, descending=True)[:, :2] == torch.tensor([7, 2])).all()

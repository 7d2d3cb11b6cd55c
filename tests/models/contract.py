"""What every model must do; a model's test inherits one of these and says how to build the model."""

import pytest
import torch
from torch import nn

from recsys.losses.full_softmax import full_softmax
from recsys.losses.pointwise import binary_cross_entropy
from recsys.models.protocols import embed
from recsys.schema.batch import Batch
from recsys.schema.features import FeatureSchema
from recsys.schema.positives import TrainPositives
from tests.worlds import SCHEMA, SIZE, checkerboard, pairs


def train(model: nn.Module, loss_of, *, steps: int, learning_rate: float = 0.02) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    model.train()
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    model.eval()
    return history


ALL = torch.arange(SIZE + 1)


class RetrievalContract:
    """Inherit and define `build(schema)`, and `queries` and `query_inputs` where features are not all."""

    def build(self, schema: FeatureSchema) -> nn.Module:
        raise NotImplementedError

    def queries(self, users: torch.Tensor) -> Batch:
        """The world's queries of these users."""
        return checkerboard().queries.select(users)

    def query_inputs(self, model: nn.Module, batch: Batch) -> tuple:
        """What the query tower is called with."""
        return embed(model, batch), batch.dense

    @pytest.fixture
    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build(SCHEMA).eval()

    def test_vectors_are_finite_and_score_every_pair(self, model):
        world = checkerboard()
        scores = model.encode_queries(self.queries(ALL)) @ model.encode_candidates(world.catalogue).T
        assert scores.shape == (SIZE + 1, SIZE + 1)
        assert torch.isfinite(scores).all()

    def test_batch_equals_single(self, model):
        catalogue = checkerboard().catalogue
        for select, encode in (
            (self.queries, model.encode_queries),
            (catalogue.select, model.encode_candidates),
        ):
            whole = encode(select(ALL))
            for row in (0, 3, SIZE):
                torch.testing.assert_close(encode(select(torch.tensor([row])))[0], whole[row])

    def test_saved_weights_give_the_same_vectors(self, model, tmp_path):
        torch.save(model.state_dict(), tmp_path / "weights")
        torch.manual_seed(1)
        again = self.build(SCHEMA).eval()
        again.load_state_dict(torch.load(tmp_path / "weights"))
        world = checkerboard()
        assert torch.equal(again.encode_queries(self.queries(ALL)), model.encode_queries(self.queries(ALL)))
        assert torch.equal(again.encode_candidates(world.catalogue), model.encode_candidates(world.catalogue))

    def test_scripted_towers_equal_eager(self, model):
        catalogue = checkerboard().catalogue
        for tower, inputs in (
            (model.query_tower, self.query_inputs(model, self.queries(ALL))),
            (model.candidate_tower, (embed(model, catalogue), catalogue.dense)),
        ):
            torch.testing.assert_close(torch.jit.script(tower)(*inputs), tower(*inputs))

    def test_solves_the_checkerboard(self):
        torch.manual_seed(0)
        model, world = self.build(SCHEMA), checkerboard()
        users, items = (world.likes & ~torch.eye(SIZE + 1, dtype=torch.bool)).nonzero(as_tuple=True)

        def loss():
            queries = model.encode_queries(self.queries(ALL))[users]
            return full_softmax(queries, model.encode_candidates(world.catalogue)[1:], items - 1)

        losses = train(model, loss, steps=60)
        assert losses[-1] < 0.8 * losses[0]
        scores = model.encode_queries(self.queries(ALL)) @ model.encode_candidates(world.catalogue).T
        scores[users, items] = -torch.inf  # what was trained on is not the question
        scores[:, 0] = -torch.inf
        assert scores[1:].argmax(dim=1).tolist() == list(range(1, SIZE + 1))

    def test_unknown_user_and_item_are_trained(self):
        torch.manual_seed(0)
        model, world = self.build(SCHEMA), checkerboard()
        before = unknown_vectors(model, world.queries, world.catalogue)
        users, items = world.likes.nonzero(as_tuple=True)

        def loss():
            queries = model.encode_queries(self.queries(users))
            return full_softmax(queries, model.encode_candidates(world.catalogue)[1:], items - 1)

        train(model, loss, steps=10)
        after = unknown_vectors(model, world.queries, world.catalogue)
        for old, new in zip(before, after, strict=True):
            assert torch.isfinite(new).all()
            assert not torch.equal(old, new)


def world_positives() -> TrainPositives:
    """The checkerboard's likes but for the diagonal."""
    likes = checkerboard().likes & ~torch.eye(SIZE + 1, dtype=torch.bool)
    return TrainPositives(*likes.nonzero(as_tuple=True))


class FittedContract(RetrievalContract):
    """Of a model that is computed from all positives; inherit and define `build(schema)`."""

    @pytest.fixture
    def model(self) -> nn.Module:
        model = self.build(SCHEMA).eval()
        for number in range(model.num_fits):
            model.fit(world_positives(), number)
        return model

    def test_solves_the_checkerboard(self, model):
        world, positives = checkerboard(), world_positives()
        scores = model.encode_queries(self.queries(ALL)) @ model.encode_candidates(world.catalogue).T
        scores[positives.user_rows, positives.item_rows] = -torch.inf  # these are known
        scores[:, 0] = -torch.inf
        assert scores[1:].argmax(dim=1).tolist() == list(range(1, SIZE + 1))

    def test_unknown_user_and_item_are_trained(self, model):
        """A user without a history gets what is liked most; an unknown item is recommended last."""
        positives = world_positives()
        often = TrainPositives(
            torch.cat([positives.user_rows, torch.arange(1, SIZE + 1)]),
            torch.cat([positives.item_rows, torch.full((SIZE,), 5)]),
        )
        for number in range(model.num_fits):
            model.fit(often, number)
        scores = model.encode_queries(self.queries(ALL)) @ model.encode_candidates(checkerboard().catalogue).T
        assert scores[0].argmax() == 5
        assert scores[0, 0] == scores[0].min()

    def test_no_optimizer_moves_it(self, model):
        assert not any(parameter.requires_grad for parameter in model.parameters())

    def test_saved_weights_give_the_same_vectors(self, model, tmp_path):
        super().test_saved_weights_give_the_same_vectors(model, tmp_path)
        assert not torch.equal(
            self.build(SCHEMA).encode_candidates(checkerboard().catalogue),
            model.encode_candidates(checkerboard().catalogue),
        )


def unknown_vectors(model: nn.Module, queries: Batch, catalogue: Batch) -> list[torch.Tensor]:
    """Row 0 of each id table."""
    return [
        weight[0].detach().clone()
        for name, weight in model.named_parameters()
        if name.endswith(("embedding_bags.user_id.weight", "embedding_bags.item_id.weight"))
    ]


class RankingContract:
    """Inherit and define `build(schema)`."""

    def build(self, schema: FeatureSchema) -> nn.Module:
        raise NotImplementedError

    @pytest.fixture
    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build(SCHEMA).eval()

    @pytest.fixture
    def every_pair(self) -> Batch:
        rows = torch.arange(SIZE + 1)
        return pairs(checkerboard(), rows.repeat_interleave(SIZE + 1), rows.repeat(SIZE + 1))

    def test_logits_are_finite(self, model, every_pair):
        logits = model(every_pair)
        assert logits.shape == (len(every_pair),)
        assert torch.isfinite(logits).all()

    def test_batch_equals_single(self, model, every_pair):
        whole = model(every_pair)
        for row in (0, 7, len(every_pair) - 1):
            torch.testing.assert_close(model(every_pair.select(torch.tensor([row])))[0], whole[row])

    def test_saved_weights_give_the_same_logits(self, model, every_pair, tmp_path):
        torch.save(model.state_dict(), tmp_path / "weights")
        torch.manual_seed(1)
        again = self.build(SCHEMA).eval()
        assert not torch.equal(again(every_pair), model(every_pair))
        again.load_state_dict(torch.load(tmp_path / "weights"))
        assert torch.equal(again(every_pair), model(every_pair))

    def test_scripted_head_equals_eager(self, model, every_pair):
        embedded = embed(model, every_pair)
        scripted = torch.jit.script(model.head)(embedded, every_pair.dense)
        torch.testing.assert_close(scripted, model.head(embedded, every_pair.dense))

    def test_overfits_one_batch(self):
        torch.manual_seed(0)
        model, world = self.build(SCHEMA), checkerboard()
        users, items = torch.arange(1, 9), torch.tensor([2, 3, 5, 5, 7, 8, 9, 2])
        batch = pairs(world, users, items)
        losses = train(model, lambda: binary_cross_entropy(model(batch), batch.labels), steps=80)
        assert losses[-1] < 0.1

    def test_solves_the_checkerboard(self):
        torch.manual_seed(0)
        model, world = self.build(SCHEMA), checkerboard()
        withheld = torch.eye(SIZE + 1, dtype=torch.bool)
        withheld[torch.arange(1, SIZE), torch.arange(2, SIZE + 1)] = (
            True  # and its neighbours, which are disliked
        )
        asked = ~withheld
        asked[0], asked[:, 0] = False, False
        batch = pairs(world, *asked.nonzero(as_tuple=True))
        train(model, lambda: binary_cross_entropy(model(batch), batch.labels), steps=150)
        users = torch.arange(1, SIZE)
        assert (model(pairs(world, users, users)) > 0).all()
        assert (model(pairs(world, users, users + 1)) < 0).all()

    def test_unknown_user_and_item_are_trained(self, every_pair):
        torch.manual_seed(0)
        model, world = self.build(SCHEMA), checkerboard()
        before = unknown_vectors(model, world.queries, world.catalogue)
        rows = every_pair.select(torch.arange(SIZE + 2, len(every_pair)))
        labels = every_pair.labels[SIZE + 2 :]
        train(model, lambda: binary_cross_entropy(model(rows), labels), steps=10)
        for old, new in zip(before, unknown_vectors(model, world.queries, world.catalogue), strict=True):
            assert not torch.equal(old, new)

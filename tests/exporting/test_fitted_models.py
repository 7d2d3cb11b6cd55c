"""Models that are computed from all positives leave in the same bundle as every other."""

import pytest

from recsys.models.ease import EASE
from recsys.models.ease_factorization import EaseFactorization
from recsys.models.ials import IALS
from recsys.models.item_knn import ItemKNN
from recsys.models.light_gcn import LightGCN
from recsys.models.popularity import MostPopular
from recsys.training.fitted import positives_of
from tests.exporting.conftest import export

MODELS = {
    "ease": lambda schema: EASE(schema, embedding_dim=40, l2=[5.0]),
    "item_knn": lambda schema: ItemKNN(schema, embedding_dim=40, num_neighbours=[10]),
    "ials": lambda schema: IALS(schema, embedding_dim=8, num_rounds=2),
    "ease_factorization": lambda schema: EaseFactorization(
        schema, embedding_dim=8, ease_dim=40, penalty=[0.5]
    ),
    "popularity": MostPopular,
}


@pytest.mark.parametrize(
    "name", ["ease", *(pytest.param(one, marks=pytest.mark.slow) for one in MODELS if one != "ease")]
)
def test_fitted_models_pass_the_gate(shop, tmp_path, name):
    model = MODELS[name](shop.schema).eval()
    for number in range(model.num_fits):
        model.fit(positives_of(shop), number)
    export(model, shop, tmp_path / "bundle")


def test_model_that_reads_all_positives_passes_the_gate(shop, tmp_path):
    model = LightGCN(shop.schema, embedding_dim=8)
    model.show_positives(positives_of(shop))
    exported = export(model.eval(), shop, tmp_path / "bundle")
    found, _ = exported.program.recommend({"user_id": shop.user_ids[1]}, [shop.item_ids[1]], 5)
    assert len(set(found)) == 5
    assert shop.item_ids[1] not in found


def test_new_item_can_be_added_and_is_recommended_last(shop, tmp_path):
    model = MODELS["ease"](shop.schema).eval()
    model.fit(positives_of(shop), 0)
    program = export(model, shop, tmp_path / "bundle").program
    new = "brand-new" if isinstance(shop.item_ids[1], str) else 10**6
    assert program.add_items([{"item_id": new}]) == 1
    found, scores = program.recommend({}, [], len(shop.item_ids) + 5)
    assert new in found
    assert dict(zip(found, scores, strict=True))[new] == min(scores)

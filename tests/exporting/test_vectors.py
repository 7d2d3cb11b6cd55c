"""Embeddings made elsewhere, in bundles: known ones are stored, new ones come with requests."""

import pytest
import torch

from recsys.exporting.bundle import load_scripted
from recsys.serving.bundle import Bundle
from recsys.serving.values import RequestError
from tests.exporting import worlds
from tests.exporting.conftest import export, sequence_two_tower, two_tower, wide_deep

COVER = [0.5, -1.25, 0.0, 2.0, 1e-4, 3.0]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return worlds.shop(tmp_path_factory.mktemp("vectors"), with_vectors=True)


@pytest.fixture(scope="module")
def retrieval(shop, tmp_path_factory):
    """Exported, so that the gate has compared every way of asking with the model."""
    return export(two_tower(shop), shop, tmp_path_factory.mktemp("retrieval") / "bundle")


@pytest.mark.parametrize("build", [pytest.param(sequence_two_tower, marks=pytest.mark.slow), wide_deep])
def test_the_gate_passes_other_models_that_read_vectors(shop, tmp_path, build):
    assert export(build(shop), shop, tmp_path / "bundle").program is not None


def test_a_vector_given_is_what_the_model_makes_of_it(shop, retrieval):
    row = 5
    batch = shop.items.select(torch.tensor([row]))
    batch.vectors.columns["cover"] = torch.tensor([COVER]).half()
    expected = retrieval.model.encode_candidates(batch)[0]
    item_id = shop.item_ids[row]
    torch.testing.assert_close(retrieval.program.encode_item({"sku": item_id, "cover": COVER}), expected)
    known = retrieval.program.encode_item({"sku": item_id})
    nothing = retrieval.program.encode_item({"sku": item_id, "cover": None})
    batch.vectors.columns["cover"] = torch.zeros(1, 6).half()
    torch.testing.assert_close(nothing, retrieval.model.encode_candidates(batch)[0])
    assert not torch.allclose(known, nothing)


def test_a_new_item_is_recommended_by_its_vector(retrieval):
    program = load_scripted(retrieval.folder / "retrieval.pt")
    assert program.add_items([{"sku": "new", "cover": COVER}, {"sku": "bare"}]) == 2
    torch.testing.assert_close(program.candidates[-2], program.encode_item({"sku": "?", "cover": COVER}))
    torch.testing.assert_close(program.encode_item({"sku": "new"}), program.candidates[-2])
    assert not torch.allclose(program.candidates[-1], program.candidates[-2])
    assert {"new", "bare"} <= set(program.recommend({"uid": 5}, [], 100)[0])


def test_a_request_with_another_vector_is_refused_by_name(retrieval):
    bundle = Bundle.open(retrieval.folder)
    near = bundle.recommend({"uid": "nobody", "taste": [1, 0, 0.5, 0, -1e-7, 2]}, [], 3)
    assert near != bundle.recommend({"uid": "nobody", "taste": [-1, 0, 0, 0, 0, 2]}, [], 3)
    with pytest.raises(
        RequestError, match="`taste` must be a list of 6 numbers that float16 holds, got 2 of them"
    ):
        bundle.recommend({"uid": 1, "taste": [1.0, 2.0]}, [], 3)
    for wrong in ("[1, 2]", [1.0, "2"], [float("nan")] * 6):
        with pytest.raises(RequestError, match=r"`user.taste` must be a list of .*numbers, or None"):
            bundle.recommend({"uid": 1, "taste": wrong}, [], 3)


def test_what_is_unknown_differs_from_its_vector_by_nothing(shop, retrieval):
    """Row 0 of the differences is not zero here, as nothing is in a lively model."""
    tables = retrieval.model.tables
    batch = shop.items.select(torch.tensor([0]))
    batch.vectors.columns["cover"] = torch.tensor([COVER]).half()
    embedded = tables(batch.ids, batch.vectors)["cover"]
    expected = torch.nn.functional.normalize(torch.tensor([COVER]).half().float(), dim=1)
    torch.testing.assert_close(embedded, expected @ tables.projections["cover"].weight.T)

"""Embedding tables of fewer bits."""

import numpy as np
import pytest
import torch

from recsys.data.events import Events
from recsys.exporting.bundle import export_bundle, load_bundle
from recsys.exporting.options import ExportOptions
from recsys.exporting.program.inputs import mean_of_bags, restored, stored
from recsys.exporting.rounding import with_rounded_tables
from recsys.exporting.tasks.register import task_of
from recsys.models.two_tower import TwoTower
from tests.exporting.conftest import (
    HISTORY_LENGTH,
    export_both,
    lively,
    matrix_factorization,
    stage,
    two_tower,
    wide_deep,
)

WEIGHT = torch.tensor([[0.0, 255.0, 100.4, 30.6], [-1.0, 1.0, 0.1, 0.5], [7.0, 7.0, 7.0, 7.0]])
EVERY = torch.arange(3)


def test_a_row_of_int8_is_256_even_steps_from_its_least_to_its_greatest():
    levels, scales = stored(WEIGHT, "int8")
    assert levels.dtype == torch.uint8
    assert levels[0].tolist() == [0, 255, 100, 31]
    assert levels[1].tolist() == [0, 255, 140, 191]  # 1.1 and 1.5 of steps of 2 / 255: 140.25 and 191.25
    assert scales.dtype == torch.float16
    assert scales[:2].tolist() == [[1.0, 0.0], [0.0078125 + 4 * 2**-17, -1.0]]  # next to 2 / 255
    found = restored(levels, scales, 4, EVERY)
    assert found[2].tolist() == [7.0] * 4
    half_steps = (scales[:, :1].float() / 2).clamp(min=1e-6)
    assert ((found - WEIGHT).abs() <= half_steps * 1.001).all()


def test_a_byte_of_int4_holds_two_of_16_even_steps():
    packed, scales = stored(WEIGHT, "int4")
    # Steps of 17: 0, 15, 5.9 and 1.8 of them. Steps of 2 / 15: 0, 15, 8.25 and 11.25.
    assert packed.tolist() == [[0 + 16 * 15, 6 + 16 * 2], [0 + 16 * 15, 8 + 16 * 11], [0, 0]]
    assert packed.dtype == torch.uint8
    found = restored(packed, scales, 4, EVERY)
    assert found[0].tolist() == [0.0, 255.0, 102.0, 34.0]
    assert found[1].tolist() == pytest.approx([-1.0, 1.0, -1 + 8 * 2 / 15, -1 + 11 * 2 / 15], abs=1e-3)
    assert found[2].tolist() == [7.0] * 4


def test_rows_that_float16_would_move_keep_steps_in_float32():
    # A step of 1.2e-5; next to 7.001 float16 has 7.0 and 7.0039.
    weight = torch.tensor([[7.001, 7.002, 7.003, 7.004], [-1.0, 1.0, 0.1, 0.5]])
    for kind, num_steps in (("int8", 255), ("int4", 15)):
        levels, scales = stored(weight, kind)
        assert scales.dtype == torch.float32
        half_steps = torch.tensor([[0.003], [2.0]]) / num_steps / 2
        found = restored(levels, scales, 4, torch.arange(2))
        assert ((found - weight).abs() <= half_steps * 1.2).all()


def test_rounding_what_was_rounded_changes_nothing():
    weight = torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    for kind in ("float16", "int8", "int4"):
        once = restored(*stored(weight, kind), 16, torch.arange(50))
        twice = restored(*stored(once, kind), 16, torch.arange(50))
        assert not torch.equal(once, weight)
        torch.testing.assert_close(twice, once, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int4"])
def test_bags_of_a_rounded_table_are_means_of_what_is_read_back(kind):
    values, lengths = torch.tensor([1, 0, 2]), torch.tensor([2, 0, 1])
    rows = restored(*stored(WEIGHT, kind), 4, EVERY)
    found = mean_of_bags(*stored(WEIGHT, kind), 4, values, lengths)
    torch.testing.assert_close(found, torch.stack([(rows[1] + rows[0]) / 2, torch.zeros(4), rows[2]]))
    nothing = mean_of_bags(*stored(WEIGHT, kind), 4, values[:0], torch.zeros(2, dtype=torch.int64))
    assert nothing.tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize(
    ("kind", "bytes_a_row"),
    [
        pytest.param("float16", 64, marks=pytest.mark.slow),
        pytest.param("int8", 36, marks=pytest.mark.slow),
        ("int4", 20),
    ],
)
def test_a_bundle_of_fewer_bits_is_smaller_and_says_what_it_costs(shop, tmp_path, kind, bytes_a_row):
    model = lively(TwoTower(shop.schema, embedding_dim=32, hidden=(8,)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = ExportOptions(parity_rows=8, recorded_requests=7, quantize=kind)
    folder = export_bundle(stage(model, shop), tmp_path / "bundle", options=options)
    manifest, program = load_bundle(folder)
    said = manifest["quantize"]
    rows = sum(weight.shape[0] for name, weight in before.items() if "embedding_bags" in name)
    assert said["tables"] == kind
    assert said["table_bytes"] == {"float32": rows * 32 * 4, kind: rows * bytes_a_row}
    assert set(said["test_metrics"]) == {"float32", kind}
    assert 0 < said["test_metrics"]["float32"]["ndcg@10"] < 1
    rounded = with_rounded_tables(model, kind)
    trained = stage(rounded, shop)
    expected = task_of(trained).metrics_on_test(trained)
    assert said["test_metrics"][kind] == expected
    torch.testing.assert_close(
        program.encode_item({"item_id": "sku-3é"}),
        rounded.encode_candidates(shop.items)[shop.item_ids.tolist().index("sku-3é")],
        rtol=0,
        atol=1e-5,
    )
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_two_stages_and_crosses_may_be_of_fewer_bits(shop, tmp_path):
    done = export_both(
        stage(matrix_factorization(shop), shop),
        stage(wide_deep(shop), shop),
        tmp_path / "bundle",
        quantize="int8",
    )
    for name, metrics in (("retrieval", {"ndcg@10"}), ("ranking", {"log_loss", "auc"})):
        said = done.manifest["stages"][name]["quantize"]
        assert said["table_bytes"]["int8"] < said["table_bytes"]["float32"]
        assert set(said["test_metrics"]["int8"]) == metrics
    lookups = done.program.ranking.network.inputs.lookups
    assert {lookup.weight.dtype for lookup in lookups.children()} == {torch.uint8}


def test_figures_of_a_ranking_model_are_those_of_its_rows(shop):
    model = wide_deep(shop)
    events = Events.from_arrow(shop.split_table("test"), shop.schema)
    history = shop.histories("test").before(events)
    probabilities = torch.sigmoid(model(shop.collator(HISTORY_LENGTH).rows(events, history)).double())
    p, y = probabilities.detach().numpy(), events.positives.numpy()
    trained = stage(model, shop)
    found = task_of(trained).metrics_on_test(trained)
    assert found["log_loss"] == pytest.approx(-np.mean(np.where(y, np.log(p), np.log(1 - p))), rel=1e-6)
    pairs = p[y][:, None] - p[~y][None, :]
    assert found["auc"] == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)


def test_a_model_of_full_tables_is_left_as_it_is(shop):
    model = two_tower(shop)
    assert with_rounded_tables(model, "float32") is model
    with pytest.raises(ValueError, match=r"`export.quantize` must be one of .*'int8', 'int4'\), got 'int2'"):
        ExportOptions(quantize="int2")

"""The gate must catch what it is there for: each test breaks one thing in the file and nothing else."""

import dataclasses
import operator

import pytest
import torch
from torch import nn

from recsys.exporting import bundle
from recsys.exporting.bundle import export_bundle, save_scripted
from recsys.exporting.gate import replay
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.gate.replay import REQUESTS, RESPONSES, check_in_fresh_process
from recsys.exporting.options import ExportOptions
from tests.exporting.conftest import matrix_factorization, stage, two_tower, wide_deep
from tests.pythons import new_python


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """Exports a model with a program that `damage` has been at."""

    def run(model, dataset, damage):
        build = bundle.build_program

        def build_and_damage(*args, **kwargs):
            program = build(*args, **kwargs)
            damage(program)
            return program

        monkeypatch.setattr(bundle, "build_program", build_and_damage)
        try:
            export_bundle(stage(model, dataset), tmp_path / "bundle")
        finally:
            # Nothing, not even a temporary folder, may be left.
            assert list(tmp_path.iterdir()) == []

    return run


def column(inputs, name):
    return inputs.sparse[inputs.sparse_names.index(name)]


def nudge(inputs, name):
    def damage(program):
        lookups = operator.attrgetter(inputs)(program)
        lookup = lookups.lookups[lookups.lookup_names.index(name)]
        lookup.weight = lookup.weight + 1e-3

    return damage


def test_a_nudged_weight_is_named(shop, broken):
    with pytest.raises(
        ParityError,
        match=r"(?s)`retrieval.pt` must answer like the trained model, to 1e-05; but for test row 0 \(ids "
        r"alone: \{'user'.* the first feature that differs is `zip`, in its embedding; nothing was written",
    ):
        broken(two_tower(shop), shop, nudge("query_inputs", "zip"))


def test_a_nudged_weight_of_the_items_is_named(shop, broken):
    with pytest.raises(
        ParityError, match=r"(?s)item by id alone.*first feature that differs is `title`, in its embed"
    ):
        broken(two_tower(shop), shop, nudge("candidate.inputs", "title"))


def test_a_nudged_weight_of_a_ranking_model_is_named(shop, broken):
    with pytest.raises(
        ParityError, match=r"(?s)`ranking.pt` must answer.*`wide_age_group_x_maker_city_x_device`"
    ):
        broken(wide_deep(shop), shop, nudge("network.inputs", "wide_age_group_x_maker_city_x_device"))


def test_a_value_encoded_otherwise_is_named_with_request_and_column(shop, broken):
    def damage(program):
        rows = column(program.query_inputs, "zip").encoder.lookup.rows
        first, second = list(rows)[:2]
        rows[first], rows[second] = rows[second], rows[first]

    with pytest.raises(
        ParityError,
        match=r"(?s)`retrieval.pt` must encode raw values as the prepared data does; but for test row \d+ "
        r"\(raw values given: .*the first feature that differs is `zip` \(column `zip`\): \[\d+\] in the "
        r"prepared data, \[\d+\] in the file; nothing was written",
    ):
        broken(two_tower(shop), shop, damage)


def test_a_number_encoded_otherwise_is_named(shop, broken):
    def damage(program):
        program.network.inputs.dense[0].encoder.mean += 0.5

    with pytest.raises(ParityError, match="first feature that differs is `age`"):
        broken(wide_deep(shop), shop, damage)


def test_an_item_encoded_otherwise_is_named(shop, broken):
    def damage(program):
        column(program.candidate.inputs, "title").encoder.ngrams = 1

    with pytest.raises(ParityError, match=r"(?s)item with raw values.*first feature that differs is `title`"):
        broken(two_tower(shop), shop, damage)


def test_a_history_cut_otherwise_is_named(shop, broken):
    def damage(program):
        program.known.histories.length -= 1

    with pytest.raises(ParityError, match="first feature that differs is `history`"):
        broken(two_tower(shop), shop, damage)


def test_a_time_zone_is_noticed(shop, broken):
    def damage(program):
        column(program.query_inputs, "hour").encoder.per_second *= 60

    with pytest.raises(ParityError, match="first feature that differs is `hour`"):
        broken(two_tower(shop), shop, damage)


def test_a_nudged_tower_is_told_from_the_features(shop, broken):
    def damage(program):
        last = program.query.head.trained.mlp.layers[-1]
        last.bias.data += 1e-2

    with pytest.raises(
        ParityError, match="all features and embeddings agree, so that the tower or head differs"
    ):
        broken(two_tower(shop), shop, damage)


def test_a_wrong_vector_in_the_catalogue_is_noticed(shop, broken):
    def damage(program):
        program.candidates[3] += 1e-3

    with pytest.raises(ParityError, match=r"`retrieval.pt` must answer like the trained model"):
        broken(matrix_factorization(shop), shop, damage)


def test_wrong_raw_ids_are_noticed(shop, broken):
    def damage(program):
        ids = program.item_ids.ids
        ids[1], ids[2] = ids[2], ids[1]

    with pytest.raises(
        ParityError, match=r"`retrieval.pt` must recommend what the evaluation of its model does"
    ):
        broken(matrix_factorization(shop), shop, damage)


def test_a_score_that_is_no_number_is_noticed(shop, broken):
    def damage(program):
        program.query.head.trained.mlp.layers[-1].bias.data[0] = torch.nan

    with pytest.raises(ParityError, match=r"`retrieval.pt` must answer like the trained model"):
        broken(two_tower(shop), shop, damage)


def test_a_bundle_that_is_there_stays_when_its_successor_fails(shop, monkeypatch, tmp_path):
    folder = export_bundle(stage(matrix_factorization(shop), shop), tmp_path / "bundle")
    before = (folder / "manifest.json").read_text()
    monkeypatch.setattr(bundle, "build_program", lambda *args, **kwargs: pytest.fail("half way"))
    with pytest.raises(pytest.fail.Exception):
        export_bundle(stage(matrix_factorization(shop), shop), folder)
    assert (folder / "manifest.json").read_text() == before
    assert list(tmp_path.iterdir()) == [folder]


@pytest.fixture
def replays_in_new_pythons(monkeypatch):
    monkeypatch.setattr(replay, "run_python", new_python)


class NeedsFbgemm(nn.Module):
    def forward(self, lengths: torch.Tensor) -> torch.Tensor:
        return torch.ops.fbgemm.asynchronous_complete_cumsum(lengths)


@pytest.mark.usefixtures("replays_in_new_pythons")
def test_a_file_that_needs_more_than_torch_is_refused(tmp_path):
    save_scripted(NeedsFbgemm(), tmp_path / "ranking.pt")
    (tmp_path / REQUESTS).write_text("[]")
    (tmp_path / RESPONSES).write_text("[]")
    with pytest.raises(ParityError, match=r"(?s)`ranking.pt` must load and answer with torch alone.*fbgemm"):
        check_in_fresh_process(tmp_path / "ranking.pt", tolerance=1e-5)


@pytest.mark.usefixtures("replays_in_new_pythons")
def test_a_recorded_response_that_does_not_come_again_is_refused(newcomer_retrieval, tmp_path):
    for name in ("retrieval.pt", REQUESTS, RESPONSES):
        (tmp_path / name).write_bytes((newcomer_retrieval.folder / name).read_bytes())
    text = (tmp_path / RESPONSES).read_text()
    (tmp_path / RESPONSES).write_text(text.replace("0.", "9.", 1))
    with pytest.raises(ParityError, match=r"(?s)in a fresh process it failed: request .* recorded was"):
        check_in_fresh_process(tmp_path / "retrieval.pt", tolerance=1e-5)


def test_a_dataset_without_rows_to_check_on_is_refused(shop, tmp_path):
    empty = dataclasses.replace(shop)
    empty.split_table = lambda split: shop.split_table(split).slice(0, 0)
    with pytest.raises(
        ValueError, match="must have rows in test or validation to check the export on, found none"
    ):
        export_bundle(stage(matrix_factorization(shop), empty), tmp_path / "bundle")


def test_a_module_that_is_no_model_is_refused(shop, tmp_path):
    with pytest.raises(
        TypeError, match=r"expected a model with `query_tower` and `candidate_tower`, .* got Linear"
    ):
        export_bundle(stage(nn.Linear(1, 1), shop), tmp_path / "bundle")


@pytest.mark.parametrize(
    ("option", "value"), [("parity_rows", 0), ("k", 0), ("recorded_requests", -1), ("tolerance", 0.0)]
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"`export.{option}` must .* got {value}"):
        ExportOptions(**{option: value})

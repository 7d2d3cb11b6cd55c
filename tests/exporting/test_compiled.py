"""Compiled packages beside the scripted file: what they are given, what they answer, what is refused."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from recsys.exporting.additions import AddItemsConfig, extend_bundle
from recsys.exporting.build import scripted
from recsys.exporting.bundle import export_bundle, load_bundle
from recsys.exporting.compiled import Package, TensorOf, examples
from recsys.exporting.gate.compiled import PackageGate
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.gate.recorded import Recorder
from recsys.exporting.options import ExportOptions
from recsys.exporting.program.tensors import PackageTensors, padded
from recsys.exporting.tasks.register import build_program, task_of
from tests.exporting.conftest import (
    HISTORY_LENGTH,
    din,
    export_both,
    matrix_factorization,
    sequence_two_tower,
    stage,
    two_tower,
    wide_deep,
)

SMALL = {"parity_rows": 12, "recorded_requests": 7}


def gate_of(model, dataset, folder):
    """The gate of a model's package, not compiled yet; the program is scripted."""
    trained = stage(model, dataset)
    program = build_program(trained)
    package = task_of(trained).package(program, trained)
    recorder = Recorder(trained, "it.pt")
    gate = PackageGate(package, folder, scripted(program.eval()), recorder, ExportOptions())
    return gate, recorder.ask(12)


EAGER = [wide_deep, sequence_two_tower, *(pytest.param(b, marks=pytest.mark.slow) for b in (din, two_tower))]


@pytest.mark.parametrize("build", EAGER)
def test_the_arithmetic_that_is_compiled_answers_as_the_file_in_every_way_of_asking(shop, tmp_path, build):
    gate, asked = gate_of(build(shop), shop, tmp_path)
    gate.run = gate.package.module  # before it is compiled
    assert gate.check(asked) < 1e-5
    tensors = (
        gate.program.inputs_of_users(*asked[1].arguments())
        if gate.package.file == "retrieval.pt2"
        else gate.program.inputs_of_rows(asked[1].rows())
    )
    assert [(str(t.dtype), t.dim()) for t in tensors] == [
        (f"torch.{one.kind}", len(one.shape)) for one in gate.package.inputs
    ]


def test_tensors_are_dense_values_the_request_of_each_row_and_what_each_feature_needs(shop, tmp_path):
    gate, _ = gate_of(wide_deep(shop), shop, tmp_path)
    items = ["sku-1é", "sku-2é", "nothing known"]
    tensors = gate.program.inputs_of_items({"user_id": 5, "age": 40}, items, ["sku-3é"] * 9)
    given = {one.name: tensor for one, tensor in zip(gate.package.inputs, tensors, strict=True)}
    assert given["dense"].shape == (3, len(shop.schema.dense()))
    assert given["request"].tolist() == [0, 0, 0]
    row = shop.user_ids.tolist().index(5)
    assert given["user_id"].tolist() == [shop.users.ids["user_id"].values()[row].item()]
    assert given["history.lengths"].tolist() == [HISTORY_LENGTH]  # the latest of nine
    assert given["item_id"].tolist()[2] == 0
    assert len(given["user_id_x_genres.lengths"]) == 3
    rows = gate.program.inputs_of_rows([{"user_id": 5, "item_id": item} for item in items])
    assert rows[1].tolist() == [0, 1, 2]


def test_padded_bags_end_in_zeros_and_are_never_shorter_than_two():
    assert padded(torch.tensor([7, 8, 9, 4]), torch.tensor([3, 0, 1])).tolist() == [
        [7, 8, 9],
        [0, 0, 0],
        [4, 0, 0],
    ]
    assert padded(torch.zeros(0, dtype=torch.int64), torch.tensor([0])).tolist() == [[0, 0]]


def test_sizes_of_examples_differ_where_they_may():
    inputs = [
        TensorOf("dense", "float32", ("rows", 3)),
        TensorOf("request", "int64", ("rows",)),
        TensorOf("genres.values", "int64", ("values of genres",)),
        TensorOf("instants", "float32", ("requests", "events + 1")),
        TensorOf("liked", "bool", ("requests", "events")),
    ]
    shapes = [tuple(tensor.shape) for tensor in examples(inputs)]
    assert shapes[0] == (shapes[1][0], 3)
    assert shapes[3][1] == shapes[4][1] + 1
    assert len({shapes[0][0], shapes[2][0], *shapes[3], shapes[4][1]}) == 5


def test_a_bundle_without_a_package_makes_no_tensors_for_one(ranking, retrieval, recommender):
    with pytest.raises(torch.jit.Error, match=r"no compiled package .* with `export.format=aoti`"):
        ranking.program.inputs_of_rows([{"user_id": 5}])
    with pytest.raises(torch.jit.Error, match="no compiled package"):
        retrieval.program.inputs_of_users([{"user_id": 5}], [[]])
    with pytest.raises(torch.jit.Error, match="no compiled package"):
        recommender.program.inputs_of_candidates({"user_id": 5}, {}, [], torch.tensor([1]))


def test_formats_are_two():
    with pytest.raises(ValueError, match=r"`export.format` must be one of .*'aoti'\), got 'onnx'"):
        ExportOptions(format="onnx")


class Fickle(nn.Module):
    def forward(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        return tensors[0].sum() if tensors[0].sum() > 0 else tensors[0].prod()


def test_a_model_that_does_not_compile_is_refused_with_what_torch_says(tmp_path):
    dense = TensorOf("dense", "float32", ("rows", 3))
    package = Package("ranking.pt2", Fickle(), [dense], dense, ())
    with pytest.raises(
        ValueError,
        match=r"(?s)torch \S+ did not compile `ranking.pt2`: .*export with `export.format=torchscript`",
    ):
        package.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def compiled(build, dataset, folder, **options):
    options = ExportOptions(format="aoti", **SMALL, **options)
    export_bundle(stage(build(dataset), dataset), folder, options=options)
    manifest, program = load_bundle(folder)
    (name,) = manifest["packages"]
    return manifest, program, torch._inductor.aoti_load_package(str(folder / name))


@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["float32", "int8", "int4"])
def test_the_manifest_describes_a_compiled_ranking_model(shop, tmp_path, quantize):
    # The gate compares what it answers with the file.
    manifest, program, package = compiled(wide_deep, shop, tmp_path / "bundle", quantize=quantize)
    given = program.inputs_of_rows([{"user_id": 5, "item_id": "sku-1é"}])
    assert package(given).shape == (1,)
    described = manifest["packages"]["ranking.pt2"]
    assert [one["name"] for one in described["inputs"]][:2] == ["dense", "request"]
    assert len(described["inputs"]) == len(given)
    assert described["output"] == {"name": "main", "type": "float32", "shape": ["rows"]}
    assert described["compiled_for"]["torch"] == torch.__version__
    assert described["parity"]["max_difference"] < 1e-5


@pytest.mark.slow
def test_a_package_goes_along_when_new_items_join_the_bundle(shop, tmp_path):
    compiled(wide_deep, shop, tmp_path / "bundle")
    (tmp_path / "fresh.csv").write_text("sku,title,genres,price\nnew,Toy story,Drama|Kids,12.5\n")
    folder = extend_bundle(AddItemsConfig(tmp_path / "bundle", tmp_path / "fresh.csv"))
    manifest, program = load_bundle(folder)
    assert set(manifest["packages"]) == {"ranking.pt2"} < set(manifest["files"])
    package = torch._inductor.aoti_load_package(str(folder / "ranking.pt2"))
    ids = ["new", "sku-3é", "nobody's"]
    expected = program.predict_items({"user_id": 7}, ids, ["new"])
    found = package(program.inputs_of_items({"user_id": 7}, ids, ["new"]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert expected[0] != expected[2]


@pytest.mark.slow
@pytest.mark.parametrize("build", [two_tower, sequence_two_tower, matrix_factorization, din])
def test_towers_and_attention_to_a_history_compile(shop, tmp_path, build):
    manifest, *_ = compiled(build, shop, tmp_path / "bundle")
    assert [one["parity"]["max_difference"] < 1e-5 for one in manifest["packages"].values()] == [True]


@pytest.mark.slow
def test_two_stages_compile_to_a_package_each(shop, tmp_path):
    folder = tmp_path / "bundle"
    stages = stage(two_tower(shop), shop), stage(wide_deep(shop), shop)
    done = export_both(*stages, folder, num_candidates=8, format="aoti")
    assert set(done.manifest["packages"]) == {"retrieval.pt2", "ranking.pt2"}
    program, user = done.program, {"user_id": 5}
    package = torch._inductor.aoti_load_package(str(folder / "ranking.pt2"))
    rows = torch.tensor([3, 9, 1])
    expected = program.probabilities(user, {}, ["sku-3é"], rows)
    found = package(program.inputs_of_candidates(user, {}, ["sku-3é"], rows))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_package_runs_in_a_python_that_has_torch_alone(shop, tmp_path):
    folder = tmp_path / "bundle"
    _, program, _ = compiled(wide_deep, shop, folder)
    code = (
        "import torch, torch._inductor\n"
        f"model = torch.jit.load({str(folder / 'ranking.pt')!r})\n"
        f"package = torch._inductor.aoti_load_package({str(folder / 'ranking.pt2')!r})\n"
        "print(package(model.inputs_of_items({'user_id': 5}, ['sku-1é', 'sku-2é'], [])).tolist())"
    )
    said = subprocess.run([sys.executable, "-I", "-W", "ignore", "-c", code], capture_output=True, check=True)
    expected = program.predict_items({"user_id": 5}, ["sku-1é", "sku-2é"], [])
    assert eval(said.stdout) == pytest.approx(expected.tolist(), abs=1e-6)


def nudged(gate, name):
    """The package's module with other weights for one embedded feature."""
    embedded = gate.package.module.embedded
    table = next(table for found, _, table in embedded.lookups if found == name)
    setattr(embedded, f"weight_{table}", getattr(embedded, f"weight_{table}") + 1e-2)
    return gate.package.module


def test_other_weights_in_the_package_are_noticed(shop, tmp_path):
    gate, asked = gate_of(wide_deep(shop), shop, tmp_path)
    gate.run = nudged(gate, "zip")
    with pytest.raises(
        ParityError,
        match=r"`ranking.pt2` must answer as `it.pt` does, to 1e-05; but for inputs_of_rows of ids alone .* "
        r"gives 0\.\d+, not 0\.\d+; nothing was written",
    ):
        gate.check(asked)


def test_tensors_in_another_order_are_noticed(shop, tmp_path):
    gate, asked = gate_of(wide_deep(shop), shop, tmp_path)
    gate.run = gate.package.module
    entries = list(gate.package.module.embedded.entries)
    names = [entry.name for entry in entries]
    first, second = names.index("year"), names.index("maker")
    entries[first], entries[second] = entries[second], entries[first]
    program = build_program(gate.recorder.stage)
    program.package = PackageTensors(entries, has_requests=True)
    gate.program = scripted(program.eval())
    # What lies beyond the other table ends with torch's own error.
    with pytest.raises((ParityError, IndexError), match=r"must answer as `it.pt` does|index out of range"):
        gate.check(asked)

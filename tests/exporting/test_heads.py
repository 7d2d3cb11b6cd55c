"""A bundle of a model of several tasks: what each head answers."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.events import Events
from recsys.data.options import Auxiliary, DataOptions, InteractionsTable, Label
from recsys.data.prepare import prepare
from recsys.exporting.bundle import export_bundle, load_bundle
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.options import ExportOptions
from recsys.schema.manifest import read_station
from tests.exporting.conftest import HISTORY_LENGTH, export, mmoe, stage, wide_deep


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outcomes")
    random = np.random.default_rng(0)
    count = 400
    events = {
        "user_id": random.integers(0, 20, count),
        "item_id": random.integers(0, 15, count),
        "timestamp": 1_600_000_000 + 60 * np.arange(count),
        "clicked": random.integers(0, 2, count),
        "shared": random.integers(0, 2, count),
        "seconds": random.exponential(30, count),
        "stars": random.normal(3, 2, count),
    }
    pq.write_table(pa.table(events), folder / "events.parquet")
    options = DataOptions(
        interactions=InteractionsTable(path=str(folder / "events.parquet")),
        label=Label("clicked", 1),
        auxiliary_labels={
            "shared": Auxiliary("shared", positive_at_least=1),
            "dwell": Auxiliary("seconds", transform="log"),
            "stars": Auxiliary("stars"),
        },
        cache_dir=str(folder / "cache"),
    )
    return PreparedDataset.open(prepare(options))


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory):
    return export(mmoe(dataset), dataset, tmp_path_factory.mktemp("heads") / "bundle")


def asked(dataset) -> tuple[list[dict], Events]:
    events = Events.from_arrow(dataset.split_table("test"), dataset.schema)
    columns = ["user_id", "item_id", "raw.timestamp"]
    rows = dataset.split_table("test").select(columns).rename_columns(["user_id", "item_id", "timestamp"])
    return rows.to_pylist(), events


def test_heads_answer_in_probabilities_and_in_the_raw_tables_units(exported):
    dataset = exported.dataset
    rows, events = asked(dataset)
    batch = dataset.collator(HISTORY_LENGTH).rows(events, None)
    outputs = exported.model.every_head(batch)
    found = exported.program.predict_heads(rows)
    _, dwell, stars = dataset.schema.labels
    assert list(found) == ["main", "shared", "dwell", "stars"]
    expected = {
        "main": torch.sigmoid(outputs[:, 0]),
        "shared": torch.sigmoid(outputs[:, 1]),
        "dwell": torch.exp(dwell.mean + dwell.std * outputs[:, 2]) - 1,
        "stars": stars.mean + stars.std * outputs[:, 3],
    }
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-4)
        assert found[name].std() > 0.01
    torch.testing.assert_close(exported.program.predict(rows), found["main"], rtol=0, atol=0)
    one = exported.program.predict_items({"user_id": rows[0]["user_id"]}, [rows[0]["item_id"]], [], rows[0])
    torch.testing.assert_close(one, found["main"][:1])


def test_the_manifest_names_the_heads(exported):
    method = read_station(exported.folder, "bundle")["signature"]["methods"]["predict_heads"]
    assert method["heads"] == {
        "main": "probability that the row is a positive",
        "shared": "probability",
        "dwell": "number, as in the column `seconds`",
        "stars": "number, as in the column `stars`",
    }


@pytest.mark.slow
def test_a_model_of_one_task_has_the_main_head_alone(dataset, tmp_path):
    program = export(wide_deep(dataset), dataset, tmp_path / "bundle").program
    rows, _ = asked(dataset)
    found = program.predict_heads(rows)
    assert list(found) == ["main"]
    assert torch.equal(found["main"], program.predict(rows))


def test_a_wrong_auxiliary_head_stops_the_export(dataset, tmp_path):
    model = mmoe(dataset)
    every_head = model.every_head
    model.every_head = lambda batch: every_head(batch) + torch.tensor([0.0, 0.0, 0.0, 0.1])
    with pytest.raises(ParityError, match="must answer like the trained model"):
        export_bundle(stage(model, dataset), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_a_compiled_package_answers_for_every_head(dataset, tmp_path):
    options = ExportOptions(parity_rows=12, recorded_requests=7, format="aoti")
    folder = export_bundle(stage(mmoe(dataset), dataset), tmp_path / "bundle", options=options)
    manifest, program = load_bundle(folder)
    package = torch._inductor.aoti_load_package(str(folder / "ranking.pt2"))
    assert manifest["packages"]["ranking.pt2"]["output"]["name"] == "main, shared, dwell, stars"
    rows, _ = asked(dataset)
    found, expected = package(program.inputs_of_rows(rows)), program.predict_heads(rows)
    for column, head in enumerate(("main", "shared", "dwell", "stars")):
        torch.testing.assert_close(found[:, column], expected[head], rtol=1e-5, atol=1e-5)

"""The tables beside the report hold what `metrics.json` holds."""

import json

import pyarrow.parquet as pq
import pytest


@pytest.mark.parametrize("task", ["retrieval", "ranking"])
def test_every_figure_is_in_the_tables(evaluated, task):
    results, folder = evaluated[task].results, evaluated[task].path
    table = pq.read_table(folder / "metrics.parquet").to_pylist()
    rows = {(row["system"], row["metric"]): row for row in table}
    blocks = {"model": results, **results["baselines"]}
    assert len(rows) == sum(len(block["metrics"]) for block in blocks.values())
    for system, block in blocks.items():
        for key, value in block["metrics"].items():
            row = rows[system, key]
            assert row["value"] == value
            assert [row["low"], row["high"]] == (block["intervals"][key] or [None, None])
    pieces = pq.read_table(folder / "slices.parquet").to_pylist()
    first = results["slices"][0]
    own = [row for row in pieces if (row["group"], row["name"]) == (first["group"], first["name"])]
    assert {row["metric"]: row["value"] for row in own if row["system"] == "model"} == first["metrics"]
    assert {row["system"] for row in own} == {"model", *first["baselines"]}
    assert {row["users"] for row in own} == {first["users"]}


def test_curves_are_in_a_table(evaluated):
    results, folder = evaluated["ranking"].results, evaluated["ranking"].path
    rows = pq.read_table(folder / "curves.parquet").to_pylist()
    points = [(row["x"], row["y"]) for row in rows if row["curve"] == "reliability"]
    assert points == [(one["predicted"], one["observed"]) for one in results["reliability"]]
    losses = [(row["x"], row["y"]) for row in rows if row["curve"] == "training.train_loss"]
    assert losses == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]


def test_examples_of_the_page_are_kept(evaluated):
    for task in ("retrieval", "ranking"):
        examples = json.loads((evaluated[task].path / "examples.json").read_text())
        assert [one["kind"] for one in examples][:4] == ["random"] * 4

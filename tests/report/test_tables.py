import csv

from recsys.commands.results import _write


def test_no_cell_of_a_sweeps_table_is_a_formula(tmp_path):
    trial = {
        "number": 0,
        "status": "failed",
        "overrides": {"=key": "@SUM(A1)", "model.l2": "-0.5"},
        "metrics": {"validation": {"ndcg@10": 0.25}},
        "seconds": 1.5,
        "path": "-cmd|' /C calc'!A0",
        "error": "=HYPERLINK(1)",
    }
    _write(tmp_path / "results.csv", [trial], ["=key", "model.l2"])
    with (tmp_path / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["'=key"], row["error"]) == ("'@SUM(A1)", "'=HYPERLINK(1)")
    assert row["path"] == "'-cmd|' /C calc'!A0"
    assert (row["model.l2"], row["validation/ndcg@10"], row["seconds"]) == ("-0.5", "0.25", "1.5")

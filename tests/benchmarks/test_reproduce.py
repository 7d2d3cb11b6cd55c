import json

import pytest
import yaml

from benchmarks import reproduce
from benchmarks.harness import PROJECT

ONE = "ml100k_matrix_factorization_leave_last_out"


def test_every_recorded_experiment_exists_and_is_in_the_docs():
    recorded = json.loads(reproduce.RECORDED.read_text())
    figures = (PROJECT / "docs" / "explanation" / "figures.md").read_text()
    for name, one in recorded.items():
        yaml.safe_load((PROJECT / "configs" / "experiment" / f"{name}.yaml").read_text())
        assert f"experiment={name}`" in figures
        assert all(len(values) == len(one["seeds"]) for values in one["test"].values())


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Results of one experiment; the words of each run that is started, and the figures that runs give."""
    content = {ONE: {"seeds": [0, 1, 2], "test": {"ndcg@10": [0.05, 0.054, 0.058]}}}
    (tmp_path / "results.json").write_text(json.dumps(content))
    monkeypatch.setattr(reproduce, "RECORDED", tmp_path / "results.json")
    started, given = [], [0.05, 0.054, 0.058]

    def run_command(words):
        run_dir = tmp_path / words[-1].partition("=")[2]
        run_dir.mkdir(parents=True)
        (run_dir / "metrics.json").write_text(json.dumps({"test": {"ndcg@10": given[len(started)]}}))
        started.append(words)

    monkeypatch.setattr(reproduce, "run_command", run_command)
    monkeypatch.setattr(reproduce, "PROJECT", tmp_path)
    return started, given


def status(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["reproduce", *words])
    with pytest.raises(SystemExit) as ended:
        reproduce.main()
    return ended.value.code


def test_figures_that_come_again_end_well_and_runs_are_not_repeated(recorded, monkeypatch, capsys):
    started, _ = recorded
    assert status(monkeypatch) == 0
    assert [words[:3] for words in started] == [
        ["train.py", f"experiment={ONE}", f"seed={s}"] for s in range(3)
    ]
    assert "OFF" not in capsys.readouterr().out
    assert status(monkeypatch, ONE) == 0
    assert len(started) == 3


def test_figure_off_by_more_than_noise_ends_with_1(recorded, monkeypatch, capsys):
    recorded[1][:] = [0.065, 0.066, 0.067]  # 3 x .004 x sqrt(2 / 3) = .0098 is allowed
    assert status(monkeypatch) == 1
    assert "OFF" in capsys.readouterr().out


def test_experiment_without_a_figure_is_refused(recorded, monkeypatch, capsys):
    assert status(monkeypatch, "mine") == 2
    assert "there is no figure of `mine`" in capsys.readouterr().err

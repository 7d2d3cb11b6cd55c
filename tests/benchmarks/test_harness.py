import json

import pytest

from benchmarks import harness
from benchmarks.harness import Figure, Settings, alternate, rate_of, ratios, report, run_command


def test_sides_are_measured_in_turn():
    order = []

    def side(name, value):
        def measure():
            order.append(name)
            return value

        return measure

    found = alternate({"a": side("a", 1.0), "b": side("b", 2.0)}, repeats=3)
    assert order == ["a", "b"] * 3
    assert found == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_ratio_is_taken_within_a_round():
    # The machine slows down by half after the first round: both sides do, their ratio does not.
    assert ratios([100.0, 50.0], [200.0, 100.0]) == [0.5, 0.5]


def test_rate_leaves_the_warm_up_out(monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock["now"])

    def step(number):
        clock["now"] += 10.0 if number < 5 else 0.5

    assert rate_of(step, units=100, steps=8) == 100 / 0.5


def test_report_quotes_the_median_with_its_spread(tmp_path, capsys):
    figure = Figure("ours to theirs", [3.0, 1.0, 2.0], "at least 1", {"rows": 7})
    path = report("example", [figure], Settings(repeats=3, cache=tmp_path, toy=True))
    written = json.loads(path.read_text())
    assert written["figures"][0]["ratio"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert written["figures"][0]["rows"] == 7
    assert len(written["machine"]["load_average"]) == 3
    assert written["machine"]["versions"]["torch"].startswith("2.")
    assert "2.000" in capsys.readouterr().out


def test_a_command_runs_without_our_settings_of_threads(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    code = "import os; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
    assert run_command(["-c", code], environment={"GOMP_SPINCOUNT": "7"}) == "None 7"


def test_a_command_that_fails_says_what_it_said():
    with pytest.raises(RuntimeError, match="ended with 3:\nno such thing"):
        run_command(["-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])

"""Every rule of the diagnosis fires where it should and is silent just short of it."""

import copy
import math
import shlex

import numpy as np
import pytest

from recsys.evaluation.diagnosis import RULES, diagnose
from recsys.report.ageing import decay_of
from tests.evaluation.healthy import (
    ageing,
    compared,
    healthy,
    healthy_ranking,
    piece,
    replaced,
    validated,
)


def rules_of(results):
    return {one["rule"] for one in diagnose(results)}


def warmed_up(results, **sides):
    """A hybrid with 0.2 on items with three to four events, and what its sides have there."""
    figures = {"model": (0.2, [0.19, 0.21]), "content_alone": (0.1, None), "behaviour_alone": (0.1, None)}
    systems = {
        name: {"metrics": {"ndcg@10": value}, "intervals": {"ndcg@10": interval}}
        for name, (value, interval) in (figures | sides).items()
    }
    step = {"events": 3, "queries": 100, "weight": 0.5, "systems": systems}
    results["warm_up"] = {"cut_off": 10, "users": [], "items": [step]}


CASES = {
    "leaking_split": (lambda r: r.update(leaks=True), lambda r: None),
    "too_good_to_be_true": (
        lambda r: (
            (r["metrics"].update({"ndcg@10": 0.81}), r["intervals"].update({"ndcg@10": [0.8, 0.82]}))
            and replaced(r, piece("user", "cold", 0.8), piece("item", "new", 0.8))
        ),
        lambda r: None,
    ),
    "no_better_than_baseline": (
        lambda r: compared(r, 0.01, [-0.001, 0.02]),
        lambda r: compared(r, 0.01, [0.001, 0.02]),
    ),
    "worse_on_cold_users": (
        lambda r: replaced(r, piece("user", "cold", 0.09)),
        lambda r: replaced(r, piece("user", "cold", 0.11)),
    ),
    "worse_on_new_items": (
        lambda r: replaced(r, piece("item", "new", 0.15, difference=-0.02, interval=(-0.03, -0.01))),
        lambda r: replaced(r, piece("item", "new", 0.15, difference=-0.02, interval=(-0.05, 0.01))),
    ),
    "lags_on_slices": (
        lambda r: replaced(
            r,
            piece("history_length", "a", 0.2, difference=-0.02, interval=(-0.03, -0.01)),
            piece("history_length", "b", 0.2, difference=-0.01, interval=(-0.03, -0.001)),
        ),
        lambda r: replaced(r, piece("history_length", "a", 0.2, difference=-0.02, interval=(-0.03, -0.01))),
    ),
    "new_items_never_shown": (
        lambda r: r.update(new_items={"catalogue": 0.2, "shown": 0.004, "liked": 0.1}),
        lambda r: r.update(new_items={"catalogue": 0.2, "shown": 0.006, "liked": 0.1}),
    ),
    "gate_follows_content": (
        lambda r: warmed_up(r, behaviour_alone=(0.22, [0.21, 0.23])),
        lambda r: warmed_up(r, behaviour_alone=(0.22, [0.19, 0.25])),
    ),
    "gate_follows_behaviour": (
        lambda r: warmed_up(r, content_alone=(0.22, [0.21, 0.23])),
        lambda r: warmed_up(r, content_alone=(0.209, [0.205, 0.23])),
    ),
    "popularity_driven": (
        lambda r: r["metrics"].update({"popularity_lift@10": 1.1}),
        lambda r: r["metrics"].update({"popularity_lift@10": 0.9}),
    ),
    "lists_too_similar": (
        lambda r: r["metrics"].update({"personalisation@10": 0.4}),
        lambda r: r["metrics"].update({"personalisation@10": 0.6}),
    ),
    "decays": (lambda r: ageing(r, 0.23, 0.21, 0.19, 0.17), lambda r: ageing(r, 0.21, 0.19, 0.21, 0.19)),
    "too_slow": (lambda r: r["latency"].update(p99_ms=51.0), lambda r: r["latency"].update(p99_ms=49.0)),
    "underfitted": (
        lambda r: validated(r, 0.1, 0.15, 0.18, 0.2),
        lambda r: validated(r, 0.1, 0.15, 0.199, 0.2),
    ),
    "overfitted": (
        lambda r: validated(r, 0.2, 0.19, 0.18, 0.17),
        lambda r: validated(r, 0.2, 0.19, 0.18, 0.17, losses=(2.0, 2.1, 2.2, 2.3)),
    ),
    "too_few_users": (lambda r: r["counts"].update(users=99), lambda r: r["counts"].update(users=100)),
    "unknown_items": (
        lambda r: r["counts"].update(relevant_outside_catalogue=45),
        lambda r: r["counts"].update(relevant_outside_catalogue=44),
    ),
    "excluded_repeats": (
        lambda r: r["protocol"].update(cannot_be_hit={"answers_in_history": 45}),
        lambda r: r["protocol"].update(cannot_be_hit={"answers_in_history": 44}),
    ),
}


@pytest.mark.parametrize("results", [healthy(), healthy_ranking()])
def test_nothing_is_found_where_nothing_is_wrong(results):
    assert diagnose(results) == []


@pytest.mark.parametrize("rule", CASES)
def test_rule_fires_alone_and_is_silent_just_short_of_it(rule):
    fires, is_short = CASES[rule]
    sick, well = healthy(), healthy()
    fires(sick)
    is_short(well)
    assert rules_of(sick) == {rule}
    assert rules_of(well) == set()


def test_every_rule_is_tested():
    assert set(RULES) == {*CASES, "miscalibrated"}


@pytest.mark.parametrize(
    ("bins", "found"),
    [
        # mean over rows: (5000 * 0.06 + 4000 * 0.06) / 9000
        ([(0.2, 0.26, 5000), (0.7, 0.64, 4000)], {"miscalibrated"}),
        ([(0.2, 0.24, 5000), (0.7, 0.66, 4000)], set()),
    ],
)
def test_probabilities_are_compared_with_what_was_observed(bins, found):
    results = healthy_ranking()
    results["reliability"] = [dict(zip(("predicted", "observed", "rows"), one, strict=True)) for one in bins]
    assert rules_of(results) == found


@pytest.mark.parametrize(("low", "found"), [(0.21, {"miscalibrated"}), (0.19, set())])
def test_error_that_the_intervals_of_all_bins_explain_is_no_miscalibration(low, found):
    results = healthy_ranking()
    results["reliability"] = [{"predicted": 0.2, "observed": 0.3, "rows": 9000, "low": low, "high": 0.4}]
    assert rules_of(results) == found


def test_measured_calibration_goes_before_the_bins():
    results = healthy_ranking()
    results["metrics"] |= {"calibration_error": 0.11, "predicted_over_observed": 1.2}
    results["reliability"][0] |= {"low": 0.21, "high": 0.23}
    (found,) = diagnose(results)
    assert (found["rule"], found["severity"]) == ("miscalibrated", "high")
    assert "0.110" in found["finding"]
    assert "1.20 times" in found["finding"]


def test_sum_of_probabilities_that_is_off_is_miscalibrated_however_small_the_error():
    results = healthy_ranking()
    results["metrics"]["predicted_over_observed"] = 0.88
    assert rules_of(results) == {"miscalibrated"}
    results["metrics"]["predicted_over_observed"] = 0.95
    assert rules_of(results) == set()


def test_gravest_findings_come_first():
    results = healthy()
    for rule in ("overfitted", "too_few_users", "leaking_split"):
        CASES[rule][0](results)
    validated(results, 0.1, 0.15, 0.2, 0.17)
    found = diagnose(results)
    assert [one["rule"] for one in found] == ["leaking_split", "too_few_users", "overfitted"]
    assert [one["severity"] for one in found] == ["high", "medium", "info"]


def test_worse_than_a_baseline_is_graver_than_not_told_apart():
    results = healthy()
    compared(results, -0.02, [-0.03, -0.01])
    (found,) = diagnose(results)
    assert found["severity"] == "high"
    assert found["evidence"] == {
        "model": 0.2,
        "ease": 0.15,
        "difference": -0.02,
        "interval": [-0.03, -0.01],
    }


@pytest.mark.parametrize(("difference", "found"), [(-0.01, {"no_better_than_baseline"}), (0.01, set())])
def test_without_intervals_the_difference_alone_is_looked_at(difference, found):
    results = healthy()
    compared(results, difference, None)
    assert rules_of(results) == found


def test_less_log_loss_is_better():
    results = healthy_ranking()
    results["main_metric"] = "log_loss"
    results["comparisons"] = [
        {"baseline": "item_rate", "metric": "log_loss", "difference": -0.1, "interval": [-0.2, -0.05]}
    ]
    assert rules_of(results) == set()
    results["comparisons"][0] |= {"difference": 0.1, "interval": [0.05, 0.2]}
    assert rules_of(results) == {"no_better_than_baseline"}


def test_small_slices_are_not_judged():
    results = healthy()
    replaced(results, piece("user", "cold", 0.0, users=49, difference=-0.1, interval=(-0.2, -0.1)))
    assert rules_of(results) == set()


def test_half_as_good_an_auc_is_meant_above_chance():
    results = healthy_ranking()
    results["slices"] = [piece("user", "cold", 0.63, key="auc")]  # 0.13 of 0.25 above chance
    assert rules_of(results) == set()
    results["slices"] = [piece("user", "cold", 0.62, key="auc")]  # 0.12 of it
    assert rules_of(results) == {"worse_on_cold_users"}


def test_decay_is_the_line_through_the_periods():
    results = healthy()
    ageing(results, 0.20, 0.18, 0.16, 0.14)
    line = decay_of(results)
    # 0.02 in ten days; a tenth of 0.20 is 0.02
    assert (line.first, line.last) == (5.0, 35.0)
    assert line.slope == pytest.approx(-0.002)
    assert line.days_to_lose == pytest.approx(10)
    assert line.lost == pytest.approx(0.3)
    (found,) = diagnose(results)
    assert found["severity"] == "medium"
    assert "every 10.0 days" in found["finding"]
    assert found["command"].endswith("evaluation=backtest")


def test_decay_agrees_with_weighted_least_squares():
    results = healthy()
    days, values, users = [5.0, 15.0, 25.0, 35.0], [0.2, 0.15, 0.17, 0.1], [100, 50, 400, 60]
    replaced(
        results,
        *(
            piece("days_since_train", f"{d - 5}-{d + 5}", v, users=u)
            for d, v, u in zip(days, values, users, strict=True)
        ),
    )
    line = decay_of(results)
    design = np.stack([np.ones(4), np.array(days)], axis=1)
    weighted = design.T @ np.diag(users)
    inverse = np.linalg.inv(weighted @ design)
    intercept, slope = inverse @ weighted @ values
    residuals = values - design @ [intercept, slope]
    variance = (np.array(users) * residuals**2).sum() / 2 * inverse[1, 1]
    assert line.slope == pytest.approx(slope)
    assert line.start == pytest.approx(intercept + 5 * slope)
    assert line.error == pytest.approx(math.sqrt(variance))


@pytest.mark.parametrize("kept", [0, 2])
def test_two_periods_are_no_line(kept):
    results = healthy()
    results["slices"] = [one for one in results["slices"] if one["group"] == "days_since_train"][:kept]
    assert decay_of(results) is None


def test_commands_are_safe_to_paste():
    results = healthy()
    for fires, _ in CASES.values():
        fires(results)
    found = {one["rule"]: one["command"] for one in diagnose(results)}
    assert "run=/runs/a b" in shlex.split(found["lags_on_slices"])
    assert "/runs/a b/tensorboard" in shlex.split(found["overfitted"])
    compile(shlex.split(found["lists_too_similar"])[2], "command", "exec")


@pytest.mark.parametrize("task", ["retrieval", "ranking"])
def test_results_of_an_older_station_are_read_as_far_as_they_go(evaluated, task):
    results = copy.deepcopy(evaluated[task].results)
    for key in ("training", "latency", "diagnosis", "exposure", "calibration", "slice_groups"):
        results.pop(key, None)
    known = ("ndcg", "hit_rate", "mrr", "coverage", "novelty", "auc", "gauc", "log_loss")
    results["metrics"] = {
        key: value for key, value in results["metrics"].items() if key.partition("@")[0] in known
    }
    found = diagnose(results)
    assert {"too_few_users"} <= {one["rule"] for one in found}
    assert not {"too_slow", "overfitted", "lists_too_similar"} & {one["rule"] for one in found}


def test_station_holds_its_diagnosis_and_the_page_shows_it(evaluated):
    results = evaluated["retrieval"].results
    assert results["diagnosis"] == diagnose({**results, "diagnosis": None})
    for one in results["diagnosis"]:
        assert one["rule"].replace("_", " ") in evaluated["retrieval"].page


@pytest.mark.parametrize(("num_behind", "found"), [(2, set()), (3, {"lags_on_slices"})])
def test_among_many_slices_chance_has_some_that_lag(num_behind, found):
    results = healthy()
    # by chance 36 x 0.025 = 0.9, and up to 0.9 + 2 x 0.95 = 2.8 within two standard deviations of that
    results["slices"] = [
        piece(
            "custom",
            str(number),
            0.2,
            difference=-0.01 if number < num_behind else 0.01,
            interval=(-0.02, -0.001) if number < num_behind else (-0.02, 0.04),
        )
        for number in range(36)
    ]
    assert rules_of(results) == found


def every_finding():
    results = healthy()
    results["dataset"]["path"] = "/data/my books"
    for fires, _ in CASES.values():
        fires(results)
    return results


def test_no_two_findings_carry_the_same_command():
    commands = [one["command"] for one in diagnose(every_finding()) if one["command"]]
    assert len(commands) == len(set(commands)) >= 10


def test_a_better_baseline_is_trained_in_the_models_place():
    results = every_finding()
    compared(results, -0.02, [-0.03, -0.01])
    found = {one["rule"]: one["command"] for one in diagnose(results)}
    words = shlex.split(found["no_better_than_baseline"])
    assert words == ["python", "train.py", "data=table", "data.prepared=/data/my books", "model=ease"]


@pytest.mark.parametrize(
    ("options", "typed"),
    [({"latency_requests": 2000}, ()), ({"latency_requests": 200}, ("evaluation.latency_requests=2000",))],
)
def test_the_command_that_was_run_is_not_asked_for_again(options, typed):
    results = healthy()
    results["latency"].update(p99_ms=51.0)
    assert "latency_requests=2000" in diagnose(results)[0]["command"]
    results["options"] |= options
    assert diagnose(results, typed=typed)[0]["command"] == ""


def test_paths_below_the_working_directory_are_typed_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = healthy() | {"run": str(tmp_path / "runs" / "it's mine")}
    CASES["lists_too_similar"][0](results)
    CASES["too_slow"][0](results)
    found = {one["rule"]: one["command"] for one in diagnose(results)}
    assert found["too_slow"].startswith('python evaluate.py run="runs/it\'s mine" ')
    compile(shlex.split(found["lists_too_similar"])[2], "command", "exec")
    assert str(tmp_path) not in found["lists_too_similar"]


def test_one_user_with_zeros_is_too_few_and_nothing_else():
    results = healthy()
    results["counts"]["users"] = 1
    results["metrics"] = dict.fromkeys(results["metrics"], 0.0) | {"popularity_lift@10": 3.0}
    validated(results, 0.0, 0.0, 0.0, 0.0)
    assert rules_of(results) == {"too_few_users"}
    results["counts"]["users"] = 500
    assert not {"underfitted", "overfitted", "popularity_driven"} & rules_of(results)

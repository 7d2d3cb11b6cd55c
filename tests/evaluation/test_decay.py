"""Figures of a backtest whose decay is known."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from recsys.evaluation.backtest import backtest_results, backtest_rows, backtest_table
from recsys.evaluation.decay import Decay, FoldScores
from tests.evaluation.ageing_world import NUM_FOLDS, OPTIONS, decay_of, fold_scores, folds


def test_decay_is_found_whatever_the_periods_are_like():
    slope = decay_of(per_day=0.004).slope("ndcg@10")
    assert slope["value"] == pytest.approx(-0.004)
    assert slope["per_week"] == pytest.approx(-0.028)
    # Every query falls alike, so whoever is drawn does not matter.
    assert slope["interval"] == pytest.approx([-0.004, -0.004], abs=1e-6)
    assert slope["cells"] == 4 + 3 + 2 + 1


def test_decay_agrees_with_regression_on_dummies():
    rng = np.random.default_rng(3)
    scores = []
    for fold in folds():
        one = fold_scores(fold, per_day=0.0)
        values = pa.array(rng.random(len(one.systems)))
        at = one.systems.column_names.index("model/ndcg@10")
        scores.append(FoldScores(fold, 0, one.systems.set_column(at, "model/ndcg@10", values)))
    decay = Decay(scores, folds(), OPTIONS)
    cells = list(decay.cells.values())
    design = np.array(
        [[cell.age_days, *(cell.period.number == p for p in range(NUM_FOLDS))] for cell in cells]
    )
    weights = np.sqrt([cell.queries for cell in cells])
    levels = np.array([cell.figures.values["model/ndcg@10"] for cell in cells])
    expected = np.linalg.lstsq(design * weights[:, None], levels * weights, rcond=None)[0][0]
    assert decay.slope("ndcg@10")["value"] == pytest.approx(expected)


def test_age_is_compared_on_the_same_periods():
    ages = decay_of(per_day=0.004).ages("ndcg@10", beside="popularity")
    assert [row["age_days"] for row in ages] == pytest.approx([5, 15, 25, 35])
    assert [row["periods"] for row in ages] == [4, 3, 2, 1]
    assert [row["loss"]["value"] for row in ages] == pytest.approx([0, -0.04, -0.08, -0.12])
    # Two periods from the cut on: periods 2 and 3, with 80 and 50 queries.
    expected = (80 * 0.3 + 50 * 0.55) / 130 - 0.004 * 25
    assert ages[2]["model"]["value"] == pytest.approx(expected)
    assert ages[2]["lead"]["value"] == pytest.approx(expected - 0.4)


def test_verdict_says_how_much_how_surely_and_until_when():
    results = backtest_results(
        decay_of(per_day=0.004, baseline=0.41, noise=0.05), folds(), main_metric="ndcg@10"
    )
    # Fresh .4626, .41 lies between what is left after 5 and 15 days.
    assert results["no_better_after_days"] == pytest.approx(15)
    assert "The model ages: NDCG@10 changes by -0.0280 a week of age, 6." in results["verdict"]
    assert "up to 5.0 days of age, and from 15.0 days on no longer" in results["verdict"]
    table = backtest_table(results["cells"])
    assert table.num_rows == 10 * 2
    assert table["age_days"].to_pylist()[0] == pytest.approx(5)


def test_model_that_does_not_age_is_not_said_to():
    rng = np.random.default_rng(5)
    scores = []
    for fold in folds():
        one = fold_scores(fold, per_day=0.0)
        values = pa.array(rng.random(len(one.systems)))
        at = one.systems.column_names.index("model/ndcg@10")
        scores.append(FoldScores(fold, 0, one.systems.set_column(at, "model/ndcg@10", values)))
    results = backtest_results(Decay(scores, folds(), OPTIONS), folds(), main_metric="ndcg@10")
    assert results["verdict"].startswith("No decay of NDCG@10 is told from chance")
    assert results["decay_per_day"]["interval"][0] < 0 < results["decay_per_day"]["interval"][1]


def test_fold_that_failed_leaves_a_hole_and_older_models_are_still_judged_on_its_period():
    scores = [fold_scores(fold, per_day=0.004) for fold in folds() if fold.number != 2]
    decay = Decay(scores, folds(), OPTIONS)
    assert (2, 2) not in decay.cells
    assert decay.cells[0, 2].figures.values["model/ndcg@10"] == pytest.approx(0.3 - 0.004 * 25)
    assert decay.slope("ndcg@10")["value"] == pytest.approx(-0.004)


def test_metric_that_no_query_of_a_cell_has_makes_no_row():
    one = fold_scores(folds()[3], per_day=0)
    table = one.systems.append_column("model/lift@10", pa.array([np.nan] * len(one.systems)))
    decay = Decay([FoldScores(one.fold, 0, table)], folds(), OPTIONS)
    assert {row["metric"] for row in backtest_rows(decay)} == {"ndcg@10"}


def test_seeds_of_a_fold_are_averaged():
    both = [fold_scores(folds()[0], per_day=loss, seed=seed) for seed, loss in enumerate((0.002, 0.004))]
    decay = Decay(both, folds(), OPTIONS)
    assert decay.cells[0, 0].figures.values["model/ndcg@10"] == pytest.approx(0.5 - 0.003 * 5)


def test_one_fold_says_nothing_about_decay():
    results = backtest_results(
        Decay([fold_scores(folds()[3], per_day=0)], folds(), OPTIONS), folds(), main_metric="ndcg@10"
    )
    assert results["decay_per_day"] is None
    assert "nothing is said about decay" in results["verdict"]


def test_ranking_is_judged_by_auc_and_log_loss():
    rng = np.random.default_rng(0)
    fold, count = folds()[3], 200
    labels, scores = rng.integers(0, 2, count), rng.uniform(0.05, 0.95, count)
    table = pa.table(
        {
            "user_id": [f"u{user}" for user in rng.integers(0, 20, count)],
            "timestamp": [fold.cut] * count,
            "label": pa.array(labels.astype(np.int8)),
            "model/probability": scores,
            "rate/probability": [0.5] * count,
        }
    )
    decay = Decay([FoldScores(fold, 0, table)], folds(), OPTIONS)
    figures = decay.cells[3, 3].figures.values
    assert figures["model/auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert figures["rate/log_loss"] == pytest.approx(np.log(2))
    assert decay.best_baseline("log_loss") == "rate"


def test_model_that_is_behind_at_every_age_is_called_worse():
    results = backtest_results(
        decay_of(per_day=0.0, baseline=0.9, noise=0.05), folds(), main_metric="ndcg@10"
    )
    assert "It is worse than popularity (all time), the best baseline, fitted anew" in results["verdict"]
    assert "at every age that was measured: 0." in results["verdict"]

"""The sentence of each chart says what its numbers say."""

import pytest

from recsys.report import takeaways
from tests.evaluation.healthy import ageing, compared, healthy, healthy_ranking, piece


def test_best_baseline_is_named_with_the_difference_and_how_sure_it_is():
    results = healthy()
    assert takeaways.of_systems(results) == (
        "It is ahead of EASE, the best baseline, by 0.0500 (33%), beyond chance."
    )
    compared(results, -0.015, [-0.03, 0.01])
    assert takeaways.of_systems(results) == (
        "It is behind EASE, the best baseline, by 0.0150 (10%), which may be chance."
    )
    compared(results, -0.015, None)
    assert takeaways.of_systems(results).endswith("by 0.0150 (10%).")


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (((0.1, 0.2), (0.1, 0.3)), "It is ahead of EASE at every length of the list, by its interval."),
        (((-0.2, -0.1), (-0.3, -0.1)), "It is behind EASE at every length of the list, by its interval."),
        (
            ((-0.1, 0.1), (-0.1, 0.3)),
            "It is not told apart from EASE at every length of the list, by its interval.",
        ),
        (
            ((0.1, 0.2), (-0.1, 0.3)),
            "Beside EASE, by intervals: ahead of it at k = 5; not told apart from it at k = 20.",
        ),
        ((None, None), ""),
    ],
)
def test_lengths_at_which_the_model_is_ahead_are_those_of_the_intervals(bounds, said):
    results = healthy()
    results["cut_offs"] = [
        {"baseline": "ease", "metric": key, "difference": 0.1, "interval": interval}
        for key, interval in zip(["ndcg@5", "ndcg@20"], bounds, strict=True)
    ]
    assert takeaways.of_cut_offs(results) == said


def test_share_of_what_is_above_chance_is_said_to_be_that():
    results = healthy_ranking()
    results["metrics"]["auc"], results["baselines"]["item_rate"]["metrics"]["auc"] = 0.75, 0.7
    results["verdict"]["against"] = "item_rate"
    results["comparisons"] = [
        {"baseline": "item_rate", "metric": "auc", "difference": 0.05, "interval": [0.01, 0.09]}
    ]
    assert "by 0.0500 (25% of what that is above chance, 0.5), beyond chance" in takeaways.of_systems(results)


def test_level_systems_are_neither_ahead_nor_behind():
    results = healthy()
    compared(results, 0.0, [0.0, 0.0])
    assert takeaways.of_systems(results) == "It is level with EASE, the best baseline."
    same = [piece("item", name, 0.0) for name in ("tail", "head")]
    assert takeaways.of_slices(results, same) == "The same in all of them, 0.0000."


def test_best_and_worst_place_without_small_ones():
    pieces = [
        piece("item", "new", 0.0, users=10),
        piece("item", "tail", 0.1, difference=-0.02, interval=(-0.03, -0.01)),
        piece("item", "head", 0.3),
    ]
    assert takeaways.of_slices(healthy(), pieces) == (
        "Best at head (0.3000), worst at tail (0.1000); surely behind EASE at tail."
    )
    assert takeaways.of_slices(healthy(), pieces[1:2]).startswith("All but one")
    pieces[1] = piece("item", "tail", 0.1)
    assert takeaways.of_slices(healthy(), pieces).endswith("; nowhere surely behind EASE.")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.2, 0.18, 0.16, 0.14), "It loses a tenth about every 10 days: retrain more often than that."),
        ((0.2, 0.21, 0.2, 0.195), "4% of its worth gone at the end of these 30 days, which chance explains."),
        ((0.2, 0.2, 0.21, 0.21), "No loss with age in these 30 days."),
    ],
)
def test_age_of_the_model(values, said):
    results = healthy()
    ageing(results, *values)
    assert takeaways.of_decay(results) == said


def test_reliability_in_a_sentence():
    bins = [
        {"predicted": 0.2, "observed": 0.3, "rows": 30},
        {"predicted": 0.9, "observed": 0.8, "rows": 10},
    ]
    said = takeaways.of_reliability({"reliability": bins, "metrics": {}})
    # (6 + 9) / 40, (9 + 8) / 40, (3 + 1) / 40
    assert said == "37.5% positives are predicted, 42.5% happen; a prediction is off by 0.100 in the mean."


@pytest.mark.parametrize(("share", "top"), [(0.1, 0.75), (0.05, 0.375), (0.5, 0.861111)])
def test_share_of_the_most_shown_items_is_read_off_the_curve(share, top):
    # (0.5, 0.138889) lies on the line from the origin to (0.9, 0.25)
    assert takeaways.top_share([[0, 0], [0.9, 0.25], [1, 1]], share) == pytest.approx(top, abs=1e-6)


def test_training_in_two_sentences():
    training = {
        "monitor": "auc",
        "best_epoch": 2,
        "epochs": [1, 2, 3],
        "train_loss": [0.7, 0.6, 0.5],
        "validation": {"auc": [0.6, 0.7, 0.69], "log_loss": [0.65, 0.64, 0.66]},
    }
    assert takeaways.of_loss(training) == (
        "On train it went from 0.700 to 0.500; on validation it was lowest after epoch 2."
    )
    assert takeaways.of_validation(training) == "Judged is epoch 2 of 3, the best by AUC."
    training["best_epoch"] = 3
    assert "; more of them may be better still" in takeaways.of_validation(training)

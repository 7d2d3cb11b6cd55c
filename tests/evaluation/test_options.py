"""Evaluation options refuse what makes no sense, and the configuration files name them all."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from recsys.evaluation.options import EvaluationOptions

CONFIGS = Path(__file__).parents[2] / "configs" / "evaluation"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": ()}, r"`evaluation.k` must be different cut-offs of at least 1, got \[\]"),
        ({"k": (0, 10)}, r"got \[0, 10\]"),
        ({"k": (10, 10)}, r"got \[10, 10\]"),
        ({"confidence": 1.0}, "`evaluation.confidence` must lie between 0 and 1, got 1.0"),
        ({"batch_size": 0}, "`evaluation.batch_size` must be at least 1, got 0"),
        ({"knn_neighbours": (20, 0)}, r"`evaluation.knn_neighbours` .* at least 1, got \[20, 0\]"),
        ({"knn_neighbours": ()}, r"`evaluation.knn_neighbours` .*, got \[\]"),
        ({"ease_l2": (1.0, 0.0)}, r"`evaluation.ease_l2` must be numbers above 0, got \[1.0, 0.0\]"),
        ({"ease_l2": ()}, r"`evaluation.ease_l2` .*, got \[\]"),
        ({"recent_days": 0.0}, "`evaluation.recent_days` must be above 0, got 0.0"),
        (
            {"max_slices_per_attribute": -1},
            "`evaluation.max_slices_per_attribute` must not be negative, got -1",
        ),
        ({"slices": {"old": "age >"}}, "`evaluation.slices.old` must be an expression such as"),
        ({"resamples": -1}, "`evaluation.resamples` must not be negative, got -1"),
    ],
)
def test_senseless_option_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        EvaluationOptions(**wrong)


def test_full_configuration_names_every_key_with_its_default():
    written = yaml.safe_load((CONFIGS / "full.yaml").read_text())
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in written.items()}
    assert tuples == dataclasses.asdict(EvaluationOptions())


def test_fast_configuration_changes_keys_that_full_has():
    fast = yaml.safe_load((CONFIGS / "fast.yaml").read_text())
    assert fast.pop("defaults") == ["full", "_self_"]
    assert fast.keys() <= yaml.safe_load((CONFIGS / "full.yaml").read_text()).keys()


@pytest.mark.parametrize(("ks", "main"), [((5, 10, 20), 10), ((5, 20), 20)])
def test_main_cut_off_is_ten_or_the_largest(ks, main):
    assert EvaluationOptions(k=ks).main_k == main


def test_cut_offs_above_the_catalogue_are_refused_unless_they_are_the_defaults():
    assert EvaluationOptions().within(1000).k == (1, 5, 10, 20, 50)
    assert EvaluationOptions().within(30).k == (1, 5, 10, 20)
    with pytest.raises(ValueError, match=r"at most 240, the items that can be recommended.*got \[5000\]"):
        EvaluationOptions(k=(5000,)).within(240)

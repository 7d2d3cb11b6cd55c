import sys
import types

import numpy as np
import pytest

from recsys.config.register import import_functions, trusting
from recsys.metrics import register
from recsys.metrics.ranking import ranking_metrics
from recsys.metrics.register import list_metric, list_metrics, metric_label, metric_of


@pytest.fixture
def own(monkeypatch):
    """A module of the user's own with a metric: rank-biased precision with a patience of a half."""
    monkeypatch.setattr(register, "_METRICS", dict(register._registered()))
    register._registered.cache_clear()
    monkeypatch.setattr(register, "_registered", lambda: register._METRICS)
    module = types.ModuleType("my_package")

    def rank_biased_precision(hits_QK, num_relevant_Q, *, k):
        return hits_QK[:, :k] @ (0.5 ** np.arange(1, k + 1))

    rank_biased_precision.__module__ = "my_package"
    module.rank_biased_precision = list_metric(better="more", label="RBP")(rank_biased_precision)
    monkeypatch.setitem(sys.modules, "my_package", module)
    return "my_package.rank_biased_precision"


@pytest.mark.parametrize(
    ("key", "label", "better"),
    [
        ("ndcg@10", "NDCG@10", "more"),
        ("hit_rate@5", "hit rate@5", "more"),
        ("val/map@1", "MAP@1", "more"),
        ("log_loss", "log loss", "less"),
        ("val/like/rmse", "RMSE", "less"),
        ("train/loss", "loss", "less"),
        ("lossless_share", "lossless share", None),  # a direction is not read off a part of the name
        ("diversity_content@10", "diversity by content@10", None),
        ("gini@10", "Gini coefficient of exposure@10", None),
    ],
)
def test_metric_is_described_by_its_key(key, label, better):
    assert (metric_label(key), metric_of(key).better) == (label, better)


def test_metric_of_ones_own_is_computed_named_and_turned(own):
    hits = np.array([[False, True, True], [True, False, False]])
    values = ranking_metrics(hits, np.array([2, 1]), ks=[2, 3], names=["ndcg", own])
    assert values[f"{own}@2"].tolist() == [0.25, 0.5]
    assert values[f"{own}@3"].tolist() == [0.25 + 0.125, 0.5]
    assert list(values) == ["ndcg@2", f"{own}@2", "ndcg@3", f"{own}@3"]
    assert (metric_label(f"{own}@3"), metric_of(own).better) == ("RBP@3", "more")


def test_metric_of_ones_own_is_not_computed_unasked(own):
    assert own not in {one.name for one in list_metrics()}


def test_metric_of_ones_own_does_not_take_the_name_of_ours(monkeypatch):
    monkeypatch.setattr(register, "_METRICS", dict(register._registered()))

    def ndcg(hits_QK, num_relevant_Q, *, k):
        return hits_QK[:, 0]

    ndcg.__module__ = "elsewhere"
    list_metric(better="more")(ndcg)
    assert register._METRICS["ndcg"].of_lists is not ndcg


@pytest.mark.parametrize("name", ["nddcg", "auc", "os.path.join", "my_package.unknown"])
def test_what_is_no_metric_of_lists_is_refused(name):
    with pytest.raises(ValueError, match=f"expected names of hit_rate, recall.*trust=package.*`{name}`"):
        list_metrics([name])


def test_metric_of_ones_own_gives_a_value_a_query(own, monkeypatch):
    one = register._METRICS[own]
    broken = register.dataclasses.replace(one, of_lists=lambda hits, num_relevant, k: hits.mean())
    monkeypatch.setitem(register._METRICS, own, broken)
    with pytest.raises(ValueError, match=r"biased_precision` to return a value for each of 1"):
        ranking_metrics(np.zeros((1, 3), dtype=bool), np.array([1]), ks=[1], names=[own])


def test_module_of_ones_own_is_imported_where_it_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "bookshop_metrics.py").write_text(
        "from recsys.metrics.register import list_metric\n\n\n"
        "@list_metric(better='more', label='first')\n"
        "def first_hit(hits_QK, num_relevant_Q, *, k):\n"
        "    return hits_QK[:, 0]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(register, "_METRICS", dict(register._registered()))
    monkeypatch.setattr(register, "_registered", lambda: register._METRICS)
    name = "bookshop_metrics.first_hit"
    with pytest.raises(ValueError, match=r"`evaluation.metrics`: .*add `trust=bookshop_metrics`"):
        import_functions([name], "evaluation.metrics")
    assert "bookshop_metrics" not in sys.modules
    with trusting(["bookshop_metrics"]):
        import_functions(["ndcg", name], "evaluation.metrics")
    values = ranking_metrics(np.array([[True, False]]), np.array([1]), ks=[2], names=[name])
    assert {key: value.tolist() for key, value in values.items()} == {f"{name}@2": [1.0]}
    del sys.modules["bookshop_metrics"]

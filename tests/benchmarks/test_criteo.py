import numpy as np
import pytest

from benchmarks.criteo import CATEGORICAL, DENSE, interactions, zipf
from recsys.metrics.classification import auc


@pytest.mark.parametrize("rows", [1000, 997])
def test_frequencies_fall_as_one_over_the_rank(rows):
    ids = zipf(np.random.default_rng(0), 200_000, rows, 3)
    assert ids.min() >= 0
    assert ids.max() < rows
    counts = np.sort(np.bincount(ids, minlength=rows))[::-1] / len(ids)
    # P(rank r) = log(1 + 1/r) / log(rows), close to 1 / (r log(rows)).
    expected = np.log1p(1 / np.arange(1, 6)) / np.log(rows)
    np.testing.assert_allclose(counts[:5], expected, rtol=0.05)


def test_features_do_not_share_their_frequent_ids():
    most = [np.bincount(zipf(np.random.default_rng(0), 5000, 1009, n)).argsort()[-3] for n in range(8)]
    assert len(set(most)) == 8


def test_the_same_rows_come_again_and_others_elsewhere():
    first, again = interactions(100, rows=50, first=300), interactions(100, rows=50, first=300)
    assert first.equals(again)
    assert not first.equals(interactions(100, rows=50, first=400))
    assert first["timestamp"][0].as_py() == 1_700_000_300


def test_label_can_be_learned_from_ids_and_numbers():
    table = interactions(20_000, rows=1000)
    assert set(CATEGORICAL + DENSE) < set(table.column_names)
    labels = table["label"].to_numpy()
    assert 0.2 < labels.mean() < 0.8
    half = len(labels) // 2
    by_id = np.zeros(1000)
    ids = table["user_id"].to_numpy()
    for row in range(1000):  # share of positives of each id, seen in the first half
        seen = labels[:half][ids[:half] == row]
        by_id[row] = (seen.sum() + 1) / (len(seen) + 2)
    assert auc(labels[half:], by_id[ids[half:]]) > 0.55
    assert auc(labels[half:], table["n00"].to_numpy()[half:].astype(float)) > 0.6

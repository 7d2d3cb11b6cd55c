"""Judgements of a backtest whose decay is known."""

import numpy as np
import pyarrow as pa

from recsys.evaluation.decay import Decay, FoldScores
from recsys.evaluation.folds import MICROSECONDS_A_DAY, Fold
from recsys.evaluation.options import EvaluationOptions

OPTIONS = EvaluationOptions(k=(10,), resamples=300)
NUM_FOLDS, PERIOD = 4, 10
# What a fresh model has in each period, which is not what ages: the third is hard.
LEVELS = [0.5, 0.6, 0.3, 0.55]
QUERIES = [60, 40, 80, 50]


def folds():
    cuts = [(100 + PERIOD * number) * MICROSECONDS_A_DAY for number in range(NUM_FOLDS + 1)]
    return [Fold(n, None, cuts[n] - 1, cuts[n], cuts[n + 1], cuts[-1]) for n in range(NUM_FOLDS)]


def fold_scores(fold, *, per_day, baseline=0.4, noise=0.0, seed=0):
    """Every query lies in the middle of its period; the model's metric falls by `per_day` of age."""
    rng = np.random.default_rng(17)  # the same users and chance for all models
    users, times, model = [], [], []
    for period in folds():
        count = QUERIES[period.number]
        of_user = rng.integers(0, 30, count)
        chance = noise * rng.standard_normal(count)
        if period.number >= fold.number:
            age = PERIOD * (period.number - fold.number) + PERIOD / 2
            users += [f"u{user}" for user in of_user]
            times += [(period.cut + period.end) // 2] * count
            model += (LEVELS[period.number] - per_day * age + chance).tolist()
    columns = {"model/ndcg@10": model, "popularity/ndcg@10": [baseline] * len(model)}
    return FoldScores(fold, seed, pa.table({"user_id": users, "timestamp": times, **columns}))


def decay_of(**world):
    return Decay([fold_scores(fold, **world) for fold in folds()], folds(), OPTIONS)

"""Worlds whose truth is known."""

import numpy as np

from recsys.bandits.feedback import LoggedFeedback
from recsys.bandits.policies import TargetPolicy


def log_of(rewards, propensities, items, *, positions=None, requests=None, clusters=None, **others):
    """A log from lists; each row a request and a user of its own unless told otherwise."""
    num_rows = len(rewards)
    return LoggedFeedback(
        np.array(rewards, dtype=float),
        np.array(propensities, dtype=float),
        np.array(items),
        np.ones(num_rows, dtype=int) if positions is None else np.array(positions),
        np.arange(num_rows) if requests is None else np.array(requests),
        np.arange(num_rows) if clusters is None else np.array(clusters),
        **others,
    )


class BanditWorld:
    """Ten kinds of user, six items; the log's policy and the target each prefer other items."""

    def __init__(self, seed=0, num_kinds=10, num_items=6):
        rng = np.random.default_rng(seed)
        self.rates = rng.uniform(0.05, 0.6, (num_kinds, num_items))
        scores = rng.normal(size=(2, num_kinds, num_items))
        self.logging, self.target = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        self.value = float((self.target * self.rates).sum(axis=1).mean())

    def draw(self, num_requests, seed, requests_a_user=1):
        rng = np.random.default_rng(seed)
        users = np.arange(num_requests) // requests_a_user
        kinds = rng.integers(len(self.rates), size=users.max() + 1)[users]
        items = (rng.random((num_requests, 1)) > self.logging[kinds].cumsum(axis=1)).sum(axis=1)
        items = np.minimum(items, self.rates.shape[1] - 1)
        rewards = rng.random(num_requests) < self.rates[kinds, items]
        log = log_of(rewards, self.logging[kinds, items], items, clusters=users)
        num_kinds, num_items = self.rates.shape
        policy = TargetPolicy(
            contexts_N=kinds,
            positions_K=np.ones(num_kinds, dtype=int),
            contexts_T=np.repeat(np.arange(num_kinds), num_items),
            items_T=np.tile(np.arange(num_items), num_kinds),
            probabilities_T=self.target.ravel(),
        )
        return log, policy

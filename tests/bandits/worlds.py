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
    """Ten kinds of user, six items; the log's policy and the target each prefer other items.

    Kinds like items differently, unless they are `alike`, and the log's policy knows how.
    """

    def __init__(self, seed=0, num_kinds=10, num_items=6, *, alike=False):
        rng = np.random.default_rng(seed)
        self.rates = rng.uniform(0.05, 0.6, (num_kinds, num_items))
        scores = rng.normal(size=(2, num_kinds, num_items))
        if alike:
            self.rates[:] = self.rates[0]
        else:
            scores[0] += 3 * self.rates
        self.logging, self.target = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        self.value = float((self.target * self.rates).sum(axis=1).mean())
        # What endless logs tell of an item, whoever it was shown to; and what follows for the target.
        of_items = (self.logging * self.rates).sum(axis=0) / self.logging.sum(axis=0)
        self.modelled = float((self.target * of_items).sum(axis=1).mean())

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


class ListWorld:
    """Two kinds of user who are shown three of four items; the target shows each kind other ones.

    A click is a look, by position, and an attraction, shared by kinds that are `alike`. The log draws one of
    two lists for each kind, so that an item is in all of them or in half, and knows what the kinds like.
    """

    looks = np.array([1.0, 0.6, 0.3])
    lists = np.array([[[0, 1, 2], [1, 0, 3]], [[3, 2, 1], [2, 3, 0]]])
    shown = np.array([[1.0, 1.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])  # by kind and item
    target = np.array([[3, 1, 0], [0, 3, 2]])

    def __init__(self, *, alike):
        attraction = np.array([[0.8, 0.6, 0.2, 0.1], [0.05, 0.1, 0.3, 0.9]])
        self.attraction = attraction[[0, 0]] if alike else attraction
        examined = np.zeros((2, 4))  # by kind and item, in the log
        for kind in range(2):
            for items in self.lists[kind]:
                examined[kind, items] += self.looks / 2
        of_items = (examined * self.attraction).sum(axis=0) / examined.sum(axis=0)
        attractions = np.array([self.attraction[kind, self.target[kind]] for kind in range(2)])
        self.value = float((attractions * self.looks).sum(axis=1).mean())
        self.modelled = float((of_items[self.target] * self.looks).sum(axis=1).mean())

    def draw(self, num_requests, seed):
        rng = np.random.default_rng(seed)
        kinds, drawn = rng.integers(2, size=(2, num_requests))
        items = self.lists[kinds, drawn].ravel()
        requests, places = np.repeat(np.arange(num_requests), 3), np.tile(np.arange(3), num_requests)
        of_rows = kinds[requests]
        rewards = rng.random(len(items)) < self.looks[places] * self.attraction[of_rows, items]
        log = log_of(
            rewards,
            self.shown[of_rows, items],
            items,
            positions=places + 1,
            requests=requests,
            clusters=requests,
        )
        policy = TargetPolicy(
            contexts_N=3 * of_rows + places,
            positions_K=np.tile(np.arange(1, 4), 2),
            contexts_T=np.arange(6),
            items_T=self.target.ravel(),
            probabilities_T=np.ones(6),
        )
        return log, policy

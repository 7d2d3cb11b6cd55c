"""Team-draft interleaving: one list of two rankers' lists, in which clicks say whose item was better.

Two captains take turns at picking the best item of their list that is not yet taken; who picks first is drawn
anew in every round:

    list A   [ 7, 3, 9 ]      A, B, B, A drawn to pick     [ 7, 4, 3, 9 ]
    list B   [ 4, 3, 7 ]                                     A  B  B  A

Within one list each user sees both, which takes far fewer users than a test between users.

Legend: B requests, L length of a list, K length of the interleaved list.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.bandits.estimates import Estimate, Floats, ratio_estimate
from recsys.bandits.feedback import Codes

NO_ITEM = -1
TEAM_A, TEAM_B = 0, 1


def team_draft(lists_a_BL: Codes, lists_b_BL: Codes, *, k: int, seed: int) -> tuple[Codes, NDArray[np.int64]]:
    """Interleaved lists, and whose pick each item is.

    Args:
        lists_a_BL: [B, L] item codes, best first; NO_ITEM after the end of a shorter list.
        lists_b_BL: [B, L] those of the other ranker.
        k: K, length of the interleaved lists.
        seed: of the draws.

    Returns:
        Items [B, K], NO_ITEM where both lists are used up, and teams [B, K], TEAM_A or TEAM_B.

    Reference:
        Radlinski, Kurup and Joachims, "How does clickthrough data reflect retrieval quality?", 2008,
        algorithm 2.
    """
    generator = np.random.default_rng(seed)
    num_requests = len(lists_a_BL)
    items_BK = np.full((num_requests, k), NO_ITEM, dtype=np.int64)
    teams_BK = np.zeros((num_requests, k), dtype=np.int64)
    picks_B2 = np.zeros((num_requests, 2), dtype=np.int64)
    for place in range(k):
        best_B2 = np.stack(
            [_best_left(lists_BL, items_BK[:, :place]) for lists_BL in (lists_a_BL, lists_b_BL)], axis=1
        )
        behind_B = picks_B2[:, TEAM_B] - picks_B2[:, TEAM_A]
        coin_B = generator.integers(2, size=num_requests)
        team_B = np.where(behind_B > 0, TEAM_A, np.where(behind_B < 0, TEAM_B, coin_B))
        # A captain whose list is used up leaves the pick to the other.
        rows = np.arange(num_requests)
        team_B = np.where(best_B2[rows, team_B] == NO_ITEM, 1 - team_B, team_B)
        items_BK[:, place], teams_BK[:, place] = best_B2[rows, team_B], team_B
        picks_B2[rows, team_B] += 1
    return items_BK, teams_BK


def preference(credit_a_M: Floats, credit_b_M: Floats, users_M: NDArray[np.int64]) -> Estimate:
    """Share of requests that A wins minus the share that B wins; above zero, A is preferred.

    A request is won by the team whose items earned more; equal earnings, none included, are ties and count
    for neither, but are in the denominator. The interval is over users. Zero is expected of equal rankers.

    Args:
        credit_a_M: [M] what the items of team A earned in each request.
        credit_b_M: [M] what those of team B earned.
        users_M: [M] codes of the users.

    Reference:
        Chapelle, Joachims, Radlinski and Yue, "Large-scale validation and analysis of interleaved search
        evaluation", 2012, section 3.
    """
    num_users = int(users_M.max()) + 1
    won_M = np.sign(credit_a_M - credit_b_M)
    return ratio_estimate(
        np.bincount(users_M, weights=won_M, minlength=num_users), np.bincount(users_M, minlength=num_users)
    )


def _best_left(lists_BL: Codes, taken_BK: Codes) -> Codes:
    """[B] the first item of each list that is not taken; NO_ITEM where there is none."""
    free_BL = (lists_BL != NO_ITEM) & ~(lists_BL[:, :, None] == taken_BK[:, None, :]).any(axis=2)
    first_B = free_BL.argmax(axis=1)
    rows = np.arange(len(lists_BL))
    return np.where(free_BL[rows, first_B], lists_BL[rows, first_B], NO_ITEM)

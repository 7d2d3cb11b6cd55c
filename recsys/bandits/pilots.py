"""Live pilots: how many users and days a wanted lift needs, and what a pilot that has run says.

Users are what chance assigns, so users are the units everywhere: a figure is a sum over users of what came of
them, divided by a sum over users of how often they asked, and its variance is that between users.

Legend: N events, U users, D days, A arms.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from recsys.bandits.estimates import Estimate, Floats, difference, lift, ratio_estimate
from recsys.bandits.feedback import Codes
from recsys.schema.errors import InputError


@dataclasses.dataclass(frozen=True)
class PilotPlan:
    """Says how large and how sure a pilot of each number of days would be, by a log.

    Args:
        days: D, 1, 2, ...
        users: distinct users within so many days.
        rewards: reward a request within so many days.
        needed: users that each arm needs.
        detectable: the smallest relative lift that the users of so many days can show.
        inflation: variance of the figure over that of requests that do not depend on one another.
        duration_days: the first of the days that is enough; beyond the log by its latest daily gain; None
            where new users have stopped coming.
        in_log: the duration was seen in the log, not extended from it.
    """

    days: list[int]
    users: list[int]
    rewards: list[float]
    needed: list[int]
    detectable: list[float]
    inflation: list[float]
    duration_days: int | None
    in_log: bool


@dataclasses.dataclass(frozen=True)
class PilotAim:
    """States the lift that a pilot is to show, and how surely.

    Args:
        lift: relative change of the reward a request, 0.02 for two percent.
        power: probability of seeing it, when it is there.
        confidence: 1 minus that of seeing a change when there is none, two-sided.
        num_arms: arms of equal size, the control included.
        share: of all users, that take part.
    """

    lift: float
    power: float = 0.8
    confidence: float = 0.95
    num_arms: int = 2
    share: float = 1.0

    @property
    def errors(self) -> float:
        """Standard errors of a difference between zero and the lift that is seen with the wanted power."""
        return float(special.ndtri((1 + self.confidence) / 2) + special.ndtri(self.power))


def plan_pilot(rewards_N: Floats, users_N: Codes, days_N: Codes, *, aim: PilotAim) -> PilotPlan:
    """Computes how long a pilot must run, from the events of a log before it.

    Formula: each arm needs 2 (z_{confidence} + z_{power})^2 s^2 / (lift * R)^2 users, with R the reward a
    request and s^2 the variance between users of (rewards_u - R requests_u) / mean requests. Both grow with
    the days, as do the users met; the duration is the first day on which share * users / arms is enough.

    Args:
        rewards_N: [N] reward of each request.
        users_N: [N] codes 0 .. U - 1.
        days_N: [N] from 0.
        aim: what the pilot is to show.

    Raises:
        ValueError: nothing was earned, or there are fewer than two users.
    """
    figures = [_figures(rewards_N, users_N, days_N <= last) for last in range(int(days_N.max()) + 1)]
    users = [num_users for num_users, *_ in figures]
    needed = [_needed(reward, variance, aim) for _, reward, variance, _ in figures]
    arms = [aim.share * met / aim.num_arms for met in users]
    detectable = [
        aim.errors * math.sqrt(2 * variance / arm) / reward if reward > 0 else math.inf
        for (_, reward, variance, _), arm in zip(figures, arms, strict=True)
    ]
    enough = [day for day, (need, arm) in enumerate(zip(needed, arms, strict=True), start=1) if arm >= need]
    duration = enough[0] if enough else _extended(users, needed[-1] * aim.num_arms / aim.share)
    return PilotPlan(
        days=list(range(1, len(users) + 1)),
        users=users,
        rewards=[reward for _, reward, _, _ in figures],
        needed=[math.ceil(need) if math.isfinite(need) else -1 for need in needed],
        detectable=detectable,
        inflation=[grown for *_, grown in figures],
        duration_days=duration,
        in_log=bool(enough),
    )


def _figures(rewards_N: Floats, users_N: Codes, kept_N: np.ndarray) -> tuple[int, float, float, float]:
    """Users, reward a request, its variance a user, and that over the variance of independent requests."""
    _, user = np.unique(users_N[kept_N], return_inverse=True)
    rewards = rewards_N[kept_N]
    earned_U, asked_U = np.bincount(user, weights=rewards), np.bincount(user)
    if len(asked_U) < 2:
        raise InputError(
            f"expected at least two users a day to measure how they differ, found {len(asked_U)} until day "
            "1 of the log; log more of them, or begin the log later"
        )
    made = ratio_estimate(earned_U, asked_U)
    variance = (made.standard_error or 0.0) ** 2 * len(asked_U)
    alone = float(rewards.var(ddof=1)) / len(rewards) * len(asked_U)
    return len(asked_U), made.value, variance, variance / alone if alone else 1.0


def _needed(reward: float, variance: float, aim: PilotAim) -> float:
    return 2 * aim.errors**2 * variance / (aim.lift * reward) ** 2 if reward > 0 else math.inf


def _extended(users: Sequence[int], wanted: float) -> int | None:
    """Day on which `wanted` users have been met, if each goes on to bring as many new ones as the latest."""
    gain = users[-1] - users[-2] if len(users) > 1 else users[-1]
    if gain <= 0 or not math.isfinite(wanted):
        return None
    return len(users) + math.ceil((wanted - users[-1]) / gain)


@dataclasses.dataclass(frozen=True, eq=False)
class _ArmComparison:
    """One arm beside the control.

    Args:
        control, arm: their figures.
        difference: arm minus control.
        lift: arm over control minus 1; None where the control is not above zero.
    """

    control: Estimate
    arm: Estimate
    difference: Estimate
    lift: Estimate | None


def compare_arms(
    values_N: Floats, weights_N: Floats, users_N: Codes, *, treated_N: np.ndarray
) -> _ArmComparison:
    """Mean value of the events of one arm beside that of the control.

    Args:
        values_N: [N] what is compared.
        weights_N: [N] 1, or 0 for events that do not count.
        users_N: [N] codes 0 .. U - 1; a user is in one arm.
        treated_N: [N] true in the arm, false in the control.

    Raises:
        ValueError: one of the two has no event.
    """
    num_users = int(users_N.max()) + 1
    arms = []
    for inside_N in (~treated_N, treated_N):
        counted_N = weights_N * inside_N
        arms.append(
            ratio_estimate(
                np.bincount(users_N, weights=counted_N * values_N, minlength=num_users),
                np.bincount(users_N, weights=counted_N, minlength=num_users),
            )
        )
    control, arm = arms
    return _ArmComparison(control, arm, difference(arm, control), lift(arm, control))


def sample_ratio_p_value(counts_A: Codes, shares_A: Floats) -> float:
    """Probability of counts as far from the planned shares, when assignment works (chi-square test).

    Below 0.001 something assigns, loses or logs users unevenly, and no figure of the pilot can be trusted.

    Args:
        counts_A: [A] users met in each arm.
        shares_A: [A] planned shares, which add up to 1.

    Reference:
        Fabijan et al., "Diagnosing sample ratio mismatch in online controlled experiments", 2019.

    Example:
        >>> round(sample_ratio_p_value(np.array([821588, 815482]), np.array([0.5, 0.5])), 7)
        1.8e-06
    """
    expected_A = shares_A * counts_A.sum()
    statistic = float(((counts_A - expected_A) ** 2 / expected_A).sum())
    return float(special.chdtrc(len(counts_A) - 1, statistic))


def daily_trend(
    values_N: Floats, users_N: Codes, days_N: Codes, *, treated_N: np.ndarray
) -> tuple[list[int], list[Estimate], Estimate | None]:
    """The difference of each day and its slope over the days: what is new wears off, or is learnt to be used.

    Formula: slope of the least-squares line through the daily differences. Its variance is that between
    users, who come back on several days.

    Returns:
        The days that both have events on, their differences, and the slope a day (None before three days).
    """
    days = [day for day in np.unique(days_N) if 0 < treated_N[days_N == day].mean() < 1]
    differences = [
        compare_arms(values_N, (days_N == day).astype(np.float64), users_N, treated_N=treated_N).difference
        for day in days
    ]
    if len(days) < 3:
        return [int(day) for day in days], differences, None
    centred = np.array(days) - np.mean(days)
    factors = centred / (centred**2).sum()
    influence_U = np.zeros(int(users_N.max()) + 1)
    for factor, one in zip(factors, differences, strict=True):
        assert one.influence_U is not None
        influence_U += factor * one.influence_U
    value = float(sum(factor * one.value for factor, one in zip(factors, differences, strict=True)))
    return [int(day) for day in days], differences, Estimate(value, influence_U)

"""Policies by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from recsys.bandits.acting.choice import Policy
from recsys.bandits.acting.epsilon import Epsilon
from recsys.bandits.acting.greedy import Greedy
from recsys.bandits.acting.lin_ucb import LinUcb
from recsys.bandits.acting.softmax import Softmax
from recsys.bandits.acting.thompson import Thompson
from recsys.schema.errors import InputError

POLICIES: dict[str, type[Any]] = {
    "greedy": Greedy,
    "epsilon": Epsilon,
    "softmax": Softmax,
    "thompson": Thompson,
    "lin_ucb": LinUcb,
}


def make_policy(name: str, parameters: Mapping[str, Any]) -> Policy:
    """A policy by its name and parameters.

    Raises:
        ValueError: there is none of that name, or it takes no such parameter.

    Example:
        >>> make_policy("softmax", {"temperature": 0.5}).parameters
        {'temperature': 0.5, 'learning': False}
    """
    if name not in POLICIES:
        raise InputError(f"`policy` must be one of {', '.join(POLICIES)}, got `{name}`")
    known = [field.name for field in dataclasses.fields(POLICIES[name])]
    for parameter in parameters:
        if parameter not in known:
            raise InputError(
                f"`policy={name}` takes {', '.join(f'`{one}`' for one in known)}, got `{parameter}`"
            )
    policy: Policy = POLICIES[name](**parameters)
    return policy

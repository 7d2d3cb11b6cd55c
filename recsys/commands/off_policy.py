"""The command `recsys off-policy`: the reward that a policy would have had which did not run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command

if TYPE_CHECKING:
    from recsys.experiments.off_policy import OffPolicyConfig


@command("off_policy", "recsys.experiments.off_policy.OffPolicyConfig")
def main(config: OffPolicyConfig, plain: dict[str, Any]) -> Path:
    """Estimates the reward that the target policy would have had."""
    from recsys.experiments.off_policy import judge_policy

    return judge_policy(config, plain)

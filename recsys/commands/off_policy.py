"""The command `recsys off-policy`: what a policy that did not run would earn."""

from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.experiments.off_policy import OffPolicyConfig, judge_policy


@command("off_policy", OffPolicyConfig)
def main(config: OffPolicyConfig, plain: dict[str, Any]) -> Path:
    """Estimates what the target policy would have earned."""
    return judge_policy(config, plain)

"""The command `recsys recommend`: lists for all users of a table, by a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command

if TYPE_CHECKING:
    from recsys.commands.live.bulk import RecommendConfig


@command("recommend", "recsys.commands.live.bulk.RecommendConfig")
def main(config: RecommendConfig, plain: dict[str, Any]) -> Path:
    """Writes the lists, on as many cores as there are."""
    from recsys.commands.live.bulk import recommend_to_all

    return recommend_to_all(config)

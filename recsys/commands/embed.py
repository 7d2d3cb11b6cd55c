"""The command `recsys embed`: vectors of items and users, for a vector database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command

if TYPE_CHECKING:
    from recsys.commands.live.bulk import EmbedConfig


@command("embed", "recsys.commands.live.bulk.EmbedConfig")
def main(config: EmbedConfig, plain: dict[str, Any]) -> Path:
    """Writes the vectors; their inner products are the scores of the bundle."""
    from recsys.commands.live.bulk import embed_all

    return embed_all(config)

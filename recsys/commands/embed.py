"""The command `recsys embed`: vectors of items and users, for a vector database."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.commands.recommend import users_and_histories
from recsys.data.options import DataOptions
from recsys.serving.bundle import Bundle
from recsys.serving.vectors import write_vectors


@dataclasses.dataclass(frozen=True)
class EmbedConfig:
    """Every key of `recsys embed`.

    Args:
        bundle: folder of the bundle.
        out: folder of `items.parquet` and, where there are users, `users.parquet`.
        queries: table of users, as of `recsys recommend`.
        data: dataset of the histories, and of the users where there is no table.
    """

    bundle: Path
    out: Path
    queries: Path | None = None
    data: DataOptions | None = None


@command("embed", EmbedConfig)
def main(config: EmbedConfig, plain: dict[str, Any]) -> Path:
    """Writes the vectors; their inner products are the scores of the bundle."""
    bundle = Bundle.open(config.bundle)
    if config.queries is None and config.data is None:
        return write_vectors(bundle, config.out)
    queries, histories = users_and_histories(bundle, config.queries, config.data)
    return write_vectors(bundle, config.out, queries, histories=histories)

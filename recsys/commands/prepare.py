"""Raw tables -> prepared dataset: recsys prepare [data=FILE] [KEY=VALUE] ..., see recsys prepare --help."""

import dataclasses
from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.config.help import HelpTexts
from recsys.data.options import DataOptions

_HELP = HelpTexts(
    "recsys prepare",
    keys=(
        "data.interactions.path",
        "data.interactions.columns.user_id",
        "data.interactions.columns.item_id",
        "data.interactions.columns.timestamp",
        "data.users.path",
        "data.items.path",
        "data.label.column",
        "data.label.positive_at_least",
        "data.split",
        "data.cache_dir",
    ),
    example="data=table data.interactions.path=events.csv data.interactions.columns.item_id=sku",
)


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """Every key of the command.

    Args:
        data: the dataset.
    """

    data: DataOptions


@command("prepare", PrepareConfig, help_texts=_HELP)
def main(config: PrepareConfig, plain: dict[str, Any]) -> Path:
    """Prepares a dataset, unless it is there already."""
    from recsys.data.prepare import prepare  # Ibis and DuckDB, which `--help` and mistyped keys need not

    return prepare(config.data)

"""The commands `recsys interleave make` and `read`: the lists of two runs in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command, subcommands
from recsys.config.help import HelpTexts

if TYPE_CHECKING:
    from recsys.experiments.interleaving import MakeConfig, ReadConfig


@command(
    "interleave_make",
    "recsys.experiments.interleaving.MakeConfig",
    help_texts=HelpTexts("recsys interleave make"),
)
def _make_main(config: MakeConfig, plain: dict[str, Any]) -> Path:
    """Interleaves the lists of two runs."""
    from recsys.experiments.interleaving import make

    return make(config, plain)


@command(
    "interleave_read",
    "recsys.experiments.interleaving.ReadConfig",
    help_texts=HelpTexts("recsys interleave read"),
)
def _read_main(config: ReadConfig, plain: dict[str, Any]) -> Path:
    """Says which of two runs is preferred."""
    from recsys.experiments.interleaving import read

    return read(config, plain)


main = subcommands("recsys interleave", {"make": _make_main, "read": _read_main})

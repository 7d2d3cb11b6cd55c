"""The commands `recsys interleave make` and `read`: two runs in one list."""

from pathlib import Path
from typing import Any

from recsys.commands.entry import command, subcommands
from recsys.experiments.interleaving import MakeConfig, ReadConfig, make, read


@command("interleave_make", MakeConfig)
def make_main(config: MakeConfig, plain: dict[str, Any]) -> Path:
    """Interleaves the lists of two runs."""
    return make(config, plain)


@command("interleave_read", ReadConfig)
def read_main(config: ReadConfig, plain: dict[str, Any]) -> Path:
    """Says which of two runs is preferred."""
    return read(config, plain)


main = subcommands("recsys interleave", {"make": make_main, "read": read_main})

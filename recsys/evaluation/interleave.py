"""The commands `python -m recsys.evaluation.interleave make` and `read`: two runs in one list."""

from pathlib import Path
from typing import Any

from recsys.doctor import importing

with importing():
    from recsys.config.command import command, subcommands
    from recsys.experiments.interleaving import MakeConfig, ReadConfig, make, read


@command("interleave_make", MakeConfig)
def make_main(config: MakeConfig, plain: dict[str, Any]) -> Path:
    """Interleaves the lists of two runs."""
    return make(config, plain)


@command("interleave_read", ReadConfig)
def read_main(config: ReadConfig, plain: dict[str, Any]) -> Path:
    """Says which of two runs is preferred."""
    return read(config, plain)


main = subcommands("python -m recsys.evaluation.interleave", {"make": make_main, "read": read_main})

if __name__ == "__main__":
    main()

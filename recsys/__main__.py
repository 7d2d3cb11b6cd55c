"""Runs a command by its name: recsys NAME [KEY=VALUE] ..., or python -m recsys NAME [KEY=VALUE] ..."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from recsys.commands.installation import importing

# Each is a module of recsys.commands.
COMMANDS = {
    "prepare": "raw tables -> prepared dataset",
    "train": "prepared dataset -> run; also python train.py",
    "evaluate": "run -> evaluation, comparison or backtest; also python evaluate.py",
    "export": "run -> bundle; also python export.py",
    "log": "feedback of a server -> interactions, logged feedback and features as tables",
    "serve": "bundle -> a server that remembers, explores and logs",
    "refresh": "feedback of a server and a run -> the next bundle, which serves if it is not worse",
    "simulate": "readers whose truth is known live with a server -> reward, regret, latency",
    "add-items": "bundle and new items -> a bundle that recommends them too",
    "recommend": "bundle and a table of users -> lists for all of them",
    "embed": "bundle -> vectors of items and users, for a vector database",
    "copy": "dataset, run, bundle or evaluation -> the same at another place, object storage included",
    "off-policy": "log of one policy -> what another policy would have earned",
    "position-bias": "log -> how likely each position is looked at",
    "pilot": "plan or read: how many users a pilot needs, and what it showed",
    "interleave": "make or read: the lists of two runs in one, and which run is preferred",
    "doctor": "checks the installation, or says what is understood of a table (data=...)",
}
_HELP = ("", "help", "--help", "-h")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names; ends the process."""
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or [""]
    if name in _HELP:
        width = max(map(len, COMMANDS))
        lines = [f"  {command:{width}}  {description}" for command, description in COMMANDS.items()]
        print("\n".join(["recsys NAME [KEY=VALUE] ..., where NAME is one of", *lines]))
        print("Each explains itself: recsys NAME --help")
        sys.exit(0)
    if name not in COMMANDS:
        guesses = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"; did you mean `{guesses[0]}`?" if guesses else ""
        print(f"error: expected one of {', '.join(COMMANDS)}, got `{name}`{meant}", file=sys.stderr)
        sys.exit(2)
    with importing():
        command = importlib.import_module(f"recsys.commands.{name.replace('-', '_')}")
    command.main(rest)


if __name__ == "__main__":
    main()

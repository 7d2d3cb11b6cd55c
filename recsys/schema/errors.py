"""Errors that say what the user has to change."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from typing import NoReturn


class InputError(ValueError):
    """A mistake in what the user gave: a key, a table, a file, a folder.

    A command ends with exit status 2 and shows the message without a traceback; any other exception is a
    fault of ours. The message says what was expected, what was received, where it came from and what to do.
    """


class InputTypeError(InputError, TypeError):
    """A value of the wrong type in what the user gave."""


def end_older_form(module: str, command: str) -> NoReturn:
    """Ends `python -m module`, a form of earlier releases, with the command that took its place."""
    print(f"error: `python -m {module}` is now `{command}` (or `python -m {command}`)", file=sys.stderr)
    sys.exit(2)


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint at the known name that is most like this one; empty when none is."""
    same = [other for other in known if other.lower() == name.lower()]
    close = same or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else ""

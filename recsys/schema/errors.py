"""Errors that say what the user has to change."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn


class InputError(ValueError):
    """A mistake in what the user gave: a key, a table, a file, a folder.

    A command ends with exit status 2 and shows the message without a traceback; any other exception is a
    fault of ours. The message says what was expected, what was received, where it came from and what to do.
    """


class InputTypeError(InputError, TypeError):
    """A value of the wrong type in what the user gave."""


# What libraries say, beside MemoryError, when the system gives them no memory or no thread.
_OUT_OF_MEMORY = (
    *("can't allocate memory", "can't start new thread", "Cannot allocate memory", "OutOfMemoryException"),
    *("bad_alloc", "Out of Memory Error", "Failed to launch worker thread"),
    *("Resource temporarily unavailable", "failed to map segment"),
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """True where this error, or one that led to it, is about memory."""
    import resource  # of Unix alone, where commands run; a client of the server need not be there

    is_limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    for one in led_to(error):
        text = f"{type(one).__name__}: {one}"
        if isinstance(one, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
            return True
        # The interpreter fails without a word where it had no memory for the error itself.
        if isinstance(one, SystemError) and is_limited:
            return True
    return False


def led_to(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it, each once: one that is raised again and again leads to itself."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def end_older_form(module: str, command: str) -> NoReturn:
    """Ends `python -m module`, a form of earlier releases, with the command that took its place."""
    print(f"error: `python -m {module}` is now `{command}` (or `python -m {command}`)", file=sys.stderr)
    sys.exit(2)


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint at the known name that is most like this one; empty when none is."""
    same = [other for other in known if other.lower() == name.lower()]
    close = same or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else ""

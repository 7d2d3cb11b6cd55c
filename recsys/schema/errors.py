"""Errors that say what the user has to change."""

from __future__ import annotations


class InputError(ValueError):
    """A mistake in what the user gave: a key, a table, a file, a folder.

    A command ends with exit status 2 and shows the message without a traceback; any other exception is a
    fault of ours. The message says what was expected, what was received, where it came from and what to do.
    """


class InputTypeError(InputError, TypeError):
    """A value of the wrong type in what the user gave."""

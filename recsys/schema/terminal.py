"""Text as a terminal may show it: names of strangers move no cursor, ring no bell and turn no line around."""

from __future__ import annotations

import logging
import re

# All control characters but the tab and the line feed, and those that change the direction of what follows.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plainly(text: str) -> str:
    r"""Text whose control characters are spelled out.

    >>> print(plainly("\x1b[2Jgone"))
    \x1b[2Jgone
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_one_line(text: str) -> str:
    r"""Text in which every character that has no width, or begins a line, is spelled out.

    >>> print(in_one_line("two\nlines\u200b"))
    two\nlines\u200b
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class PlainFormatter(logging.Formatter):
    """Formats lines of a log, their control characters spelled out."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return plainly(super().format(record))

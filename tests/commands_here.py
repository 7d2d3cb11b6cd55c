"""Commands of `recsys` in this process: their status, what they print, and what they say of it."""

import contextlib
import io

import pytest

from recsys.__main__ import main


def recsys(*words):
    """Status, last line of standard output, and standard error of `recsys WORDS`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code or 0, (out.getvalue().splitlines() or [""])[-1], err.getvalue()

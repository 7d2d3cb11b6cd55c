"""Signals end a command as interrupted, whatever a library makes of them."""

import os
import signal
import threading

import duckdb
import pytest

from recsys.commands.process import signals_as_interrupts


@pytest.fixture(autouse=True)
def answered_interrupts():
    """Ctrl-C as in a terminal: what a shell starts in the background ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_signal_within_a_query_of_duckdb_is_an_interrupt(number):
    """DuckDB, which polls for signals, makes `RuntimeError: Query interrupted` of it."""
    former = signal.getsignal(number)
    threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
    with pytest.raises(KeyboardInterrupt), signals_as_interrupts():
        duckdb.connect().execute("select sum(hash(range)) from range(1_000_000_000)").to_arrow_table()
    assert signal.getsignal(number) == former

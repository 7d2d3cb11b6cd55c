import logging
import time

from recsys.schema import progress as module
from recsys.schema.progress import at_work, progress


def test_a_line_at_most_every_ten_seconds_where_there_is_no_terminal(monkeypatch, caplog):
    now = iter(range(0, 1000, 4))  # each item takes four seconds
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    with caplog.at_level(logging.INFO):
        assert list(progress(range(10), "scoring")) == list(range(10))
    assert 2 <= len(caplog.messages) <= 4
    assert all(message.startswith("scoring: ") and message.endswith("%") for message in caplog.messages)


def test_work_that_is_no_loop_is_said_as_long_as_it_lasts(monkeypatch, caplog):
    monkeypatch.setattr(module, "_EVERY_SECONDS", 0.02)
    with caplog.at_level(logging.INFO), at_work("reading") as doing:
        for what in ("reading", "writing"):
            doing(what)
            while not any(what in message for message in caplog.messages):
                time.sleep(0.01)
    said = [message.partition(" (")[0] for message in caplog.messages]
    assert said == sorted(said)
    time.sleep(0.1)
    assert len(caplog.messages) == len(said)

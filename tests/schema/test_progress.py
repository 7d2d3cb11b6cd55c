import logging

from recsys.schema import progress as module
from recsys.schema.progress import progress


def test_a_line_at_most_every_ten_seconds_where_there_is_no_terminal(monkeypatch, caplog):
    now = iter(range(0, 1000, 4))  # each item takes four seconds
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    with caplog.at_level(logging.INFO):
        assert list(progress(range(10), "scoring")) == list(range(10))
    assert 2 <= len(caplog.messages) <= 4
    assert all(message.startswith("scoring: ") and message.endswith("%") for message in caplog.messages)

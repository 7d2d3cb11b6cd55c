"""What every crash begins with: all commands done once, none of them stopped."""

import time
from functools import partial

import pytest
import torch

from tests.crashes.working import commands, done, raw_table


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The raw table's folder, that of what all commands have written, and how many seconds each took."""
    torch.set_num_threads(1)
    table, folder = raw_table(tmp_path_factory.mktemp("raw")), tmp_path_factory.mktemp("whole")
    seconds = {}
    for name, (main, arguments) in commands(table, folder).items():
        started = time.monotonic()
        status, said = done(partial(main, arguments), folder / "said")
        assert status == 0, said
        seconds[name] = time.monotonic() - started
    return table, folder, seconds

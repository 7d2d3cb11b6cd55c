"""What holds for every test."""

import logging
import os

import pytest

from tests.servers import database, store  # noqa: F401

os.environ.setdefault("GOMP_SPINCOUNT", "4000")  # before torch is imported; see doctor.importing
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core for each worker


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path_factory, monkeypatch):
    """Keeps tests away from the raw and prepared data of whoever runs them."""
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def level_of_logging_put_back():
    """A command that a test ran in this process leaves the root logger talking."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)

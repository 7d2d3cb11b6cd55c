"""What holds for every test."""

import pytest


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path_factory, monkeypatch):
    """Keeps tests away from the raw and prepared data of whoever runs them."""
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))

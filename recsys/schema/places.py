"""Addresses of what lies elsewhere, told apart from paths; reads and fetches nothing."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from recsys.schema.errors import InputError

STORES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")


def is_address(text: object) -> bool:
    """True for an address on object storage."""
    return isinstance(text, str) and text.partition("://")[0] in STORES and "://" in text


def cache_folder(chosen: str | None = None) -> Path:
    """The folder of what is fetched and prepared: `chosen`, or else $RECSYS_CACHE or ~/.cache/recsys."""
    return at_home(chosen or os.environ.get("RECSYS_CACHE") or "~/.cache/recsys")


def at_home(path: str | os.PathLike[str]) -> Path:
    """The path, in the home folder of a user whom it names (`~`, `~ann`); a name that is no user's stays."""
    return Path(os.path.expanduser(path))


def refuse_password(address: str, key: str) -> None:
    """Raises InputError where an address holds a password, for it is written into manifests and logs."""
    parts = urlsplit(address)
    if parts.password or "password" in parse_qs(parts.query):
        raise InputError(
            f"`{key}`: expected an address without a password, for it is written into manifests and logs; "
            "give the password in the environment (PGPASSWORD, AWS_SECRET_ACCESS_KEY ...)"
        )

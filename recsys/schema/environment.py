"""Where a result was computed: versions, machine and commit."""

from __future__ import annotations

import platform
from typing import Any

import torch

from recsys.schema.manifest import git_commit


def environment() -> dict[str, Any]:
    """Commit, versions, machine and threads, to be kept beside a result."""
    return {
        "commit": git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.platform(),
        "threads": torch.get_num_threads(),
    }

"""Parity: how near a file's answers came to those of the trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from recsys.exporting.options import ExportOptions


@dataclasses.dataclass(frozen=True)
class Parity:
    """Counts the requests that were compared, with the largest difference of a score and the lists."""

    num_requests: int
    max_difference: float
    lists: Mapping[str, Any] | None = None

    def describe(self, options: ExportOptions) -> dict[str, Any]:
        """Describes the comparison with the trained models, for a manifest."""
        described = {
            "requests": self.num_requests,
            "max_difference": self.max_difference,
            "tolerance": options.tolerance,
        }
        return described if self.lists is None else {**described, "lists": dict(self.lists)}

"""Comparison: B requests as the trained model takes them beside what an exported file makes of them.

Legend: B requests, D embedding dimension.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature, Role
from recsys.schema.features import FeatureSchema


class ParityError(InputError):
    """An exported file answers otherwise than the trained model."""


@dataclasses.dataclass
class Features:
    """B requests as the file encodes and embeds them.

    Args:
        bags: values and lengths [B] of each sparse feature it reads.
        dense: [B, number of dense features].
        embedded: [B, D] of each embedded feature.
    """

    bags: dict[str, tuple[torch.Tensor, torch.Tensor]]
    dense: torch.Tensor
    embedded: dict[str, torch.Tensor]


@dataclasses.dataclass
class Comparison:
    """B requests, and where on the way from raw values to scores the file first leaves the model.

    Args:
        file: name of the file.
        asked: the way of asking.
        requests: [B] raw.
        batch: the same as the model takes it.
        embedded: what the model makes of it.
        found: what the file makes of the requests.
        schema: the features.
        roles: whose features the batch holds.
        what: a request is called in messages.
    """

    file: str
    asked: str
    requests: Sequence[Any]
    batch: Batch
    embedded: dict[str, torch.Tensor]
    found: Features
    schema: FeatureSchema
    roles: tuple[Role, ...]
    what: str = "test row"

    def check_inputs(self) -> None:
        """Raises when a raw value is encoded otherwise than in the prepared data, if it moves a score or not.

        Raises:
            ParityError: naming the request and the feature.
        """
        expected = {
            name: _bags(bag.values(), bag.lengths()) for name, bag in self.batch.ids.to_dict().items()
        }
        if self.batch.vectors is not None:
            expected |= {name: column.tolist() for name, column in self.batch.vectors.columns.items()}
        found = {name: _bags(*bag) for name, bag in self.found.bags.items()}
        for row in range(len(self.requests)):
            for feature in self.schema.embedded(self.roles):
                if feature.name in found and found[feature.name][row] != expected[feature.name][row]:
                    self._refuse_input(row, feature, expected[feature.name][row], found[feature.name][row])
            for position, feature in enumerate(self.schema.dense(self.roles)):
                pair = float(self.batch.dense[row, position]), float(self.found.dense[row, position])
                if not abs(pair[0] - pair[1]) <= 1e-5 * max(1.0, abs(pair[0])):  # NaN is refused too
                    self._refuse_input(row, feature, *pair)

    def check_scores(
        self, expected: torch.Tensor, found: torch.Tensor, *, tolerance: float, first_row: int = 0
    ) -> float:
        """The largest difference of scores [B, ...], as a share of those beyond 1.

        Args:
            expected: by the trained model.
            found: by the file.
            tolerance: the largest that is accepted.
            first_row: number of the request that the first score belongs to.

        Raises:
            ParityError: naming the request, both scores and the first feature whose embedding differs.
        """
        if not expected.numel():
            return 0.0
        expected, found = (
            expected.flatten(1) if expected.dim() > 1 else expected[:, None],
            found.reshape(len(found), -1),
        )
        difference = ((expected - found).abs() / expected.abs().clamp(min=1.0)).nan_to_num(torch.inf)
        largest = float(difference.max())
        if not largest <= tolerance:
            row = int((difference.amax(dim=1) > tolerance).nonzero()[0])
            at = int(difference[row].argmax())
            raise ParityError(
                f"`{self.file}` must answer like the trained model, to {tolerance:g}; but for "
                f"{self._request(first_row + row)} the model's score is {float(expected[row, at]):.8g}, "
                f"the file's {float(found[row, at]):.8g}; {self._first_difference(first_row + row)}; "
                f"nothing was written"
            )
        return largest

    def _refuse_input(self, row: int, feature: Feature, expected: object, found: object) -> None:
        raise ParityError(
            f"`{self.file}` must encode raw values as the prepared data does; but for {self._request(row)} "
            f"the first feature that differs is `{feature.name}` (column `{feature.column}`): {expected} in "
            f"the prepared data, {found} in the file; nothing was written"
        )

    def _request(self, row: int) -> str:
        return f"{self.what} {row} ({self.asked}: {self.requests[row]})"

    def _first_difference(self, row: int) -> str:
        for name, expected in self.embedded.items():
            found = self.found.embedded.get(name)
            if found is None or not torch.allclose(found[row], expected[row], rtol=1e-5, atol=1e-6):
                return f"the first feature that differs is `{name}`, in its embedding"
        return "all features and embeddings agree, so that the tower or head differs"


def _bags(values: torch.Tensor, lengths: torch.Tensor) -> list[list[Any]]:
    return [bag.tolist() for bag in torch.split(values, lengths.tolist())]

"""Comparison: B requests as the trained model takes them beside what an exported file makes of them.

Legend: B requests, D embedding dimension.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from recsys.exporting.gate.recorded import Recorder
from recsys.exporting.program.types import Features
from recsys.models.protocols import embed
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature, Role


class ParityError(InputError):
    """An exported file answers otherwise than the trained model."""


@dataclasses.dataclass
class Comparison:
    """B requests, and where on the way from raw values to scores the file first leaves the model.

    Args:
        recorder: of the trained model and its dataset.
        name: of the way of asking.
        requests: [B] raw.
        batch: the same as the model takes it.
        inputs: those of the file, which embed.
        features: bags and dense values that the file reads from the requests.
        roles: whose features the batch holds.
    """

    recorder: Recorder
    name: str
    requests: Sequence[Any]
    batch: Batch
    inputs: Any
    features: Features
    roles: Sequence[Role]

    def check_inputs(self) -> None:
        """Raises when a raw value is encoded otherwise than in the prepared data, if it moves a score or not.

        Raises:
            ParityError: naming the request and the feature.
        """
        schema = self.recorder.dataset.schema
        expected = {
            name: _lists(bag.values(), bag.lengths()) for name, bag in self.batch.ids.to_dict().items()
        }
        if self.batch.vectors is not None:
            expected |= {name: column.tolist() for name, column in self.batch.vectors.columns.items()}
        read = {name: _lists(*bag) for name, bag in self.features[0].items()}
        for row in range(len(self.requests)):
            for feature in schema.embedded(self.roles):
                if feature.name in read and read[feature.name][row] != expected[feature.name][row]:
                    self._refuse_input(row, feature, expected[feature.name][row], read[feature.name][row])
            for position, feature in enumerate(schema.dense(self.roles)):
                pair = float(self.batch.dense[row, position]), float(self.features[1][row, position])
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
        expected, found = expected.reshape(len(expected), -1), found.reshape(len(found), -1)
        difference = relative_difference(expected, found)
        largest = float(difference.max())
        if not largest <= tolerance:
            row = int((difference.amax(dim=1) > tolerance).nonzero()[0])
            at = int(difference[row].argmax())
            raise ParityError(
                f"`{self.recorder.file}` must answer like the trained model, to {tolerance:g}; but for "
                f"{self._request(first_row + row)} the model's score is {float(expected[row, at]):.8g}, "
                f"the file's {float(found[row, at]):.8g}; {self._first_difference(first_row + row)}; "
                f"nothing was written"
            )
        return largest

    def _refuse_input(self, row: int, feature: Feature, expected: object, found: object) -> None:
        raise ParityError(
            f"`{self.recorder.file}` must encode raw values as the prepared data does; but for "
            f"{self._request(row)} the first feature that differs is `{feature.name}` (column "
            f"`{feature.column}`): {expected} in the prepared data, {found} in the file; nothing was written"
        )

    def _request(self, row: int) -> str:
        return f"test row {row} ({self.name}: {self.requests[row]})"

    def _first_difference(self, row: int) -> str:
        found = self.inputs.embed(self.features[0], len(self.requests))
        for name, expected in embed(self.recorder.stage.model, self.batch).items():
            if name not in found or not torch.allclose(found[name][row], expected[row], rtol=1e-5, atol=1e-6):
                return f"the first feature that differs is `{name}`, in its embedding"
        return "all features and embeddings agree, so that the tower or head differs"


def relative_difference(expected: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Differences of scores as a share of those beyond 1; infinite where there is no number."""
    return ((expected - found).abs() / expected.abs().clamp(min=1.0)).nan_to_num(torch.inf)


def _lists(values: torch.Tensor, lengths: torch.Tensor) -> list[list[Any]]:
    return [bag.tolist() for bag in torch.split(values, lengths.tolist())]

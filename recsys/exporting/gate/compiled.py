"""The parity gate of a compiled package: tokeniser and package against the trained model.

Legend: B requests, N items.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from recsys.exporting.compiled import Package, load_package
from recsys.exporting.gate.differences import Comparison, Features, ParityError
from recsys.exporting.gate.recorded import Record, RecordedRequests, Recorder
from recsys.exporting.options import ExportOptions
from recsys.models.protocols import MultiTaskModel, RankingModel, RetrievalModel, embed
from recsys.schema.feature_kinds import Role
from recsys.schema.features import ALL_ROLES, HISTORY, QUERY_ROLES

# So many requests of each way of asking are made one at a time too.
_SINGLE = 5
_FEW_ITEMS = 200


@dataclasses.dataclass
class PackageGate:
    """A package beside the model that it was made of.

    Args:
        package: what was compiled.
        folder: where it lies.
        model: trained.
        program: that makes its tensors, loaded again.
        recorder: of the prepared dataset.
        tolerance: largest difference of a score that is accepted, as a share of scores beyond 1.
    """

    package: Package
    folder: Path
    model: nn.Module
    program: Any
    recorder: Recorder
    tolerance: float

    @cached_property
    def run(self) -> Any:
        """The package, loaded."""
        return load_package(self.folder / self.package.file)

    @property
    def _arithmetic(self) -> Any:
        return self.package.module

    @torch.no_grad()
    def check(self, asked: Sequence[RecordedRequests]) -> float:
        """The largest difference of what the package answers to what the trained model does.

        Raises:
            ParityError: at the first difference, naming row and feature.
        """
        largest = 0.0
        for requests in asked:
            tensors = self.tensors(requests)
            comparison = self._comparison(requests, tensors)
            comparison.check_inputs()
            # Only now: what was encoded otherwise may lie beyond its table.
            comparison.found.embedded = self._arithmetic.embedded(tensors)
            expected, found = self.expected(requests), self.scores(self.run(tensors))
            largest = max(largest, comparison.check_scores(expected, found, tolerance=self.tolerance))
            for row in range(min(_SINGLE, len(requests))):
                found = self.scores(self.run(self.tensors(requests, slice(row, row + 1))))
                pair = expected[row : row + 1], found
                largest = max(
                    largest, comparison.check_scores(*pair, tolerance=self.tolerance, first_row=row)
                )
                if self.recorder.is_ranking:
                    largest = max(largest, self._check_items(requests, row))
        return largest

    def tensors(self, requests: RecordedRequests, rows: slice = slice(None)) -> list[torch.Tensor]:
        """Has the file make the package's tensors of requests."""
        method, arguments = self._call(requests, rows)
        tensors: list[torch.Tensor] = getattr(self.program, method)(**arguments)
        return tensors

    def expected(self, requests: RecordedRequests) -> torch.Tensor:
        """[B, ...] answers by the trained model."""
        batch = requests.batch
        if not self.recorder.is_ranking:
            return self.scores(cast(RetrievalModel, self.model).encode_queries(batch))
        answers = self._arithmetic.answers
        if isinstance(self.model, MultiTaskModel):
            found: torch.Tensor = answers(self.model.every_head(batch))
        else:
            found = answers(cast(RankingModel, self.model).forward(batch))
        return found

    def scores(self, answers: torch.Tensor) -> torch.Tensor:
        """Answers of a ranking model as they are; of vectors [B, D], the scores [B, N] of some items."""
        return answers if self.recorder.is_ranking else answers @ self.some_items.T

    @cached_property
    def some_items(self) -> torch.Tensor:
        """[N, D] of the catalogue, evenly spaced, and the unknown item."""
        catalogue: torch.Tensor = self.program.candidates
        return catalogue[torch.linspace(0, len(catalogue) - 1, min(_FEW_ITEMS, len(catalogue))).long()]

    def passed(
        self, asked: Sequence[RecordedRequests], manifest: dict[str, Any], options: ExportOptions
    ) -> list[Record]:
        """Compiles and checks the package and describes it in the manifest; requests to record for it.

        Raises:
            ParityError: at the first difference.
            ValueError: the model does not compile.
        """
        self.package.write(self.folder)
        described = self.package.describe(self.check(asked))
        manifest.setdefault("packages", {})[self.package.file] = described
        return self.requests(asked, number=options.recorded_requests)

    def requests(self, asked: Sequence[RecordedRequests], *, number: int) -> list[Record]:
        """About `number` requests in every way of asking, recorded for the package."""
        each = -(-number // len(asked))
        calls = [self._call(requests, slice(each)) for requests in asked]
        if self.recorder.is_ranking:
            calls.append(("inputs_of_items", self._items_of(asked[0], 0)))
        return [
            {"method": method, "arguments": arguments, "package": self.package.file}
            for method, arguments in calls
        ]

    def _call(self, requests: RecordedRequests, rows: slice) -> tuple[str, Record]:
        if self.recorder.is_ranking:
            return "inputs_of_rows", {"rows": requests.rows()[rows]}
        given: dict[str, list[Any] | None] = {
            "users": requests.users,
            "histories": requests.histories,
            "contexts": requests.contexts,
            "history_times": requests.times,
            "history_liked": requests.liked,
        }
        return "inputs_of_users", {name: some[rows] for name, some in given.items() if some is not None}

    def _items_of(self, requests: RecordedRequests, row: int) -> Record:
        ids = self.recorder.dataset.item_ids[1:]
        at = np.linspace(0, len(ids) - 1, min(_FEW_ITEMS, len(ids))).astype(int)
        return {
            "user": requests.users[row],
            "item_ids": ids[at].tolist(),
            HISTORY: requests.histories[row],
            "context": requests.contexts[row],
        }

    def _check_items(self, requests: RecordedRequests, row: int) -> float:
        """Many items for one user; the TorchScript file has been checked when this is asked."""
        arguments = self._items_of(requests, row)
        expected = self.program.predict_items(**arguments)
        found = self.run(self.program.inputs_of_items(**arguments))
        found = found if found.dim() == 1 else found[:, 0]
        difference = (expected - found).abs().nan_to_num(torch.inf)
        if not bool((difference <= self.tolerance).all()):
            at = int(difference.argmax())
            raise ParityError(
                f"`{self.package.file}` must predict for many items of one user what `{self.recorder.file}` "
                f"does; but for test row {row} ({requests.name}) and item {arguments['item_ids'][at]!r} it "
                f"gives {float(found[at]):.8g}, not {float(expected[at]):.8g}; nothing was written"
            )
        return float(difference.max())

    def _comparison(self, requests: RecordedRequests, tensors: list[torch.Tensor]) -> Comparison:
        is_ranking = self.recorder.is_ranking
        embedded = self._arithmetic.embedded
        bags = {
            entry.name: _bag(entry.form, given)
            for entry, given in zip(embedded.entries, embedded.given(tensors), strict=True)
            if entry.form != "crossed"
        }
        roles: tuple[Role, ...] = tuple(ALL_ROLES if is_ranking else QUERY_ROLES)
        return Comparison(
            file=self.package.file,
            asked=requests.name,
            requests=requests.rows() if is_ranking else requests.queries(),
            batch=requests.batch,
            embedded=embed(self.model, requests.batch),
            found=Features(bags, tensors[0], {}),
            schema=self.recorder.dataset.schema,
            roles=roles,
        )


def _bag(form: str, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and lengths of B bags."""
    if form == "rows":
        return given[0], torch.ones_like(given[0])
    values, lengths = given
    if form == "padded":
        values = values[torch.arange(values.size(1)) < lengths[:, None]]
    return values, lengths

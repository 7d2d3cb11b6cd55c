"""The parity gate of a compiled package: it must answer as the TorchScript file, which has been checked.

Legend: N items.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from recsys.exporting.compiled import Package, load_package
from recsys.exporting.gate.differences import ParityError, relative_difference
from recsys.exporting.gate.recorded import Record, RecordedRequests, Recorder
from recsys.exporting.options import ExportOptions
from recsys.exporting.tasks.register import task_of

# So many requests of each way of asking are made one at a time too.
_SINGLE = 5
_FEW_ITEMS = 200


@dataclasses.dataclass
class PackageGate:
    """A package beside the TorchScript program that makes its tensors.

    Args:
        package: what is compiled.
        folder: where it lies.
        program: loaded again.
        recorder: of the trained model and its dataset.
        options: of `export.`.
    """

    package: Package
    folder: Path
    program: Any
    recorder: Recorder
    options: ExportOptions

    @cached_property
    def run(self) -> Any:
        """The package, loaded."""
        return load_package(self.folder / self.package.file)

    def ship(self, asked: Sequence[RecordedRequests], manifest: dict[str, Any]) -> list[Record]:
        """Compiles and checks the package and describes it in the manifest; requests to record for it.

        Raises:
            ParityError: at the first difference.
            ValueError: the model does not compile.
        """
        self.package.write(self.folder)
        described = self.package.describe(self.check(asked))
        manifest.setdefault("packages", {})[self.package.file] = described
        each = -(-self.options.recorded_requests // len(asked))
        task = task_of(self.recorder.stage)
        calls = [task.package_call(requests, slice(each)) for requests in asked]
        calls += task.item_calls(self.recorder, asked[0], 0)
        return [
            {"method": method, "arguments": arguments, "package": self.package.file}
            for method, arguments in calls
        ]

    @torch.no_grad()
    def check(self, asked: Sequence[RecordedRequests]) -> float:
        """The largest difference of an answer, as a share of those beyond 1.

        Raises:
            ParityError: at the first that is too large, naming the request.
        """
        task, largest = task_of(self.recorder.stage), 0.0
        for requests in asked:
            whole = task.package_call(requests, slice(None))
            largest = max(largest, self._difference(requests.name, *whole))
            for row in range(min(_SINGLE, len(requests))):
                name = f"{requests.name}, test row {row}"
                calls = [task.package_call(requests, slice(row, row + 1))]
                calls += task.item_calls(self.recorder, requests, row)
                largest = max(largest, *(self._difference(name, *call) for call in calls))
        return largest

    def _difference(self, name: str, method: str, arguments: Record) -> float:
        found = self.run(getattr(self.program, method)(**arguments))
        if method == "inputs_of_users":
            expected = self.program.encode_users(**arguments) @ self._some_items.T
            found = found @ self._some_items.T
        elif method == "inputs_of_rows":
            expected = torch.stack([*self.program.predict_heads(**arguments).values()], dim=1)
            found = found.reshape(expected.shape)
        else:
            expected = self.program.predict_items(**arguments)
            found = found.reshape(len(expected), -1)[:, 0]
        difference = relative_difference(expected, found)
        largest = float(difference.max()) if difference.numel() else 0.0
        if not largest <= self.options.tolerance:
            at = int(difference.argmax())
            raise ParityError(
                f"`{self.package.file}` must answer as `{self.recorder.file}` does, to "
                f"{self.options.tolerance:g}; but for {method} of {name} (at place {at} of the answers) it "
                f"gives {float(found.flatten()[at]):.8g}, not {float(expected.flatten()[at]):.8g}; nothing "
                "was written"
            )
        return largest

    @cached_property
    def _some_items(self) -> torch.Tensor:
        """[N, D] of the catalogue, evenly spaced, and the unknown item."""
        catalogue: torch.Tensor = self.program.candidates
        return catalogue[torch.linspace(0, len(catalogue) - 1, min(_FEW_ITEMS, len(catalogue))).long()]

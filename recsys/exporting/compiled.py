"""Package: a model's arithmetic compiled ahead of time, `export.format=aoti`, a `.pt2` file of the bundle.

The TorchScript file keeps what strings and dictionaries need: it makes the tensors that a package takes, raw
values read and looked up. A newcomer's whole program, in a Python that has torch and nothing else:

    import torch
    import torch._inductor

    model = torch.jit.load("bundle/ranking.pt")
    package = torch._inductor.aoti_load_package("bundle/ranking.pt2")
    rows = [{"user_id": 196, "item_id": 242}, {"user_id": 196, "item_id": 257}]
    print(package(model.inputs_of_rows(rows)))  # probabilities [B]
    print(package(model.inputs_of_items({"user_id": 196}, [242, 257], [111])))  # of many items for one user

and for a retrieval model, whose package encodes users:

    vectors = package(model.inputs_of_users([{"user_id": 196}], [[242, 257, 111]]))  # [B, D]

In C++, with libtorch and `torch/csrc/inductor/aoti_package/model_package_loader.h`, `tensors` being what the
TorchScript file's method gives:

    torch::inductor::AOTIModelPackageLoader package("bundle/ranking.pt2");
    std::vector<at::Tensor> answers = package.run(tensors);

`manifest.json` has names, order, types and shapes of the tensors under `packages`. A package runs where it
was compiled: on the same kind of processor, under the same version of torch. The TorchScript file runs
anywhere, and holds all that a package holds.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import platform
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch._inductor
from torch import nn
from torch._inductor.utils import fresh_cache

from recsys.exporting.program.inputs import (
    Inputs,
    Lookup,
    VectorLookup,
    mean_of_bags,
    restored,
    weighted_sum_of_bags,
)
from recsys.exporting.program.tensors import Entry
from recsys.nn.cross import Cross
from recsys.schema.disk import write_file
from recsys.schema.errors import InputError
from recsys.schema.features import QUERY_ROLES, FeatureSchema

# Three events make four states; every other size is odd and above.
_EVENTS, _FIRST_SIZE = 3, 5
STATES = "events + 1"


@dataclasses.dataclass(frozen=True)
class TensorOf:
    """One tensor of a package.

    Args:
        name: what it is of.
        kind: `float32`, `int64` or `bool`.
        shape: sizes, those that differ from call to call by name.
    """

    name: str
    kind: str
    shape: tuple[str | int, ...]

    def describe(self) -> dict[str, Any]:
        """Describes the tensor for the manifest."""
        return {"name": self.name, "type": self.kind, "shape": list(self.shape)}


@dataclasses.dataclass(frozen=True)
class Package:
    """One model as compiled arithmetic, with the tensors that it takes.

    Args:
        file: name of the file.
        module: tensors in, answers out, in plain Python.
        inputs: the tensors, in order.
        output: what it answers.
        made_by: methods of the TorchScript program that give the tensors.
    """

    file: str
    module: nn.Module
    inputs: Sequence[TensorOf]
    output: TensorOf
    made_by: Sequence[str]

    def write(self, folder: Path) -> None:
        """Compiles the module into `folder`.

        Raises:
            ValueError: torch can't trace the model, or there is no C++ compiler.
        """
        try:
            # What it compiles from, the weights among it, shall not stay behind.
            with warnings.catch_warnings(), fresh_cache(), torch.no_grad():
                warnings.simplefilter("ignore")
                _compile(self, folder / self.file)
        except Exception as error:
            said = str(error).strip().splitlines() or [""]
            raise ValueError(
                f"`export.format=aoti` needs a model that torch.export can trace, and a C++ compiler; torch "
                f"{torch.__version__} did not compile `{self.file}`: {type(error).__name__}: {said[0]}; "
                "export with `export.format=torchscript`, which serves the same answers"
            ) from error

    def describe(self, max_difference: float) -> dict[str, Any]:
        """Describes the package for the manifest."""
        return {
            "made_by": list(self.made_by),
            "inputs": [tensor.describe() for tensor in self.inputs],
            "output": self.output.describe(),
            "compiled_for": {
                "torch": str(torch.__version__),
                "system": f"{platform.system()} {platform.machine()}",
                "processor": torch.backends.cpu.get_cpu_capability(),
            },
            "parity": {"max_difference": max_difference},
        }


@functools.lru_cache(maxsize=2)
def load_package(file: Path) -> Any:
    """A package, loaded as a server would."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch._inductor.aoti_load_package(str(file))


def entries_of(inputs: Inputs, schema: FeatureSchema) -> list[Entry]:
    """Lists what a package is given of the features and crosses that are looked up, each once."""
    return list(dict.fromkeys(_entry(lookup, schema) for lookup in inputs.lookups))


def _entry(lookup: nn.Module, schema: FeatureSchema) -> Entry:
    if isinstance(lookup, VectorLookup):
        raise InputError(
            f"`export.format=aoti` can't hold the feature `{lookup.parts[0]}` of kind vector; leave it out "
            "(`model.leave_out`), or export with `export.format=torchscript`"
        )
    assert isinstance(lookup, Lookup)
    if len(lookup.parts) > 1:
        parts = tuple(lookup.parts)
        name = Cross(parts, num_buckets=1).name
        return Entry(name, "crossed", is_of_request=False, parts=parts, num_rows=lookup.weight.size(0))
    feature = schema[lookup.parts[0]]
    form = "padded" if lookup.one_by_one else "bags" if feature.is_multivalued else "rows"
    return Entry(feature.name, form, is_of_request=feature.role in QUERY_ROLES)


def tensors_of(entries: Sequence[Entry], each: str) -> list[TensorOf]:
    """The tensors of all entries; there is one bag for each of what `each` names, or for each request."""
    tensors = []
    for entry in entries:
        size = "requests" if entry.is_of_request else each
        if entry.form == "rows":
            tensors.append(TensorOf(entry.name, "int64", (size,)))
            continue
        shape = (size, f"longest {entry.name}") if entry.form == "padded" else (f"values of {entry.name}",)
        tensors += [
            TensorOf(f"{entry.name}.values", "int64", shape),
            TensorOf(f"{entry.name}.lengths", "int64", (size,)),
        ]
    return tensors


class EmbeddedTensors(nn.Module):
    """Tensors of a package -> embedded features, by the look-ups of the program.

    Args:
        inputs: of the program.
        entries: what is given, in order.
        schema: the features.
        has_requests: whether requests have fewer bags than there are rows; see `PackageTensors`.
    """

    def __init__(
        self, inputs: Inputs, entries: Sequence[Entry], schema: FeatureSchema, *, has_requests: bool
    ) -> None:
        super().__init__()
        self.has_requests = has_requests
        self.entries = list(entries)
        self.lookups: list[tuple[str, int, int]] = []
        self.widths: dict[int, int] = {}
        # Every table once, whoever reads it.
        tables: dict[int, int] = {}
        for name, lookup in zip(inputs.lookup_names, inputs.lookups, strict=True):
            assert isinstance(lookup, Lookup)
            table = tables.setdefault(id(lookup.weight), len(tables))
            self.register_buffer(f"weight_{table}", lookup.weight)
            self.register_buffer(f"scales_{table}", lookup.scales)
            self.widths[table] = lookup.width
            self.register_buffer(f"row_weights_{len(self.lookups)}", lookup.row_weights)
            self.lookups.append((name, self.entries.index(_entry(lookup, schema)), table))

    def forward(self, tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """[B, ...] of every embedded feature."""
        given = self.given(tensors)
        embedded = {}
        for number, (name, at, table) in enumerate(self.lookups):
            held = getattr(self, f"weight_{table}"), getattr(self, f"scales_{table}"), self.widths[table]
            row_weights = getattr(self, f"row_weights_{number}")
            if len(row_weights):
                embedded[name] = weighted_sum_of_bags(*held, row_weights, *given[at])
            else:
                embedded[name] = _embed(held, self.entries[at].form, given[at])
            if self.has_requests and self.entries[at].is_of_request:
                embedded[name] = embedded[name][tensors[1]]
        return embedded

    def given(self, tensors: Sequence[torch.Tensor]) -> list[Sequence[torch.Tensor]]:
        """The tensors of each entry."""
        first = 2 if self.has_requests else 1
        given = []
        for entry in self.entries:
            number = 1 if entry.form == "rows" else 2
            given.append(tensors[first : first + number])
            first += number
        return given


def _embed(
    held: tuple[torch.Tensor, torch.Tensor, int], form: str, given: Sequence[torch.Tensor]
) -> torch.Tensor:
    if form == "rows":
        return restored(*held, given[0])
    values, lengths = given
    if form != "padded":
        return mean_of_bags(*held, values, lengths)
    mask = torch.arange(values.size(1)) < lengths[:, None]
    each: torch.Tensor = restored(*held, values.flatten()).reshape(*values.shape, held[2])
    return each * mask[:, :, None].to(each.dtype)


def _compile(package: Package, file: Path) -> None:
    tensors = examples(package.inputs)
    shapes = [
        {at: torch.export.Dim.DYNAMIC for at, size in enumerate(tensor.shape) if isinstance(size, str)}
        for tensor in package.inputs
    ]
    exported = torch.export.export(package.module.eval(), (tensors,), dynamic_shapes=(shapes,), strict=False)
    # As many threads as the server has, not as many as were here.
    settings = {"cpp.dynamic_threads": True}
    buffer = io.BytesIO()
    torch._inductor.aoti_compile_and_package(exported, package_path=buffer, inductor_configs=settings)
    write_file(file, buffer.getvalue())


def examples(inputs: Sequence[TensorOf]) -> list[torch.Tensor]:
    """Tensors of these shapes; sizes that differ from call to call differ here."""
    sizes = {"events": _EVENTS, STATES: _EVENTS + 1}
    tensors = []
    for tensor in inputs:
        for size in tensor.shape:
            if isinstance(size, str):
                sizes.setdefault(size, _FIRST_SIZE + 2 * len(sizes))
        shape = [sizes[size] if isinstance(size, str) else size for size in tensor.shape]
        tensors.append(torch.zeros(shape, dtype=getattr(torch, tensor.kind)))
    return tensors

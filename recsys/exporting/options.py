"""ExportOptions: every key under `export.`, with its meaning and default."""

import dataclasses
from pathlib import Path
from typing import Literal, get_args

from recsys.schema.errors import InputError

TableType = Literal["float32", "float16", "int8", "int4"]
Format = Literal["torchscript", "aoti"]
IndexChoice = Literal["auto", "exact", "hnsw", "ivf_sq8"]


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Sets how a bundle is checked and recorded, and how its two stages work where it has two.

    Args:
        parity_rows: test rows, evenly spaced, on which the file must answer like the model, each asked in
            six ways; of a two-stage recommender's own answers at most 50 rows.
        tolerance: largest difference of a score that is accepted, as a share of scores beyond 1.
        k: length of the lists that are compared and recorded.
        recorded_requests: requests recorded with their responses for smoke tests.
        num_candidates: how many items the first stage hands to the second, unless a request says otherwise.
        diversity: weight of variety in the lists of two stages, 0 to 1, unless a request says otherwise; see
            `recsys.exporting.program.diverse`.
        quantize: how embedding tables are stored, `float32`, `float16`, `int8` or `int4`; the manifest says
            how many bytes they take and what it costs on the test split.
        format: `torchscript`, or `aoti` for compiled packages beside it; see `recsys.exporting.compiled`.
        index: how the catalogue is searched where FAISS is there: `exact`; `hnsw` or `ivf_sq8`, an index
            beside the file; `auto`, one that is measured to be quicker. The file itself searches exactly.
        min_recall: share of the 100 best items that an index must find, on test requests; see
            `recsys.exporting.index`.
        sign: private key that signs the bundle; see `recsys.schema.signing`.
    """

    parity_rows: int = 300
    tolerance: float = 1e-5
    k: int = 10
    recorded_requests: int = 20
    num_candidates: int = 500
    diversity: float = 0.0
    quantize: TableType = "float32"
    format: Format = "torchscript"
    index: IndexChoice = "auto"
    min_recall: float = 0.99
    sign: Path | None = None

    def __post_init__(self) -> None:
        for name in ("parity_rows", "k", "recorded_requests", "num_candidates"):
            if getattr(self, name) < 1:
                raise InputError(f"`export.{name}` must be at least 1, got {getattr(self, name)}")
        if not 0 < self.tolerance < 1:
            raise InputError(f"`export.tolerance` must lie between 0 and 1, got {self.tolerance}")
        if not 0 <= self.diversity <= 1:
            raise InputError(f"`export.diversity` must lie between 0 and 1, got {self.diversity}")
        for name, choices in (("quantize", TableType), ("format", Format), ("index", IndexChoice)):
            if getattr(self, name) not in get_args(choices):
                raise InputError(
                    f"`export.{name}` must be one of {get_args(choices)}, got {getattr(self, name)!r}"
                )
        if not 0 < self.min_recall <= 1:
            raise InputError(f"`export.min_recall` must lie above 0 and at most at 1, got {self.min_recall}")

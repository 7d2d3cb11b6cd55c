"""Evaluations opened for comparing: what was asked, what each system made of it, whether it is the same.

Legend: N queries or rows.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.evaluation.comparing.kept import (
    BASELINE,
    BASELINES,
    DESCRIPTION,
    GROUP,
    MEMBERS,
    NAME,
    PROBABILITIES,
    QUERY,
)
from recsys.evaluation.recommendations import RELEVANT
from recsys.evaluation.station import METRICS, QUERIES, RESULT_KINDS
from recsys.metrics.classification import row_log_loss
from recsys.report.systems import MODEL, name_of
from recsys.schema import tables
from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json
from recsys.schema.manifest import read_station

LOG_LOSS = "log_loss"
_LONGEST_SHOWN = 80


@dataclasses.dataclass(frozen=True)
class Answers:
    """Holds a system's values for N queries or rows.

    Args:
        name: of the system, for readers.
        source: its folder, or the evaluation that holds a baseline.
        block: `metrics` and `intervals` as its evaluation wrote them.
        values: [N] of each metric that has a value per question.
        probabilities: [N] of a ranking task.
    """

    name: str
    source: str
    block: Mapping[str, Any]
    values: Mapping[str, npt.NDArray[np.float64]]
    probabilities: npt.NDArray[np.float64] | None = None


@dataclasses.dataclass(frozen=True)
class Members:
    """A slice: the questions at these places."""

    group: str
    name: str
    description: str
    rows: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class ReadEvaluation:
    """An evaluation station.

    Args:
        folder: its folder.
        results: content of its `metrics.json`.
        asked: a row for each question: its keys, and the answers to it.
    """

    folder: Path
    results: Mapping[str, Any]
    asked: pa.Table

    @staticmethod
    def open(folder: Path) -> ReadEvaluation:
        """The evaluation in `folder`.

        Raises:
            ValueError: it is missing or damaged.
        """
        read_station(folder, "evaluation")
        results = read_json(folder / METRICS, RESULT_KINDS)
        return ReadEvaluation(folder, results, pq.read_table(folder / _KINDS[results["task"]].file))

    @property
    def kind(self) -> type[_Queries | _Rows]:
        """Reads the queries of a retrieval task, or the rows of a ranking task."""
        return _KINDS[self.results["task"]]

    @property
    def users(self) -> npt.NDArray[Any]:
        """[N] whose question each is."""
        codes: npt.NDArray[Any] = _codes(self.asked[tables.USER_ID])
        return codes

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """[N] of a ranking task."""
        has_labels = tables.LABEL in self.kind.keys
        return self.asked[tables.LABEL].to_numpy().astype(np.int64) if has_labels else None

    @property
    def baselines(self) -> dict[str, str | None]:
        """Every baseline that was asked for, with the reason where it could not be had."""
        return {name: block.get("left_out") for name, block in self.results["baselines"].items()}

    def slices(self) -> list[Members]:
        """The slices, in the order of the evaluation."""
        members = pq.read_table(self.folder / MEMBERS)
        names = [members[column].to_pylist() for column in (GROUP, NAME, DESCRIPTION)]
        rows_of: dict[tuple[str, str, str], list[int]] = {}
        for names_, row in zip(zip(*names, strict=True), members[QUERY].to_pylist(), strict=True):
            rows_of.setdefault(names_, []).append(row)
        return [Members(*names_, np.array(rows)) for names_, rows in rows_of.items()]

    def model(self, name: str, *, like: ReadEvaluation | None = None) -> Answers:
        """Answers of what was evaluated.

        Args:
            name: what to call it.
            like: an evaluation in whose order of questions the answers are wanted.

        Raises:
            ValueError: the questions are not those of `like`.
        """
        order = np.arange(len(self.asked)) if like is None else matching_rows(like, self)
        values, probabilities_N = self.kind.values(self, MODEL)
        return Answers(
            name,
            str(self.folder),
            _block(self.results),
            {key: values_N[order] for key, values_N in values.items()},
            None if probabilities_N is None else probabilities_N[order],
        )

    def baseline(self, name: str) -> Answers:
        """Answers of one of its baselines."""
        block = _block(self.results["baselines"][name])
        return Answers(name_of(name), f"{self.folder} ({name})", block, *self.kind.values(self, name))


class _Queries:
    """Queries of a retrieval task, of which every system's metrics are kept."""

    file = QUERIES
    # Columns that say which question a row is.
    keys = (tables.USER_ID, tables.TIMESTAMP, RELEVANT)

    @staticmethod
    def values(evaluation: ReadEvaluation, system: str) -> tuple[dict[str, npt.NDArray[np.float64]], None]:
        """[N] of each metric."""
        rows = evaluation.asked
        if system != MODEL:
            file, is_its = evaluation.folder / BASELINES, pc.field(BASELINE) == system
            rows = pq.read_table(file, filters=is_its).sort_by(QUERY)
        measured = [key for key in evaluation.results["metrics"] if key in rows.column_names]
        return {key: rows[key].to_numpy() for key in measured}, None

    @staticmethod
    def slice_metric(main_metric: str) -> str:
        """The metric by which slices are compared."""
        return main_metric

    @staticmethod
    def have_several_relevant(asked: pa.Table) -> bool:
        """Whether a question may have several right answers."""
        return bool((asked["num_relevant"].to_numpy() > 1).any())


class _Rows:
    """Rows of a ranking task, of which every system's probabilities are kept."""

    file = PROBABILITIES
    keys = (tables.USER_ID, tables.ITEM_ID, tables.TIMESTAMP, tables.LABEL)

    @staticmethod
    def values(
        evaluation: ReadEvaluation, system: str
    ) -> tuple[dict[str, npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
        """[N] log losses, and probabilities."""
        assert evaluation.labels is not None
        probabilities_N = evaluation.asked[system].to_numpy()
        return {LOG_LOSS: row_log_loss(evaluation.labels, probabilities_N)}, probabilities_N

    @staticmethod
    def slice_metric(main_metric: str) -> str:
        """The metric by which slices are compared."""
        return LOG_LOSS

    @staticmethod
    def have_several_relevant(asked: pa.Table) -> bool:
        """Whether a question may have several right answers."""
        return False


_KINDS: dict[str, type[_Queries | _Rows]] = {"retrieval": _Queries, "ranking": _Rows}


def check_same_protocol(first: ReadEvaluation, other: ReadEvaluation) -> None:
    """Raises where two evaluations did not ask and judge alike.

    Raises:
        ValueError: naming each key of the protocol that differs, with both values.
    """
    if first.results["protocol_hash"] == other.results["protocol_hash"]:
        return
    tasks = [evaluation.results["task"] for evaluation in (first, other)]
    if tasks[0] != tasks[1]:
        raise InputError(
            f"expected another {tasks[0]} model to compare `{first.folder}` with, but `{other.folder}` is "
            f"that of a {tasks[1]} model, which was asked other things; compare models of one task"
        )
    here, there = (dict(_flat(evaluation.results["protocol"])) for evaluation in (first, other))
    differing = [
        f"`{key}` is {_short(here.get(key))} here and {_short(there.get(key))} there"
        for key in {**here, **there}
        if here.get(key) != there.get(key)
    ]
    raise InputError(
        f"expected `{other.folder}` to have been evaluated by the protocol of `{first.folder}`; figures of "
        "different protocols say nothing about each other. Evaluate both alike, or name another run:\n"
        + "\n".join(differing)
    )


def matching_rows(first: ReadEvaluation, other: ReadEvaluation) -> npt.NDArray[np.int64]:
    """[N] where each question of `first` stands in `other`, found by its keys; equal ones in their order.

    Raises:
        ValueError: a question of one was not asked in the other.
    """
    here = first.asked.select(first.kind.keys)
    there = other.asked.select(first.kind.keys).cast(here.schema)
    codes = np.stack([_codes(column) for column in pa.concat_tables([here, there]).columns])
    of_first, of_other = codes[:, : len(here)], codes[:, len(here) :]
    order, other_order = np.lexsort(of_first), np.lexsort(of_other)
    if len(here) != len(there) or (of_first[:, order] != of_other[:, other_order]).any():
        missing = set(map(tuple, of_first.T.tolist())) - set(map(tuple, of_other.T.tolist()))
        example = next((row for row, key in enumerate(of_first.T.tolist()) if tuple(key) in missing), None)
        shown = "" if example is None else f", for example {here.slice(example, 1).to_pylist()[0]}"
        raise InputError(
            f"expected the same questions in `{first.folder}` ({len(here):,}) and `{other.folder}` "
            f"({len(there):,}); {len(missing):,} of the first were not asked in the second{shown}; evaluate "
            "both with the same `evaluation.seed` and options"
        )
    rows = np.empty(len(here), dtype=np.int64)
    rows[order] = other_order
    return rows


def _block(results: Mapping[str, Any]) -> dict[str, Any]:
    return {key: dict(results[key]) for key in ("metrics", "intervals")}


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """[N] a number for each different value, lists by their text; -1 for null."""
    if pa.types.is_list(column.type):
        column = pa.chunked_array(
            [
                pc.binary_join(_with_values(chunk, pc.fill_null(chunk.flatten().cast(pa.string()), "")), "\n")
                for chunk in column.chunks
            ],
            type=pa.string(),
        )
    encoded = column.combine_chunks().dictionary_encode()
    codes: npt.NDArray[np.int64] = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    return codes


def _with_values(lists: pa.ListArray, values: pa.Array) -> pa.ListArray:
    """The lists with other values."""
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _flat(value: Mapping[str, Any], above: str = "protocol") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{above}.{key}")
        else:
            yield f"{above}.{key}", inner


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def named(folders: Sequence[Path]) -> list[str]:
    """Names the systems of these folders by their own names, with the folder above where two are alike."""
    whole = [folder.absolute() for folder in folders]
    last = [folder.name for folder in whole]
    return [
        name if last.count(name) == 1 else "/".join(folder.parts[-2:])
        for folder, name in zip(whole, last, strict=True)
    ]

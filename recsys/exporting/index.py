"""An index of the catalogue beside the file, where it finds enough, and sooner than exact search.

The file by itself searches exactly. A process that has FAISS (`recsys.serving.bundle`) finds candidates by
the index and leaves all else to the file.

Legend: B queries.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from recsys.exporting.gate.recorded import RecordedRequests
from recsys.exporting.options import ExportOptions
from recsys.retrieval.ann import Index, IndexKind, best_scores, build, faiss_module, recall, settle
from recsys.schema.errors import InputError

LOGGER = logging.getLogger(__name__)

INDEX_FILE = "index.faiss"
# So many of the best items an index is asked for, and must find a share of.
NUM_COMPARED = 100
# Below, an exact search takes a quarter of a millisecond.
_MEASURED_FROM = 20_000
_TIMED = 50
# The one that is built in less than half the time first; an index that takes at most this share of an exact
# search is quick enough not to try the other.
_KINDS: tuple[IndexKind, ...] = ("ivf_sq8", "hnsw")
_QUICK_SHARE = 0.25


def check_index(options: ExportOptions, *, has_catalogue: bool) -> None:
    """Raises, before any work, when the index that is asked for needs what is not there.

    Args:
        options: of `export.`.
        has_catalogue: whether there is a retrieval model, whose catalogue is searched.

    Raises:
        ValueError: there is no retrieval model, or FAISS is not installed.
    """
    if options.index not in _KINDS:
        return
    if not has_catalogue:
        raise InputError(
            f"`export.index={options.index}` must be `auto` for the bundle of a ranking model, which has no "
            "catalogue to search; as in `python export.py run=RETRIEVAL ranker=RANKING` it may be an index"
        )
    faiss_module()


def ship_index(
    program: Any, asked: RecordedRequests, folder: Path, options: ExportOptions, *, k: int = NUM_COMPARED
) -> dict[str, Any]:
    """Builds and measures what `export.index` says, and writes it to `folder` when it serves.

    Args:
        program: of the retrieval model, loaded again.
        asked: test requests; recall and times are those of searches for them.
        folder: of the bundle.
        options: of `export.`.
        k: rows a search; of the 100 best an index must find `export.min_recall` among them.

    Returns:
        What the manifest says: `kind`, and why where it is `exact`; of an index `settings`, `recall` of the
        `recall_at` best among `k` rows and `recall_of_k`, of all of them, on so many `queries`, and
        `ms_a_query` beside `exact_ms_a_query`, on one thread.

    Raises:
        ValueError: an index is asked for that can't reach the recall; it says what was reached.
    """
    num_items = program.candidates.size(0) - 1
    why = _why_exact(options, num_items, adds=program.adds)
    if why:
        return {"kind": "exact", "why": why}
    users, histories, contexts, times, liked = asked.arguments()
    questions = program.questions(users, histories, contexts, None, times, liked)
    kinds = _KINDS if options.index == "auto" else (cast(IndexKind, options.index),)
    tried: list[tuple[Index, dict[str, Any]]] = []
    for kind in kinds:
        tried.append(_measured(program, kind, questions, options, k=min(k, max(1, num_items // 2))))
        if _serves(tried[-1][1], options, share=_QUICK_SHARE):
            break
    index, entry = min(
        tried, key=lambda pair: (pair[1]["recall"] < options.min_recall, pair[1]["ms_a_query"])
    )
    if options.index == "auto" and not _serves(entry, options, share=1.0):
        entries = [entry for _, entry in tried]
        return {"kind": "exact", "why": _why_none(entries, options), "tried": entries}
    if entry["recall"] < options.min_recall:
        raise InputError(_refusal(options, entry))
    index.save(folder / INDEX_FILE)
    return {**entry, "file": INDEX_FILE}


def _serves(entry: dict[str, Any], options: ExportOptions, *, share: float) -> bool:
    """Whether an index finds enough, in less than a share of the time of an exact search."""
    is_quick: bool = entry["ms_a_query"] < share * entry["exact_ms_a_query"]
    return is_quick and entry["recall"] >= options.min_recall


def _why_exact(options: ExportOptions, num_items: int, *, adds: bool) -> str | None:
    """Why no index is tried."""
    if options.index == "exact":
        return "`export.index` is `exact`"
    if adds:
        why = "`model.neighbour_weight` adds to the products of vectors, which are all that an index knows"
        if options.index != "auto":
            raise InputError(f"`export.index={options.index}` finds nothing here: {why}; take `exact`")
        return why
    if options.index == "auto" and num_items < _MEASURED_FROM:
        return f"{num_items} items; below {_MEASURED_FROM} exact search takes a fraction of a millisecond"
    try:
        faiss_module()
    except ValueError as error:
        if options.index != "auto":
            raise
        return str(error)
    return None


def _measured(
    program: Any,
    kind: IndexKind,
    questions: tuple[torch.Tensor, list[torch.Tensor]],
    options: ExportOptions,
    *,
    k: int,
) -> tuple[Index, dict[str, Any]]:
    """An index and what the manifest says of it."""
    vectors, excluded = questions
    candidates = program.candidates
    started = time.perf_counter()
    index = build(candidates, kind, k=k)
    build_seconds = time.perf_counter() - started
    at = min(NUM_COMPARED, k)
    reached = settle(index, candidates, vectors, excluded, min_recall=options.min_recall, at=at)
    best = best_scores(candidates, vectors, excluded, k=k)

    def by_index(row: int) -> None:
        rows = index.near(vectors[row], k, excluded=excluded[row])
        if rows is None:
            exactly(row)
        else:
            program.best_among(vectors[row], rows, excluded[row], k)

    def exactly(row: int) -> None:
        program.best(vectors[row], excluded[row], k, None)

    with _one_thread():
        ms, exact_ms = _milliseconds((by_index, exactly), len(vectors))
    entry = {
        "kind": kind,
        "settings": index.settings,
        "recall": reached,
        "recall_at": at,
        "recall_of_k": recall(index, candidates, vectors, excluded, best_BK=best),
        "min_recall": options.min_recall,
        "k": k,
        "queries": len(vectors),
        "ms_a_query": ms,
        "exact_ms_a_query": exact_ms,
        "build_seconds": round(build_seconds, 3),
    }
    LOGGER.info("index %s", entry)
    return index, entry


def _milliseconds(searches: tuple[Callable[[int], None], ...], num_queries: int) -> list[float]:
    """Median time of each way to search, query by query in turn."""
    rows = [round(row) for row in torch.linspace(0, num_queries - 1, min(_TIMED, num_queries)).tolist()]
    for row in rows[:3]:
        for search in searches:
            search(row)
    times: list[list[float]] = [[] for _ in searches]
    for row in rows:
        for search, of_search in zip(searches, times, strict=True):
            started = time.perf_counter()
            search(row)
            of_search.append(time.perf_counter() - started)
    return [round(1e3 * statistics.median(of_search), 4) for of_search in times]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Times are those of a process that answers one request on each core."""
    faiss = faiss_module()
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])


def _refusal(options: ExportOptions, entry: dict[str, Any]) -> str:
    return (
        f"`export.index={options.index}` must find {options.min_recall:g} of the {entry['recall_at']} best "
        f"items (`export.min_recall`); with {entry['settings']} it finds {entry['recall']:.4f} on "
        f"{entry['queries']} test requests; take another kind, `export.index=auto`, or ask for less"
    )


def _why_none(entries: list[dict[str, Any]], options: ExportOptions) -> str:
    parts = []
    for entry in entries:
        if entry["recall"] < options.min_recall:
            parts.append(f"`{entry['kind']}` finds {entry['recall']:.4f} of {options.min_recall:g}")
        else:
            ms, exact_ms = entry["ms_a_query"], entry["exact_ms_a_query"]
            parts.append(f"`{entry['kind']}` takes {ms:g} ms, exact search {exact_ms:g}")
    return "; ".join(parts)

"""Approximate top-k over a candidate matrix: a FAISS index, its settings, its recall against exact search.

Finds catalogue rows that are likely among the best; whoever searches then scores these rows exactly, which
settles their order and makes up for what a compressed index rounds off. Row 0 stands for the unknown item and
is in no index: what FAISS calls n is catalogue row n + 1.

Reference: Malkov, Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical
Navigable Small World graphs", 2016, arXiv 1603.09320. Jégou, Douze, Schmid, "Product Quantization for Nearest
Neighbor Search", PAMI 2011, section IV, for lists that are searched by their centroids; codes here are of a
byte a coordinate. Product quantizers take half the memory and miss twice as much: of a million vectors of 64
and the 500 best of each query, 724 of 4000 lists hold .988; 32 codes of 8 bits find .916 of them in 3.9 ms, a
byte a coordinate .988 in 2.5 ms (built in 118 s and 55). Codes of 4 bits (FAISS's fast scan) are read four
times as fast, and need so many rows more that nothing is won.

Legend: D dimension of vectors, I catalogue rows, B queries, K cut-off, N rows that are found.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from recsys.retrieval.exact import top_k
from recsys.schema.disk import write_file
from recsys.schema.errors import InputError
from recsys.schema.jagged import JaggedColumn
from recsys.schema.progress import progress

IndexKind = Literal["hnsw", "ivf_sq8"]
_Counts = npt.NDArray[np.float64]

# Links of an item in a graph, and how many neighbours are looked at when they are chosen.
_LINKS = 32
_BUILD_EFFORT = 80
# FAISS wants so many vectors at least to train a centroid. More than the second number, and more rounds, cost
# minutes and find no more.
_TRAINED_ON = 39
_TRAINED_ON_MOST = 64
_TRAINING_ROUNDS = 10
# Items between two signs of progress.
_ADDED_AT_ONCE = 10_000
# Settings are tried in this order; the first is for lists of k.
_EFFORTS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
# Settings of lists between one number of them and twice as many.
_STEPS = 4
# To score rows here and there takes about so many times as long as to score as many in a row.
_GATHERING = 8.0
# Scores this near, relative to their size, count as equal.
_NEAR = 1e-5


@dataclasses.dataclass
class Index:
    """A FAISS index of the vectors of a catalogue, by inner product.

    Args:
        kind: `hnsw`, a graph over the vectors; `ivf_sq8`, vectors of a byte a coordinate in lists.
        searched: by FAISS.
        k: length of the lists that the settings are for; longer ones are searched for longer.
        settings: `ef_search`, how many candidates a search in a graph keeps; or `num_probes`, how many lists
            it reads.
        time_share: of a search, in that of an exact search for the same list; while it is 0, not yet
            measured, every search that can be is by the index.
    """

    kind: IndexKind
    searched: Any
    k: int
    settings: dict[str, int] = dataclasses.field(default_factory=dict)
    time_share: float = 0.0

    @property
    def num_items(self) -> int:
        """Items in the index; the unknown one is not."""
        return int(self.searched.ntotal)

    def near(
        self, query_D: torch.Tensor, k: int, *, excluded: torch.Tensor, allowed: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """Catalogue rows [N], ascending, that are likely to hold the k best; None where to search exactly.

        That is where few rows are allowed, where k is near the size of the catalogue, or where a search came
        back with fewer than k. A list from these rows is never shorter than it has to be.

        Args:
            query_D: [D].
            k: at least 1.
            excluded: catalogue rows that must not be found, repeats and 0 allowed.
            allowed: [I] bool, the rows that may be found; None for all.
        """
        gone = np.unique(excluded.numpy())
        gone = gone[gone > 0]
        share = 1.0 if allowed is None else int(allowed.sum()) / max(self.num_items, 1)
        wanted = k + len(gone)
        if k < 1 or wanted >= self.num_items or self._is_slow(wanted, share):
            return None
        effort = max(1.0, wanted / self.k) / share
        mask = None if allowed is None else allowed.numpy().copy()
        if mask is not None:
            mask[gone] = False
        rows = np.sort(self._search(query_D, wanted if mask is None else k, effort=effort, mask=mask))
        if mask is None and len(gone):
            rows = rows[gone[np.searchsorted(gone, rows).clip(max=len(gone) - 1)] != rows]
        return None if len(rows) < k else torch.from_numpy(rows)

    def add(self, vectors_ID: torch.Tensor) -> None:
        """Takes up the rows of the catalogue beyond those that are here."""
        self.searched.add(_floats(vectors_ID[1 + self.num_items :]))

    def save(self, path: Path) -> None:
        """Writes the index; kind and settings are for the manifest."""
        # FAISS's own writer says nothing of the file that a full disk refuses.
        write_file(path, faiss_module().serialize_index(self.searched).tobytes())

    def _is_slow(self, wanted: int, share: float) -> bool:
        """Whether an exact search of what is allowed is quicker."""
        if share <= 0:
            return True
        times = max(1.0, wanted / self.k) / share
        return times * min(self.time_share, 0.5) > min(1.0, _GATHERING * share)

    def _search(self, query_D: torch.Tensor, number: int, *, effort: float, mask: Any) -> Any:
        faiss = faiss_module()
        # NOTE: FAISS keeps no reference to the selector or its bits.
        bits = None if mask is None else np.packbits(mask[1:], bitorder="little")
        chosen = None if bits is None else faiss.IDSelectorBitmap(bits)
        if self.kind == "hnsw":
            effort = max(math.ceil(self.settings["ef_search"] * effort), number)
            parameters = faiss.SearchParametersHNSW(efSearch=min(effort, self.num_items), sel=chosen)
        else:
            probes = min(math.ceil(self.settings["num_probes"] * effort), self.searched.nlist)
            parameters = faiss.SearchParametersIVF(nprobe=probes, sel=chosen)
        _, places = self.searched.search(_floats(query_D[None]), number, params=parameters)
        return places[0][places[0] >= 0] + 1


def build(vectors_ID: torch.Tensor, kind: IndexKind, *, k: int) -> Index:
    """An index over the vectors of a catalogue, with the settings that search least.

    Args:
        vectors_ID: [I, D] float32; row 0 is left out.
        kind: see `Index`.
        k: length of the lists that it will be asked for.

    Raises:
        ValueError: FAISS is not installed, or there are too few vectors for the kind.
    """
    faiss = faiss_module()
    vectors = _floats(vectors_ID[1:])
    num_items, dim = vectors.shape
    if kind == "hnsw":
        searched = faiss.IndexHNSWFlat(dim, _LINKS, faiss.METRIC_INNER_PRODUCT)
        searched.hnsw.efConstruction = _BUILD_EFFORT
    else:
        num_lists = min(int(4 * math.sqrt(num_items)), num_items // _TRAINED_ON)
        if num_lists < 1:
            raise InputError(
                f"an index of kind `ivf_sq8` needs at least {_TRAINED_ON} items to learn from, got "
                f"{num_items}; take `hnsw` or `exact`"
            )
        lists, codes = faiss.IndexFlatIP(dim), faiss.ScalarQuantizer.QT_8bit
        searched = faiss.IndexIVFScalarQuantizer(lists, dim, num_lists, codes, faiss.METRIC_INNER_PRODUCT)
        searched.cp.niter, searched.cp.max_points_per_centroid = _TRAINING_ROUNDS, _TRAINED_ON_MOST
        searched.train(vectors)
    pieces = [vectors[begin : begin + _ADDED_AT_ONCE] for begin in range(0, num_items, _ADDED_AT_ONCE)]
    for piece in progress(pieces, f"index {kind} of {num_items:,} items"):
        searched.add(piece)
    index = Index(kind, searched, k=k)
    index.settings = next(iter(_settings(index)))
    return index


def load(path: Path, kind: IndexKind, *, k: int, settings: dict[str, int], time_share: float) -> Index:
    """The index that `Index.save` wrote; arguments as of `Index`.

    Raises:
        ValueError: FAISS is not installed.
    """
    return Index(kind, faiss_module().read_index(str(path)), k, dict(settings), time_share)


def settle(
    index: Index,
    vectors_ID: torch.Tensor,
    queries_BD: torch.Tensor,
    excluded: Sequence[torch.Tensor],
    *,
    min_recall: float,
    at: int | None = None,
) -> float:
    """Raises the settings of an index until it finds enough; the recall that it has then, or at best.

    Enough is what leaves the recall of other queries likely to be: the mean less its standard error.

    Args:
        index: its settings are changed.
        vectors_ID: [I, D] that it was built from.
        queries_BD: [B, D] to measure on.
        excluded: of each query, catalogue rows that it must not find.
        min_recall: what is enough.
        at: of the best so many, among the `index.k` rows of a search; of as many as it has when None.
    """
    best_BK = best_scores(vectors_ID, queries_BD, excluded, k=min(at or index.k, index.k))
    reached, best = 0.0, index.settings
    for settings in _settings(index):
        index.settings = settings
        hits_B, totals_B = _hits(index, vectors_ID, queries_BD, excluded, best_BK)
        recall = _share(hits_B, totals_B)
        if recall > reached:
            reached, best = recall, settings
        shares = hits_B[totals_B > 0] / totals_B[totals_B > 0]
        error = shares.std() / math.sqrt(len(shares)) if len(shares) else 0.0
        if recall - error >= min_recall:
            break
    index.settings = best
    return reached


def recall(
    index: Index,
    vectors_ID: torch.Tensor,
    queries_BD: torch.Tensor,
    excluded: Sequence[torch.Tensor],
    *,
    best_BK: torch.Tensor,
) -> float:
    """Share of the K best items that an index finds among its rows, of all queries; 1 when there are none.

    A found item counts when its exact score is that of the K-th best or higher, so that of items that score
    alike any will do. A query that had better be answered by exact search has found nothing by the index.

    Args:
        index: what is measured, at its settings.
        vectors_ID: [I, D].
        queries_BD: [B, D].
        excluded: by query.
        best_BK: [B, K] what exact search finds; see `best_scores`.
    """
    return _share(*_hits(index, vectors_ID, queries_BD, excluded, best_BK))


def _share(hits_B: _Counts, totals_B: _Counts) -> float:
    return float(hits_B.sum() / totals_B.sum()) if totals_B.sum() else 1.0


def _hits(
    index: Index,
    vectors_ID: torch.Tensor,
    queries_BD: torch.Tensor,
    excluded: Sequence[torch.Tensor],
    best_BK: torch.Tensor,
) -> tuple[_Counts, _Counts]:
    """Counts the best items of each query that the index finds, and all of them, [B] each."""
    hits_B, totals_B = np.zeros(len(best_BK)), np.zeros(len(best_BK))
    for query, (query_D, gone, best_K) in enumerate(zip(queries_BD, excluded, best_BK, strict=True)):
        expected = best_K[best_K > -math.inf]
        totals_B[query] = len(expected)
        rows = index.near(query_D, index.k, excluded=gone)
        if rows is not None and len(expected):
            least = expected[-1] - _NEAR * expected[-1].abs().clamp(min=1.0)
            hits_B[query] = min(int((vectors_ID[rows] @ query_D >= least).sum()), len(expected))
    return hits_B, totals_B


def best_scores(
    vectors_ID: torch.Tensor, queries_BD: torch.Tensor, excluded: Sequence[torch.Tensor], *, k: int
) -> torch.Tensor:
    """[B, K] scores of the k best items of each query by exact search, descending."""
    seen = JaggedColumn.of_lists([gone.tolist() for gone in excluded])
    return top_k(queries_BD, vectors_ID, k, seen=seen)[0]


def faiss_module() -> Any:
    """FAISS, which is an optional extra.

    Raises:
        ValueError: it is not installed.
    """
    # It says at every start which instructions this machine lacks. Setting a level empties what all loggers
    # remember, and every search asks for the module.
    loader = logging.getLogger("faiss.loader")
    if loader.level != logging.WARNING:
        loader.setLevel(logging.WARNING)
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            f"an index of the catalogue needs FAISS, which can't be imported ({error}); install it with "
            "`pip install faiss-cpu`, or the extra `faiss` of this package"
        ) from error
    return faiss


def _settings(index: Index) -> list[dict[str, int]]:
    """Settings of an index, from the one that searches least to the one that searches most."""
    if index.kind == "hnsw":
        efforts = dict.fromkeys(min(math.ceil(index.k * effort), index.num_items) for effort in _EFFORTS)
        return [{"ef_search": effort} for effort in efforts]
    num_lists = index.searched.nlist
    steps = range(math.ceil(_STEPS * math.log2(num_lists)))
    probes = dict.fromkeys([*(round(2 ** (step / _STEPS)) for step in steps), num_lists])
    return [{"num_probes": number} for number in probes]


def _floats(vectors: torch.Tensor) -> Any:
    return np.ascontiguousarray(vectors.detach().numpy(), dtype=np.float32)

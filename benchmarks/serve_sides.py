"""One process that recommends, one request at a time: how long each way takes, and where the time goes.

Run as `python -m benchmarks.serve_sides FOLDER BUNDLE RUN --items N --users N`, pinned to one core, it
prints JSON. With `--load SECONDS` it waits for a line on stdin, then asks the bundle alone as often as it
can; several of these make load.

Legend: N candidates.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.serve_world import CANDIDATES, HISTORY, LISTED, requests, stages

Request = dict[str, Any]
# TorchScript optimises in the first calls; and the first requests find nothing in the processor's caches.
_WARMUP = 50
PARTS = ("read request", "encode", "search", "read candidates", "embed", "rank", "list")


class Eager:
    """The trained models in Python, on batches that the collator makes of prepared rows.

    What a request gives of user and context is not read: the prepared values stand in for it.
    """

    def __init__(self, run: Path) -> None:
        from recsys.exporting.build import catalogue_vectors

        first, second = stages(run)
        dataset = first.dataset
        self.retrieval: Any = first.model
        self.ranking: Any = second.model
        self.catalogue = catalogue_vectors(self.retrieval, dataset)
        self.user_rows = {user: row for row, user in enumerate(dataset.user_ids.tolist())}
        self.item_ids = dataset.item_ids.tolist()
        self.item_rows = {item: row for row, item in enumerate(self.item_ids)}
        self.event = dataset.events("test").select(torch.zeros(1, dtype=torch.int64))
        self.collator = dataset.collator(HISTORY)

    @torch.no_grad()
    def recommend(self, request: Request) -> list[Any]:
        """Raw ids of the items to show."""
        from recsys.retrieval.exact import top_k
        from recsys.schema.jagged import JaggedColumn

        user_row = torch.tensor([self.user_rows.get(request["user"]["user_id"], 0)])
        seen = torch.tensor([self.item_rows.get(item, 0) for item in request["history"]])
        event = self.event.replace(user_rows=user_row)
        history = JaggedColumn.of_lengths(seen, torch.tensor([len(seen)]))
        vector = self.retrieval.encode_queries(self.collator.queries(event, history))
        _, rows = top_k(vector, self.catalogue, CANDIDATES, seen=history)
        of_each = torch.zeros(rows.numel(), dtype=torch.int64)
        events = event.select(of_each).replace(item_rows=rows[0])
        logits = self.ranking(self.collator.rows(events, history.at(of_each)))
        best = torch.sigmoid(logits).topk(LISTED).indices
        return [self.item_ids[row] for row in rows[0][best].tolist()]


class Served:
    """The bundle as a server calls it, and its parts one after the other."""

    def __init__(self, folder: Path) -> None:
        from recsys.serving.bundle import Bundle

        self.bundle = Bundle.open(folder, threads=1)
        self.program = self.bundle.program

    def recommend(self, request: Request) -> list[Any]:
        """Raw ids of the items to show."""
        user, history, context = request["user"], request["history"], request["context"]
        ids: list[Any] = self.bundle.recommend(user, history, LISTED, context)[0]
        return ids

    def nearest(self, vector: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Catalogue rows of the candidates, best first."""
        rows = None
        if self.bundle.index is not None:
            rows = self.bundle.index.near(vector, CANDIDATES, excluded=seen)
        retrieval = self.program.retrieval
        found: torch.Tensor = (
            retrieval.best(vector, seen, CANDIDATES, None)
            if rows is None
            else retrieval.best_among(vector, rows, seen, CANDIDATES)
        )[0]
        return found

    def parts(self, request: Request) -> list[float]:
        """Seconds of each of `PARTS`; what they leave of a request is its overhead."""
        clock = time.perf_counter
        retrieval, ranking = self.program.retrieval, self.program.ranking
        times = [clock()]
        past = retrieval.known.history_rows([request["history"]])
        bags, dense = retrieval.query_features([request["user"]], *past, [request["context"]])
        times.append(clock())
        embedded = retrieval.query_inputs.embed(bags, 1)
        events = retrieval.query.events((past, None, None, [request["context"]]), retrieval.candidates)
        vector = retrieval.query.forward(embedded, dense, events)[0]
        times.append(clock())
        rows = self.nearest(vector, past[0])
        times.append(clock())
        bags, dense = self.program.ranker_features(
            request["user"], request["context"], request["history"], rows
        )
        times.append(clock())
        embedded = ranking.network.inputs.embed(bags, dense.size(0))
        times.append(clock())
        probabilities = torch.sigmoid(ranking.network.head.forward(embedded, dense))
        times.append(clock())
        best = torch.sort(probabilities, stable=True, descending=True)[1][:LISTED]
        retrieval.item_ids.ids_of(rows[best])
        times.append(clock())
        return [later - earlier for earlier, later in itertools.pairwise(times)]


class Rankers:
    """The ranking model's arithmetic for the candidates of one request, by everything that can run it."""

    def __init__(self, served: Served, folder: Path, run: Path) -> None:
        from recsys.exporting.compiled import load_package
        from recsys.exporting.tasks.register import build_program, task_of

        second = stages(run)[1]
        program = build_program(second)
        package = task_of(second).package(program, second)
        self.served = served
        self.program = served.program
        self.arithmetic = package.module.eval()
        self.compiled = load_package(folder / package.file)
        self.session = onnx_session(package, folder / "ranking.onnx")

    def sides(self, request: Request) -> dict[str, Callable[[], object]]:
        """By name, the same arithmetic; what it reads is there already."""
        user, context, history = request["user"], request["context"], request["history"]
        past = self.program.retrieval.known.history_rows([history])
        vector = self.program.retrieval.encode_user(user, history, context)
        rows = self.served.nearest(vector, past[0])
        bags, dense = self.program.ranker_features(user, context, history, rows)
        tensors = self.program.inputs_of_candidates(user, context, history, rows)
        sides: dict[str, Callable[[], object]] = {
            "TorchScript": lambda: torch.sigmoid(self.program.ranking.main_logits(bags, dense)),
            "AOTInductor": lambda: self.compiled(tensors),
            "eager": lambda: self.arithmetic(tensors),
        }
        if self.session is not None:
            given = [*tensors, *owners_of(self.arithmetic.embedded, tensors)]
            names = [one.name for one in self.session.get_inputs()]
            arrays = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
            sides["ONNX Runtime"] = lambda: self.session.run(None, arrays)
        return sides


class SumsByOwner(nn.Module):
    """The arithmetic with bags as sums by owner: ONNX has none, and loops over them are 20 times as slow."""

    def __init__(self, arithmetic: Any) -> None:
        super().__init__()
        self.arithmetic = arithmetic

    def forward(self, tensors: list[torch.Tensor], owners: list[torch.Tensor]) -> torch.Tensor:
        """Probabilities [N]."""
        parts = self.arithmetic.embedded
        given, owner = parts.given(tensors), dict(zip(_bags(parts), owners, strict=True))
        embedded = {}
        for name, at, table in parts.lookups:
            rows = getattr(parts, f"weight_{table}")[given[at][0]]
            if at in owner:
                lengths = given[at][1]
                sums = torch.zeros(lengths.size(0), rows.size(1)).index_add(0, owner[at], rows)
                rows = sums / lengths.clamp(min=1)[:, None]
            embedded[name] = rows[tensors[1]] if parts.entries[at].is_of_request else rows
        answers: torch.Tensor = self.arithmetic.answers(self.arithmetic.head(embedded, tensors[0]))
        return answers


def _bags(parts: Any) -> list[int]:
    return [at for at, entry in enumerate(parts.entries) if entry.form != "rows"]


def owners_of(parts: Any, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Which bag each value belongs to, for every feature that has bags."""
    given = parts.given(tensors)
    return [torch.repeat_interleave(torch.arange(len(given[at][1])), given[at][1]) for at in _bags(parts)]


def onnx_session(package: Any, file: Path) -> Any:
    """The package's arithmetic in ONNX Runtime, with one thread; None where it is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "onnxscript")):
        print("  left out: ONNX Runtime; pip install -e '.[bench]'", file=sys.stderr)
        return None
    import onnxruntime

    from recsys.exporting.compiled import examples

    tensors = examples(package.inputs)
    parts = package.module.embedded
    owners = [torch.zeros_like(parts.given(tensors)[at][0]) for at in _bags(parts)]
    shapes = [
        {at: torch.export.Dim.DYNAMIC for at, size in enumerate(tensor.shape) if isinstance(size, str)}
        for tensor in package.inputs
    ]
    torch.onnx.export(
        SumsByOwner(package.module).eval(),
        (tensors, owners),
        file,
        dynamo=True,
        dynamic_shapes=(shapes, [{0: torch.export.Dim.DYNAMIC} for _ in owners]),
        verbose=False,
    )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, settings)


def timed(work: Callable[[Request], object], asked: Sequence[Request]) -> list[float]:
    """Milliseconds of each request."""
    found = []
    for request in asked:
        started = time.perf_counter()
        work(request)
        found.append(1000 * (time.perf_counter() - started))
    return found


def timed_rankers(rankers: Rankers, asked: Sequence[Request]) -> dict[str, list[float]]:
    """Milliseconds of each request's arithmetic, the sides taken in turn."""
    found: dict[str, list[float]] = {}
    for request in asked:
        for name, work in rankers.sides(request).items():
            started = time.perf_counter()
            work()
            found.setdefault(name, []).append(1000 * (time.perf_counter() - started))
    return found


def measured(served: Served, asked: argparse.Namespace, made: list[Request]) -> dict[str, Any]:
    """Milliseconds by side and round, of the rankers, and of the parts of a request."""
    eager, rankers = Eager(asked.run), Rankers(served, asked.bundle, asked.run)
    sides = {"bundle": served.recommend, "models in Python": eager.recommend}
    for request in made[:_WARMUP]:
        for recommend in sides.values():
            recommend(request)
        served.parts(request)
    timed_rankers(rankers, made[:_WARMUP])
    rounds = []
    for _ in range(asked.rounds):
        found = {name: timed(recommend, made) for name, recommend in sides.items()}
        found |= timed_rankers(rankers, made[: len(made) // 5])
        rounds.append(found)
    cpu = [_processor_milliseconds(served, request) for request in made]
    parts = [served.parts(request) for request in made]
    return {
        "rounds": rounds,
        "processor": cpu,
        "parts": {name: [1000 * row[at] for row in parts] for at, name in enumerate(PARTS)},
    }


def _processor_milliseconds(served: Served, request: Request) -> float:
    """Returns the processor time of a request, which other processes do not lengthen."""
    started = time.process_time()
    served.recommend(request)
    return 1000 * (time.process_time() - started)


def load(served: Served, seconds: float, made: list[Request]) -> dict[str, Any]:
    """Milliseconds of every request that was answered in `seconds`, from a line on stdin on."""
    for request in made[:_WARMUP]:
        served.recommend(request)
    print("ready", flush=True)
    sys.stdin.readline()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        found += timed(served.recommend, [made[len(found) % len(made)]])
    return {"milliseconds": found}


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_sides")
    parser.add_argument("folder", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("run", type=Path)
    for name in ("items", "users", "requests", "rounds", "core"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--load", type=float, help="seconds")
    asked = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[asked.core % len(cores)]})
    torch.set_num_threads(1)
    made = requests(asked.folder, items=asked.items, users=asked.users)[: asked.requests]
    served = Served(asked.bundle)
    found = load(served, asked.load, made) if asked.load else measured(served, asked, made)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

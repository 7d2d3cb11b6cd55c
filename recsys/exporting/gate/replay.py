"""Recorded requests and responses: made at export, replayed in a fresh process that has torch alone."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from recsys.exporting.compiled import load_package
from recsys.exporting.gate.composed import TwoStageRequest
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.gate.recorded import Record
from recsys.exporting.options import ExportOptions
from recsys.schema.disk import write_file
from recsys.schema.requests import REQUESTS

RESPONSES = "responses.json"
_TIMEOUT_SECONDS = 300
# Parts of an answer, by how many it has.
_NAMES = {
    2: ("item_ids", "scores"),
    4: ("item_ids", "probabilities", "retrieval_scores", "sources"),
}

# Replays a bundle: arguments are the .pt file, the recordings and the tolerance. Plain Python with torch and
# nothing else, and a meta path that refuses what a server would not have.
_REPLAY = """
import functools, json, os, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("recsys", "torchrec", "fbgemm_gpu", "fbgemm", "pytorch_lightning"):
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Refuse())
import torch
def flat(answer):
    if torch.is_tensor(answer):
        answer = answer.tolist()
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, (list, tuple)):
        return [part for element in answer for part in flat(element)]
    return [answer]
def same(a, b, tolerance):
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= tolerance * max(1.0, abs(a))
    return a == b
def method_of(program, name):
    return functools.reduce(getattr, name.split("."), program)
file, requests, responses, tolerance = sys.argv[1:]
program = torch.jit.load(file)
@functools.cache
def package(name):
    import torch._inductor
    return torch._inductor.aoti_load_package(os.path.join(os.path.dirname(file), name))
def answer(request):
    given = method_of(program, request["method"])(**request["arguments"])
    return package(request["package"])(given) if "package" in request else given
pairs = zip(json.load(open(requests)), json.load(open(responses)), strict=True)
for number, (request, response) in enumerate(pairs):
    given, expected = flat(answer(request)), flat(response)
    if len(given) != len(expected) or not all(same(a, b, float(tolerance)) for a, b in zip(expected, given)):
        sys.exit(f"request {number} ({request}) gives {given}, recorded was {expected}")
"""


def requests_of_lists(asked: list[list[TwoStageRequest]], options: ExportOptions) -> list[Record]:
    """About `export.recorded_requests` requests to two stages, of every way of asking and of spread lists."""
    each = -(-options.recorded_requests // (len(asked) + 1))
    chosen = [request.arguments for requests in asked for request in requests[:each]]
    return [
        *(request_to("recommend", **query, k=options.k) for query in chosen),
        *(request_to("recommend", **query, k=options.k, diversity=0.3) for query in chosen[:each]),
    ]


def request_to(method: str, **arguments: Any) -> Record:
    """A request as it is recorded."""
    return {"method": method, "arguments": arguments}


def record(program: Any, requests: list[Record], folder: Path) -> None:
    """Writes the requests and what `program` answers to them."""
    answers = [answer_of(program, request, folder) for request in requests]
    for name, content in ((REQUESTS, requests), (RESPONSES, answers)):
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
        write_file(folder / name, text + "\n")


def answer_of(program: Any, request: Record, folder: Path) -> Any:
    """Asks `program`, or a package in `folder`, and returns the answer as it is recorded."""
    method = functools.reduce(getattr, request["method"].split("."), program)
    answer = method(**request["arguments"])
    if "package" in request:
        answer = load_package(folder / request["package"])(answer)
    return _plain(answer)


def check_in_fresh_process(file: Path, *, tolerance: float) -> None:
    """Replays the recordings beside `file` in a new Python that has torch alone.

    Raises:
        ParityError: the file needs more than torch, or answers otherwise there.
    """
    arguments = [str(file), str(file.parent / REQUESTS), str(file.parent / RESPONSES), str(tolerance)]
    finished = run_python(_REPLAY, arguments)
    if finished.returncode:
        raise ParityError(
            f"`{file.name}` must load and answer with torch alone; in a fresh process it failed: "
            f"{finished.stderr.strip()[-2000:]}; nothing was written"
        )


def run_python(code: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs code in a new Python that sees neither the environment's settings nor the folder it is in."""
    return subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )


def _plain(answer: Any) -> Any:
    if isinstance(answer, torch.Tensor):
        return answer.tolist()
    if isinstance(answer, tuple):
        return dict(zip(_NAMES[len(answer)], answer, strict=True))
    return answer

"""Metrics of a server, in Prometheus' text format, added up over its processes."""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import json
import os
import resource
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recsys.schema.disk import write_file

# Seconds; each bucket counts what took at most so long.
_BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_STALE_SECONDS = 10.0
_HELP = {
    "recsys_requests_total": "Requests by route and status.",
    "recsys_lists_total": "Lists by policy, rung of the ladder and arm.",
    "recsys_events_total": "Events by kind.",
    "recsys_repeated_events_total": "Events that had been counted before.",
    "recsys_lost_lists_total": "Lists that were shown and could not be logged.",
    "recsys_refused_total": "Requests refused for overload.",
    "recsys_seconds": "Time by route, and by part of a list.",
    "recsys_policy_lists": "Lists by arm, else policy, since the log began.",
    "recsys_policy_reward": "Rewards of those lists.",
    "recsys_policy_regret": "By what was believed, how much more the best lists would have earned.",
    "recsys_log_lag": "Positions of the log that the state has not seen.",
    "recsys_log_bytes": "Size of the log.",
    "recsys_state_bytes": "Size of the state.",
    "recsys_memory_bytes": "Resident memory at its peak, of all processes.",
}


class Metrics:
    """Counters and histograms of this process, and those of the others, which it leaves beside it.

    Args:
        folder: where processes leave theirs for each other; None for one process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._counts: dict[str, float] = {}
        # By route, how many fell into each bucket, and the sum of all.
        self._times: dict[str, tuple[list[int], list[float]]] = {}
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Adds to a counter."""
        key = _labelled(name, *labels.items())
        self._counts[key] = self._counts.get(key, 0.0) + amount

    def took(self, seconds: float, /, *, route: str) -> None:
        """Adds to the histogram of times."""
        buckets, total = self._times.setdefault(route, ([0] * (len(_BUCKETS) + 1), [0.0]))
        buckets[bisect.bisect_left(_BUCKETS, seconds)] += 1
        total[0] += seconds

    def leave(self) -> None:
        """Writes this process's counts for the others."""
        if self._folder is not None:
            write_file(self._folder / f"{os.getpid()}.json", json.dumps(self._own()))

    def _own(self) -> dict[str, float]:
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {**self._counts, **self._histograms(), "recsys_memory_bytes": float(memory)}

    def _histograms(self) -> dict[str, float]:
        """Times as Prometheus counts them: each bucket holds those before it, too."""
        counts = {}
        for route, (buckets, total) in self._times.items():
            bounds = [*(f"{bound:g}" for bound in _BUCKETS), "+Inf"]
            sums = list(itertools.accumulate(buckets))
            for bound, number in zip(bounds, sums, strict=True):
                counts[labelled("recsys_seconds_bucket", {"le": bound, "route": route})] = float(number)
            counts[labelled("recsys_seconds_sum", {"route": route})] = total[0]
            counts[labelled("recsys_seconds_count", {"route": route})] = float(sums[-1])
        return counts

    def totals(self) -> dict[str, float]:
        """Counts of all processes that live."""
        totals = self._own()
        for path in self._folder.glob("*.json") if self._folder is not None else ():
            if path.stem == str(os.getpid()):
                continue
            with contextlib.suppress(OSError, ValueError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()
                    continue
                for key, value in json.loads(path.read_text()).items():
                    totals[key] = totals.get(key, 0.0) + value
        return totals

    def text(self, gauges: Mapping[str, float]) -> str:
        """All of it as Prometheus reads it.

        Args:
            gauges: what is measured now, by name.
        """
        return "\n".join([*_lines({**self.totals(), **gauges}), ""])


def labelled(name: str, labels: Mapping[str, str]) -> str:
    """Name of a figure with its labels, as Prometheus writes them."""
    return _labelled(name, *labels.items())


@functools.lru_cache(maxsize=1000)
def _labelled(name: str, *labels: tuple[str, str]) -> str:
    if not labels:
        return name
    inside = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels)
    return f"{name}{{{inside}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _lines(values: Mapping[str, Any]) -> Iterable[str]:
    described: set[str] = set()
    for key, value in sorted(values.items()):
        name = key.partition("{")[0]
        family = name
        for suffix in ("_bucket", "_sum", "_count"):
            family = family.removesuffix(suffix)
        if family not in described:
            described.add(family)
            kind = "histogram" if family != name else "counter" if name.endswith("_total") else "gauge"
            yield f"# HELP {family} {_HELP.get(family, '')}"
            yield f"# TYPE {family} {kind}"
        yield f"{key} {value:.17g}"

"""Runs benchmarks: `python -m benchmarks [NAME ...] [--repeats N] [--toy]`, `make bench ARGS="NAME ..."`."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from benchmarks.harness import PRECISIONS, SPINNING, Settings, report

NAMES = (
    *(
        "train",
        "peak",
        "peers",
        "two_tower",
        "sequences",
        "top_k",
        "data",
        "memory",
        "prepare",
        "evaluation",
        "evaluation_parts",
    ),
    *("full_softmax", "serve", "startup", "growth", "recommend"),
)


def main() -> None:
    """Runs the benchmarks that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--repeats", type=int, default=5, help="rounds; the median of them is quoted")
    parser.add_argument("--cache", type=Path, default=Settings.cache, help="folder of generated data")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        default=[],
        help="rows a table, for train and peers; interactions, for prepare; items, for serve",
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="for train: this one alone")
    asked = parser.parse_args()
    for name in asked.names:
        if name not in NAMES:
            parser.error(f"there is no benchmark `{name}`; there are {', '.join(NAMES)}")
    settings = Settings(
        repeats=asked.repeats,
        cache=asked.cache.expanduser(),
        toy=asked.toy,
        rows=asked.rows,
        precisions=[asked.precision] if asked.precision else PRECISIONS,
    )
    os.environ.update(SPINNING)  # before torch is imported
    for name in asked.names or NAMES:
        figures = importlib.import_module(f"benchmarks.{name}").run(settings)
        report(name, figures, settings)


if __name__ == "__main__":
    main()

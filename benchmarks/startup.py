"""CPU time until `--help` is shown or a mistake is named, beside that of importing torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.harness import PROJECT, Figure, Settings

TORCH = ["-c", "import torch"]
SIDES = {
    "recsys --help": ["-m", "recsys", "--help"],
    "train.py --help": ["train.py", "--help"],
    "train.py --help data": ["train.py", "--help", "data"],
    "a mistyped key": ["train.py", "trainer.max_epoch=3"],
    "a mistyped value": ["train.py", "trainer.precision=fp17"],
    "a mistyped key of prepare": ["-m", "recsys", "prepare", "data.splt=random"],
    "evaluate.py --help": ["evaluate.py", "--help"],
    "export.py --help": ["export.py", "--help"],
    **{
        f"recsys {name} {word}": ["-m", "recsys", name, word]
        for name in ("serve", "log", "simulate", "recommend", "embed", "refresh")
        for word in ("--help", "folderr=x")
    },
    "a mistyped key of off-policy": ["-m", "recsys", "off-policy", "lg=x"],
}


def run(settings: Settings) -> list[Figure]:
    """A ratio of CPU times for each command; less than a half is wanted."""
    cpu_seconds(TORCH)  # from the disk into memory
    ratios: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(settings.repeats):
        for name, arguments in SIDES.items():
            ratios[name].append(cpu_seconds(arguments) / cpu_seconds(TORCH))
    return [Figure(name, values, target="below 0.5") for name, values in ratios.items()]


def cpu_seconds(arguments: Sequence[str]) -> float:
    """CPU time of a Python process, user and system."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], cwd=PROJECT, capture_output=True, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system

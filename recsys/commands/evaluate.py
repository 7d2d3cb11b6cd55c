"""Run + prepared dataset -> DIR/evaluation: python evaluate.py run=DIR, see python evaluate.py --help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.commands.backtest import backtest
from recsys.commands.entry import command
from recsys.commands.evaluation import evaluated
from recsys.commands.options import EvaluateConfig


@command("evaluate", EvaluateConfig, continues="run")
def main(config: EvaluateConfig, composed: dict[str, Any]) -> Path:
    """Judges a run, or recommendations made by anyone, on the test split, and compares it with others."""
    if config.evaluation is not None and config.evaluation.backtest is not None:
        return backtest(config, composed)
    return evaluated(config, composed)

"""Run + prepared dataset -> DIR/evaluation: python evaluate.py run=DIR, see python evaluate.py --help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.config.backtest import backtest
from recsys.config.evaluated import evaluated, judge_run
from recsys.config.options import EvaluateConfig


@command("evaluate", EvaluateConfig, continues="run")
def main(config: EvaluateConfig, composed: dict[str, Any]) -> Path:
    """Judges a run, or recommendations made by anyone, on the test split, and compares it with others."""
    if config.evaluation is not None and config.evaluation.backtest is not None:
        return backtest(config, composed, judge=judge_run)
    return evaluated(config, composed)

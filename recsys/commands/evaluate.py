"""Run + prepared dataset -> DIR/evaluation: python evaluate.py run=DIR, see python evaluate.py --help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command
from recsys.config.help import HelpTexts

if TYPE_CHECKING:
    from recsys.commands.options import EvaluateConfig

_HELP = HelpTexts(
    "python evaluate.py",
    keys=(
        "run",
        "recommendations",
        "runs",
        "against",
        "run_dir",
        "evaluation.k",
        "evaluation.queries",
        "evaluation.baselines",
        "evaluation.slices",
    ),
    example="run=runs/first against=[runs/second,ease] evaluation.k=[10,50]",
)


@command("evaluate", "recsys.commands.options.EvaluateConfig", continues="run", help_texts=_HELP)
def main(config: EvaluateConfig, composed: dict[str, Any]) -> Path:
    """Evaluates a run, or recommendations made by anyone, on the test split, and compares it with others."""
    from recsys.commands.backtest import backtest
    from recsys.commands.evaluation import evaluated

    if config.evaluation is not None and config.evaluation.backtest is not None:
        return backtest(config, composed)
    return evaluated(config, composed)

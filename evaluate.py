"""Run + prepared dataset -> DIR/evaluation: python evaluate.py run=DIR, see python evaluate.py --help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.doctor import importing

with importing():
    from recsys.config.backtest import backtest
    from recsys.config.command import command
    from recsys.config.options import EvaluateConfig
    from recsys.config.trained import open_trained
    from recsys.evaluation.evaluate import EvaluatedRun, evaluate_ranking, evaluate_retrieval


@command("evaluate", EvaluateConfig, continues="run")
def main(config: EvaluateConfig, composed: dict[str, Any]) -> Path:
    """Judges a trained model on the test split, or with a backtest ones trained anew over time."""
    if config.evaluation.backtest is not None:
        return backtest(config, composed, judge=judge)
    return judge(config, composed)


def judge(config: EvaluateConfig, composed: dict[str, Any]) -> Path:
    """Judges a trained model on the test split beside the baselines and writes tables and a report."""
    trained = open_trained(config)
    run = EvaluatedRun(trained.run.path, fingerprint=trained.run.manifest["fingerprint"], config=composed)
    history_length = config.data.history_length
    if trained.task == "retrieval":
        return evaluate_retrieval(
            trained.model, trained.dataset, config.evaluation, run=run, history_length=history_length
        )
    return evaluate_ranking(
        trained.model,
        trained.dataset,
        config.evaluation,
        run=run,
        history_length=history_length,
        negatives_per_positive=config.data.negatives_per_positive,
    )


if __name__ == "__main__":
    main()

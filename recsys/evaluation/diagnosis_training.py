"""Rules about whether the model was trained long enough, or too long."""

from __future__ import annotations

from recsys.metrics.register import metric_label, metric_of
from recsys.report.findings import Finding, Results, run_path

# More than what validation varies by from epoch to epoch on MovieLens.
MEANT = 0.03
# A run that was best within its first third had little use for the rest.
EARLY = 1 / 3


def _underfitted(results: Results) -> Finding | None:
    """Training ended while validation was still getting better."""
    gains = _validated(results)
    if gains is None:
        return None
    better = gains[-1] - max(gains[:-1])
    if better <= 0 or better < MEANT * abs(gains[-1]):
        return None
    training = results["training"]
    key, epochs = training["monitor"], training["epochs"]
    return Finding(
        "medium",
        f"Validation {metric_label(key)} was still getting better when training ended after epoch "
        f"{epochs[-1]}: the model is judged before it has learned what it can.",
        {"epochs": epochs[-1], "validation": training["validation"][key][-2:]},
        f"python train.py resume={run_path(results)} trainer.max_epochs={2 * epochs[-1]}",
    )


def _overfitted(results: Results) -> Finding | None:
    """Validation got worse while the loss on train went on falling."""
    gains = _validated(results)
    if gains is None:
        return None
    training = results["training"]
    best = max(range(len(gains)), key=lambda place: gains[place])
    losses, epochs = training["train_loss"], training["epochs"]
    worse = gains[best] - gains[-1]
    still_falls = None not in (losses[best], losses[-1]) and losses[-1] < losses[best]
    if not still_falls or worse <= 0 or worse < MEANT * abs(gains[best]):
        return None
    is_early = (best + 1) / len(gains) <= EARLY
    key = training["monitor"]
    return Finding(
        "medium" if is_early else "info",
        f"Validation {metric_label(key)} was best after epoch {epochs[best]} of {epochs[-1]} and then got "
        "worse while the loss on train fell. The best checkpoint is the one judged"
        + ("; so early a best one asks for regularisation or a smaller step." if is_early else "."),
        {
            "best_epoch": epochs[best],
            "epochs": epochs[-1],
            "validation": [training["validation"][key][place] for place in (best, -1)],
            "train_loss": [losses[best], losses[-1]],
        },
        f"tensorboard --logdir {run_path(results, 'tensorboard')}",
    )


def _validated(results: Results) -> list[float] | None:
    """The monitored validation metric by epoch, turned so that more is better; None with fewer than two."""
    training = results.get("training")
    values = (training or {}).get("validation", {}).get((training or {}).get("monitor"))
    if not values or len(values) < 2 or None in values:
        return None
    sign = metric_of(results["training"]["monitor"]).sign
    return [sign * value for value in values]


RULES = (_underfitted, _overfitted)

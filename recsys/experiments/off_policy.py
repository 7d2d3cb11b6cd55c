"""judge_policy: a log and a target policy -> what the target would have earned, by several estimators."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from recsys.bandits import estimators
from recsys.bandits.cascade import cascade_doubly_robust, cascade_weights, reward_interaction
from recsys.bandits.estimates import Estimate, Floats, difference
from recsys.bandits.feedback import LoggedFeedback
from recsys.bandits.policies import examined_items, never_logged_share
from recsys.bandits.reward_models import fit_reward_model
from recsys.experiments.feedback import FeedbackColumns, ReadLog, read_feedback
from recsys.experiments.findings import Findings, LogStudy, figure_of, outcome_of, write_findings
from recsys.experiments.policy_page import (
    NAMES,
    SURE_OF_MODEL,
    parts_of,
    sentence_of,
    warnings_of,
)
from recsys.experiments.position_bias import read_examination
from recsys.experiments.tables import numbers_of
from recsys.experiments.targets import Target, read_target
from recsys.schema.errors import InputError
from recsys.schema.tables import PROPENSITY_GIVEN_ABOVE

Estimator = Literal[
    "replay",
    "inverse_propensity",
    "self_normalised",
    "clipped",
    "direct_method",
    "doubly_robust",
    "switch",
    "reward_interaction",
    "cascade_doubly_robust",
]


@dataclasses.dataclass(frozen=True)
class OffPolicyConfig(LogStudy):
    """Every key of `recsys off-policy`.

    Args:
        log: the LoggedFeedback table.
        policy: the target: `uniform`, a column of the log, or a table; see
            `recsys.experiments.targets`.
        columns: what the log's columns are called.
        policy_given_above: column of the log with the target's probability of the row given those above it
            in its list; with it, and the log's own in `propensity_given_above`, lists are judged as cascades.
        examination: a position_bias station, or a table of position and examination: items count wherever
            they are examined, and the propensity is that of being in the list at all. Null: an item counts
            in its position.
        main: the estimator of the sentence; null takes doubly_robust where it can be had, else
            self_normalised.
        ceiling: weight at which `clipped` cuts off and beyond which `switch` trusts the model; null: the
            root of the number of rows.
        max_unsupported: share of the target's probability that may fall on what the log does not show.
        num_folds: of the reward model.
        seed: of the folds.
    """

    policy: str
    columns: FeedbackColumns = dataclasses.field(default_factory=FeedbackColumns)
    policy_given_above: str | None = None
    examination: Path | None = None
    main: Estimator | None = None
    ceiling: float | None = None
    max_unsupported: float = 0.05
    num_folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_unsupported < 1:
            raise InputError(f"`max_unsupported` must lie in [0, 1), got {self.max_unsupported}")
        if self.ceiling is not None and not self.ceiling > 0:
            raise InputError(f"`ceiling` must be above 0, got {self.ceiling}")


def judge_policy(config: OffPolicyConfig, composed: Mapping[str, Any]) -> Path:
    """Writes the station and returns its folder.

    Raises:
        ValueError: the log or the policy cannot be used, or they do not overlap.
    """
    further = [config.policy, PROPENSITY_GIVEN_ABOVE]
    further += [config.policy_given_above] if config.policy_given_above else []
    log = read_feedback(config.log, config.columns, further=further)
    target = read_target(config.policy, log, config.columns)
    feedback, target = _as_examined(log.feedback, target, config)
    weights_N = estimators.importance_weights(feedback, target.probabilities_N)
    _check_support(feedback, target, config)
    mass = estimators.check_overlap(feedback, weights_N, max_unsupported=config.max_unsupported)
    made, left_out = _estimates(feedback, target, weights_N=weights_N, config=config)
    if config.policy_given_above is not None:
        made |= _cascades(log, config.policy_given_above)
    main = config.main or ("doubly_robust" if "doubly_robust" in made else "self_normalised")
    if main not in made:
        raise InputError(f"`main={main}` cannot be had: {left_out[main]}; choose one of {', '.join(made)}")
    findings = _findings(
        config, feedback, target=target, weights_N=weights_N, outcome=(made, left_out, main, mass)
    )
    return write_findings(
        "off_policy", findings, folder=config.folder, near=config.log.parent, config=composed
    )


def _as_examined(
    feedback: LoggedFeedback, target: Target, config: OffPolicyConfig
) -> tuple[LoggedFeedback, Target]:
    if config.examination is None:
        return feedback, target
    if target.policy is None:
        raise InputError(
            "`examination` needs to know where the target would show each item, which a column of the log "
            "does not say; give `policy` a table with positions"
        )
    seen, probabilities_N = examined_items(target.policy, feedback, read_examination(config.examination))
    return seen, dataclasses.replace(target, probabilities_N=probabilities_N)


def _check_support(feedback: LoggedFeedback, target: Target, config: OffPolicyConfig) -> None:
    if target.policy is None or config.examination is not None:
        return
    share = never_logged_share(target.policy, feedback)
    if share > config.max_unsupported:
        raise InputError(
            f"the target policy and {feedback.source} do not overlap: {share:.1%} of the target's "
            "probability is on "
            f"items that the log never shows in that position, expected at most {config.max_unsupported:.1%} "
            "(`max_unsupported`); log a policy that shows them, or judge a target without them"
        )


def _estimates(
    feedback: LoggedFeedback, target: Target, *, weights_N: Floats, config: OffPolicyConfig
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Every estimator that can be had, and why the others cannot."""
    ceiling = config.ceiling or estimators.default_ceiling(weights_N)
    made: dict[str, Estimate] = {}
    left_out: dict[str, str] = {}
    if estimators.is_uniform(feedback):
        made["replay"] = estimators.replay(feedback, target.probabilities_N)
    else:
        left_out["replay"] = "the log did not choose uniformly"
    made["inverse_propensity"] = estimators.inverse_propensity(feedback, weights_N)
    made["self_normalised"] = estimators.self_normalised(feedback, weights_N)
    made["clipped"] = estimators.clipped(feedback, weights_N, ceiling=ceiling)
    if target.policy is None or feedback.num_clusters < 2:
        reason = (
            "the target's probabilities of all items are not known"
            if target.policy is None
            else "the log has a single user"
        )
        return made, left_out | dict.fromkeys(("direct_method", "doubly_robust", "switch"), reason)
    model = fit_reward_model(feedback, num_folds=config.num_folds, seed=config.seed)
    expected_N, predicted_N = model.expected(target.policy), model.predicted()
    moved_U = model.moved_by_unit(target.policy)
    made["direct_method"] = estimators.direct_method(feedback, expected_N, moved_U=moved_U)
    robust: Callable[..., Estimate] = estimators.doubly_robust
    beside = {"expected_N": expected_N, "predicted_N": predicted_N}
    made["doubly_robust"] = robust(feedback, weights_N, **beside)
    made["switch"] = robust(feedback, weights_N, **beside, ceiling=ceiling)
    return made, left_out


def _cascades(log: ReadLog, column: str) -> dict[str, Estimate]:
    """Estimates for lists that are read from the top."""
    for name in (column, PROPENSITY_GIVEN_ABOVE):
        if name not in log.table.column_names:
            raise InputError(
                f"`policy_given_above={column}`: expected the columns `{column}` and "
                f"`{PROPENSITY_GIVEN_ABOVE}` in {log.feedback.source}, found no `{name}`; "
                "`recsys log` writes both"
            )
    given_above_N, target_N = (
        numbers_of(log.table, name, key="log") for name in (PROPENSITY_GIVEN_ABOVE, column)
    )
    weights_N = cascade_weights(log.feedback, given_above_N, target_N)
    return {
        "reward_interaction": reward_interaction(log.feedback, weights_N),
        "cascade_doubly_robust": cascade_doubly_robust(log.feedback, weights_N),
    }


def _findings(
    config: OffPolicyConfig,
    feedback: LoggedFeedback,
    *,
    target: Target,
    weights_N: Floats,
    outcome: tuple[dict[str, Estimate], dict[str, str], str, Estimate],
) -> Findings:
    made, left_out, main, mass = outcome
    logged = estimators.on_policy(feedback)
    gain = difference(made[main], logged)
    effective = estimators.effective_sample_size(weights_N)
    rows = {name: _row(made[name], logged, config.confidence) for name in NAMES if name in made}
    off = difference(made["direct_method"], made["doubly_robust"]) if "doubly_robust" in made else None
    figures: dict[str, Any] = {
        "log": str(config.log),
        "policy": target.description,
        "counts": {
            "rows": len(weights_N),
            "requests": feedback.num_requests,
            "users": feedback.num_clusters,
            "items": int(feedback.items_N.max()) + 1,
        },
        "logged": figure_of(logged, config.confidence),
        "main": main,
        "confidence": config.confidence,
        "difference": figure_of(gain, config.confidence),
        "effective_sample_size": effective,
        "largest_weight": float(weights_N.max()),
        "matched_mass": figure_of(mass, config.confidence),
        "direct_beyond_robust": off and figure_of(off, SURE_OF_MODEL),
        "examination": config.examination and str(config.examination),
        "estimates": rows,
        "left_out": left_out,
    }
    table = pa.table(
        {
            "estimator": list(rows),
            **{key: [row[key] for row in rows.values()] for key in ("value", "standard_error", "difference")},
            "low": [row["interval"][0] if row["interval"] else None for row in rows.values()],
            "high": [row["interval"][1] if row["interval"] else None for row in rows.values()],
        }
    )
    return Findings(
        title=f"Off-policy estimate: {target.description}",
        sentence=sentence_of(figures),
        outcome=outcome_of(figures["difference"]["interval"]),
        warnings=warnings_of(figures),
        figures=figures,
        tables={"estimates": table},
        parts=parts_of(figures),
    )


def _row(estimate: Estimate, logged: Estimate, confidence: float) -> dict[str, Any]:
    gain = difference(estimate, logged)
    return {
        **figure_of(estimate, confidence),
        "standard_error": estimate.standard_error,
        "difference": gain.value,
        "difference_interval": gain.interval(confidence),
    }

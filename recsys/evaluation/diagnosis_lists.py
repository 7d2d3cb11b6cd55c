"""Rules about what is recommended, whoever asks, and about how probabilities are meant."""

from __future__ import annotations

from recsys.metrics.register import metric_label
from recsys.report.findings import (
    Finding,
    Results,
    at_main_cut_off,
    calibration_error,
    evaluate_again,
    measured,
    of_baseline,
    read_table,
)

# log2: what is recommended is twice as popular as what the user chose before.
HIGH_LIFT = 1.0
# Bits: as common as what popularity alone recommends, to within a third of its popularity.
LITTLE_NOVELTY = 0.4
# Two users' lists share more than half of their items.
LOW_PERSONALISATION = 0.5
# Items of a list are half as different from each other as those that popularity happens to put together.
LOW_DIVERSITY_RATIO = 0.5
# Every twentieth decision by a threshold or a price would be wrong.
CALIBRATION_ERROR, GRAVE_CALIBRATION_ERROR = 0.05, 0.1
# Sums of probabilities (expected clicks) that are off by a tenth.
RATIO_OFF = 0.1


def _popularity_driven(results: Results) -> Finding | None:
    """The lists hold more popular items than the users' own histories, or as popular ones as popularity."""
    lift_key, novelty_key = (at_main_cut_off(results, name) for name in ("popularity_lift", "novelty"))
    lift, novelty = measured(results, lift_key), measured(results, novelty_key)
    if not measured(results, results["main_metric"]):
        return None  # no accuracy that could lean on anything
    of_popular = of_baseline(results, "popularity", novelty_key)
    is_common = (
        None not in (novelty, of_popular) and novelty - of_popular < LITTLE_NOVELTY  # type: ignore[operator]
    )
    is_lifted = lift is not None and lift >= HIGH_LIFT
    if not is_common and not is_lifted:
        return None
    how = (
        f"what it recommends is {2**lift:.1f} times as popular as what its users chose before"
        if is_lifted and lift is not None
        else "what it recommends is about as common as what popularity recommends"
    )
    names = ("popularity_lift", "novelty", "long_tail", "coverage")
    figures = {key: measured(results, key) for key in (at_main_cut_off(results, name) for name in names)}
    return Finding(
        "high" if is_common and is_lifted else "medium",
        f"The model leans on popularity: {how}. Part of its accuracy is had for nothing, and offline tests "
        "reward it more than people do.",
        {key: value for key, value in figures.items() if value is not None}
        | ({f"{novelty_key} of popularity": of_popular} if of_popular is not None else {}),
        evaluate_again(results, "against=popularity"),
        (
            read_table(
                results, "recommendations.parquet", "print(t.item_id.value_counts(normalize=True).head(20))"
            ),
        ),
    )


def _lists_too_similar(results: Results) -> Finding | None:
    """Users get the same lists, or a list holds the same thing many times."""
    alike_key, diversity_key = (
        at_main_cut_off(results, name) for name in ("personalisation", "diversity_content")
    )
    personal, diversity = measured(results, alike_key), measured(results, diversity_key)
    popular = of_baseline(results, "popularity", diversity_key)
    evidence, said = {}, []
    if personal is not None and personal < LOW_PERSONALISATION:
        said.append(f"the lists of two users share {1 - personal:.0%} of their items")
        evidence[alike_key] = personal
    if diversity is not None and popular and diversity < LOW_DIVERSITY_RATIO * popular:
        said.append(f"items of a list differ {diversity / popular:.0%} as much as popularity's do")
        evidence |= {diversity_key: diversity, f"{diversity_key} of popularity": popular}
    if not said:
        return None
    k = results["main_metric"].partition("@")[2]
    return Finding(
        "medium",
        f"Lists are too similar: {', and '.join(said)}.",
        evidence,
        read_table(
            results,
            "recommendations.parquet",
            f"print(t[t['rank'] <= {k}].item_id.value_counts(normalize=True).head(20))",
        ),
    )


def _miscalibrated(results: Results) -> Finding | None:
    """Predicted probabilities are not the shares that are observed."""
    if results["task"] != "ranking":
        return None
    error, ratio = calibration_error(results), measured(results, "predicted_over_observed")
    is_off = error is not None and error >= CALIBRATION_ERROR and not _within_chance(results)
    is_shifted = ratio is not None and abs(ratio - 1) >= RATIO_OFF
    if not is_off and not is_shifted:
        return None
    said = []
    if is_off:
        said.append(f"a probability is off by {error:.3f} in the mean")
    if is_shifted and ratio is not None:
        said.append(f"{ratio:.2f} times as many positives are predicted as happen")
    is_grave = error is not None and error >= GRAVE_CALIBRATION_ERROR
    return Finding(
        "high" if is_grave else "medium",
        f"Probabilities are not to be taken at their word: {', and '.join(said)}. Order by them, but do not "
        "multiply them with prices or compare them with thresholds.",
        {metric_label("calibration_error"): error, metric_label("predicted_over_observed"): ratio},
        read_table(
            results,
            "predictions.parquet",
            "print(t.groupby((t.probability * 20).astype(int))[['probability', 'label']].mean())",
        ),
    )


def _within_chance(results: Results) -> bool:
    """Whether every bin's interval, where all have one, holds what was predicted."""
    bins = results.get("reliability") or []
    bounds = [(row.get("low"), row["predicted"], row.get("high")) for row in bins]
    return all(None not in bound and bound[0] <= bound[1] <= bound[2] for bound in bounds)


RULES = (_popularity_driven, _lists_too_similar, _miscalibrated)

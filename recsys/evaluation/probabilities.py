"""Figures of predicted probabilities, with the resamples behind them.

Legend: N rows, U users, R resamples, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.evaluation.summary import Bootstrap, Figures
from recsys.metrics.classification import (
    auc,
    calibration_error,
    gauc,
    label_entropy,
    normalised_entropy,
    pr_auc,
    predicted_over_observed,
    reliability,
    reliability_bins,
    row_log_loss,
    user_auc,
)
from recsys.metrics.impressions import impression_metrics
from recsys.metrics.intervals import Samples, sum_by_user
from recsys.metrics.quotients import quotient
from recsys.schema import tables

RELIABILITY_BINS = 10

Rows = npt.NDArray[Any]


def figures_of(
    bootstrap: Bootstrap,
    labels_N: Rows,
    probabilities_N: Rows,
    *,
    mask: npt.NDArray[np.bool_] | None = None,
    impressions_N: Rows | None = None,
) -> Figures:
    """Every metric of these rows; no AUC, PR-AUC and normalised entropy where they are all of one class.

    Args:
        bootstrap: of all rows.
        labels_N: [N] 0 or 1.
        probabilities_N: [N] predicted probabilities.
        mask: [N] which rows count; all when None.
        impressions_N: [N] what was shown together has the same; None where nobody asked.
    """
    users_N = bootstrap.users_N
    if mask is not None:
        labels_N, probabilities_N, users_N = labels_N[mask], probabilities_N[mask], users_N[mask]
        impressions_N = None if impressions_N is None else impressions_N[mask]
    losses_N = row_log_loss(labels_N, probabilities_N)
    values = {"log_loss": float(losses_N.mean())}
    samples = _calibration_samples(bootstrap, labels_N, probabilities_N, users_N=users_N)
    if 0 < labels_N.sum() < len(labels_N):
        values |= {"auc": auc(labels_N, probabilities_N), "pr_auc": pr_auc(labels_N, probabilities_N)}
        areas = bootstrap.auc_samples(labels_N, probabilities_N, users_N=users_N)
        samples |= {"auc": areas[0], "pr_auc": areas[1]}
        values["normalised_entropy"] = normalised_entropy(labels_N, probabilities_N)
    users_U, auc_U, num_rows_U = user_auc(labels_N, probabilities_N, users_N)
    if len(users_U):
        values["gauc"] = gauc(labels_N, probabilities_N, users_N)
        samples["gauc"] = bootstrap.weighted_samples(auc_U, num_rows_U, users_U=users_U)
    values["calibration_error"] = calibration_error(labels_N, probabilities_N, num_bins=RELIABILITY_BINS)
    if labels_N.any():
        values["predicted_over_observed"] = predicted_over_observed(labels_N, probabilities_N)
    order = [key for key in _ORDER if key in values]
    figures = Figures({key: values[key] for key in order}, {key: samples[key] for key in order})
    if impressions_N is not None:
        shown = _by_impression(bootstrap, labels_N, probabilities_N, impressions_N, users_N=users_N)
        figures.values.update(shown.values)
        figures.samples.update(shown.samples)
    return figures


_ORDER = (
    "auc",
    "gauc",
    "pr_auc",
    "log_loss",
    "normalised_entropy",
    "calibration_error",
    "predicted_over_observed",
)


def _by_impression(
    bootstrap: Bootstrap, labels_N: Rows, probabilities_N: Rows, impressions_N: Rows, *, users_N: Rows
) -> Figures:
    """Means over the impressions with both classes of label; nothing where there is none."""
    impressions_G, values = impression_metrics(labels_N, probabilities_N, impressions_N)
    if not len(impressions_G):
        return Figures({}, {})
    found, first = np.unique(impressions_N, return_index=True)
    users_G = users_N[first[np.searchsorted(found, impressions_G)]]
    return bootstrap.means_of(values, users_N=users_G)


def _calibration_samples(
    bootstrap: Bootstrap, labels_N: Rows, probabilities_N: Rows, *, users_N: Rows
) -> dict[str, Samples]:
    """Resamples of all that is made of sums over rows.

    NOTE: those of the calibration error lie above its value on the whole: a resample has the chance of the
    rows and that of the draw. The bins are those of all rows.
    """
    bin_N = reliability_bins(probabilities_N, num_bins=RELIABILITY_BINS)
    in_bin_NB = bin_N[:, None] == np.arange(bin_N.max(initial=0) + 1)
    too_much_NB = in_bin_NB * (probabilities_N - labels_N)[:, None]
    losses_N = row_log_loss(labels_N, probabilities_N)
    sums_NM = np.column_stack([np.ones(len(labels_N)), losses_N, probabilities_N, labels_N, too_much_NB])
    sums_RM = bootstrap.sum_samples(sums_NM, users_N=users_N)
    rows_R, losses_R, predicted_R, positives_R = sums_RM[:, :4].T
    return {
        "log_loss": quotient(losses_R, rows_R),
        "normalised_entropy": quotient(losses_R, rows_R * label_entropy(quotient(positives_R, rows_R))),
        "predicted_over_observed": quotient(predicted_R, positives_R),
        "calibration_error": quotient(np.abs(sums_RM[:, 4:]).sum(axis=1), rows_R),
    }


def reliability_of(
    bootstrap: Bootstrap, labels_N: Rows, probabilities_N: Rows, *, num_bins: int
) -> list[dict[str, float | None]]:
    """`{predicted, observed, rows, low, high}` of each bin by probability; the interval is of `observed`."""
    bins = reliability(labels_N, probabilities_N, num_bins=num_bins)
    bin_N = reliability_bins(probabilities_N, num_bins=num_bins)
    in_bin_NB = bin_N[:, None] == np.arange(len(bins[0]))
    sums_NM = np.column_stack([in_bin_NB * labels_N[:, None], in_bin_NB])
    sums_RM = bootstrap.sum_samples(sums_NM, users_N=bootstrap.users_N)
    curve = []
    for number, (predicted, observed, rows) in enumerate(zip(*(part.tolist() for part in bins), strict=True)):
        samples_R = quotient(sums_RM[:, number], sums_RM[:, len(bins[0]) + number])
        low, high = bootstrap.interval(samples_R) or (None, None)
        curve.append({"predicted": predicted, "observed": observed, "rows": rows, "low": low, "high": high})
    return curve


def users_table(
    user_ids: pa.ChunkedArray, labels_N: Rows, probabilities_N: Rows, *, values: Mapping[str, Rows]
) -> pa.Table:
    """A row per user: how many rows and positives, what was predicted, each metric's mean, and her AUC.

    Args:
        user_ids: [N] as in the raw table.
        labels_N: [N] 0 or 1.
        probabilities_N: [N] predicted probabilities.
        values: [N] for each metric that has a value per row.

    Returns:
        `user_id`, `rows`, `positives`, `predicted` (sum of the probabilities), `auc` (null without both
        classes), and the metrics.
    """
    encoded = user_ids.combine_chunks().dictionary_encode()
    users_N = encoded.indices.to_numpy()
    num_users = len(encoded.dictionary)
    columns = np.column_stack([labels_N, probabilities_N, *values.values()])
    sums_UM = sum_by_user(columns, users_N, num_users=num_users)
    rows_U = np.bincount(users_N, minlength=num_users)
    auc_U = np.full(num_users, np.nan)
    of_users, known_auc_U, _ = user_auc(labels_N, probabilities_N, users_N)
    auc_U[of_users] = known_auc_U
    return pa.table(
        {
            tables.USER_ID: encoded.dictionary,
            "rows": pa.array(rows_U),
            "positives": pa.array(sums_UM[:, 0].astype(np.int64)),
            "predicted": pa.array(sums_UM[:, 1]),
            "auc": pa.array(auc_U, from_pandas=True),
            **{key: pa.array(sums_UM[:, 2 + place] / rows_U) for place, key in enumerate(values)},
        }
    )

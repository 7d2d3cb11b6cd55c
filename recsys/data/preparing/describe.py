"""describe: what the manifest of a prepared dataset says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys.data.options import DataOptions
from recsys.data.preparing.interactions import Interactions
from recsys.data.preparing.leakage import Checks
from recsys.data.preparing.raw_data import RawData
from recsys.data.preparing.splits import SplitEvents
from recsys.data.reading.instants import iso


def describe(
    options: DataOptions,
    raw: RawData,
    interactions: Interactions,
    *,
    divided: SplitEvents,
    counts: Mapping[str, Any],
    leakage: Checks,
) -> dict[str, Any]:
    """The manifest's part on the data: split, types of the raw columns, label, counts and leakage checks."""
    time = interactions.time
    return {
        "name": options.name,
        "split": _split(options, interactions, divided, leakage),
        "timestamp": {"kind": time.kind if time else None, "unit": time.unit if time else None},
        "label": {
            "column": options.label.column,
            "positive_at_least": options.label.positive_at_least,
            "only_positives": counts["rows"] == counts["positives"],
        },
        "counts": dict(counts),
        "leakage": leakage,
        "id_types": dict(raw.id_types),
    }


def _split(
    options: DataOptions, interactions: Interactions, divided: SplitEvents, leakage: Checks
) -> dict[str, Any]:
    kind = options.split
    own_future = not leakage["train_before_test"]["passed"]
    boundaries = [
        {"raw": interactions.time.from_microseconds(instant), "iso": iso(instant)}
        for instant in divided.instants or ()
        if interactions.time
    ]
    return {
        "kind": kind,
        "fractions": list(options.split_fractions),
        "boundaries": boundaries,
        "seed": options.split_seed,
        "leaks": kind == "random" or (kind == "predefined" and interactions.time is not None and own_future),
        "tie_rule": (
            "of two events of a user at one instant, the one with the lower item_id is the earlier"
            if kind == "leave_last_out"
            else "events of a user at one instant do not see each other; rows are in the order of item_id"
        ),
    }

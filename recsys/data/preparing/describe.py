"""describe: what the manifest of a prepared dataset says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys.data.options import DataOptions
from recsys.data.preparing.leakage import Checks
from recsys.data.preparing.raw_data import RawData
from recsys.data.reading.instants import iso


def describe(
    options: DataOptions,
    data: RawData,
    *,
    instants: tuple[int, int] | None,
    counts: Mapping[str, Any],
    leakage: Checks,
) -> dict[str, Any]:
    """The manifest's part on the data: split, types of the raw columns, label, counts and leakage checks.

    Args:
        options: of the dataset.
        data: the raw tables, read.
        instants: at which validation and test begin, of a split by global time.
        counts: of rows, positives, users and items.
        leakage: what the checks say.
    """
    time, kind = data.interactions.time, options.split
    own_future = not leakage["train_before_test"]["passed"]
    return {
        "name": options.name,
        "split": {
            "kind": kind,
            "fractions": list(options.split_fractions),
            "boundaries": [
                {"raw": time.from_microseconds(instant), "iso": iso(instant)}
                for instant in instants or ()
                if time
            ],
            "seed": options.split_seed,
            "leaks": kind == "random" or (kind == "predefined" and time is not None and own_future),
            "tie_rule": (
                "of two events of a user at one instant, the one with the lower item_id is the earlier"
                if kind == "leave_last_out"
                else "events of a user at one instant do not see each other; rows are in the order of item_id"
            ),
        },
        "timestamp": {"kind": time.kind if time else None, "unit": time.unit if time else None},
        "label": {
            "column": options.label.column,
            "positive_at_least": options.label.positive_at_least,
            "only_positives": counts["rows"] == counts["positives"],
        },
        "counts": dict(counts),
        "leakage": leakage,
        "id_types": dict(data.id_types),
    }

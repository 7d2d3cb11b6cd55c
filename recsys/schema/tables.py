"""Column names of the tables that rooms exchange, and the check that a table has them."""

from __future__ import annotations

from pathlib import Path

# Interactions: one row an event, as preparing reads and writes it.
USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
# The same in microseconds since 1970 (UTC), beside a raw one; numbers of rows where there is none.
TIMESTAMP_US = "timestamp_us"
LABEL = "label"
# Before the name of an auxiliary label.
LABEL_PREFIX = "label."
POSITIVE = "positive"
USER_ROW = "user_row"
ITEM_ROW = "item_row"
# By the table of users or of items: the column of its ids; by that, the column of their rows.
ID_COLUMNS = {"users": USER_ID, "items": ITEM_ID}
ROW_COLUMNS = {USER_ID: USER_ROW, ITEM_ID: ITEM_ROW}
HISTORY_ROW = "history_row"
HISTORY_LENGTH = "history_length"
RAW_PREFIX = "raw."

# Recommendations: a row per recommended item, best first.
RANK = "rank"
SCORE = "score"
RECOMMENDATIONS = (USER_ID, TIMESTAMP, RANK, ITEM_ID, SCORE)

# Predictions of a ranking task: a row per test row.
PROBABILITY = "probability"
PREDICTIONS = (USER_ID, ITEM_ID, TIMESTAMP, LABEL, PROBABILITY)

# LoggedFeedback: a row per shown item, what was chosen and what came of it.
REQUEST_ID = "request_id"
POSITION = "position"
PROPENSITY = "propensity"
REWARD = "reward"
# The same, given the items above it in its list; what cascades need.
PROPENSITY_GIVEN_ABOVE = "propensity_given_above"
# Whether the policy of a row left something to chance; the log of one that did not judges no other.
JUDGES_OTHERS = "judges_others"
KEEP_PROBABILITY = "keep_probability"
LOGGED_FEEDBACK = (REQUEST_ID, TIMESTAMP, USER_ID, ITEM_ID, POSITION, PROPENSITY, REWARD)
# Of interleaved lists: whose pick an item is, `a` or `b`.
TEAM = "team"
# Of a pilot: which of its arms a user is in.
ARM = "arm"
# Of the curve of position bias: how likely a position is looked at, beside the first.
EXAMINATION = "examination"


def encoded_column(feature: str) -> str:
    """Column of users.parquet or items.parquet with an encoded feature; the bare names hold the raw ids.

    >>> encoded_column("age"), encoded_column("item_id")
    ('age', 'item_id_row')
    """
    return f"{feature}_row" if feature in (USER_ID, ITEM_ID) else feature


def vector_file(folder: Path, feature: str) -> Path:
    """File of a prepared dataset that holds the vectors of a feature, [users or items, size] float16."""
    return folder / "vectors" / f"{feature}.npy"

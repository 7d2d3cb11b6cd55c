"""What the model and every baseline made of each query or row, a table beside the figures of a station.

A column `system/metric` for each system: in a retrieval task the metrics at the main cut-off, a row a query;
in a ranking task `system/probability`, a row per row that was judged, drawn negatives included.

Legend: Q queries, N rows.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.data.events import Events
from recsys.data.queries import Queries
from recsys.evaluation.judging import Judged
from recsys.schema.tables import LABEL, PROBABILITY, TIMESTAMP, USER_ID

SYSTEMS = "systems.parquet"
MODEL = "model"


def retrieval_systems(
    queries: Queries, judged: Judged, baselines: Mapping[str, Judged | str], *, k: int
) -> pa.Table:
    """User, instant (microseconds) and metrics at k of each query, by system; baselines left out have none.

    Args:
        queries: Q of them.
        judged: the model.
        baselines: judged alike, or the reason why one could not be had.
        k: cut-off of the metrics.
    """
    systems = {MODEL: judged, **{name: one for name, one in baselines.items() if isinstance(one, Judged)}}
    columns = {
        f"{name}/{key}": values
        for name, one in systems.items()
        for key, values in one.values.items()
        if key.endswith(f"@{k}")
    }
    return pa.table(
        {
            USER_ID: pa.array(np.asarray(queries.user_ids).astype(str)),
            TIMESTAMP: pa.array(queries.timestamps_us),
            **{name: pa.array(values) for name, values in columns.items()},
        }
    )


def ranking_systems(
    events: Events, user_ids: pa.ChunkedArray, probabilities: Mapping[str, npt.NDArray[np.float64]]
) -> pa.Table:
    """User, instant (microseconds), label and probabilities of each row, by system.

    Args:
        events: N of them, the test rows first and then copies of all of them, as negatives are drawn.
        user_ids: of the test rows.
        probabilities: [N] by system.
    """
    users = np.asarray(user_ids.to_pylist()).astype(str)
    return pa.table(
        {
            USER_ID: pa.array(np.resize(users, len(events))),
            TIMESTAMP: pa.array(events.timestamps.numpy()),
            LABEL: pa.array(events.positives.numpy().astype(np.int8)),
            **{f"{name}/{PROBABILITY}": pa.array(values) for name, values in probabilities.items()},
        }
    )

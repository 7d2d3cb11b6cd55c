"""Ten million different ids: how much memory preparing them takes."""

import json
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

NUM_IDS = 10_000_000
# Of the process that prepares; measured 3.7 GiB for ids of text, see docs/explanation/reliability.md.
MOST_GIBIBYTES = 8
PREPARE = """
import json, resource, sys
from recsys.data.options import DataOptions, InteractionsTable
from recsys.data.prepare import prepare
table, cache = sys.argv[1:]
station = prepare(DataOptions(interactions=InteractionsTable(path=table), cache_dir=cache))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"station": str(station), "gibibytes": round(peak / 2**20, 2)}))
"""


@pytest.mark.slow
def test_ten_million_users_are_prepared_in_bounded_memory(tmp_path):
    """A row a user; the items are a hundred thousand."""
    draw = np.random.default_rng(0)
    numbers = draw.permutation(NUM_IDS)
    table = pa.table(
        {
            "user_id": pa.array(np.char.add("u", numbers.astype(str))),
            "item_id": draw.integers(100_000, size=NUM_IDS),
            "timestamp": 1_700_000_000 + draw.integers(8_640_000, size=NUM_IDS),
        }
    )
    pq.write_table(table, tmp_path / "events.parquet")
    del table
    started = time.monotonic()
    command = [sys.executable, "-c", PREPARE, str(tmp_path / "events.parquet"), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    users = pq.read_metadata(f"{found['station']}/users.parquet").num_rows
    print({**found, "users": users, "seconds": round(time.monotonic() - started)})
    # Users of validation and test alone are known to nobody.
    assert users > 0.7 * NUM_IDS
    assert found["gibibytes"] < MOST_GIBIBYTES

"""Spark prepares a table that the driver's memory could not hold."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.preparing import manifest_of

pytestmark = pytest.mark.slow
pytest.importorskip("pyspark", reason="pip install 'recsys[spark]'")

ROWS, WIDTH = 300_000, 4096
OPTIONS = "{master: 'local-cluster[1,1,3072]', spark.driver.memory: 1g, sql.shuffle.partitions: 8}"


def test_a_table_beyond_the_drivers_memory_is_prepared(tmp_path):
    rng = np.random.default_rng(0)
    notes = pa.array([f"{number:03d}" * (WIDTH // 3) for number in range(200)])
    table = {
        "user_id": rng.integers(5000, size=ROWS),
        "item_id": rng.integers(2000, size=ROWS),
        "timestamp": 1_600_000_000 + rng.permutation(ROWS) * 60,
        "note": pa.DictionaryArray.from_arrays(pa.array(rng.integers(200, size=ROWS)), notes),
    }
    pq.write_table(pa.table(table), tmp_path / "events.parquet", row_group_size=20_000)
    command = [
        *(sys.executable, "-m", "recsys", "prepare", "data=table", f"data.cache_dir={tmp_path / 'cache'}"),
        f"data.interactions.path={tmp_path / 'events.parquet'}",
        "data.interactions.features={note: {kind: id}}",
        *("data.engine=spark", f"data.engine_options={OPTIONS}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    [station] = (tmp_path / "cache" / "prepared").glob("table-*")
    counts = manifest_of(station)["counts"]
    assert counts["users"] == 5000
    assert sum(counts["rows"].values()) == ROWS

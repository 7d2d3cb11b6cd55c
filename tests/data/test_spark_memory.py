"""A table larger than the driver's memory is prepared on Spark: nobody collects it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
ROWS, PART, USERS, ITEMS = 6_000_000, 1_000_000, 20_000, 2_000
DRIVER_BYTES = 2**30


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Interactions whose ids are long texts: more than the driver holds once they are read."""
    folder = tmp_path_factory.mktemp("raw") / "events"
    folder.mkdir()
    users, items = (
        pa.array([f"{kind}-{number:0100d}" for number in range(count)])
        for kind, count in (("user", USERS), ("item", ITEMS))
    )
    size = 0
    for first in range(0, ROWS, PART):
        random = np.random.default_rng(first)
        rows = pa.table(
            {
                "user_id": users.take(pa.array(random.integers(0, USERS, PART))),
                "item_id": items.take(pa.array(random.integers(0, ITEMS, PART))),
                "rating": random.integers(1, 6, PART).astype(np.int8),
                "timestamp": 1_500_000_000 + first + np.arange(PART),
            }
        )
        size += rows.nbytes
        pq.write_table(rows, folder / f"{first}.parquet")
    assert size > DRIVER_BYTES
    return folder


@pytest.mark.slow
def test_driver_of_a_gigabyte_prepares_a_table_beyond_it(table, tmp_path):
    pytest.importorskip("pyspark", reason="pip install 'recsys[spark]'")
    command = [
        *(sys.executable, "-m", "recsys", "prepare", "data=table", f"data.cache_dir={tmp_path}"),
        *(f"data.interactions.path={table}", "data.interactions.features={}", "data.split=global_time"),
        *("data.label={column:rating,positive_at_least:4}", "data.engine=spark"),
        "data.engine_options={master:'local[2]',driver.memory:1g}",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    station = Path(process.stdout.read().splitlines()[-1])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    rows = sum(
        pq.read_metadata(file).num_rows
        for split in ("train", "validation", "test")
        for file in (station / split).glob("*.parquet")
    )
    assert rows == ROWS
    print(f"peak of driver, workers or JVM: {usage.ru_maxrss / 2**20:.2f} GiB, {usage.ru_utime:.0f} s CPU")

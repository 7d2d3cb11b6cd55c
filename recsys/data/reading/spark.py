"""SparkEngine: runs the Ibis expressions of preparing on Spark.

The expressions are those that DuckDB runs; what Spark writes otherwise (dates by a format, MD5 as a number)
is defined here under the names of `recsys.data.reading.functions`. What is kept or read in order is written
by the cluster to the scratch folder in parts, and the driver reads a batch at a time: all must see it.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlparse

import duckdb
import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recsys.data.reading.engine import ROW_GROUP_ROWS, Engine
from recsys.data.reading.functions import DEFINITIONS, ESCAPED, QUOTES, TWO_ARGUMENTS
from recsys.schema.errors import InputError

LOGGER = logging.getLogger(__name__)

# What preparing relies on; `data.engine_options` may not change it.
_FIXED = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
}
# Of one machine; `data.engine_options` says otherwise.
_USUAL = {
    "spark.master": "local[*]",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "8",
    "spark.log.level": "ERROR",
}
# DuckDB hands rows on in vectors of 2,048; batches of the same size make the same row groups.
_BATCH_ROWS = -(-ROW_GROUP_ROWS // 2048) * 2048

_IN_SQL = {
    "recsys_floor(x DOUBLE) RETURNS DOUBLE": (
        "CASE WHEN abs(x) < 9007199254740992D THEN CAST(floor(x) AS DOUBLE) ELSE x END"
    ),
    "recsys_epoch_us(x TIMESTAMP) RETURNS BIGINT": "unix_micros(x)",
    "recsys_iso_text(x BIGINT) RETURNS STRING": (
        "concat(substr(CAST(timestamp_micros(x) AS STRING), 1, 10), "
        "date_format(timestamp_micros(x), \"'T'HH:mm:ss.SSSSSS'Z'\"))"
    ),
    "recsys_instant_text(x BIGINT) RETURNS STRING": "CAST(timestamp_micros(x) AS STRING)",
    "recsys_first_groups(x STRING, y STRING) RETURNS STRING": "regexp_replace(x, y, '$1')",
    "recsys_elements(x STRING, y STRING) RETURNS ARRAY<STRING>": (
        "transform(regexp_extract_all(x, y, 0), "
        f"e -> regexp_replace(regexp_replace(e, r'{QUOTES}', ''), r'{ESCAPED}', '$1'))"
    ),
    # The lower half of an MD5, its last byte first, without the last 12 bits.
    "recsys_draw(x STRING) RETURNS BIGINT": "CAST(conv(concat("
    + ", ".join(f"substr(md5(x), {place}, 2)" for place in range(31, 19, -2))
    + ", substr(md5(x), 19, 1)), 16, 10) AS BIGINT)",
}
# Those that workers ask DuckDB for, and the type of the value.
_BY_DUCKDB = {
    "recsys_iso_us": "bigint",
    "recsys_strptime_us": "bigint",
    "recsys_float_text": "string",
    "recsys_float32_text": "string",
    "recsys_nfc": "string",
}


class SparkEngine(Engine):
    """Spark, on this machine or a cluster.

    Args:
        scratch: an existing folder that driver and workers see, for what is kept.
        options: settings of Spark: `master` (`local[2]`, `yarn`, `k8s://...`, `sc://...` for Spark Connect),
            or names such as `spark.executor.memory`.
    """

    def __init__(self, scratch: Path, options: Mapping[str, Any] | None = None) -> None:
        self._session, self._is_own = start_session(options or {})
        _define_functions(self._session)
        self._connection: Any = ibis.pyspark.connect(self._session)
        self.scratch = scratch
        self._names = (f"table_{number}" for number in itertools.count())
        self._kept: list[str] = []

    def __enter__(self) -> SparkEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_own:
            self._session.stop()

    def read_parquet(self, files: Sequence[Path], *, number_rows: str | None = None) -> ibis.Table:
        """See `Engine`."""
        from pyspark.sql.functions import col, create_map, lit, regexp_replace

        frame = self._session.read.option("mergeSchema", "true").parquet(*map(str, files))
        if number_rows is not None:
            counts = [pq.read_metadata(file).num_rows for file in files]
            begins = itertools.accumulate(counts[:-1], initial=0)
            offsets = dict(zip([str(file.absolute()) for file in files], begins, strict=True))
            number = col("_metadata.row_index") + 1
            if len(files) > 1:
                # A file is `file:///a%20b` here and `file:/a%20b` there.
                paths = {urlparse(uri).path for uri in frame.inputFiles()}
                by_path = {path: offsets[unquote(path)] for path in paths}
                known = create_map(*(lit(part) for pair in by_path.items() for part in pair))
                number = number + known[regexp_replace(col("_metadata.file_path"), "^[^:/]+:/+", "/")]
            frame = frame.withColumn(number_rows, number)
        return self._table(frame)

    def upload(self, table: pa.Table) -> ibis.Table:
        """See `Engine`."""
        file = self.scratch / f"{next(self._names)}.parquet"
        pq.write_table(_typed(table), file)
        return self._table(self._session.read.parquet(str(file)))

    def keep(self, table: ibis.Table) -> ibis.Table:
        """The rows of an expression, computed now and once, by the cluster in parts."""
        folder = self._written(table)
        self._kept.append(folder)
        return self._table(self._session.read.schema(self._compiled(table).schema).parquet(folder))

    def keep_only(self, table: ibis.Table) -> ibis.Table:
        """See `Engine`."""
        before, self._kept = self._kept, []
        kept = self.keep(table)
        for folder in before:
            shutil.rmtree(folder)
        return kept

    def collect(self, table: ibis.Table) -> pa.Table:
        """See `Engine`."""
        return pa.Table.from_batches(self.stream(table), schema=table.schema().to_pyarrow())

    def stream(self, table: ibis.Table) -> Iterator[pa.RecordBatch]:
        """See `Engine`."""
        folder = Path(self._written(table))
        schema = table.schema().to_pyarrow()
        try:
            # Parts of an ordered table are in order, and so are their names.
            if files := [str(part) for part in sorted(folder.glob("part-*"))]:
                parts = ds.dataset(files).to_batches(use_threads=False, batch_readahead=1)
                yield from _rebatched(parts, schema)
        finally:
            shutil.rmtree(folder)

    def _compiled(self, table: ibis.Table) -> Any:
        return self._session.sql(self._connection.compile(table))

    def _written(self, table: ibis.Table) -> str:
        folder = str(self.scratch / next(self._names))
        try:
            self._compiled(table).write.option("compression", "lz4_raw").parquet(folder)
        except Exception as error:
            if "No space left" in str(error):
                raise InputError(
                    f"the disk of `{self.scratch}` is full; free space, or name another place by "
                    "`data.cache_dir`"
                ) from error
            raise
        return folder

    def _table(self, frame: Any) -> ibis.Table:
        from pyspark.sql.types import TimestampType

        name = next(self._names)
        frame.createOrReplaceTempView(name)
        table = self._connection.table(name)
        # NOTE: Ibis 12 takes Spark's instants for timestamps without a zone.
        instants = [field.name for field in frame.schema if isinstance(field.dataType, TimestampType)]
        return table.mutate(**{column: table[column].cast("timestamp('UTC')") for column in instants})


def start_session(options: Mapping[str, Any]) -> tuple[Any, bool]:
    """A session, and whether it is ours to stop; one that runs already is used as it is."""
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise InputError(
            "`data.engine=spark` needs pyspark, which is not installed: pip install 'recsys[spark]'"
        ) from error
    named = {
        name if name.startswith("spark.") else f"spark.{name}": str(value) for name, value in options.items()
    }
    if refused := sorted(named.keys() & _FIXED.keys()):
        raise InputError(
            f"`data.engine_options`: `{refused[0]}` is set by preparing, which relies on "
            f"`{_FIXED[refused[0]]}`; leave it out"
        )
    settings = {**_USUAL, **named, **_FIXED}
    if settings["spark.master"].startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # workers run what we run
    running = SparkSession.getActiveSession()
    builder = SparkSession.builder.appName("recsys prepare")
    if (master := settings["spark.master"]).startswith("sc://"):
        builder = builder.remote(settings.pop("spark.master"))
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate(), running is None
    except Exception as error:
        raise InputError(
            f"Spark did not start with `data.engine_options.master={master}`: {str(error).splitlines()[0]}; "
            "Java 17 must be there, and the cluster within reach"
        ) from error


def _define_functions(session: Any) -> None:
    from pyspark.sql.pandas.functions import pandas_udf

    for signature, definition in _IN_SQL.items():
        session.sql(f"CREATE OR REPLACE TEMPORARY FUNCTION {signature} RETURN {definition}")
    for name, returned in _BY_DUCKDB.items():
        session.udf.register(name, pandas_udf(_by_duckdb(name), returned))


def _by_duckdb(name: str) -> Any:
    """A function of pandas series that DuckDB evaluates; it travels to the workers by value."""
    definition = DEFINITIONS[name]

    def evaluate(x: pd.Series) -> pd.Series:
        return _evaluated(definition, x)

    def evaluate_two(x: pd.Series, y: pd.Series) -> pd.Series:
        return _evaluated(definition, x, y.iloc[0] if len(y) else "")

    return evaluate_two if name in TWO_ARGUMENTS else evaluate


def _evaluated(definition: str, x: pd.Series, y: str = "") -> pd.Series:
    """Values of DuckDB's expression; y, a form or a pattern, is the same in all rows."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE MACRO evaluated(x, y) AS {definition}")
        connection.register("given", pa.table({"x": pa.Array.from_pandas(x)}))
        quoted = "'" + y.replace("'", "''") + "'"
        found = connection.sql(f"SELECT evaluated(x, {quoted}) AS value FROM given").to_arrow_table()
    values: pd.Series = found["value"].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return values


def _typed(table: pa.Table) -> pa.Table:
    """Columns of nothing but null as text, which Parquet and Spark have a type for."""
    fields = [
        pa.field(field.name, pa.string() if pa.types.is_null(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _rebatched(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of _BATCH_ROWS but the last, with the types of `schema`."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        while rows >= _BATCH_ROWS:
            table = pa.Table.from_batches(waiting)
            yield _one_batch(table.slice(0, _BATCH_ROWS), schema)
            waiting, rows = table.slice(_BATCH_ROWS).to_batches(), rows - _BATCH_ROWS
    if rows:
        yield _one_batch(pa.Table.from_batches(waiting), schema)


def _one_batch(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    return table.cast(schema).combine_chunks().to_batches()[0]

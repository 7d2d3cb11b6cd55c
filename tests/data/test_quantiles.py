"""quantile against NumPy's sorting."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.preparing import quantiles
from recsys.data.preparing.quantiles import quantile
from recsys.data.reading.engine import DuckDBEngine

VALUES = {
    "one": [5],
    "equal": [7] * 20,
    "few": [3, 1, 2, 2, 9],
    "skewed": (np.random.default_rng(0).pareto(1, 5000) * 1e6).astype(np.int64).tolist(),
    "wide": np.random.default_rng(1).integers(-(2**50), 2**50, 3001).tolist(),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with DuckDBEngine(tmp_path_factory.mktemp("scratch")) as opened:
        yield opened


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.8, 1.0])
@pytest.mark.parametrize("held", [0, 100, 1_000_000])
def test_quantile_is_the_first_value_not_below_the_interpolated_one(engine, name, share, held, monkeypatch):
    monkeypatch.setattr(quantiles, "_HELD", held)
    values = np.array(VALUES[name], dtype=np.int64)
    # `higher` is the value at the position rounded up.
    expected = np.quantile(values, share, method="higher")
    assert quantile(engine, engine.upload(pa.table({"t": values})).t, share) == expected

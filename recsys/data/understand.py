"""Reads raw tables and says what was understood, without preparing anything."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from recsys.data.options import DataOptions
from recsys.data.prepare import raw_tables
from recsys.data.preparing.build import understand_raw
from recsys.data.preparing.check_options import check_options
from recsys.data.preparing.declare import features_yaml, with_features_file
from recsys.data.preparing.understood import as_text
from recsys.data.reading.engine import DuckDBEngine


@dataclasses.dataclass(frozen=True)
class Understanding:
    """Holds the description of raw tables, for programs and for people.

    Args:
        facts: files, columns, joins, instants, rejected rows, as the manifest of a prepared dataset has them.
        text: the same for people.
        declaration: the features, as `data.features_file` takes them back when edited.
    """

    facts: dict[str, Any]
    text: str
    declaration: str


def understand(options: DataOptions) -> Understanding:
    """Reads the tables that `data.` names as preparing would, up to the split.

    Rows that cannot be used are counted and are no error, however many.

    Raises:
        InputError: the options or the tables cannot be used; the message says what to do.
    """
    options = with_features_file(options)
    check_options(options)
    options = dataclasses.replace(options, max_rejected_share=1.0)
    tables = raw_tables(options)
    with tempfile.TemporaryDirectory() as scratch, DuckDBEngine(Path(scratch)) as engine:
        understood, features = understand_raw(engine, options, tables, scratch=Path(scratch))
    return Understanding(understood, as_text(understood), features_yaml(features))

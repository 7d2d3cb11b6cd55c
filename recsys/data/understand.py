"""Reads raw tables and says what was understood, without preparing anything."""

from __future__ import annotations

import dataclasses
from typing import Any

from recsys.data.options import DataOptions
from recsys.data.prepare import raw_tables
from recsys.data.preparing.check_options import check_options
from recsys.data.preparing.declare import features_yaml, with_features_file
from recsys.data.preparing.joins import check_joins
from recsys.data.preparing.look_alikes import count_look_alikes
from recsys.data.preparing.raw_data import read_raw
from recsys.data.preparing.understood import as_text, describe_raw
from recsys.data.reading.engine import temporary_engine


@dataclasses.dataclass(frozen=True)
class _Understanding:
    """Holds the description of raw tables, for programs and for people.

    Args:
        facts: files, columns, joins, instants, rejected rows, as the manifest of a prepared dataset has them.
        text: the same for people.
        declaration: the features, as `data.features_file` takes them back when edited.
    """

    facts: dict[str, Any]
    text: str
    declaration: str


def understand(options: DataOptions) -> _Understanding:
    """Reads the tables that `data.` names as preparing would, up to the split.

    Rows that cannot be used are counted and are no error, however many.

    Raises:
        InputError: the options or the tables cannot be used; the message says what to do.
    """
    options = with_features_file(options)
    check_options(options)
    options = dataclasses.replace(options, max_rejected_share=1.0)
    tables = raw_tables(options)
    with temporary_engine() as engine:
        data = read_raw(engine, options, tables)
        understood = describe_raw(options, data)
        events = data.interactions.events
        understood["joins"] = check_joins(engine, events, data.sides)
        understood["look_alikes"] = count_look_alikes(engine, events, data.id_types)
    return _Understanding(understood, as_text(understood), features_yaml(data.features))
